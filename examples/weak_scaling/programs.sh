#!/bin/sh
# Installs the programs that some engines of the study need: on Debian and Ubuntu, as root. Elsewhere, and without a network,
# those engines are left out of the study, which says why.
set -eu

wanted=
for pair in mpiexec:openmpi-bin redis-check-rdb:redis-tools parallel:parallel; do
    command -v "${pair%%:*}" >/dev/null || wanted="$wanted ${pair#*:}"
done
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || wanted="$wanted rabbitmq-server"

[ -n "$wanted" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "study: left out is what needs$wanted" >&2
    exit 0
fi

# No server of the system's is started: each engine starts one of its own. A policy that is there already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
get() { apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::http::Timeout=60 "$@" </dev/null >&2; }
get update || true
for package in $wanted; do # one that cannot be had hinders no other
    get --no-install-recommends install "$package" || echo "study: $package cannot be installed" >&2
done
