//! What tells one state of a runtime's files from another.

use std::path::PathBuf;

use crate::job::Toolchain;
use crate::runtime::{Files, Runtime};

/// Of a closure its paths, which never change. Where files are replaced in place, those that every
/// change of the runtime replaces: its programs, and what it needs besides.
pub(in crate::api) fn of(runtime: &Runtime) -> Toolchain {
    let replaced = |extra: &[PathBuf]| runtime.programs.values().chain(extra).cloned().collect();
    match &runtime.files {
        Files::Host { extra } => Toolchain { closure: vec![], root: "/".into(), replaced: replaced(extra) },
        Files::Tree { root, extra } => Toolchain { closure: vec![], root: root.clone(), replaced: replaced(extra) },
        Files::Store { closure } => {
            let mut closure = closure.clone();
            closure.sort_unstable();
            Toolchain { closure, root: "/".into(), replaced: vec![] }
        }
    }
}
