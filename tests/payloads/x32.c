/* Mounts by the numbers of the x32 ABI, which a filter that compares plain numbers lets through. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
    long result = syscall(0x40000000L | SYS_mount, "none", "/tmp", "tmpfs", 0, 0);

    puts(result == 0 ? "reached" : strerror(errno));
    return 0;
}
