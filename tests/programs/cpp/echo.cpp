#include <iostream>

int main()
{
    // Streaming an empty buffer would set the fail bit; that is no error here.
    std::cout << std::cin.rdbuf();
}
