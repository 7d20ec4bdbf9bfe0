//! The official client in Python, as its users use it.

use std::process::Command;

use super::*;
use crate::common::bridge;

const SCRIPT: &str = r##"
import json, os, sys
import judge0

client = judge0.Client(endpoint=sys.argv[1])
assert client.version == "1.13.1", client.version
assert any(language.name.startswith("Python (3") for language in client.languages)
assert client.config.max_cpu_time_limit == 15.0

one = judge0.run(client=client, source_code="print('hello,', input())", language=judge0.PYTHON, stdin="you")
assert (one.stdout, one.status) == ("hello, you\n", judge0.Status.ACCEPTED), one
assert one.time is not None and one.memory > 0 and one.finished_at >= one.created_at

programs = {
    judge0.C: "#include <stdio.h>\nint main(void) { puts(\"hi\"); return 0; }",
    judge0.BASH: "echo hi",
    judge0.JAVASCRIPT: "console.log('hi')",
    judge0.PERL: "print \"hi\\n\";",
}
known = {language: source for language, source in programs.items() if client.is_language_supported(language)}
assert len(known) >= 2, known
several = judge0.run(
    client=client,
    submissions=[judge0.Submission(source_code=source, language=language) for language, source in known.items()],
)
assert [one.stdout for one in several] == ["hi\n"] * len(known), several

cases = judge0.run(
    client=client,
    source_code="print(int(input()) ** 2)",
    language=judge0.PYTHON,
    test_cases=[("2", "4"), ("3", "9"), ("4", "15")],
)
assert [one.status for one in cases] == [judge0.Status.ACCEPTED, judge0.Status.ACCEPTED, judge0.Status.WRONG_ANSWER]

files = judge0.Filesystem(content=[judge0.File(name="lib/words.py", content="WORD = 'from a file'")])
one = judge0.run(
    client=client, source_code="from lib.words import WORD\nprint(WORD)", language=judge0.PYTHON, additional_files=files
)
assert one.stdout == "from a file\n", one

project = judge0.Filesystem(content=[
    judge0.File(name="compile", content="echo 'echo built' > program"),
    judge0.File(name="run", content="bash program"),
])
one = judge0.run(client=client, submissions=judge0.Submission(source_code="", language=judge0.MULTI_FILE, additional_files=project))
assert one.stdout == "built\n", one

one = judge0.run(client=client, source_code="raise SystemExit(3)", language=judge0.PYTHON)
assert (one.status, one.exit_code) == (judge0.Status.RUNTIME_ERROR_NZEC, 3), one
one = judge0.run(client=client, source_code="while True: pass", language=judge0.PYTHON, cpu_time_limit=0.3, cpu_extra_time=0)
assert one.status == judge0.Status.TIME_LIMIT_EXCEEDED, one
print("all well")
"##;

#[test]
fn the_official_client_works_unchanged() {
    let Some(python) = bridge::python() else { return common::skip("tests/setup has not installed the clients") };
    let service = service(&json!({}));
    let address = bridge::to(&service.socket());
    let mut command = Command::new(python);
    command.args(["-c", SCRIPT, &format!("http://{address}/judge0")]);
    let output = command.env("JUDGE0_SUPPRESS_PREVIEW_WARNING", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "all well\n");
}
