class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(new String(Main.class.getResourceAsStream("/data.txt").readAllBytes()).trim());
        System.out.println(Main.class.getResource("nothing"));
    }
}
