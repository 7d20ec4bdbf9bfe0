class Main {
    public static void main(String[] arguments) throws Throwable {
        Thread thread = new Thread(() -> { throw new RuntimeException("in a thread"); });
        thread.start();
        thread.join();
        System.out.println("main goes on");
    }
}
