#include <pthread.h>
#include <stdio.h>

struct part {
    int first;
    int sum;
};

static void *add(void *argument)
{
    struct part *part = argument;

    for (int number = part->first; number < part->first + 25; number++)
        part->sum += number;
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    struct part parts[4];
    int sum = 0;

    for (int index = 0; index < 4; index++) {
        parts[index] = (struct part){ .first = 25 * index };
        if (pthread_create(&threads[index], NULL, add, &parts[index]) != 0)
            return 1;
    }
    for (int index = 0; index < 4; index++) {
        pthread_join(threads[index], NULL);
        sum += parts[index].sum;
    }
    printf("sum %d\n", sum);
    return 0;
}
