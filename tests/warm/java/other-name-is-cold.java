class Other {
    public static void main(String[] arguments) {
        System.out.println("other");
    }
}
