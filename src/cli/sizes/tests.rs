//! Tests of what runtimes take on disk.

use serde_json::json;

use super::*;

fn listing(language: &str, version: Option<&str>, source: &str, path: &str) -> Listing {
    serde_json::from_value(json!({
        "language": language, "title": language, "aliases": [], "version": version, "variants": [], "path": path,
        "source": source, "closure_bytes": null, "deprecated_since": null, "health": {"state": "working"},
        "baseline": null,
    }))
    .unwrap()
}

/// A store of two Pythons that share a library, in directories of 10, 20 and 400 bytes; the first
/// has a link out of it, which must not be followed.
fn store() -> (tempfile::TempDir, Manifest, StoreManifest) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for (name, size) in [("py311", 10), ("py312", 20), ("libc", 399)] {
        std::fs::create_dir_all(directory.path().join(name).join("bin")).unwrap();
        std::fs::write(directory.path().join(name).join("bin/python"), vec![b'x'; size]).unwrap();
    }
    std::os::unix::fs::symlink("/", directory.path().join("libc/root")).unwrap();
    let entry = |version: &str, name: &str| {
        json!({"language": "python", "version": version, "programs": {"python": format!("{}/bin/python", path(name))},
               "path": [], "closure": [path(name), path("libc"), path("libc")], "closure_bytes": 5})
    };
    let store = json!({"runtimes": [entry("3.11.9", "py311"), entry("3.12.4", "py312")]});
    let list = Manifest {
        runtimes: vec![
            listing("bash", None, "host", "/usr/bin/bash"),
            listing("python", Some("3.11.9"), "store", &format!("{}/bin/python", path("py311"))),
            listing("python", Some("3.12.4"), "store", &format!("{}/bin/python", path("py312"))),
            listing("python", Some("3.13"), "tree", "/usr/bin/python3.13"),
        ],
    };
    let store = serde_json::from_value(store).unwrap();
    (directory, list, store)
}

const METRICS: &str = "# TYPE codesandbox_runs counter\n\
    codesandbox_runs_total{language=\"python\",version=\"3.12\",status=\"ok\"} 2\n\
    codesandbox_runs_total{status=\"signalled\",version=\"3.12.4\",language=\"python\"} 5\n\
    codesandbox_runs_total{language=\"bash\",version=\"\",status=\"ok\"} 1\n\
    codesandbox_runs_total{language=\"cobol\",version=\"1\",status=\"ok\"} 1\n# EOF\n";

fn told(list: &Manifest, store: Option<&StoreManifest>, metrics: &str) -> (Report, Vec<String>) {
    let mut complaints = Vec::new();
    let report = report(list, store, metrics, &mut |what| complaints.push(what.to_owned()));
    (report, complaints)
}

#[test]
fn what_is_shared_counts_once_and_adds_nothing() {
    let (_directory, list, store) = store();
    let (report, complaints) = told(&list, Some(&store), METRICS);
    let sizes: Vec<_> = report.runtimes.iter().map(|size| (size.closure_bytes, size.added_bytes)).collect();
    assert_eq!(sizes, [(None, None), (Some(410), Some(10)), (Some(420), Some(20)), (None, None)]);
    assert_eq!((report.total_bytes, report.shared_bytes), (Some(430), Some(400)));
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn runs_are_told_where_some_were_counted() {
    let (_directory, list, store) = store();
    let runs = |metrics| told(&list, Some(&store), metrics).0.runtimes.iter().map(|size| size.runs).collect::<Vec<_>>();
    assert_eq!(runs(METRICS), [Some(1), Some(0), Some(7), Some(0)]);
    assert_eq!(runs("# EOF\n"), [None; 4]);
}

#[test]
fn people_get_a_table_with_runs_only_where_there_are_any() {
    let (_directory, list, store) = store();
    let text = render(&told(&list, Some(&store), METRICS).0);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("RUNS") && lines[1].starts_with("bash ") && lines[1].contains(" - "), "{text}");
    assert!(lines[3].starts_with("python@3.12.4") && lines[3].ends_with(" 7"), "{text}");
    assert!(lines[5].starts_with("shared by several") && lines[5].ends_with("93 %"), "{text}");
    assert!(lines[6].starts_with("all together"), "{text}");
    let text = render(&told(&list, None, "").0);
    assert!(!text.contains("RUNS"), "{text}");
}

#[test]
fn a_path_that_is_not_there_makes_no_sum_up() {
    let (directory, list, store) = store();
    std::fs::remove_dir_all(directory.path().join("py311")).unwrap();
    let (report, complaints) = told(&list, Some(&store), "");
    assert_eq!((report.runtimes[1].closure_bytes, report.runtimes[2].closure_bytes), (None, Some(420)));
    assert_eq!((report.total_bytes, report.shared_bytes), (None, Some(400)));
    assert!(complaints.len() == 1 && complaints[0].contains("py311"), "{complaints:?}");
}
