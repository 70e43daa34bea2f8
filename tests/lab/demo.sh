#!/bin/sh
# `make demo`: real tasks through a local pilot, and their results. It uses a store of its own, and removes it.
set -eu
cd "$(dirname "$0")/../.."
PATH=$PWD/.venv/bin:$PATH
work=$(mktemp -d "${TMPDIR:-/tmp}/pilotmtc-demo-XXXXXX")
PILOTMTC_STORE=$work/store.db
PILOTMTC_SERVER_LINGER_S=1
export PATH PILOTMTC_STORE PILOTMTC_SERVER_LINGER_S
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say() { printf '\n# %s\n' "$*"; }
show() { # print a command line and run it
    printf '$ %s\n' "$1"
    sh -ec "$1"
}

say "Pi from darts: 60 tasks, from three numbers of darts and twenty seeds"
show 'pilotmtc run --grid darts=1000,10000,100000 --grid seed=0..19 -- \
    python examples/pi/darts.py {darts} {seed} > '"$work"'/counts'
show "python examples/pi/summary.py < $work/counts"

say "Every task and result is in the store: one SQLite file"
show 'pilotmtc status'
show 'pilotmtc results 1 --csv > '"$work"'/results.csv'
show 'sqlite-utils query "$PILOTMTC_STORE" --table \
    "SELECT task_id, params, cause, exit_code, elapsed_s, stdout FROM results LIMIT 4"'

say "Now your own: . .venv/bin/activate; pilotmtc run 'echo {}' ::: 1 2 3; pilotmtc --help"
