#!/bin/sh
# What the emulated machine of cgroup2.sh runs as its first process: it tests, says how that ended, and ends.
export HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb
cd "$(dirname "$0")/../.." || exit
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=1777 tmp /var/tmp
export TMPDIR=/var/tmp

given=/sys/fs/cgroup/given # delegated, as systemd does it
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p "$given/tests"
echo +memory >"$given/cgroup.subtree_control"
chown nobody "$given" "$given"/cgroup.procs "$given"/cgroup.subtree_control "$given/tests" "$given"/tests/cgroup.procs

for directory in "$PWD" "$(dirname "$(readlink -f .venv/bin/python)")"; do # if they are at root's home
    while [ "$directory" != / ]; do
        chmod a+rx "$directory"
        directory=$(dirname "$directory")
    done
done

as_nobody() (
    echo 0 >"$given/tests/cgroup.procs"
    export HOME=/var/tmp/home
    mkdir -p "$HOME" && chown nobody "$HOME"
    exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
)

tests() { "$@" .venv/bin/python -m pytest -q -p no:cacheprovider --color=no tests/integration/test_memory_groups.py; }

set --
while read -r word; do
    [ -z "$word" ] || set -- "$@" "$word"
done <"$MTC_COMMAND"
if [ $# -gt 0 ]; then
    as_nobody "$@"
    code=$?
else
    tests as_nobody
    code=$?
    tests env || code=$?
fi
echo "cgroup2: exit $code"
sleep 1
echo b >/proc/sysrq-trigger # which qemu takes for the end
sleep 60
