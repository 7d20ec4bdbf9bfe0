import java.util.TreeSet;

class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(new TreeSet<>(ModuleLayer.boot().modules().stream().map(Module::getName).toList()));
        Module base = Object.class.getModule();
        System.out.println(base.isOpen("java.io", Main.class.getModule()) + " " + base.isOpen("jdk.internal.loader", Main.class.getModule()));
        System.out.println( Main.class.getPackageName().isEmpty());
        try {
            java.io.FileDescriptor.class.getDeclaredConstructor(int.class).setAccessible(true);
        } catch (RuntimeException error) {
            System.out.println(error.getClass());
        }
    }
}
