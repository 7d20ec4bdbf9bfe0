class Main {
    public static void main(String[] arguments) {
        int count = "not a number";
    }
}
