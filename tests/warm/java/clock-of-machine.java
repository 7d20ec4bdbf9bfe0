class Main {
    public static void main(String[] arguments) throws Throwable {
        long begin = System.nanoTime();
        Thread.sleep(30);
        long passed = (System.nanoTime() - begin) / 1_000_000;
        System.out.println(passed >= 30 && passed < 1000);
    }
}
