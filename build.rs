//! Lists the files of `profiles/`, so that a new language or profile is one new file.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it");
    for directory in ["languages", "sandboxes"] {
        let source =
            Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("profiles").join(directory);
        // Of the directory: that is what changes when a file comes or goes.
        println!("cargo::rerun-if-changed={}", source.display());
        let entries = fs::read_dir(&source).expect("the directory is part of the source");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        let mut list = String::from("&[\n");
        for file in files {
            let name = file.file_stem().and_then(|stem| stem.to_str()).expect("names are plain");
            writeln!(list, "    ({name:?}, include_str!({:?})),", file.display()).expect("a string takes it");
        }
        list.push_str("]\n");
        fs::write(Path::new(&out).join(format!("{directory}.rs")), list).expect("OUT_DIR can be written");
    }
    let warm = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("profiles/warm");
    println!("cargo::rerun-if-changed={}", warm.display());
    let mut boots: Vec<_> = fs::read_dir(&warm)
        .expect("the directory is part of the source")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    boots.retain(|file| {
        file.extension().is_none_or(|extension| !["md", "java"].contains(&extension.to_str().unwrap_or_default()))
    });
    boots.sort();
    let mut list = String::from("&[\n");
    for boot in boots {
        let name = boot.file_name().and_then(|name| name.to_str()).expect("names are plain");
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", boot.display()).expect("a string takes it");
    }
    list.push_str("]\n");
    fs::write(Path::new(&out).join("warm.rs"), list).expect("OUT_DIR can be written");
}
