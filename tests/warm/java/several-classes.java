class Main {
    public static void main(String[] arguments) throws Throwable {
        Shape shape = new Circle(2);
        System.out.printf("%.3f%n", shape.area());
        System.out.println(Warm.name() + new Boot());
    }
}
