//! Clients of Piston's as they are published, pointed at this service.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Service, bridge, skip};

/// What a client prints, which is JSON.
fn said(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn ultra_piston_works_as_it_is() {
    let Some(python) = bridge::python() else {
        return skip("ultra-piston is not there: tests/setup installs it");
    };
    let service = Service::start();
    let address = bridge::to(&service.socket());
    let script = r#"
import asyncio, json, sys
from ultra_piston import PistonClient, File
from ultra_piston.errors import BadRequestError, InternalServerError, NotFoundError

client = PistonClient(base_url=sys.argv[1], rate_limit=0)
def error(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return type(error).__name__

file = File(name="hello.py", content="print('hello', input())")
ran = client.post_execute("python", "3.11", file, stdin="you")
compiled = client.post_execute("c", "*", File(content="int main(void) { return 9; }"))
failed = client.post_execute("c", "*", File(content="int main(void) { return x; }"))
later = asyncio.run(client.post_execute_async("bash", "*", File(content="echo $1"), args=["later"]))
print(json.dumps({
    "languages": sorted({runtime.language for runtime in client.get_runtimes()}),
    "installed": all(package.installed for package in client.get_packages()),
    "ran": [ran.language, ran.run.stdout, ran.run.code, ran.compile is None],
    "compiled": [compiled.compile.code, compiled.run.code],
    "failed": [failed.compile.code, failed.run.stderr == failed.compile.stderr],
    "later": later.run.output,
    "unknown": error(client.post_execute, "python", "9", file),
    "install": error(client.post_packages, "python", "3.11"),
    "absent": error(client.post_packages, "cobol", "1"),
    "remove": error(client.delete_packages, "python", "3.11"),
}))
"#;
    let said = said(Command::new(python).args(["-c", script, &format!("http://{address}/api/v2/piston/")]));
    assert!(said["languages"].as_array().unwrap().contains(&json!("python")), "{said}");
    for (key, expected) in [
        ("installed", json!(true)),
        ("ran", json!(["python", "hello you\n", 0, true])),
        ("compiled", json!([0, 9])),
        ("failed", json!([1, true])),
        ("later", json!("later\n")),
        ("unknown", json!("BadRequestError")),
        ("install", json!("InternalServerError")),
        ("absent", json!("NotFoundError")),
        ("remove", json!("InternalServerError")),
    ] {
        assert_eq!(said[key], expected, "{key}: {said}");
    }
}

#[test]
fn aiopyston_works_as_it_is() {
    let Some(python) = bridge::python() else {
        return skip("aiopyston is not there: tests/setup installs it");
    };
    let service = Service::start();
    let address = bridge::to(&service.socket());
    let script = r#"
import asyncio, json, sys
from pyston import PystonClient, File
from pyston.exceptions import ExecutionError

async def main():
    client = PystonClient(base_url=sys.argv[1])
    ran = await client.execute("python", [File("import helper; print(helper.x, input())", "main.py"), File("x = 5", "helper.py")], stdin="a")
    failed = await client.execute("sh", [File("exit 4")])
    try:
        await client.execute("python", [File("x")], run_timeout=10**9)
    except ExecutionError as error:
        refused = str(error)
    print(json.dumps({
        "python": [str(runtime) for runtime in await client.get_runtimes("py")],
        "ran": [ran.langauge, str(ran), ran.success],
        "failed": [failed.run_stage.code, failed.run_stage.signal],
        "refused": refused,
    }))
    await client.close_session()

asyncio.get_event_loop().run_until_complete(main())
"#;
    let said = said(Command::new(python).args(["-W", "ignore", "-c", script, &format!("http://{address}/api/v2/")]));
    assert!(said["python"].as_array().unwrap().contains(&json!("python")), "{said}");
    assert_eq!(said["ran"], json!(["python", "5 a\n", true]), "{said}");
    assert_eq!(said["failed"], json!([4, null]), "{said}");
    assert_eq!(said["refused"], "run_timeout cannot exceed the configured limit of 120000", "{said}");
}

#[test]
fn piston_client_works_where_bodies_need_no_type() {
    let Some(modules) = bridge::node_modules() else {
        return skip("piston-client is not there: tests/setup installs it");
    };
    let script = r#"
const { piston } = await import(process.argv[1] + '/piston-client/index.js');
const client = piston({ server: process.argv[2] });
const runtimes = await client.runtimes();
const ran = await client.execute('bash', 'echo "$# $1"', { args: ['x', 'y'], stdin: '' });
const other = await client.execute({ language: 'python', version: '3.11', files: [{ content: 'print(1)' }] });
console.log(JSON.stringify({ runtimes: runtimes.length > 0, ran, other }));
"#;
    let ask = |service: &Service| {
        let server = format!("http://{}/", bridge::to(&service.socket()));
        let modules = modules.to_str().unwrap();
        said(Command::new("node").args(["--input-type=module", "-e", script, modules, &server]))
    };
    // It declares its bodies to be plain text, which Piston itself refuses today.
    let service = Service::start();
    let told = ask(&service);
    assert_eq!(
        (&told["runtimes"], &told["ran"]),
        (&json!(true), &json!({"message": "requests must be of type application/json"}))
    );
    drop(service);
    let service = Service::start_with(json!({"piston": {"any_content_type": true}}));
    let told = ask(&service);
    assert_eq!(told["ran"]["run"]["stdout"], "2 x\n", "{told}");
    assert_eq!(told["other"]["run"]["output"], "1\n", "{told}");
}

#[test]
fn piston_rs_works_as_it_is() {
    let Some(program) = bridge::piston_rs() else {
        return skip("piston_rs is not there: tests/setup builds it");
    };
    let service = Service::start();
    let address = bridge::to(&service.socket());
    let said = said(Command::new(program).arg(format!("http://{address}/api/v2/piston")));
    assert!(said["languages"].as_array().unwrap().contains(&json!("bash")), "{said}");
    let told = said["told"].as_array().unwrap();
    let ran =
        json!({"status": 200, "language": "bash", "compile": null, "code": 3, "signal": null, "output": "typed one\n"});
    assert_eq!(told[0], ran, "{said}");
    assert_eq!((&told[1]["compile"], &told[1]["code"]), (&json!(0), &json!(5)), "{said}");
    assert_eq!((&told[2]["compile"], &told[2]["code"]), (&json!(1), &json!(1)), "{said}");
    assert_eq!((&told[3]["code"], &told[3]["signal"]), (&Value::Null, &json!("SIGSEGV")), "{said}");
    assert_eq!(told[4]["status"], 400, "{said}");
    assert!(told[4]["output"].as_str().unwrap().contains("bash-99 runtime is unknown"), "{said}");
}
