class Main {
    public static void main(String[] arguments) throws Throwable {
        new Thread(() -> {
            try {
                Thread.sleep(50);
            } catch (InterruptedException stop) {
                return;
            }
            System.out.println(Thread.currentThread().getName());
        }).start();
        System.out.println("main is done");
    }
}
