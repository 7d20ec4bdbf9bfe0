import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(IntStream.rangeClosed(1, 5).mapToObj(i -> "n" + i).collect(Collectors.joining(",")));
        System.out.println(List.of(3, 1, 2).parallelStream().sorted().toList());
    }
}
