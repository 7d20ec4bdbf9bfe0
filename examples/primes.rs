//! Prints how many primes there are below each of the numbers given as arguments.

fn primes_below(limit: usize) -> usize {
    let mut composite = vec![false; limit];
    let mut count = 0;
    for number in 2..limit {
        if !composite[number] {
            count += 1;
            for multiple in (number * number..limit).step_by(number) {
                composite[multiple] = true;
            }
        }
    }
    count
}

fn main() {
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(limit) => println!("{} primes below {limit}", primes_below(limit)),
            Err(error) => eprintln!("{argument}: {error}"),
        }
    }
}
