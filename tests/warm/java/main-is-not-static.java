class Main {
    public void main(String[] arguments) {
        System.out.println("instance");
    }
}
