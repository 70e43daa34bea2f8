#!/bin/sh
# Makes .venv: `tests/lab/setup.sh run` for using pilotmtc, `tests/lab/setup.sh dev` for working on it.
#
# It needs a Python of at least 3.11 with venv; nothing is compiled. On Debian and Ubuntu, as root, it installs what is
# missing; elsewhere it says what to install. Running it again changes nothing. $PYTHON picks an interpreter.
set -eu

wanted=${1:-run}
cd "$(dirname "$0")/../.."
venv=$PWD/.venv

say() { printf '%s\n' "set-up: $*" >&2; }

works() { # is $1 a Python that can make the environment?
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3; do
        if works "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

apt_updated=
apt() { # install packages, if this is a Debian and we may
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    if [ -z "$apt_updated" ]; then
        apt-get -o Acquire::http::Timeout=60 -q update </dev/null >&2 || say "apt-get update failed; going on"
        apt_updated=yes
    fi
    say "installing by apt: $*"
    apt-get -o Acquire::http::Timeout=60 -q -y --no-install-recommends install "$@" </dev/null >&2
}

give_up() {
    say "missing: $1"
    say "Debian, Ubuntu:  sudo apt-get install python3 python3-venv"
    say "Fedora, Rocky:   sudo dnf install python3.12"
    say "Arch:            sudo pacman -S python"
    say "conda:           conda create -n py python=3.12 && conda activate py"
    say "then run this again (PYTHON=/path/to/python3 make ... picks an interpreter)"
    exit 1
}

# An environment that was moved or whose Python has gone is of no use.
if [ -e "$venv" ] && ! { works "$venv/bin/python" && grep -qF "$venv/bin/python" "$venv/bin/pip"; }; then
    say "making $venv anew: it was moved, or its Python is gone or too old"
    rm -rf "$venv"
fi

if [ ! -e "$venv" ]; then
    if ! python=$(find_python); then
        apt python3 python3-venv || true
        for version in 3.13 3.12 3.11; do # an older Debian or Ubuntu may have a newer Python beside its own
            find_python >/dev/null && break
            apt "python$version" "python$version-venv" || true
        done
        python=$(find_python) || give_up "Python 3.11 or later with the modules venv and ensurepip"
    fi
    say "making .venv with $python ($("$python" -V))"
    rm -rf "$venv.new"
    "$python" -m venv "$venv.new"
    "$venv.new/bin/python" - "$venv.new" "$venv" <<'MOVE'
import pathlib
import sys

# Made beside and put in place whole: an interrupted set-up leaves no half environment.
new, final = sys.argv[1:]
for file in [pathlib.Path(new, "pyvenv.cfg"), *pathlib.Path(new, "bin").iterdir()]:
    if file.is_file() and not file.is_symlink():
        data = file.read_bytes()
        if new.encode() in data:
            file.write_bytes(data.replace(new.encode(), final.encode()))
pathlib.Path(new).rename(final)
MOVE
fi

case $wanted in
run) what=. ;;
dev) what='.[dev]' ;;
*)
    say "run or dev, not $wanted"
    exit 2
    ;;
esac
say "installing pilotmtc ($wanted) into .venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
export PIP_DEFAULT_TIMEOUT="${PIP_DEFAULT_TIMEOUT:-60}" PIP_RETRIES="${PIP_RETRIES:-5}"
if [ "$wanted" = dev ] && ! command -v ssh-keygen >/dev/null; then # as everybody has whose stores are elsewhere
    apt openssh-client || say "missing: ssh-keygen of OpenSSH's client; tests that need it will fail"
fi
# Ours of netifaces, which radical.saga brings: PyPI's would have to be compiled.
"$venv/bin/python" -m pip install --quiet --use-pep517 ./adaptors/pilotmtc_adaptors/netifaces --editable "$what" </dev/null
touch "$venv/.$wanted-is-set-up"
[ "$wanted" = run ] || touch "$venv/.run-is-set-up"
