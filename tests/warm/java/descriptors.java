import java.io.File;
import java.util.TreeSet;

class Main {
    public static void main(String[] arguments) throws Throwable {
        TreeSet<String> open = new TreeSet<>();
        for (String fd : new File("/proc/self/fd").list()) {
            String target = new File("/proc/self/fd/" + fd).getCanonicalPath();
            if (!target.endsWith(".jar")) open.add(target.replaceAll("[0-9]+", "N"));
        }
        System.out.println(open);
    }
}
