class Main {
    public static void main(String[] arguments) throws Throwable {
        for (StackTraceElement frame : new Throwable().getStackTrace()) System.out.println(frame);
        StackWalker.getInstance().forEach(System.out::println);
    }
}
