// The class to start is named after the file, and the file may be sent as Main.java.
class Main {
    public static void main(String[] arguments) {
        System.out.println("hello from java");
    }
}

class hello extends Main {
}
