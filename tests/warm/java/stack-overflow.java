class Main {
    static int deepest;

    static void down(int depth) {
        deepest = depth;
        down(depth + 1);
    }

    public static void main(String[] arguments) throws Throwable {
        try {
            down(0);
        } catch (StackOverflowError error) {
            System.out.println(deepest > 100000);
            System.out.println(error.getStackTrace().length);
        }
    }
}
