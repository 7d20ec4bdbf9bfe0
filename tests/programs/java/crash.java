// The class to start is named after the file, and the file may be sent as Main.java.
class Main {
    public static void main(String[] arguments) {
        throw new IllegalStateException("crash on purpose");
    }
}

class crash extends Main {
}
