#!/bin/bash
# build-guest.sh ARCHITECTURE DIRECTORY: builds the guest there, as kernel, initrd and root.ext4.
#
# Debian trixie, for an architecture by Debian's name. The kernel's package is unpacked, not
# installed: its scripts would build an initramfs of their own and take longer than all the rest.
# Of a foreign architecture all packages are only unpacked, because nothing of it can run here.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
architecture=$1
out=$(readlink -f "$2")
export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C.UTF-8
scratch=$(mktemp -d --tmpdir="$out" build.XXXX)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root

packages=(
    systemd systemd-sysv dbus udev kmod procps util-linux bash perl python3
    nftables iproute2 iputils-ping curl openssl socat passt uidmap bubblewrap strace passwd busybox-static
)

# What a Debian system has of itself, before a package of it has been configured.
foreign_packages=(
    base-files base-passwd coreutils dash debianutils diffutils findutils grep gzip hostname
    init-system-helpers libc-bin login.defs mount ncurses-bin sed tar
)

make_root() {
    local mirror variant=minbase
    mirror=$("$here/mirror.sh")
    if is_foreign; then
        variant=extract
        packages+=("${foreign_packages[@]}")
    fi
    # The host's apt, set up for the guest.
    local hook
    hook="set -eu; mkdir '$scratch/kernel'; cd '$scratch/kernel'; export APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG
        package=\$(apt-cache depends linux-image-cloud-$architecture | sed -n 's/^ *Depends: //p' | head -n 1)
        apt-get -q -o APT::Sandbox::User=root download \$package"
    # The host's apt may have been told to accept old indices; a mirror that needs that needs it here too.
    mmdebstrap --quiet --mode=root --variant="$variant" --architectures="$architecture" \
        --include="$(IFS=,; echo "${packages[*]}")" \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --aptopt="$(apt-config dump | grep -m 1 '^Acquire::Check-Valid-Until ' || echo 'Acquire::Check-Valid-Until "true";')" \
        --aptopt="$(apt-config dump | grep -m 1 '^Acquire::Check-Date ' || echo 'Acquire::Check-Date "true";')" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --extract-hook="$hook" trixie "$root" "$mirror"
}

is_foreign() {
    [ "$architecture" != "$(dpkg --print-architecture)" ]
}

# Does what the packages' own scripts would have done, as far as anything here needs it; users of
# services are made at boot by systemd-sysusers.
finish_unpacked() {
    local etc=$root/etc kind
    for kind in passwd group; do
        install -m 644 "$root/usr/share/base-passwd/$kind.master" "$etc/$kind"
    done
    sed 's/^\([^:]*\):.*/\1:*:20000:0:99999:7:::/' "$etc/passwd" >"$etc/shadow"
    sed 's/^\([^:]*\):.*/\1:*::/' "$etc/group" >"$etc/gshadow"
    chmod 640 "$etc/shadow" "$etc/gshadow"
    sed -i 's/^root:\*:/root:x:/' "$etc/passwd"
    printf '%s\n' 'passwd: files systemd' 'group: files systemd' 'shadow: files' 'hosts: files' >"$etc/nsswitch.conf"
    mkdir -p "$root"/usr/local/{bin,sbin}
    for kind in account auth password session session-noninteractive; do
        echo "${kind%-*} required pam_unix.so" >"$etc/pam.d/common-$kind"
    done
    ln -sf dash "$root/usr/bin/sh"
    [ -e "$root/usr/bin/awk" ] || ln -s busybox "$root/usr/bin/awk"
}

add_kernel() {
    dpkg-deb -x "$scratch"/kernel/*.deb "$scratch/unpacked"
    local modules=$scratch/unpacked/usr/lib/modules
    [ -d "$modules" ] || modules=$scratch/unpacked/lib/modules
    cp -a "$modules" "$root/usr/lib/"
    version=$(ls "$modules")
    depmod -b "$root" "$version"
    if [ "$architecture" = amd64 ]; then
        python3 "$here/extract_vmlinux.py" "$scratch"/unpacked/boot/vmlinuz-* "$out/kernel"
    else
        cp "$scratch"/unpacked/boot/vmlinuz-* "$out/kernel"
    fi
}

make_initrd() {
    local tree=$scratch/initrd file
    mkdir -p "$tree"/{bin,dev,modules,root}
    cp "$root/usr/bin/busybox" "$tree/bin/"
    cp "$here/guest/init" "$tree/init"
    modprobe -d "$root" -S "$version" --show-depends virtio_blk | sed -n 's/^insmod \([^ ]*\).*/\1/p' |
        while read -r file; do
            local name
            name=$(basename "${file%.xz}")
            case $file in
                *.xz) xz -dc "$file" ;;
                *) cat "$file" ;;
            esac >"$tree/modules/$name"
            echo "/modules/$name" >>"$tree/modules/order"
        done
    (cd "$tree" && find . | cpio --quiet -o -H newc) >"$out/initrd"
}

configure() {
    local etc=$root/etc
    echo guest >"$etc/hostname"
    : >"$etc/fstab"
    echo 0123456789abcdef0123456789abcdef >"$etc/machine-id"
    printf '127.0.0.1 localhost guest\n::1 localhost\n' >"$etc/hosts"
    mkdir -p "$root/mnt/payload" "$etc/systemd/journald.conf.d" "$etc/systemd/system/multi-user.target.wants"
    # Nothing here survives a restore anyway, and memory is faster than the emulated disk.
    printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >"$etc/systemd/journald.conf.d/vm.conf"
    install -m 755 "$here/guest/vm-shell" "$root/usr/local/sbin/vm-shell"
    install -m 644 "$here/guest/vm-shell.service" "$etc/systemd/system/"
    ln -s ../vm-shell.service "$etc/systemd/system/multi-user.target.wants/"
    ln -sf /usr/lib/systemd/system/multi-user.target "$etc/systemd/system/default.target"
    local unit
    while read -r unit; do
        ln -sf /dev/null "$etc/systemd/system/$unit"
    done <"$here/guest/masked-units"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
    # Nothing of the host's way to its mirror may be left in the guest.
    rm -f "$etc"/apt/sources.list "$etc"/apt/sources.list.d/* "$etc"/apt/apt.conf.d/99mmdebstrap
    find "$root/run" "$root/tmp" -mindepth 1 -delete
}

make_root
! is_foreign || finish_unpacked
add_kernel
make_initrd
configure
truncate -s 3G "$out/root.ext4"
mke2fs -q -t ext4 -O ^metadata_csum,^64bit,^has_journal -m 0 -d "$root" "$out/root.ext4"
