import java.util.TreeMap;

class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(new TreeMap<>(System.getenv()));
    }
}
