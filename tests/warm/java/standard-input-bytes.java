class Main {
    public static void main(String[] arguments) throws Throwable {
        byte[] all = System.in.readAllBytes();
        System.out.println(all.length + " " + System.in.read());
    }
}
