package codesandbox;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.lang.instrument.Instrumentation;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.net.URL;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.Map;
import java.util.Set;

/**
 * Waits for a program in a Java virtual machine, as an agent: the launcher looks for the main class
 * when every agent has returned. The manifest's Boot-Class-Path gives this class to the bootstrap
 * loader, so that what is opened for it here is not open for the program.
 */
final class Warm {
    private Warm() {}

    public static void premain(String jar, Instrumentation instrumentation) throws Throwable {
        open(instrumentation, "java.io", FileDescriptor.class);
        leaveClassPath(instrumentation, jar);
        // Loaded by the first line that a program prints.
        System.out.print("");
        System.out.flush();

        Constructor<FileDescriptor> descriptor = FileDescriptor.class.getDeclaredConstructor(int.class);
        descriptor.setAccessible(true);
        try (FileOutputStream ready = new FileOutputStream(descriptor.newInstance(4))) {
            ready.write('.');
        }
        try (FileInputStream job = new FileInputStream(descriptor.newInstance(3))) {
            byte[] part = new byte[8192];
            if (job.read(part) < 0) {
                Runtime.getRuntime().halt(0);
            }
            while (job.read(part) >= 0) {
                // The command line and the environment are those it was started with.
            }
        }
    }

    /** The virtual machine has put the agent's file at the end of the program's class path. */
    private static void leaveClassPath(Instrumentation instrumentation, String jar) throws Throwable {
        String path = System.getProperty("java.class.path");
        if (path.endsWith(":" + jar)) {
            System.setProperty("java.class.path", path.substring(0, path.length() - jar.length() - 1));
        }
        Object loader = ClassLoader.getSystemClassLoader();
        open(instrumentation, "jdk.internal.loader", loader.getClass());
        remove(jar, field(loader, "ucp"));
        // Java 8 keeps the bootstrap loader's path in the virtual machine alone.
        Class<?> loaders = loader.getClass().getEnclosingClass();
        if (loaders.getSimpleName().equals("ClassLoaders")) {
            Field bootstrap = loaders.getDeclaredField("BOOT_LOADER");
            bootstrap.setAccessible(true);
            remove(jar, field(bootstrap.get(null), "ucp"));
        }
    }

    private static void remove(String jar, Object classPath) throws Throwable {
        for (String name : new String[] {"path", "unopenedUrls"}) {
            Collection<?> urls = (Collection<?>) field(classPath, name);
            synchronized (urls) {
                for (Iterator<?> url = urls.iterator(); url.hasNext();) {
                    if (((URL) url.next()).getPath().equals(jar)) {
                        url.remove();
                    }
                }
            }
        }
    }

    private static Object field(Object of, String name) throws Throwable {
        for (Class<?> type = of.getClass(); type != null; type = type.getSuperclass()) {
            for (Field field : type.getDeclaredFields()) {
                if (field.getName().equals(name)) {
                    field.setAccessible(true);
                    return field.get(of);
                }
            }
        }
        throw new NoSuchFieldException(name);
    }

    /** By reflection, because Java 8 knows no modules and this class must run there too. */
    private static void open(Instrumentation instrumentation, String name, Class<?> inside) throws Throwable {
        Class<?> module;
        try {
            module = Class.forName("java.lang.Module");
        } catch (ClassNotFoundException eight) {
            return;
        }
        Object from = Class.class.getMethod("getModule").invoke(inside);
        Object to = Class.class.getMethod("getModule").invoke(Warm.class);
        Map<String, Set<Object>> opened = Collections.singletonMap(name, Collections.singleton(to));
        Instrumentation.class
            .getMethod("redefineModule", module, Set.class, Map.class, Map.class, Set.class, Map.class)
            .invoke(instrumentation, from, new HashSet<Object>(), new HashMap<>(), opened, new HashSet<Object>(), new HashMap<>());
    }
}
