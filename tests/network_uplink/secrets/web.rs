//! Hosts that speak HTTP over TLS and write down what they hear, and programs that ask them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};

use codesandbox::network::secrets::{self, Granted, Secret};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use zeroize::Zeroizing;

use super::{PLACEHOLDER, VALUE};
use crate::ground::{Ground, serve};
use crate::tls::Authority;

/// What an uplink is granted: one secret for one host; and the certificate that the sandbox trusts.
pub(super) fn granted(web: &Authority) -> (Granted, String) {
    let domains = [crate::secrets::web::name("a.example")].into();
    let (authority, pem) = secrets::Authority::new("a sandbox".to_owned(), &domains).unwrap();
    let secret = Secret {
        variable: "TOKEN".to_owned(),
        placeholder: PLACEHOLDER.to_owned(),
        value: Zeroizing::new(VALUE.into()),
        domains,
        ports: [443].into(),
        headers: ["authorization", "x-api-key", "sec-websocket-protocol"].map(str::to_owned).into(),
    };
    (Granted { authority, trusted: web.pem().into_bytes(), secrets: vec![secret] }, pem)
}

pub(super) fn name(text: &str) -> codesandbox::profile::Name {
    text.parse().unwrap()
}

/// A host.
pub(super) struct Web {
    pub(super) authority: Authority,
    /// Requests, each with its body.
    pub(super) heard: Arc<Mutex<Vec<String>>>,
    /// Lets an answer go on that waits.
    pub(super) go: mpsc::Sender<()>,
}

impl Web {
    pub(super) fn start(ground: &Ground, at: &str, names: &[&str]) -> Self {
        let authority = Authority::new();
        let config = authority.server(names, 2100);
        Self::with(ground, at, authority, config)
    }

    pub(super) fn with(ground: &Ground, at: &str, authority: Authority, config: Arc<ServerConfig>) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (go, gate) = mpsc::channel();
        let (gate, one) = (Arc::new(Mutex::new(gate)), Arc::clone(&heard));
        serve(ground.internet.listen(at), move |stream| {
            // As hosts do that answer at once.
            stream.set_nodelay(true).unwrap();
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            // Clients may go at any time.
            if converse(&mut stream, &one, &gate).is_ok() {
                stream.conn.send_close_notify();
                stream.flush().ok();
            }
        });
        Self { authority, heard, go }
    }
}

/// The head of a message.
pub(super) fn head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

pub(super) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The body of a message, which has a length or comes in chunks.
pub(super) fn body(head: &str, stream: &mut impl Read) -> io::Result<Vec<u8>> {
    if let Some(length) = field(head, "content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body)?;
        return Ok(body);
    }
    let mut body = Vec::new();
    while field(head, "transfer-encoding").is_some() {
        let part = chunk(stream)?;
        if part.is_empty() {
            break;
        }
        body.extend(part);
    }
    Ok(body)
}

pub(super) fn chunk(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    let mut part = vec![0; size + 2];
    stream.read_exact(&mut part)?;
    part.truncate(size);
    Ok(part)
}

type Gate = Arc<Mutex<mpsc::Receiver<()>>>;

fn converse(stream: &mut (impl Read + Write), heard: &Mutex<Vec<String>>, gate: &Gate) -> io::Result<()> {
    loop {
        let head = head(stream)?;
        let body = body(&head, stream)?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let said = if body.len() > 1000 { format!("{} bytes", body.len()) } else { String::from_utf8(body).unwrap() };
        heard.lock().unwrap().push(format!("{head}{said}"));
        let credentials = field(&head, "authorization").unwrap_or_default();
        match path.as_str() {
            "/echo" => write!(
                stream,
                "HTTP/1.1 200 {VALUE}\r\nX-Echo: {credentials}\r\nSet-Cookie: a={VALUE}; b={VALUE}\r\n\
                 Content-Length: {}\r\n\r\n{credentials}",
                credentials.len()
            )?,
            "/events" => {
                write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")?;
                stream.flush()?;
                gate.lock().unwrap().recv().unwrap();
                write!(stream, "3\r\ntwo\r\n0\r\n\r\n")?;
            }
            "/big" => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", said.len() + (32 << 20))?;
                stream.write_all(said.as_bytes())?;
                for _ in 0..32 {
                    stream.write_all(&[b'x'; 1 << 20])?;
                }
            }
            "/last" => {
                // Its end is that of the connection.
                write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfine")?;
                return stream.flush();
            }
            "/cut" => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine")?;
                return stream.flush();
            }
            "/socket" => {
                write!(
                    stream,
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello"
                )?;
                stream.flush()?;
                loop {
                    let mut part = [0; 1024];
                    let read = stream.read(&mut part)?;
                    stream.write_all(&part[..read])?;
                    stream.flush()?;
                    if read == 0 {
                        return Ok(());
                    }
                }
            }
            _ => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")?,
        }
        stream.flush()?;
    }
}

/// A program that speaks TLS.
pub(super) struct Client(pub(super) StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// That asks for this host, and trusts nobody but this authority.
    pub(super) fn new(stream: TcpStream, name: &str, trusted: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.enable_sni = true;
        let address = name.parse::<std::net::IpAddr>().is_ok();
        let config = if address { trusting_everybody(config) } else { config };
        let connection = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        Self(StreamOwned::new(connection, stream))
    }

    /// Asks for something, and returns the answer with its body.
    pub(super) fn ask(&mut self, request: &str) -> String {
        self.try_ask(request).unwrap()
    }

    pub(super) fn try_ask(&mut self, request: &str) -> io::Result<String> {
        self.0.write_all(request.as_bytes())?;
        self.0.flush()?;
        let head = head(&mut self.0)?;
        let body = body(&head, &mut self.0)?;
        Ok(head + &String::from_utf8(body).unwrap())
    }
}

/// As a program that asks an address, and does not look at the certificate.
fn trusting_everybody(mut config: ClientConfig) -> ClientConfig {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    struct Everybody;

    impl ServerCertVerifier for Everybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }

    config.dangerous().set_certificate_verifier(Arc::new(Everybody));
    config
}
