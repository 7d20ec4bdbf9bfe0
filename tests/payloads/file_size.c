/* Writes a file of so many bytes, in steps of 64 KiB. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

int main(int count, char **words)
{
    static char block[65536];
    long left = count > 1 ? atol(words[1]) : 0;
    int file = open(count > 2 ? words[2] : "large", O_CREAT | O_WRONLY, 0600);

    memset(block, 'x', sizeof block);
    puts("before");
    fflush(stdout);
    for (; left > 0; left -= (long) sizeof block)
        if (write(file, block, sizeof block) < 0)
            return 1;
    puts("has it");
    return 0;
}
