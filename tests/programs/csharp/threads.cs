using System;
using System.Linq;
using System.Threading;

class Program
{
    static void Main()
    {
        var parts = new int[4];
        var threads = Enumerable.Range(0, 4).Select(index => new Thread(() =>
        {
            for (int number = 25 * index; number < 25 * index + 25; number++)
                parts[index] += number;
        })).ToArray();
        foreach (var thread in threads)
            thread.Start();
        foreach (var thread in threads)
            thread.Join();
        Console.WriteLine("sum {0}", parts.Sum());
    }
}
