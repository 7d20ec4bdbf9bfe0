//! Files that come in an archive, projects, and archives that are made to do harm.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

type Writer = ZipWriter<Cursor<Vec<u8>>>;

fn archive(write: impl FnOnce(&mut Writer)) -> String {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    write(&mut zip);
    encoded(zip.finish().unwrap().get_ref())
}

fn file(zip: &mut Writer, name: &str, content: &[u8]) {
    zip.start_file(name, SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
}

fn files(all: &[(&str, &str)]) -> String {
    archive(|zip| all.iter().for_each(|(name, content)| file(zip, name, content.as_bytes())))
}

#[test]
fn files_are_there_beside_the_source_which_stays_as_it_was_sent() {
    let service = service(&json!({}));
    let source = "import lib.words\nprint(lib.words.WORD, open('data.txt').read())";
    let additional = files(&[("lib/words.py", "WORD = 'hi'"), ("./data.txt", "data"), ("main.py", "print('not me')")]);
    let done = run(&service, &with(python(source), json!({"additional_files": additional})));
    assert_eq!((&done["status"]["id"], &done["stdout"]), (&json!(3), &json!("hi data\n")), "{done}");
    assert_eq!(done["additional_files"].as_str().unwrap().replace('\n', ""), additional);
}

#[test]
fn a_project_is_compiled_and_run_by_its_own_scripts() {
    let service = service(&json!({}));
    let project = |all: &[(&str, &str)]| json!({"language_id": 89, "additional_files": files(all)});
    let compile = "#!/bin/bash\ncp word.txt made.txt; echo compiling";
    let run_script = "#!/bin/bash\nread -r name; echo \"$(cat made.txt), $name\"";
    let whole = [("compile", compile), ("run", run_script), ("word.txt", "hello")];
    let done = run(&service, &with(project(&whole), json!({"stdin": "you\n", "expected_output": "hello, you"})));
    assert_eq!((&done["status"]["id"], &done["stdout"]), (&json!(3), &json!("hello, you\n")), "{done}");
    assert_eq!(done["compile_output"], "compiling\n");
    let done = run(&service, &project(&[("run.sh", "echo only"), ("run", "echo not me")]));
    assert_eq!(done["stdout"], "only\n");
    let done = run(&service, &project(&[("compile.sh", "echo no >&2; exit 1"), ("run", "echo never")]));
    assert_eq!(
        (&done["status"]["id"], &done["compile_output"], &done["stdout"]),
        (&json!(6), &json!("no\n"), &json!(null))
    );
    let answer = post(&service, "/submissions", &project(&[("other", "x")]));
    assert_eq!(answer.status, 422);
    assert!(answer.json()["additional_files"].is_array());
}

#[test]
fn an_archive_that_does_harm_is_refused_and_says_why() {
    let service = service(&json!({"max_extract_size": 2048}));
    let noise: Vec<u8> = (0..600_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (additional, message) in [
        (encoded(b"no archive"), "is not a valid zip archive"),
        (archive(|zip| file(zip, "zeros", &vec![0; 3 << 19])), "is compressed more than any honest archive"),
        (
            archive(|zip| file(zip, "zeros", &vec![0; 40 << 20])),
            "is too large when it is extracted (maximum is 2097152 bytes)",
        ),
        (archive(|zip| file(zip, "noise", &noise)), "is too large when it is extracted (maximum is 2097152 bytes)"),
        (
            archive(|zip| (0..2000).for_each(|number| file(zip, &number.to_string(), b""))),
            "has too many entries (maximum is 1023)",
        ),
        (
            archive(|zip| zip.add_symlink("passwd", "/etc/passwd", SimpleFileOptions::default()).unwrap()),
            "has an entry that is neither a file nor a directory",
        ),
        (files(&[("a", "1"), ("./a", "2")]), "has an entry twice"),
        (
            archive(|zip| {
                file(zip, "a", &[1; 999]);
                zip.shallow_copy_file("a", "b").unwrap();
            }),
            "is compressed more than any honest archive",
        ),
    ] {
        let answer = post(&service, "/submissions", &with(python("print(1)"), json!({"additional_files": additional})));
        assert_eq!((answer.status, answer.json()), (422, json!({"additional_files": [message]})));
    }
    for name in ["../a", "/etc/a", "a/../../b", "a//b", "a/./b"] {
        let additional = files(&[(name, "x")]);
        let answer = post(&service, "/submissions", &with(python("print(1)"), json!({"additional_files": additional})));
        assert_eq!(answer.status, 422, "{name}");
        assert!(answer.json()["additional_files"].is_array(), "{name}");
    }
    // Positive control: what is large, deep and compressed, and honest.
    let honest = archive(|zip| {
        file(zip, "a/b/c/noise", &noise[..1 << 20]);
        file(zip, "zeros", &vec![0; 512 << 10]);
    });
    let source = "import os\nprint(os.path.getsize('a/b/c/noise'), os.path.getsize('zeros'))";
    let done = run(&service, &with(python(source), json!({"additional_files": honest})));
    assert_eq!(done["stdout"], "1048576 524288\n", "{done}");
}
