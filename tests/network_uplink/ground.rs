//! Network namespaces of a test's own, and what stands in them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use codesandbox::sys::namespace;
use nix::sched::{CloneFlags, unshare};

/// Longest that anything here is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Two hosts of the internet, the second at another provider.
pub(crate) const FIRST: &str = "151.101.2.132";
pub(crate) const SECOND: &str = "151.101.66.132";
/// The first one's other address.
pub(crate) const FIRST6: &str = "2a04:4e42::132";
/// Reachable from the host, and private.
pub(crate) const PRIVATE: &str = "10.1.2.3";
/// The host's own.
pub(crate) const HOST: &str = "198.35.26.2";
/// A name server on the internet.
pub(crate) const NAME_SERVER: &str = "9.9.9.9:53";

/// What a sandbox's rules do with connections, as far as an uplink sees it.
const RULES: &str = "
table inet test {
  chain output {
    type nat hook output priority -100
    ip daddr != 127.0.0.0/8 meta l4proto tcp dnat ip to 127.0.0.1:1
    ip6 daddr != ::1 meta l4proto tcp dnat ip6 to [::1]:1
  }
}
";

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace(OwnedFd);

impl Namespace {
    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap().into()
        });
        let namespace = Self(made.join().unwrap());
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs something inside.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            namespace::join(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    pub(crate) fn duplicate(&self) -> OwnedFd {
        self.0.try_clone().unwrap()
    }

    pub(crate) fn ip(&self, arguments: &str) {
        let status = self.run(|| Command::new("ip").args(arguments.split_whitespace()).status().unwrap());
        assert!(status.success(), "ip {arguments}");
    }

    pub(crate) fn connect(&self, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        let stream = self.run(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(stream)
    }

    /// Whether a connection ends in a reset, at once or as soon as it was made.
    pub(crate) fn is_reset(&self, to: &str) -> bool {
        match self.connect(to) {
            Ok(stream) => is_reset(&stream),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    pub(crate) fn listen(&self, at: &str) -> TcpListener {
        self.run(|| TcpListener::bind(at).unwrap())
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// The three of them.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) internet: Namespace,
    pub(crate) host: Namespace,
    pub(crate) sandbox: Namespace,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let ground = Self::without_ipv6();
        ground.host.ip("-6 addr add 2620:0:860::2/64 dev wire0 nodad");
        ground.internet.ip("-6 addr add 2620:0:860::1/64 dev wire1 nodad");
        ground.internet.ip(&format!("-6 addr add {FIRST6}/128 dev lo nodad"));
        ground.host.ip("-6 route add default via 2620:0:860::1");
        ground
    }

    pub(crate) fn without_ipv6() -> Self {
        let [internet, host, sandbox] = std::array::from_fn(|_| Namespace::new());
        host.ip(&format!("link add wire0 type veth peer name wire1 netns {}", internet.path()));
        host.ip(&format!("addr add {HOST}/24 dev wire0"));
        host.ip("addr add 10.1.2.1/32 dev lo");
        host.ip("link set wire0 up");
        internet.ip("addr add 198.35.26.1/24 dev wire1");
        internet.ip("link set wire1 up");
        for address in [FIRST, SECOND, PRIVATE, "9.9.9.9"] {
            internet.ip(&format!("addr add {address}/32 dev lo"));
        }
        host.ip("route add default via 198.35.26.1");
        sandbox.ip("addr add 192.0.2.2/32 dev lo");
        sandbox.ip("-6 addr add 2001:db8::2/128 dev lo nodad");
        sandbox.ip("route add default dev lo src 192.0.2.2");
        sandbox.ip("-6 route add default dev lo src 2001:db8::2");
        sandbox.run(|| {
            let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(RULES.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success());
        });
        Self { internet, host, sandbox }
    }
}

/// Serves every connection to a listener, each in a thread.
pub(crate) fn serve(listener: TcpListener, with: impl Fn(TcpStream) + Send + Clone + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, with) = (stream.unwrap(), with.clone());
            thread::spawn(move || with(stream));
        }
    });
}

/// Gives everything back as it comes, and says `end` where the other side has said that it is done.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = stream.read(&mut buffer) {
        let wanted = if read == 0 { &b"end"[..] } else { &buffer[..read] };
        if stream.write_all(wanted).is_err() || read == 0 {
            return;
        }
    }
}

/// Says something and takes it back.
pub(crate) fn echoes(mut stream: &TcpStream, word: &[u8]) -> bool {
    let mut back = vec![0; word.len()];
    stream.write_all(word).is_ok() && stream.read_exact(&mut back).is_ok() && back == word
}

/// Whether the other side resets the connection, now or soon.
pub(crate) fn is_reset(mut stream: &TcpStream) -> bool {
    let read = stream.read(&mut [0; 16]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come to be");
        thread::yield_now();
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
