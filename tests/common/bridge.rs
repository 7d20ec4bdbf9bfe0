//! What clients that speak TCP alone need to meet a service on a Unix socket.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Carries connections to a port of the loopback to a Unix socket, for as long as the test runs.
pub fn to(socket: &Path) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A service that is gone is seen as a connection that ends.
            if let (Ok(tcp), Ok(unix)) = (stream, UnixStream::connect(&socket)) {
                carry(tcp, unix);
            }
        }
    });
    address
}

fn carry(tcp: TcpStream, unix: UnixStream) {
    let (mut from, mut to) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
    std::thread::spawn(move || {
        copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write).ok();
    });
    let (mut from, mut to) = (unix, tcp);
    std::thread::spawn(move || {
        copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write).ok();
    });
}

/// Each piece at once, as a client waits for it.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut piece = [0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}

/// A program of those that tests/setup has installed for Python; none where it has not run.
pub fn python() -> Option<PathBuf> {
    installed("python/bin/python")
}

/// Where the modules for Node are that tests/setup has installed; none where it has not run.
pub fn node_modules() -> Option<PathBuf> {
    installed("node_modules")
}

/// A program that uses `piston_rs`, which tests/setup has built; none where it has not run.
pub fn piston_rs() -> Option<PathBuf> {
    installed("piston_rs")
}

fn installed(what: &str) -> Option<PathBuf> {
    let clients = std::env::var_os("CODESANDBOX_CLIENTS").unwrap_or_else(|| "/var/cache/codesandbox/clients".into());
    Some(Path::new(&clients).join(what)).filter(|path| path.exists())
}
