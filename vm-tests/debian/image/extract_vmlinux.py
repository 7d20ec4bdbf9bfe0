"""Takes the ELF kernel out of a bzImage: booting it directly saves the emulated decompression.

Usage: extract_vmlinux.py BZIMAGE OUTPUT. Offsets as in the kernel's Documentation/arch/x86/boot.rst.
"""

import struct
import subprocess
import sys

DECOMPRESSORS = {
    b"\x28\xb5\x2f\xfd": ["zstd", "-dcq"],
    b"\x1f\x8b": ["gzip", "-dc"],
    b"\xfd7zXZ\0": ["xz", "-dcq"],
}


def vmlinux(image: bytes) -> bytes:
    """The decompressed payload of a boot image."""
    setup_sectors = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = setup_sectors * 512 + offset
    payload = image[start : start + length]
    for magic, command in DECOMPRESSORS.items():
        if payload.startswith(magic):
            # No check of the status: the payload ends with its size, which is no part of the
            # compressed stream, and the tools complain about it. The ELF magic is checked instead.
            elf = subprocess.run(command, input=payload, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, check=False).stdout
            if not elf.startswith(b"\x7fELF"):
                raise ValueError("payload of the boot image is no ELF file")
            return elf
    raise ValueError(f"unknown compression of the boot image: {payload[:6]!r}")


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with open(source, "rb") as stream:
        kernel = vmlinux(stream.read())
    with open(target, "wb") as stream:
        stream.write(kernel)
