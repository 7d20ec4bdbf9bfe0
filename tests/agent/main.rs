//! `codesandbox agent` by the real program: as whoever runs the tests, and as a user who has nothing.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

#[path = "../common/mod.rs"]
mod common;

mod files;
mod git;
mod ground;
mod life;
#[cfg(feature = "nftables")]
mod network;
mod terminal;
