//! From the bytes of a query to those of its answer (RFC 1035).
//!
//! Of a listed name there are addresses (A, AAAA) and nothing else. In particular there is no HTTPS and no SVCB
//! record: what these would bring, keys that hide the name from whoever looks on (ECH) and the offer of QUIC, leads
//! to connections that would be refused.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use super::{Found, count, look_up};
use crate::job::{DenialReason, Protocol};
use crate::network::uplink::state::State;
use crate::profile::Name;

/// Longest query: a name is at most 255 bytes, and options of EDNS are few.
pub(super) const LONGEST_QUERY: usize = 1024;
/// Longest answer in a packet where the query names no size (RFC 1035, 4.2.1).
const PLAIN_PACKET: u16 = 512;
/// Longest in any case (RFC 6891, 6.2.5).
const LARGEST_PACKET: u16 = 4096;
/// The header of every message.
const HEADER: usize = 12;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// UDP: a long answer is cut, and says so.
    Packets,
    /// TCP.
    Stream,
}

/// The answer to a query; `None` to what is none.
pub(super) async fn answer(state: &State, packet: &[u8], over: Over) -> Option<Vec<u8>> {
    let question = match read(packet) {
        Reading::Query(question) => question,
        Reading::Malformed(code) => return Some(bare(packet, code)),
        Reading::Nothing => return None,
    };
    let mut reply = Message::response(question.metadata.id, OpCode::Query);
    reply.metadata.recursion_desired = question.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let query = question.queries.first()?.clone();
    match resolve(state, &query).await {
        Ok(Found::Addresses(addresses, seconds)) => {
            reply.answers = addresses.into_iter().map(|address| record(&query, address, seconds)).collect();
        }
        Ok(Found::Nothing(code)) => reply.metadata.response_code = code,
        Err(DenialReason::Bound | DenialReason::Unreachable) => reply.metadata.response_code = ResponseCode::ServFail,
        Err(_) => reply.metadata.response_code = ResponseCode::Refused,
    }
    // As it was written: some compare the case of the answer's name with that of the question.
    reply.add_query(query);
    let room =
        question.edns.as_ref().map_or(PLAIN_PACKET, |edns| edns.max_payload().clamp(PLAIN_PACKET, LARGEST_PACKET));
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_PACKET);
        reply.set_edns(edns);
    }
    let mut bytes = Vec::with_capacity(usize::from(PLAIN_PACKET));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(if over == Over::Packets { room } else { u16::MAX });
    reply.emit(&mut encoder).ok()?;
    Some(bytes)
}

enum Reading {
    Query(Message),
    /// It gets this code and no more.
    Malformed(ResponseCode),
    /// It gets no answer: an answer to an answer could go on for ever.
    Nothing,
}

/// Reads a query. The counts of its header come first, so that none makes us reserve memory.
fn read(packet: &[u8]) -> Reading {
    let Some((header, _)) = packet.split_at_checked(HEADER) else { return Reading::Nothing };
    let &[_, _, flags, _, q1, q2, a1, a2, n1, n2, d1, d2] = header else { return Reading::Nothing };
    if flags & 0x80 != 0 {
        return Reading::Nothing;
    }
    if flags & 0x78 != 0 {
        return Reading::Malformed(ResponseCode::NotImp);
    }
    let counts = [[q1, q2], [a1, a2], [n1, n2], [d1, d2]].map(u16::from_be_bytes);
    let [queries, answers, authorities, additionals] = counts;
    if queries != 1 || answers != 0 || authorities != 0 || additionals > 2 {
        return Reading::Malformed(ResponseCode::FormErr);
    }
    match Message::from_vec(packet) {
        Ok(message) if message.metadata.message_type != MessageType::Query => Reading::Nothing,
        Ok(message) if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) => {
            Reading::Malformed(ResponseCode::NotImp)
        }
        Ok(message) => Reading::Query(message),
        Err(_) => Reading::Malformed(ResponseCode::FormErr),
    }
}

/// An answer of a header alone.
fn bare(packet: &[u8], code: ResponseCode) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    // The id, the kind of query and whether recursion was wanted are given back.
    if let (Some([id1, id2, flags, ..]), [to1, to2, first, second, ..]) = (packet.get(..HEADER), &mut header[..]) {
        (*to1, *to2, *first, *second) = (*id1, *id2, 0x80 | (flags & 0x79), 0x80 | code.low());
    }
    header
}

async fn resolve(state: &State, query: &Query) -> Result<Found, DenialReason> {
    let text = query.name().to_ascii().to_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let Ok(name) = text.parse::<Name>() else {
        count(state, text.to_owned(), None, Protocol::Dns, DenialReason::NotListed);
        return Err(DenialReason::NotListed);
    };
    let is_listed = !state.policy().ports_of(&name).is_empty();
    match (query.query_class(), query.query_type()) {
        _ if !is_listed => {}
        (DNSClass::IN, kind @ (RecordType::A | RecordType::AAAA)) => {
            return look_up(state, &name, kind, Protocol::Dns).await;
        }
        (DNSClass::IN, RecordType::ANY | RecordType::AXFR | RecordType::IXFR) => {}
        (DNSClass::IN, _) => return Ok(Found::Nothing(ResponseCode::NoError)),
        _ => {}
    }
    count(state, text.to_owned(), None, Protocol::Dns, DenialReason::NotListed);
    Err(DenialReason::NotListed)
}

fn record(query: &Query, address: IpAddr, seconds: u32) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(query.name().clone(), seconds, data)
}
