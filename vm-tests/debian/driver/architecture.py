"""What differs between the processors that a guest can have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One of them, by the name that uname(1) gives it."""

    name: str
    debian_name: str
    # Plain processors: the emulator's default "max" saves features that differ between QEMU's builds.
    hardware: str
    kernel_arguments: str

    @property
    def emulator(self) -> str:
        """The program of QEMU that emulates it."""
        return f"qemu-system-{self.name}"


# vmgenid: the kernel reseeds on restore, else every machine restored from one state would draw the
# same random numbers. The board of aarch64 has none.
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "x86_64", "amd64", "-M q35 -cpu qemu64 -device vmgenid,guid=auto",
            "console=ttyS0 tsc=reliable no_timer_check",
        ),
        Architecture("aarch64", "arm64", "-M virt,gic-version=3 -cpu cortex-a53", "console=ttyAMA0"),
    )
}
