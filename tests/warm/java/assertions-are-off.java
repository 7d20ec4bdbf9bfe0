class Main {
    public static void main(String[] arguments) throws Throwable {
        assert false : "on";
        System.out.println(Main.class.desiredAssertionStatus());
    }
}
