import java.util.Scanner;

class Main {
    public static void main(String[] arguments) throws Throwable {
        Scanner scanner = new Scanner(System.in);
        int sum = 0;
        while (scanner.hasNextInt()) sum += scanner.nextInt();
        System.out.println(sum + " " + scanner.next());
        System.out.println(System.console() == null);
    }
}
