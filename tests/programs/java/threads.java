// The class to start is named after the file, and the file may be sent as Main.java.
class Main {
    public static void main(String[] arguments) throws InterruptedException {
        int[] parts = new int[4];
        Thread[] started = new Thread[4];
        for (int index = 0; index < 4; index++) {
            int part = index;
            started[index] = new Thread(() -> {
                for (int number = 25 * part; number < 25 * part + 25; number++) {
                    parts[part] += number;
                }
            });
            started[index].start();
        }
        int sum = 0;
        for (int index = 0; index < 4; index++) {
            started[index].join();
            sum += parts[index];
        }
        System.out.println("sum " + sum);
    }
}

class threads extends Main {
}
