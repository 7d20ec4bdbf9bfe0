class Main {
    public static void main(String[] arguments) throws Throwable {
        System.exit(7);
    }
}
