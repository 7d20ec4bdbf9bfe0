class Main {
    public static void main(String[] arguments) throws Throwable {
        for (int i = 0; i < 20000; i++) System.out.println("line " + i);
    }
}
