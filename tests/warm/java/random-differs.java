class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(Math.random() + " " + new java.util.Random().nextInt());
    }
}
