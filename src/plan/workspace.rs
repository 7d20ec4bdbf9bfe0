//! What a session's workspace is made of, and how its parts are called on disk.
//!
//! A *store* is one tmpfs of one session. In it stand *layers*, which nobody changes any more, the
//! *upper* directory, which takes what the session writes, and two directories that are no part of
//! any snapshot: `tmp` and `shm`. A fork refers to layers in the stores of its ancestors.

use serde::{Deserialize, Serialize};

/// Directory of a store that becomes `/tmp`.
pub const TMP: &str = "tmp";
/// Directory of a store that becomes `/dev/shm`.
pub const SHM: &str = "shm";

/// What a session's `/workspace` is made of. The first store is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Layers, the topmost first.
    pub layers: Vec<LayerAt>,
    /// Number of the upper directory, which is in the first store.
    pub upper: u64,
}

/// Where one layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerAt {
    /// Place of its store among those that come along, from 0.
    pub store: u32,
    /// Its number there.
    pub number: u64,
}

/// Name of a layer's or an upper directory: digits, with which no other name begins. The names of all layers of an overlay must fit
/// one page; mount(2).
#[must_use]
pub fn layer_name(number: u64) -> String {
    number.to_string()
}

/// Name of the directory in which overlayfs prepares what it then moves to the upper directory.
#[must_use]
pub fn work_name(upper: u64) -> String {
    format!("w{upper}")
}

impl Overlay {
    /// Options of overlayfs, with each store mounted in the working directory under its place's number.
    ///
    /// No layer: overlayfs demands one, and gets the directory `empty` of the first store.
    #[must_use]
    pub fn options(&self) -> String {
        let mut layers: Vec<String> =
            self.layers.iter().map(|layer| format!("{}/{}", layer.store, layer_name(layer.number))).collect();
        if layers.is_empty() {
            layers.push(format!("0/{EMPTY}"));
        }
        // With `userxattr` it follows no redirection that is written in an attribute, and a program
        // can't write the attributes that it reads: they are escaped, or refused before Linux 6.7.
        format!(
            "lowerdir={},upperdir=0/{},workdir=0/{},userxattr",
            layers.join(":"),
            layer_name(self.upper),
            work_name(self.upper)
        )
    }
}

/// Directory of a store with nothing in it.
pub const EMPTY: &str = "empty";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_comes_first() {
        let layers = vec![LayerAt { store: 0, number: 11 }, LayerAt { store: 1, number: 2 }];
        let text = Overlay { layers, upper: 12 }.options();
        assert_eq!(text, "lowerdir=0/11:1/2,upperdir=0/12,workdir=0/w12,userxattr");
    }

    #[test]
    fn without_layers_there_is_an_empty_one() {
        let text = Overlay { layers: Vec::new(), upper: 1 }.options();
        assert_eq!(text, "lowerdir=0/empty,upperdir=0/1,workdir=0/w1,userxattr");
    }

    #[test]
    fn the_most_layers_fit_one_page() {
        let layers = vec![LayerAt { store: 15, number: 0xffff_ffff }; 128];
        assert!(Overlay { layers, upper: u64::MAX }.options().len() < 4096);
    }
}
