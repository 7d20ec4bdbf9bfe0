class Main {
    public static void main(String[] arguments) throws Throwable {
        Class.forName("Nothing");
    }
}
