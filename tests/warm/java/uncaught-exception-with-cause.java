class Main {
    public static void main(String[] arguments) throws Throwable {
        try {
            Integer.parseInt("x");
        } catch (NumberFormatException cause) {
            throw new RuntimeException("outer", cause);
        }
    }
}
