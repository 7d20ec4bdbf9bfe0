//! Queries over UDP and over TCP (RFC 7766).

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::answer::{LONGEST_QUERY, Over, answer};
use crate::network::uplink::state::State;

/// Most queries in packets that are worked on at one time; more are dropped, and asked again.
const PACKETS: usize = 256;
/// Most connections at one time; more wait.
const CONNECTIONS: usize = 16;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Before trying again where there was no descriptor or no memory for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers packets, for ever.
pub(super) async fn packets(state: Rc<State>, socket: Rc<UdpSocket>) {
    let mut buffer = [0; LONGEST_QUERY + 1];
    let places = std::sync::Arc::new(Semaphore::new(PACKETS));
    loop {
        // An error is that of a packet which was sent before (ICMP), and of no meaning here.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(packet) = buffer.get(..length).filter(|packet| packet.len() <= LONGEST_QUERY) else { continue };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (state, socket, packet) = (Rc::clone(&state), Rc::clone(&socket), packet.to_vec());
        tokio::task::spawn_local(async move {
            if let Some(answer) = answer(&state, &packet, Over::Packets).await
                && socket.send_to(&answer, from).await.is_err()
            {
                // Whoever asked is gone.
            }
            drop(place);
        });
    }
}

/// Answers connections, for ever.
pub(super) async fn connections(state: Rc<State>, listener: TcpListener) {
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let state = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            // However it ended, it has.
            converse(&state, stream).await.unwrap_or_default();
            drop(place);
        });
    }
}

/// Query and answer in turns, until one side has had enough.
async fn converse(state: &State, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let Ok(packet) = timeout(SILENCE, read(&mut stream)).await else { return Ok(()) };
        let Some(packet) = packet? else { return Ok(()) };
        let Some(answer) = answer(state, &packet, Over::Stream).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        if timeout(SILENCE, stream.write_all(&framed)).await.is_err() {
            return Ok(());
        }
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_QUERY {
        return Ok(None);
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok(Some(packet))
}
