/* Calls getpid by the 32-bit gate, whose numbers mean other calls than those that a filter for 64
   bits names: 20 is writev there. */
#include <stdio.h>

int main(void)
{
    long result;

    puts("before");
    fflush(stdout);
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    puts(result > 0 ? "reached" : "refused");
    return 0;
}
