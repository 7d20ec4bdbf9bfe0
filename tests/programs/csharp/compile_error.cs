class Program
{
    static void Main()
    {
        int count = "not a number";
    }
}
