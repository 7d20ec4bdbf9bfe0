//! Lists the files of `profiles/`, so that a new language, profile, boot program or kernel is one new file.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let is_toml = |extension: Option<&OsStr>| extension.is_some_and(|extension| extension == "toml");
    list("languages", "include_str", Path::file_stem, is_toml);
    list("sandboxes", "include_str", Path::file_stem, is_toml);
    // Not what explains them, nor the source of the one that is compiled.
    let is_boot =
        |extension: Option<&OsStr>| extension.is_none_or(|extension| extension != "md" && extension != "java");
    list("warm", "include_bytes", Path::file_name, is_boot);
    list("kernels", "include_bytes", Path::file_name, is_boot);
}

/// Writes a list of `(name, content)` of the files of a directory, by name.
fn list(directory: &str, include: &str, name: fn(&Path) -> Option<&OsStr>, is_wanted: impl Fn(Option<&OsStr>) -> bool) {
    let source = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("profiles").join(directory);
    // Of the directory: that is what changes when a file comes or goes.
    println!("cargo::rerun-if-changed={}", source.display());
    let entries = fs::read_dir(&source).expect("the directory is part of the source");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|file| is_wanted(file.extension()));
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = name(&file).and_then(OsStr::to_str).expect("names are plain");
        writeln!(list, "    ({name:?}, {include}!({:?})),", file.display()).expect("a string takes it");
    }
    list.push_str("]\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join(format!("{directory}.rs")), list).expect("OUT_DIR can be written");
}
