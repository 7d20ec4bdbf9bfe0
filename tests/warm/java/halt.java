class Main {
    public static void main(String[] arguments) throws Throwable {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
        Runtime.getRuntime().halt(5);
    }
}
