//! An internet for one test: a network namespace behind a veth pair, with servers at addresses that would be public
//! elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc;

use nix::sched::{CloneFlags, unshare};

use super::skip;

/// Moves the calling thread, and those that it makes later, into a network namespace of their own, which leads to
/// another with these addresses of 198.35.26.0/24. There `begin` has servers listen, and makes their threads. `false`
/// where that is not allowed here.
pub fn lead_to(addresses: &[&str], begin: impl FnOnce() + Send + 'static) -> bool {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        skip("no network namespace can be made here");
        return false;
    }
    let addresses: Vec<String> =
        addresses.iter().map(|address| format!("address add {address}/24 dev servers")).collect();
    let (made, making) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        made.send(nix::unistd::gettid()).unwrap();
        gate.recv().unwrap();
        addresses.iter().for_each(|line| ip(line));
        ip("link set servers up");
        // Threads that are made here stay in this namespace, and it stays with them.
        begin();
        made.send(nix::unistd::gettid()).unwrap();
    });
    ip("link set lo up");
    ip(&format!("link add outside type veth peer name servers netns {}", making.recv().unwrap()));
    ip("address add 198.35.26.1/24 dev outside");
    ip("link set outside up");
    go.send(()).unwrap();
    making.recv().unwrap();
    true
}

/// Answers every connection with the address of the server, and then keeps it open until the client closes.
pub fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            std::thread::spawn(move || {
                connection.write_all(format!("{}\n", address.ip()).as_bytes()).ok();
                let mut rest = Vec::new();
                connection.read_to_end(&mut rest).ok();
            });
        }
    });
}

fn ip(line: &str) {
    assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "{line}");
}
