//! The kernels of `profiles/kernels/`, driven as the daemon drives them, with the interpreters of this host.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use codesandbox::session::kernel::{Cell, Fault, Kernel, KernelOutcome, Language, Message, Output, Status, StreamName};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const MOST_BYTES: usize = 64 << 20;

/// A kernel in a process of this test's own.
struct Context {
    kernel: Kernel,
    child: Child,
    workspace: tempfile::TempDir,
}

impl Context {
    fn start(language: Language, program: &Path) -> Self {
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/kernels");
        let workspace = tempfile::tempdir().unwrap();
        let argv = language.command(program, &kernels);
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .current_dir(workspace.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let kernel = Kernel::start(child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { kernel, child, workspace }
    }

    async fn run(&self, code: &str) -> KernelOutcome {
        self.end(self.kernel.execute(code).unwrap()).await
    }

    async fn end(&self, cell: Cell) -> KernelOutcome {
        tokio::time::timeout(PATIENCE, cell.outcome(MOST_BYTES)).await.expect("the cell ends in time").unwrap()
    }

    async fn ok(&self, code: &str) -> Vec<Output> {
        let outcome = self.run(code).await;
        assert_eq!(outcome.status, Status::Ok, "{code}: {outcome:?}");
        outcome.outputs
    }

    /// The plain text of a cell's value, which is all that it puts out.
    async fn value(&self, code: &str) -> String {
        match &self.ok(code).await[..] {
            [Output::ExecuteResult { data, .. }] => data["text/plain"].as_str().unwrap().to_owned(),
            outputs => panic!("{code}: {outputs:?}"),
        }
    }

    /// Name, text and traceback of the error that a cell ends with.
    async fn error(&self, code: &str) -> (String, String, String) {
        let outcome = self.run(code).await;
        assert_eq!(outcome.status, Status::Error, "{code}: {outcome:?}");
        match outcome.outputs.into_iter().next_back() {
            Some(Output::Error { ename, evalue, traceback }) => (ename, evalue, traceback.join("\n")),
            other => panic!("{code}: {other:?}"),
        }
    }

    /// Runs a cell that prints a line and goes on for ever, and interrupts it there.
    async fn interrupted(&self, code: &str) -> KernelOutcome {
        let mut cell = self.kernel.execute(code).unwrap();
        // It has come to where it stays.
        let first = tokio::time::timeout(PATIENCE, cell.next()).await.expect("it prints in time").unwrap();
        assert!(matches!(first, Message::Output(Output::Stream { .. })), "{code}: {first:?}");
        assert!(self.kernel.interrupt().await, "{code}: it runs");
        self.signal(Signal::SIGINT);
        self.end(cell).await
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it was not waited for");
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }
}

fn printed(outputs: &[Output], stream: StreamName) -> String {
    let texts = outputs.iter().filter_map(|output| match output {
        Output::Stream { name, text } if *name == stream => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// What was put out, in the form in which it is sent.
fn told(outputs: &[Output]) -> Value {
    serde_json::to_value(outputs).unwrap()
}

fn in_path(name: &str) -> Option<PathBuf> {
    let found =
        std::env::split_paths(&std::env::var_os("PATH")?).map(|path| path.join(name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: there is no {name} on this host");
    }
    found
}

/// Runs a test with a kernel, unless the host has not got its language.
fn with(language: Language, test: impl AsyncFnOnce(Context)) {
    let name = match language {
        Language::Python => "python3",
        Language::Node => "node",
    };
    if let Some(program) = in_path(name) {
        runtime().block_on(async { test(Context::start(language, &program)).await });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn python_keeps_what_a_cell_has_defined() {
    with(Language::Python, async |python| {
        assert_eq!(python.ok("x = 20\ndef double(): return 2 * x").await, []);
        assert_eq!(python.value("double() + 2").await, "42");
        assert_eq!(python.value("_ + 1, Out[2], _2").await, "(43, 42, 42)");
        assert_eq!(python.ok("x;").await, []);
        assert_eq!(python.ok("None").await, []);
        assert_eq!(
            python.value("__name__, __import__('sys').argv, __import__('sys').path[0]").await,
            "('__main__', [''], '')"
        );
        let outcome = python.run("1").await;
        assert_eq!(outcome.execution_count, Some(7));
    });
}

#[test]
fn python_awaits_outside_of_functions() {
    with(Language::Python, async |python| {
        assert_eq!(python.value("import asyncio\nawait asyncio.sleep(0.01, 'slept')").await, "'slept'");
        assert_eq!(python.value("[await asyncio.sleep(0, n) for n in range(3)]").await, "[0, 1, 2]");
        assert_eq!(python.value("asyncio.run(asyncio.sleep(0, 5))").await, "5");
        python.ok("done = asyncio.Event()\nasync def later():\n    done.set()\nasync def begin():\n    global task\n    task = asyncio.create_task(later())\nawait begin()").await;
        assert_eq!(python.value("await done.wait()").await, "True");
    });
}

#[test]
fn python_shows_the_forms_of_a_value() {
    with(Language::Python, async |python| {
        let shown = "class Shown:
    def _repr_html_(self): return '<b>x</b>'
    def _repr_png_(self): return b'\\x89PNG'
    def _repr_svg_(self): return '<svg/>'
    def _repr_json_(self): return {'nan': float('nan'), 1: [10**400 > 1, b'x', {1}]}
    def _repr_mimebundle_(self, include=None, exclude=None): return {'text/x': 'y'}, {'text/x': {'wide': True}}
    def __repr__(self): return 'Shown'";
        python.ok(shown).await;
        let data = json!({"text/html": "<b>x</b>", "image/png": "iVBORw==", "image/svg+xml": "<svg/>", "text/plain": "Shown",
            "application/json": {"nan": "nan", "1": [true, "eA==", [1]]}, "text/x": "y"});
        let metadata = json!({"text/x": {"wide": true}});
        assert_eq!(
            told(&python.ok("Shown()").await),
            json!([{"output_type": "execute_result", "execution_count": 2, "data": data, "metadata": metadata}])
        );
        assert_eq!(
            told(
                &python.ok("print('a'); display(Shown()); print('b'); display({'text/plain': 'raw'}, raw=True)").await
            ),
            json!([
                {"output_type": "stream", "name": "stdout", "text": "a\n"},
                {"output_type": "display_data", "data": data, "metadata": metadata},
                {"output_type": "stream", "name": "stdout", "text": "b\n"},
                {"output_type": "display_data", "data": {"text/plain": "raw"}, "metadata": {}},
            ])
        );
        // It has every attribute.
        assert!(python.value("import unittest.mock; unittest.mock.MagicMock()").await.starts_with("<MagicMock"));
        let long = python.value("'x' * (3 << 20)").await;
        assert!(long.len() < 2 << 20 && long.ends_with("characters)"), "{}", long.len());
    });
}

#[test]
fn python_survives_what_json_can_not_say() {
    with(Language::Python, async |python| {
        assert_eq!(told(&python.ok("print('\\ud800')").await)[0]["text"], "\\ud800\n");
        assert_eq!(
            told(&python.ok("display({'text/plain': '\\ud800\\\\'}, raw=True)").await)[0]["data"]["text/plain"],
            "\\ud800\\"
        );
        python
            .ok("deep = []\nfor _ in range(5000): deep = [deep]\ndisplay({'application/json': deep}, raw=True)")
            .await;
        python.ok("display({'application/json': [float('inf'), 2**64, 1e308, -0.0]}, raw=True)").await;
        let outputs = python.ok("display({'text/html': 'x' * (17 << 20)}, raw=True)").await;
        assert!(printed(&outputs, StreamName::Stderr).contains("left out: too long"), "{:?}", outputs.len());
        assert_eq!(
            printed(&python.ok("import os; os.write(1, b'\\xff\\xe2\\x82')").await, StreamName::Stdout),
            "\u{fffd}\u{fffd}"
        );
        assert_eq!(python.value("1").await, "1");
    });
}

#[test]
fn python_tells_errors_from_the_cell_on() {
    with(Language::Python, async |python| {
        let (name, text, trace) = python.error("def fail():\n    raise ValueError('no')\nfail()").await;
        assert_eq!((name.as_str(), text.as_str()), ("ValueError", "no"));
        assert!(trace.contains("<cell 1>\", line 2, in fail\n    raise ValueError('no')"), "{trace}");
        assert!(!trace.contains("python.py"), "{trace}");
        let (name, _, trace) = python.error("import asyncio\nasync def f(): 1 / 0\nawait f()").await;
        assert_eq!(name, "ZeroDivisionError");
        assert!(
            trace.contains("<cell 2>") && !trace.contains("python.py") && !trace.contains("base_events"),
            "{trace}"
        );
        assert_eq!(python.error("x = ").await.0, "SyntaxError");
        assert!(python.error("print('never')\nreturn 5").await.2.contains("    return 5"));
        assert_eq!(python.error("import sys; sys.exit(3)").await, {
            let (_, _, trace) = python.error("import sys; sys.exit(3)").await;
            ("SystemExit".into(), "3".into(), trace.replace("<cell 6>", "<cell 5>"))
        });
        assert_eq!(python.error("exit()").await.0, "SystemExit");
        assert_eq!(python.error("input('name? ')").await.0, "StdinNotImplementedError");
        assert_eq!(python.error("def deep(): deep()\ndeep()").await.0, "RecursionError");
        assert_eq!(python.error("class Bad(Exception):\n    def __str__(self): raise 5\nraise Bad").await.0, "Bad");
        assert_eq!(
            python.error("class Mute:\n    def __repr__(self): raise KeyError('mute')\nMute()").await.0,
            "KeyError"
        );
        assert_eq!(python.value("'alive'").await, "'alive'");
    });
}

#[test]
fn python_tells_what_anybody_prints() {
    with(Language::Python, async |python| {
        let code = "import ctypes, os, subprocess, sys
print('print'); os.write(1, b'write\\n'); os.system('echo child; echo error >&2; echo device > /dev/stderr')
ctypes.CDLL(None).printf(b'from C\\n')
subprocess.Popen(['sh', '-c', 'echo last']).wait()
for n in range(3):
    print('out', n); print('err', n, file=sys.stderr)
1";
        let outputs = python.ok(code).await;
        let out = printed(&outputs, StreamName::Stdout);
        for part in ["print\nwrite\nchild\n", "last\n", "from C\n", "out 0\nout 1\nout 2\n"] {
            assert!(out.contains(part), "{out}");
        }
        assert_eq!(printed(&outputs, StreamName::Stderr), "error\ndevice\nerr 0\nerr 1\nerr 2\n");
        assert!(matches!(outputs.last(), Some(Output::ExecuteResult { .. })), "{outputs:?}");
        let texts = outputs.iter().filter_map(|output| match output {
            Output::Stream { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let order: String = texts.collect();
        assert!(order.ends_with("err 0\nout 1\nerr 1\nout 2\nerr 2\n"), "{order}");
        assert_eq!(python.value("import os\nopen('/dev/stdin').read()").await, "''");
    });
}

#[test]
fn children_of_a_python_cell_do_not_speak_for_the_kernel() {
    with(Language::Python, async |python| {
        let outputs = python.ok("import os, sys\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nelse:\n    print('child')\n    display(5)").await;
        assert_eq!(told(&outputs), json!([{"output_type": "stream", "name": "stdout", "text": "child\n"}]));
        let outputs = python.ok("import multiprocessing\ndef square(n): return n * n\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.map(square, range(4)))").await;
        assert_eq!(printed(&outputs, StreamName::Stdout), "[0, 1, 4, 9]\n");
    });
}

#[test]
fn what_a_thread_prints_later_is_not_told_of_another_cell() {
    with(Language::Python, async |python| {
        python.ok("import threading\ngo, done = threading.Event(), threading.Event()\ndef late():\n    go.wait()\n    print('late ' * 100000)\n    done.set()\nthreading.Thread(target=late).start()").await;
        // The second cell wakes it when its own number is on the wire already.
        let outputs = python.ok("go.set(); done.wait(); print('own')").await;
        assert!(printed(&outputs, StreamName::Stdout).ends_with("own\n"));
        python.ok("import time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('stray'))).start()").await;
        let outputs = python.ok("1").await;
        assert_eq!(printed(&outputs, StreamName::Stdout), "");
    });
}

#[test]
fn python_is_interrupted_wherever_it_is() {
    with(Language::Python, async |python| {
        python.ok("kept = 1").await;
        for code in [
            "print('x')\nwhile True: pass",
            "import time\nprint('x')\ntime.sleep(600)",
            "import asyncio\nprint('x')\nawait asyncio.sleep(600)",
            "await asyncio.sleep(0)\nprint('x')\nwhile True: pass",
            "import random\nnumbers = [random.random() for _ in range(100000)]\nprint('x')\nwhile True: sorted(numbers)",
            "import subprocess\nprint('x')\nsubprocess.run(['sleep', '600'])",
            "while True: print('x' * 1000)",
            "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nprint('x')\nwhile True: pass",
        ] {
            let outcome = python.interrupted(code).await;
            assert_eq!(outcome.status, Status::Interrupted, "{code}");
            let Some(Output::Error { ename, .. }) = outcome.outputs.last() else { panic!("{code}: {outcome:?}") };
            assert_eq!(ename, "KeyboardInterrupt");
        }
        // Between cells it means nothing.
        assert!(!python.kernel.interrupt().await);
        python.signal(Signal::SIGINT);
        assert_eq!(python.value("kept").await, "1");
        // One that catches it goes on.
        let outcome = python
            .interrupted("try:\n    print('x')\n    while True: pass\nexcept KeyboardInterrupt:\n    print('caught')")
            .await;
        assert_eq!(outcome.status, Status::Ok);
    });
}

#[test]
fn figures_are_shown_as_images() {
    with(Language::Python, async |python| {
        if python.run("import matplotlib, pandas").await.status != Status::Ok {
            eprintln!("skipped: this host's Python has no matplotlib and pandas");
            return;
        }
        python.ok("import matplotlib.pyplot as plt").await;
        let outputs = python.ok("plt.plot([1, 2]); plt.show(); plt.plot([2, 1]); plt.title('b'); print('end')").await;
        let shown = told(&outputs);
        let kinds: Vec<_> =
            shown.as_array().unwrap().iter().map(|output| output["output_type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["display_data", "stream", "display_data"]);
        assert!(shown[0]["data"]["image/png"].as_str().unwrap().starts_with("iVBORw0KGgo"), "{shown}");
        let table = told(&python.ok("import pandas; pandas.DataFrame({'a': [1, 2]})").await);
        assert!(table[0]["data"]["text/html"].as_str().unwrap().contains("<table"), "{table}");
        assert!(table[0]["data"]["text/plain"].as_str().unwrap().contains('a'), "{table}");
    });
}

#[test]
fn every_python_of_the_host_serves() {
    let mut pythons: Vec<PathBuf> = Vec::new();
    for minor in 8..=14 {
        let homes = std::env::home_dir().unwrap_or_default().join(".pyenv/versions");
        let installed = std::fs::read_dir(homes).into_iter().flatten().flatten();
        let installed = installed.map(|entry| entry.path().join(format!("bin/python3.{minor}")));
        pythons.extend(installed.chain([format!("/usr/bin/python3.{minor}").into()]).filter(|path| path.is_file()));
    }
    if pythons.is_empty() {
        eprintln!("skipped: this host has no python3.8 or later");
    }
    runtime().block_on(async {
        for program in pythons {
            let python = Context::start(Language::Python, &program);
            let outputs = python
                .ok("import asyncio, sys\nprint('out'); print('err', file=sys.stderr)\nawait asyncio.sleep(0, 5)")
                .await;
            assert_eq!(outputs.len(), 3, "{program:?}: {outputs:?}");
            assert!(python.error("1 / 0").await.2.contains("<cell 2>"), "{program:?}");
            let outcome = python.interrupted("print('x')\nwhile True: pass").await;
            assert_eq!(outcome.status, Status::Interrupted, "{program:?}");
        }
    });
}

#[test]
fn node_keeps_what_a_cell_has_declared() {
    with(Language::Node, async |node| {
        assert_eq!(node.ok("const x = 20; let y = 1; function double() { return 2 * x; } class A {}").await, []);
        assert_eq!(node.value("let y = 2; const x = 20; class A {}; double() + y").await, "42");
        assert_eq!(node.value("_ + 1").await, "43");
        assert_eq!(node.value("({a: [1, new Map([[1, 2]])]})").await, "{ a: [ 1, Map(1) { 1 => 2 } ] }");
        assert_eq!(node.ok("undefined").await, []);
        for (code, value) in [("null", "null"), ("-0", "-0"), ("10n", "10n"), ("NaN", "NaN"), ("'a'", "'a'")] {
            assert_eq!(node.value(code).await, value);
        }
    });
}

#[test]
fn node_awaits_outside_of_functions() {
    with(Language::Node, async |node| {
        assert_eq!(node.ok("const late = await new Promise((done) => setTimeout(done, 5, 'late'))").await, []);
        assert_eq!(node.value("late").await, "'late'");
        assert_eq!(
            told(&node.ok("async function main() { console.log('in'); await null; return 'done'; }\nmain()").await)[1]
                ["data"]["text/plain"],
            "'done'"
        );
    });
}

#[test]
fn node_finds_modules_from_the_current_directory() {
    with(Language::Node, async |node| {
        node.ok("require('fs').writeFileSync('a.cjs', 'module.exports = 1'); require('fs').writeFileSync('b.mjs', 'export default 2; export const c = 3;')").await;
        assert_eq!(node.value("require('./a.cjs')").await, "1");
        assert_eq!(node.value("(await import('./b.mjs')).c").await, "3");
        assert_eq!(
            node.value(
                "import b, { c as d } from './b.mjs';\nimport * as all from './b.mjs'\nimport 'fs'\n[b, d, all.c]"
            )
            .await,
            "[ 2, 3, 3 ]"
        );
        // What only looks like one.
        assert_eq!(
            node.value("`${`import('x')${1}`} import('y')` + \"import('z')\" /* import('q') */").await,
            "`import('x')1 import('y')import('z')`".replace('`', "\"")
        );
        assert_eq!(node.value("/import\\('x'\\)/.test(\"import('x')\")").await, "true");
    });
}

#[test]
fn node_shows_the_forms_of_a_value() {
    with(Language::Node, async |node| {
        let outputs = node.ok("console.log('a'); display({'text/html': '<b>', 'application/json': {n: NaN, b: 1n}}); console.error('b'); ({[Symbol.for('Jupyter.display')]: async () => ({'image/png': Buffer.from('x')})})").await;
        assert_eq!(
            told(&outputs),
            json!([
                {"output_type": "stream", "name": "stdout", "text": "a\n"},
                {"output_type": "display_data", "data": {"text/html": "<b>", "application/json": {"n": null, "b": "1n"}}, "metadata": {}},
                {"output_type": "stream", "name": "stderr", "text": "b\n"},
                {"output_type": "execute_result", "data": {"image/png": "eA=="}, "metadata": {}, "execution_count": 1},
            ])
        );
        let shown = told(&node.ok("({_toHtml() { return '<i>'; }})").await);
        assert_eq!(shown[0]["data"]["text/html"], "<i>");
        assert_eq!(
            told(&node.ok("display({'text/plain': '\\ud800\\\\ud800'})").await)[0]["data"]["text/plain"],
            "\\ud800\\ud800"
        );
        let outputs = node.ok("display({'text/html': 'x'.repeat(17 << 20)})").await;
        assert!(printed(&outputs, StreamName::Stderr).contains("left out: too long"));
    });
}

#[test]
fn node_tells_errors_from_the_cell_on() {
    with(Language::Node, async |node| {
        let (name, text, trace) = node.error("function fail() {\n  throw new TypeError('no');\n}\nfail()").await;
        assert_eq!((name.as_str(), text.as_str()), ("TypeError", "no"));
        assert_eq!(trace, "TypeError: no\n    at fail (cell-1:2:9)\n    at cell-1:4:1");
        let (name, _, trace) = node.error("1;\nlet u = ;").await;
        assert_eq!(name, "SyntaxError");
        assert!(trace.contains("cell-2:2\nlet u = ;\n        ^"), "{trace}");
        assert_eq!(node.error("throw 5").await.1, "5");
        assert_eq!(node.error("Promise.reject(new Error('alone'));\n5").await.1, "alone");
        assert_eq!(
            node.run(
                "setTimeout(() => { throw new Error('later'); }, 1); await new Promise((done) => setTimeout(done, 50))"
            )
            .await
            .status,
            Status::Error
        );
        assert_eq!(node.error("process.exit(3)").await.0, "ProcessExit");
        assert_eq!(node.error("(function deep() { deep(); })()").await.0, "RangeError");
        assert_eq!(node.error("await import('./nowhere.mjs')").await.0, "Error");
        assert_eq!(node.value("'alive'").await, "'alive'");
    });
}

#[test]
fn node_tells_what_anybody_prints() {
    with(Language::Node, async |node| {
        let code = "const { execSync } = require('child_process');
process.stdout.write('write\\n'); require('fs').writeSync(1, 'descriptor\\n');
execSync('echo child; echo error >&2; echo device >/dev/stderr; head -c 300000 /dev/zero | tr \"\\\\0\" x', { stdio: 'inherit' });
for (let n = 0; n < 3; n++) { console.log('out', n); console.error('err', n); }
1";
        let outputs = node.ok(code).await;
        let expected = format!("write\ndescriptor\nchild\n{}out 0\nout 1\nout 2\n", "x".repeat(300_000));
        assert_eq!(printed(&outputs, StreamName::Stdout), expected);
        assert_eq!(printed(&outputs, StreamName::Stderr), "error\ndevice\nerr 0\nerr 1\nerr 2\n");
        assert!(matches!(outputs.last(), Some(Output::ExecuteResult { .. })));
        let long = node.ok("process.stdout.write('€'.repeat(1e6)); undefined").await;
        assert_eq!(printed(&long, StreamName::Stdout).chars().filter(|character| *character == '€').count(), 1_000_000);
    });
}

#[test]
fn node_is_interrupted_wherever_it_is() {
    with(Language::Node, async |node| {
        node.ok("const kept = 1").await;
        for code in [
            "console.log('x'); while (true);",
            "console.log('x'); await new Promise(() => {})",
            "console.log('x'); new Promise(() => {})",
            "const numbers = Array.from({length: 1e5}, Math.random); console.log('x'); for (;;) numbers.slice().sort((a, b) => a - b)",
            "for (;;) console.log('x'.repeat(1000))",
            "await null; console.log('x'); while (true);",
        ] {
            let outcome = node.interrupted(code).await;
            assert_eq!(outcome.status, Status::Interrupted, "{code}: {:?}", outcome.outputs.last());
            let Some(Output::Error { ename, .. }) = outcome.outputs.last() else { panic!("{code}: {outcome:?}") };
            assert_eq!(ename, "KeyboardInterrupt");
        }
        assert!(!node.kernel.interrupt().await);
        node.signal(Signal::SIGINT);
        assert_eq!(node.value("kept").await, "1");
    });
}

#[test]
fn output_is_told_while_a_cell_runs() {
    for (language, code) in [
        (Language::Python, "import os\nprint('begun')\nwhile not os.path.exists('go'): pass"),
        (Language::Node, "console.log('begun'); while (!require('fs').existsSync('go'));"),
    ] {
        with(language, async |context| {
            let mut cell = context.kernel.execute(code).unwrap();
            let first = tokio::time::timeout(PATIENCE, cell.next()).await.unwrap().unwrap();
            assert_eq!(first, Message::Output(Output::Stream { name: StreamName::Stdout, text: "begun\n".into() }));
            assert!(context.kernel.is_busy());
            std::fs::write(context.workspace.path().join("go"), "").unwrap();
            assert_eq!(context.end(cell).await.status, Status::Ok);
        });
    }
}

#[test]
fn two_hundred_cells_lose_nothing_and_mix_nothing() {
    const PYTHON: &str = "import subprocess
for n in range(5):
    print('out CELL', n); subprocess.run(['sh', '-c', 'echo child CELL; echo error CELL >&2'])
'value CELL'";
    const NODE: &str = "for (let n = 0; n < 5; n++) {
  console.log('out CELL', n); require('child_process').spawnSync('sh', ['-c', 'echo child CELL; echo error CELL >&2'], { stdio: 'inherit' });
}
'value CELL'";
    for (language, code) in [(Language::Python, PYTHON), (Language::Node, NODE)] {
        with(language, async |context| {
            for number in 1..=200 {
                let name = number.to_string();
                let outputs = context.ok(&code.replace("CELL", &name)).await;
                let out: String = (0..5).map(|n| format!("out {name} {n}\nchild {name}\n")).collect();
                assert_eq!(printed(&outputs, StreamName::Stdout), out);
                assert_eq!(printed(&outputs, StreamName::Stderr), format!("error {name}\n").repeat(5));
                let Some(Output::ExecuteResult { data, execution_count, .. }) = outputs.last() else {
                    panic!("{outputs:?}")
                };
                assert_eq!(
                    (data["text/plain"].as_str(), *execution_count),
                    (Some(format!("'value {name}'").as_str()), number)
                );
            }
        });
    }
}

#[test]
fn cells_run_in_the_order_in_which_they_were_asked_for() {
    with(Language::Python, async |python| {
        let cells: Vec<_> = (0..8)
            .map(|n| python.kernel.execute(format!("order = globals().get('order', []) + [{n}]\nlen(order)")).unwrap())
            .collect();
        for (n, cell) in cells.into_iter().enumerate() {
            assert_eq!(python.end(cell).await.execution_count, Some(n as u64 + 1));
        }
        assert_eq!(python.value("order").await, "[0, 1, 2, 3, 4, 5, 6, 7]");
    });
}

#[test]
fn a_full_queue_refuses() {
    with(Language::Python, async |python| {
        let mut cells = Vec::new();
        let fault = loop {
            match python.kernel.execute("import time; time.sleep(600)") {
                Ok(cell) => cells.push(cell),
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault, Fault::QueueFull);
        assert!(cells.len() <= 17);
    });
}

#[test]
fn a_kernel_that_is_killed_has_died() {
    for (language, code) in
        [(Language::Python, "print('x')\nwhile True: pass"), (Language::Node, "console.log('x'); while (true);")]
    {
        with(language, async |context| {
            let mut cell = context.kernel.execute(code).unwrap();
            let waiting = context.kernel.execute("1").unwrap();
            cell.next().await.unwrap();
            context.signal(Signal::SIGKILL);
            assert_eq!(context.end(cell).await.status, Status::Died);
            assert_eq!(context.end(waiting).await.status, Status::Died);
            assert_eq!(context.kernel.fault(), Some(Fault::Died));
            assert_eq!(context.kernel.execute("1").err(), Some(Fault::Died));
            assert!(!context.kernel.interrupt().await);
        });
    }
}

#[test]
fn a_reader_that_goes_away_does_not_hold_the_kernel_up() {
    with(Language::Python, async |python| {
        let mut cell = python.kernel.execute("print('x')\nfor _ in range(40): print('y' * (1 << 20))").unwrap();
        cell.next().await.unwrap();
        drop(cell);
        assert_eq!(python.value("2").await, "2");
    });
}

#[test]
fn what_is_more_than_the_limit_is_left_out() {
    with(Language::Python, async |python| {
        let cell = python.kernel.execute("for _ in range(100): print('y' * 100000)\n1 / 0").unwrap();
        let outcome = cell.outcome(1 << 20).await.unwrap();
        assert!(outcome.truncated);
        assert!(matches!(outcome.outputs.last(), Some(Output::Error { .. })));
        assert!(printed(&outcome.outputs, StreamName::Stdout).len() <= 1 << 20);
    });
}

#[test]
fn forged_messages_break_the_kernel_and_nothing_else() {
    // The kernel's own descriptor, by the number that Python's gives it.
    for forged in ["b'nonsense\\n'", "b'[' * 100000 + b'\\n'", "b'x' * (17 << 20)", "b'\\xff\\n'"] {
        with(Language::Python, async |python| {
            let find = "import os\nmessages = [int(n) for n in os.listdir('/proc/self/fd') if int(n) >= 500][1]";
            python.ok(find).await;
            let cell = python
                .kernel
                .execute(format!("data = memoryview({forged})\nwhile data: data = data[os.write(501, data):]"))
                .unwrap();
            let fault = tokio::time::timeout(PATIENCE, cell.outcome(MOST_BYTES)).await.unwrap().unwrap_err();
            assert!(matches!(fault, Fault::Broken(_)), "{fault:?}");
            assert!(matches!(python.kernel.execute("1"), Err(Fault::Broken(_))));
        });
    }
}

#[test]
fn contexts_are_apart() {
    with(Language::Python, async |python| {
        let other = Context::start(Language::Python, &in_path("python3").unwrap());
        python.ok("x = 1").await;
        other.ok("x = 2").await;
        assert_eq!((python.value("x").await, other.value("x").await), ("1".into(), "2".into()));
    });
}
