import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.LongStream;

/** Adds up the numbers below a million in four threads. */
class Pool {
    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> parts = new java.util.ArrayList<>();
        for (long part = 0; part < 4; part++) {
            long first = part * 250_000;
            parts.add(pool.submit(() -> LongStream.range(first, first + 250_000).sum()));
        }
        long sum = 0;
        for (Future<Long> part : parts) {
            sum += part.get();
        }
        pool.shutdown();
        System.out.println(sum);
    }
}
