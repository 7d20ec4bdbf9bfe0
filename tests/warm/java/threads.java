class Main {
    public static void main(String[] arguments) throws Throwable {
        Thread.getAllStackTraces().keySet().stream()
            .map(thread -> thread.getName() + " " + thread.getPriority() + " " + thread.isDaemon() + " " + thread.getThreadGroup().getName())
            .sorted().forEach(System.out::println);
        System.out.println(Thread.currentThread());
        System.out.println(Thread.currentThread().getStackTrace().length);
        System.out.println(Thread.getDefaultUncaughtExceptionHandler());
        new Thread(() -> System.out.println(Thread.currentThread().getName())).start();
    }
}
