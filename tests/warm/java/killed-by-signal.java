class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println("before");
        new ProcessBuilder("sh", "-c", "kill -TERM $PPID").start().waitFor();
        Thread.sleep(5000);
    }
}
