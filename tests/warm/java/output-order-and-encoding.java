class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.print("no newline ä€😀");
        System.err.println("error ä");
        System.out.printf("%n%.2f %s%n", 1.5, java.nio.charset.Charset.defaultCharset());
        System.out.write(65);
    }
}
