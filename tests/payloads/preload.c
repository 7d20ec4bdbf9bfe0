/* A library that tells of its process before main() has begun. */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void tell(void)
{
    char text[4096];
    int file = open("/proc/self/status", O_RDONLY);
    long length = read(file, text, sizeof text);

    close(file);
    if (length > 0 && write(1, text, (size_t) length) != length)
        _exit(1);
}
