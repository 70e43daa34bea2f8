#!/bin/sh
# Unpacks HTCondor 23.9 from Debian trixie's packages into the directory $1, on any Debian, as root. Nothing is installed
# system-wide but patchelf: apt keeps its state below $1, and the programs are pointed at the libraries that come along.
set -eu

to=$1
apt=$to/apt
root=$to/root
rm -rf "$apt" "$root"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts" "$apt/state" "$root"

get() { apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::http::Timeout=60 -o Acquire::Retries=3 "$@" </dev/null; }

if ! command -v patchelf >/dev/null; then
    get install --no-install-recommends patchelf || { get update && get install --no-install-recommends patchelf; }
fi

# The mirror that this machine uses for Debian itself.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' | grep -m 1 '/debian/*$' || true)
: >"$apt/state/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} trixie main" \
    >"$apt/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/state/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/parts";
APT::Sandbox::User "root";
CONF
(
    export APT_CONFIG="$apt/apt.conf"
    get update
    get install --download-only --no-install-recommends condor
)
for package in "$apt"/cache/archives/*.deb; do
    case ${package##*/} in
    condor_* | lib* | zlib1g_* | gcc-*-base_* | openssl-provider*) dpkg -x "$package" "$root" ;;
    esac
done

loader=$(find "$root" -name 'ld-linux-*.so.*' | head -n 1)
libraries=$(dirname "$(find "$root" -name 'libc.so.6' | head -n 1)")
libraries=$libraries:$root/usr/lib/$(basename "$libraries"):$root/usr/lib
for file in "$root"/usr/bin/condor_* "$root"/usr/bin/classad_* "$root"/usr/sbin/condor_* "$root"/usr/sbin/procd_ctl \
    "$root"/usr/libexec/condor/condor_*; do
    [ -f "$file" ] && [ ! -L "$file" ] && head -c 4 "$file" | grep -q ELF || continue
    case $file in
    *.so | *.so.*) patchelf --force-rpath --set-rpath "$libraries" "$file" ;;
    *) patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$file" ;;
    esac
done
"$root/usr/bin/condor_version" >&2
rm -rf "$apt"
touch "$to/complete"
