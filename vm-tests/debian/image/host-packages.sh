#!/bin/bash
# host-packages.sh EMULATOR: installs the tools that building and running the guest needs; does
# nothing where all are present.
#
# On bookworm QEMU comes from the backports suite, because 7.2 cannot save its state to a plain
# file. The suite is named in a private source list with private indices: the host's own apt
# configuration stays as it is.
#
# Exit status 69: this host cannot have the tools; the reason is the last line on stderr.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive

unavailable() {
    echo "$1" >&2
    exit 69
}

declare -A package_of=(
    [qemu-system-x86_64]=qemu-system-x86 [qemu-system-aarch64]=qemu-system-arm
    [qemu-img]=qemu-utils [mmdebstrap]=mmdebstrap [depmod]=kmod
    [mke2fs]=e2fsprogs [cpio]=cpio [zstd]=zstd [xz]=xz-utils [setpriv]=util-linux
)
missing=()
for tool in "$1" qemu-img mmdebstrap depmod mke2fs cpio zstd xz setpriv; do
    command -v "$tool" >/dev/null || missing+=("${package_of[$tool]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || unavailable "no apt-get to install ${missing[*]}"
[ "$(id -u)" = 0 ] || unavailable "not root, so ${missing[*]} cannot be installed"
mirror=$("$here/mirror.sh") || unavailable "apt has no Debian suite to install ${missing[*]} from"

. /etc/os-release
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch" # apt fetches as a user of its own
mkdir -p "$scratch/parts" "$scratch/lists/partial"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
suites=("$VERSION_CODENAME" "$VERSION_CODENAME-updates")
from=()
if [ "$VERSION_CODENAME" = bookworm ]; then
    suites+=(bookworm-backports)
    from=(-t bookworm-backports)
fi
for suite in "${suites[@]}"; do
    echo "deb [signed-by=$keys] $mirror $suite main"
done >"$scratch/sources.list"

apt=(apt-get -q -o "Dir::Etc::SourceList=$scratch/sources.list" -o "Dir::Etc::SourceParts=$scratch/parts"
    -o "Dir::State::Lists=$scratch/lists")
"${apt[@]}" update >&2 || unavailable "apt-get update failed"
"${apt[@]}" install -y --no-install-recommends "${from[@]}" "${missing[@]}" >&2 ||
    unavailable "apt-get could not install ${missing[*]}"
