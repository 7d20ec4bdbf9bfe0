class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(System.getProperty("java.class.path"));
    }
}
