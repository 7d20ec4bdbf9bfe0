import java.util.UUID;

class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(UUID.randomUUID());
    }
}
