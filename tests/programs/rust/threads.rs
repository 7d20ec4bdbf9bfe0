use std::thread;

fn main() {
    let threads: Vec<_> = (0..4u32)
        .map(|index| thread::spawn(move || (25 * index..25 * index + 25).sum::<u32>()))
        .collect();
    let sum: u32 = threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum();
    println!("sum {sum}");
}
