// Counts the words on standard input and prints the most frequent ones.

#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <vector>

int main()
{
    std::map<std::string, int> counts;
    for (std::string word; std::cin >> word;)
        ++counts[word];

    std::vector<std::pair<std::string, int>> ranking(counts.begin(), counts.end());
    std::stable_sort(ranking.begin(), ranking.end(),
                     [](const auto &a, const auto &b) { return a.second > b.second; });
    if (ranking.size() > 3)
        ranking.resize(3);
    for (const auto &[word, count] : ranking)
        std::cout << count << ' ' << word << '\n';
}
