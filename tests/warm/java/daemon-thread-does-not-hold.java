class Main {
    public static void main(String[] arguments) throws Throwable {
        Thread thread = new Thread(() -> { while (true) Thread.onSpinWait(); });
        thread.setDaemon(true);
        thread.start();
        System.out.println("end");
    }
}
