/* Forks for ever; each process prints a byte. */
#include <unistd.h>

int main(void)
{
    for (;;)
        if (fork() == 0 && write(1, "x", 1) != 1)
            return 1;
}
