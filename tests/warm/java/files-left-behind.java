import java.nio.file.Files;
import java.nio.file.Path;

class Main {
    public static void main(String[] arguments) throws Throwable {
        Files.writeString(Path.of("out.txt"), "text");
        System.out.println(Path.of("").toAbsolutePath());
    }
}
