import java.util.Collections;

class Main {
    public static void main(String[] arguments) throws Throwable {
        ClassLoader own = Main.class.getClassLoader();
        System.out.println(own == ClassLoader.getSystemClassLoader());
        System.out.println(own.getClass() + " " + own.getParent().getClass() + " " + own.getName());
        System.out.println(Collections.list(own.getResources("")));
        System.out.println(Collections.list(own.getResources("META-INF/MANIFEST.MF")));
        System.out.println(Main.class.getProtectionDomain().getCodeSource().getLocation());
        System.out.println(System.getProperty("java.class.path"));
        System.out.println(Thread.currentThread().getContextClassLoader() == own);
    }
}
