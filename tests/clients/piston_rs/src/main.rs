//! What `piston_rs` makes of a service: one JSON text, for tests/piston/clients.rs to look at.

use piston_rs::{Client, Executor, File};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).expect("the address of a service");
    let client = Client::with_url(&address);
    let runtimes = client.fetch_runtimes().await.expect("a list of runtimes");
    let executor = |language: &str, version: &str, source: &str| {
        let file = File::default().set_content(source);
        Executor::new().set_language(language).set_version(version).add_file(file).set_stdin("typed").add_arg("one")
    };
    let mut told = Vec::new();
    for executor in [
        executor("bash", "*", "read -r line; echo \"$line $1\"; exit 3"),
        executor("c", "12", "int main(void) { return 5; }"),
        executor("c", "12", "int main(void) { return x; }"),
        executor("bash", "*", "kill -SEGV $$"),
        executor("bash", "99", "true"),
    ] {
        let answer = client.execute(&executor).await.expect("an answer");
        let compile = answer.compile.as_ref().map(|stage| stage.code);
        told.push(json!({
            "status": answer.status, "language": answer.language, "compile": compile,
            "code": answer.run.code, "signal": answer.run.signal, "output": answer.run.output,
        }));
    }
    let languages: Vec<String> = runtimes.into_iter().map(|runtime| runtime.language).collect();
    println!("{}", json!({ "languages": languages, "told": told }));
}
