import java.lang.management.ManagementFactory;

class Main {
    public static void main(String[] arguments) throws Throwable {
        System.out.println(Runtime.getRuntime().maxMemory());
        System.out.println(ManagementFactory.getGarbageCollectorMXBeans().stream().map(bean -> bean.getName()).toList());
    }
}
