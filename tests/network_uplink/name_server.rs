//! A name server that answers as it is told, and writes down what it was asked.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::ground::{Ground, NAME_SERVER, serve};

/// What it says to a question.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These records: owner, lifetime, address or name of another.
    Records(Vec<(String, u32, String)>),
    /// Over UDP that it is too much, over TCP these.
    TooMuch(Vec<(String, u32, String)>),
    Fails(ResponseCode),
    Silence,
    /// An answer to another query.
    WrongId(Vec<(String, u32, String)>),
    /// An answer to another question.
    WrongQuestion(Vec<(String, u32, String)>),
    /// One after the other; the last for ever.
    InTurn(Vec<Reply>),
}

/// A name server on the internet.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameServer {
    zone: Arc<Mutex<HashMap<(String, RecordType), Reply>>>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

/// Addresses that a name has.
pub(crate) fn records(name: &str, seconds: u32, values: &[&str]) -> Vec<(String, u32, String)> {
    values.iter().map(|value| (name.to_owned(), seconds, (*value).to_owned())).collect()
}

impl NameServer {
    pub(crate) fn start(ground: &Ground) -> Self {
        let server = Self::default();
        let packets = ground.internet.run(|| UdpSocket::bind(NAME_SERVER).unwrap());
        let listener = ground.internet.listen(NAME_SERVER);
        let one = server.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = packets.recv_from(&mut buffer).unwrap();
                if let Some(answer) = one.answer(&buffer[..length], false) {
                    packets.send_to(&answer, from).unwrap();
                }
            }
        });
        let one = server.clone();
        serve(listener, move |mut stream| {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut packet).unwrap();
                let Some(answer) = one.answer(&packet, true) else { return };
                let framed = [&u16::try_from(answer.len()).unwrap().to_be_bytes()[..], &answer].concat();
                stream.write_all(&framed).unwrap();
            }
        });
        server
    }

    pub(crate) fn says(&self, name: &str, kind: RecordType, reply: Reply) {
        self.zone.lock().unwrap().insert((name.to_owned(), kind), reply);
    }

    /// The name has these addresses.
    pub(crate) fn has(&self, name: &str, addresses: &[&str]) {
        let kind = if addresses[0].contains(':') { RecordType::AAAA } else { RecordType::A };
        self.says(name, kind, Reply::Records(records(name, 300, addresses)));
    }

    /// Everything that it was asked.
    pub(crate) fn asked(&self) -> Vec<(String, RecordType)> {
        self.asked.lock().unwrap().clone()
    }

    fn answer(&self, packet: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(packet).unwrap();
        let question = query.queries[0].clone();
        let name = question.name().to_ascii().to_lowercase().trim_end_matches('.').to_owned();
        self.asked.lock().unwrap().push((name.clone(), question.query_type()));
        let reply = {
            let mut zone = self.zone.lock().unwrap();
            match zone.get_mut(&(name, question.query_type())) {
                Some(Reply::InTurn(turns)) if turns.len() > 1 => turns.remove(0),
                Some(Reply::InTurn(turns)) => turns[0].clone(),
                Some(reply) => reply.clone(),
                None => Reply::Fails(ResponseCode::NXDomain),
            }
        };
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(question);
        match reply {
            Reply::Records(records) => answer.answers = read(&records),
            Reply::TooMuch(_) if !over_tcp => answer.metadata.truncation = true,
            Reply::TooMuch(records) => answer.answers = read(&records),
            Reply::Fails(code) => answer.metadata.response_code = code,
            Reply::WrongId(records) => {
                answer.metadata.id ^= 1;
                answer.answers = read(&records);
            }
            Reply::WrongQuestion(records) => {
                answer.queries[0].set_name(Name::from_ascii("other.example.").unwrap());
                answer.answers = read(&records);
            }
            Reply::Silence | Reply::InTurn(_) => return None,
        }
        Some(answer.to_vec().unwrap())
    }
}

fn read(records: &[(String, u32, String)]) -> Vec<Record> {
    let one = |(owner, seconds, value): &(String, u32, String)| {
        let data = match value.parse() {
            Ok(std::net::IpAddr::V4(address)) => RData::A(A(address)),
            Ok(std::net::IpAddr::V6(address)) => RData::AAAA(AAAA(address)),
            Err(_) => RData::CNAME(CNAME(Name::from_ascii(format!("{value}.")).unwrap())),
        };
        Record::from_rdata(Name::from_ascii(format!("{owner}.")).unwrap(), *seconds, data)
    };
    records.iter().map(one).collect()
}
