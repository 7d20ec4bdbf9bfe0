//! Runs code nobody trusts.
//!
//! A client writes JSON over HTTP to a Unix socket: a language version and some source. The
//! unprivileged daemon ([`daemon`], [`api`], [`scheduler`]) checks it, queues it and asks the
//! launcher ([`launcher`]) for a sandbox by name and number. The launcher builds a jail
//! ([`jail`]) out of plain data ([`plan`]); inside it a small init writes the files, the program
//! runs under hard limits, and everything dies. The client is told what was printed, why it
//! ended and what it used.
//!
//! Modules in reading order, lowest first; each names only those before it, and a test holds
//! them to this. `sys` is the only home of `unsafe`, [`jail`] names only `sys` and [`plan`],
//! and only [`api`] knows the JSON that clients see. [`client`] is for Rust programs that ask the
//! service, as our own command line does.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands"))]

pub mod sys;

pub mod config;
pub mod job;
pub mod plan;
pub mod profile;
pub mod runtime;

pub mod jail;

pub mod network;

pub mod launcher;

pub mod backend;

pub mod cache;

pub mod session;

pub mod scheduler;

pub mod judge;

pub mod api;

pub mod daemon;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "client")]
pub mod cli;
