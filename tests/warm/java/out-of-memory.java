import java.util.ArrayList;
import java.util.List;

class Main {
    public static void main(String[] arguments) throws Throwable {
        List<byte[]> all = new ArrayList<>();
        while (true) all.add(new byte[10_000_000]);
    }
}
