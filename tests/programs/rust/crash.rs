fn main() {
    panic!("crash on purpose");
}
