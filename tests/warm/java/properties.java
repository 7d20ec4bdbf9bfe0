import java.util.TreeMap;

class Main {
    public static void main(String[] arguments) throws Throwable {
        TreeMap<String, String> all = new TreeMap<>();
        System.getProperties().forEach((key, value) -> all.put(key + "", value + ""));
        all.forEach((key, value) -> System.out.println(key + "=" + value));
    }
}
