//! An uplink between three network namespaces: an internet with addresses like real ones, the host in which the
//! uplink runs, and a sandbox whose rules send its connections to the relay.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod confined;
mod ground;
mod life;
mod name_server;
mod proxy;
mod relay;
mod resolver;
mod secrets;
mod speed;
#[path = "../common/tls.rs"]
mod tls;
mod uplink;
