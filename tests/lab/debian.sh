#!/bin/sh
# Runs a command as on a new Debian machine: `tests/lab/debian.sh SUITE DIRECTORY [COMMAND ...]`, as root.
#
# DIRECTORY becomes the machine's root file system: debootstrap's smallest (no compiler, no Python), made the first time
# and kept as the command leaves it. A fresh clone of this checkout's HEAD lies in /root/pilotmtc there, where the command
# runs (`make check` unless one is given). It has processes, /proc and /tmp of its own, and a /sys without cgroups.
# This machine must be a Debian or Ubuntu, too: debootstrap is installed by apt if it is missing.
set -eu

if [ $# -lt 2 ] || [ "$(id -u)" != 0 ]; then
    echo "usage, as root: $0 SUITE DIRECTORY [COMMAND ...], such as $0 trixie /var/tmp/trixie make demo" >&2
    exit 2
fi
suite=$1 root=$(realpath -m "$2")
shift 2
[ $# -gt 0 ] || set -- make check
cd "$(dirname "$0")/../.."
export DEBIAN_FRONTEND=noninteractive

if ! command -v debootstrap >/dev/null; then
    echo "debian.sh: installing by apt: debootstrap" >&2
    apt-get -q update >&2
    apt-get -q -y --no-install-recommends install debootstrap >&2
fi
if [ ! -e "$root/.complete" ]; then
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include=make,git,ca-certificates "$suite" "$root" >&2
    touch "$root/.complete"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt" # it trusts whom this machine trusts
printf '127.0.0.1 localhost %s\n::1 localhost\n' "$(uname -n)" >"$root/etc/hosts"
rm -rf "$root/root/pilotmtc"
git clone -q . "$root/root/pilotmtc"

# The shell stays as process 1, which buries those whose parents are gone.
exec unshare --mount --pid --fork --kill-child sh -euc '
    root=$1
    shift
    mount --bind "$root" "$root" # as a root file system is, which the machine then knows
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t tmpfs -o mode=1777 tmp "$root/tmp"
    chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}" CI="${CI:-}" \
        sh -euc "cd /root/pilotmtc; exec \"\$@\"" sh "$@"
    exit $?
' sh "$root" "$@" </dev/null
