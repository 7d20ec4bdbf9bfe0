class Main {
    static void fail(int n) {
        if (n == 0) {
            throw new IllegalStateException("deep");
        }
        fail(n - 1);
    }

    public static void main(String[] arguments) throws Throwable {
        System.out.println("before");
        fail(3);
    }
}
