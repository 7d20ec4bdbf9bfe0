#include <iostream>
#include <thread>
#include <vector>

int main()
{
    std::vector<int> parts(4);
    std::vector<std::thread> threads;
    for (int index = 0; index < 4; index++)
        threads.emplace_back([&parts, index] {
            for (int number = 25 * index; number < 25 * index + 25; number++)
                parts[index] += number;
        });
    for (auto &thread : threads)
        thread.join();
    std::cout << "sum " << parts[0] + parts[1] + parts[2] + parts[3] << '\n';
}
