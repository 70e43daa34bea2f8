#!/bin/sh
# Runs the tests of control groups on a kernel that has them: `tests/lab/cgroup2.sh DIRECTORY [COMMAND ...]`, as root.
#
# For machines whose memory is in a control group of version 1, or that let nobody make one. It starts Debian's kernel in
# an emulated machine (qemu without KVM: any machine will do) on this machine's own files, which it cannot change: what
# it writes is lost with it. There, COMMAND runs in this checkout as the user `nobody`, in a control group that is
# delegated to that user, and the default one as root, too. DIRECTORY keeps the packages' contents; nothing is installed.
# This machine must be a Debian for amd64. It takes about twenty minutes where others keep all cores busy, too, and then
# what pilotmtc waits for may take longer there than it waits. Leave the checkout alone meanwhile: the kernel caches it.
set -eu

if [ $# -lt 1 ] || [ "$(id -u)" != 0 ]; then
    echo "usage, as root: $0 DIRECTORY [COMMAND ...], such as $0 /var/tmp/cgroup2" >&2
    exit 2
fi
mkdir -p "$1"
to=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
checkout=$PWD

# -- a kernel, and a machine for it ----------------------------------------------------------------------------------

if [ ! -e "$to/complete" ]; then
    rm -rf "$to/debs" "$to/root"
    mkdir -p "$to/debs" "$to/root"
    chmod 0777 "$to/debs" # apt downloads as another user
    kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p' | head -n 1)
    missing=$(apt-get -s --no-install-recommends install qemu-system-x86 | awk '/^Inst / { print $2 }')
    (cd "$to/debs" && apt-get -q -o Acquire::http::Timeout=60 download "$kernel" busybox-static ${missing:-} >&2)
    for package in "$to"/debs/*.deb; do
        dpkg-deb -x "$package" "$to/root"
    done
    rm -rf "$to/debs"

    first=$to/first # its first files: what finds all others
    rm -rf "$first"
    mkdir -p "$first/modules" "$first/low" "$first/up" "$first/new"
    cp "$to/root/bin/busybox" "$first/busybox"
    for module in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci netfs fscache 9pnet \
        9pnet_virtio 9p overlay; do
        find "$to/root/lib/modules" "$to/root/usr/lib/modules" -name "$module.ko" -exec cp {} "$first/modules" \; 2>/dev/null || true
        echo "$module" >>"$first/modules/order"
    done
    cat >"$first/init" <<'INIT'
#!/busybox sh
while read -r module; do /busybox insmod "/modules/$module.ko"; done </modules/order
/busybox ifconfig lo 127.0.0.1 up
/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /low
/busybox mount -t tmpfs -o size=50% up /up
/busybox mkdir /up/upper /up/work
/busybox mount -t overlay -o lowerdir=/low,upperdir=/up/upper,workdir=/up/work new /new
/busybox mount -t devtmpfs dev /new/dev
/busybox mount -t proc proc /new/proc
read -r checkout </checkout
exec /busybox switch_root /new /bin/sh "$checkout/tests/lab/cgroup2-inside.sh"
INIT
    chmod +x "$first/init"
    touch "$to/complete"
fi

# -- one run ---------------------------------------------------------------------------------------------------------

echo "$checkout" >"$to/first/checkout"
(cd "$to/first" && find . | ./busybox cpio -o -H newc 2>/dev/null) >"$to/first.cpio"
printf '%s\n' "$@" >"$to/command"
LD_LIBRARY_PATH=$(find "$to/root" -name 'lib*.so.*' -printf '%h\n' | sort -u | paste -s -d :) \
    timeout -k 10 1800 "$(command -v qemu-system-x86_64 || echo "$to/root/usr/bin/qemu-system-x86_64")" \
    -L "$to/root/usr/share/qemu" -L "$to/root/usr/share/seabios" -L /usr/share/qemu -L /usr/share/seabios \
    -accel tcg,thread=multi -cpu max -smp 2 -m 2G -nodefaults -no-reboot -display none -monitor none -serial stdio \
    -kernel "$(find "$to/root/boot" -name 'vmlinuz-*' | head -n 1)" -initrd "$to/first.cpio" \
    -append "console=ttyS0 panic=-1 quiet cgroup_no_v1=all MTC_COMMAND=$to/command" \
    -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=root,mount_tag=root </dev/null | tee "$to/log"
exit "$(tr -d '\r' <"$to/log" | sed -n 's/^cgroup2: exit \([0-9]*\)$/\1/p' | grep . || echo 1)"
