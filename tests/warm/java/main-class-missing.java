class Another {
    public static void main(String[] arguments) {}
}
