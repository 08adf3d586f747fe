//! `head`, `answer` and `chunked`: what crosses an HTTP/1.1 connection in either direction.

use std::net::{IpAddr, Ipv4Addr};

use super::{cuts, shown};
use crate::edge::chunked::Chunked;
use crate::edge::http1::{Fault, Incoming};
use crate::header;
use crate::relay::answer::{AnswerHead, BadAnswer, Framing};

/// The largest body here; small, so that an input of a few hundred bytes can go beyond it.
const BODY_BYTES_MAX: usize = 512;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A request, without the buffer that it was read into.
#[derive(Debug, Eq, PartialEq)]
struct Request {
    method: &'static str,
    target: String,
    minor: u8,
    keep_alive: bool,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    fn of(incoming: &Incoming) -> Self {
        Self {
            method: incoming.method().as_str(),
            target: incoming.target().to_owned(),
            minor: incoming.minor(),
            keep_alive: incoming.keep_alive(),
            fields: incoming.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            body: incoming.body().to_vec(),
        }
    }

    fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(given, _)| header::same(given, name)).count()
    }

    /// The plainest way to send it.
    fn written(&self) -> Vec<u8> {
        let mut wire = format!("{} {} HTTP/1.{}\r\n", self.method, self.target, self.minor).into_bytes();
        write_fields(&mut wire, self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        if self.count(header::TRANSFER_ENCODING) > 0 {
            write_chunks(&mut wire, &self.body, BODY_BYTES_MAX);
        } else {
            wire.extend_from_slice(&self.body);
        }
        wire
    }

    /// RFC 9112 sections 3.2, 5.1 and 6.1: what any accepted request is.
    fn assert_sound(&self) {
        let path = self.target.starts_with('/') || self.target == "*" && self.method == "OPTIONS";
        assert!(path && self.target.bytes().all(|b| b.is_ascii_graphic()), "{self:?}");
        assert_fields(self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        let hosts = self.count(header::HOST);
        assert!(hosts == 1 || hosts == 0 && self.minor == 0, "{self:?}");
        let (lengths, codings) = (self.count(header::CONTENT_LENGTH), self.count(header::TRANSFER_ENCODING));
        assert!(lengths + codings <= 1, "{self:?}");
        assert!(lengths + codings == 1 || self.body.is_empty(), "a body out of nowhere: {self:?}");
        assert!(self.body.len() <= BODY_BYTES_MAX, "{self:?}");
        if let Some((_, length)) = self.fields.iter().find(|(n, _)| header::same(n, header::CONTENT_LENGTH)) {
            let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
            assert_eq!(length, Some(self.body.len()), "{self:?}");
        }
    }
}

/// How a connection stands when all its bytes have been looked at.
#[derive(Debug, Eq, PartialEq)]
enum End {
    /// Refused; nothing behind it is looked at.
    Fault(Fault),
    /// So many bytes wait for the rest of a head, or the body so far for its rest.
    Waiting { held: usize, body: Option<Vec<u8>> },
}

/// All requests of a connection whose bytes arrive in these pieces.
fn connection(pieces: &[&[u8]]) -> (Vec<Request>, End) {
    let (mut incoming, mut requests) = (Incoming::default(), Vec::new());
    incoming.start(PEER);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            assert!(matches!(incoming.fill(&mut rest), Ok(1..)), "there is room for what was sent");
            if let Err(fault) = take_whole(&mut incoming, &mut requests) {
                return (requests, End::Fault(fault));
            }
        }
    }
    let body = incoming.has_head().then(|| incoming.body().to_vec());
    (requests, End::Waiting { held: incoming.held(), body })
}

/// Takes the requests that are whole, as a worker does.
fn take_whole(incoming: &mut Incoming, requests: &mut Vec<Request>) -> Result<(), Fault> {
    while incoming.read_head(BODY_BYTES_MAX)? && incoming.read_body(BODY_BYTES_MAX)? {
        requests.push(Request::of(incoming));
        if incoming.next() == 0 {
            break;
        }
    }
    Ok(())
}

/// Request heads with their framing and bodies, pipelined or not.
///
/// The requests of a connection and its end do not depend on how its bytes are cut into reads; a request is whole at
/// its last byte and not before, takes nothing of what stands behind it, and means the same when written anew.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn head(input: &[u8]) -> bool {
    let whole = connection(&[input]);
    for pieces in cuts(input) {
        assert_eq!(connection(&pieces), whole, "{} in {} pieces", shown(input), pieces.len());
    }
    for request in &whole.0 {
        request.assert_sound();
        let wire = request.written();
        let Ok(Some((again, used))) = Incoming::parse(&wire, PEER, BODY_BYTES_MAX) else {
            panic!("{} is refused when written anew: {}", shown(input), shown(&wire));
        };
        assert_eq!((&Request::of(&again), used), (request, wire.len()), "{}", shown(&wire));
    }
    match Incoming::parse(input, PEER, BODY_BYTES_MAX) {
        Ok(Some((first, used))) => {
            let (alone, _) = input.split_at(used);
            let again = Incoming::parse(alone, PEER, BODY_BYTES_MAX);
            let again = again.map(|found| found.map(|(request, used)| (Request::of(&request), used)));
            assert_eq!(again, Ok(Some((Request::of(&first), used))), "{}", shown(input));
            let (early, _) = alone.split_at(used.saturating_sub(1));
            let early = Incoming::parse(early, PEER, BODY_BYTES_MAX);
            assert!(matches!(early, Ok(None)), "whole before its last byte: {}", shown(input));
            assert_eq!(whole.0.first(), Some(&Request::of(&first)));
            true
        }
        Ok(None) => {
            assert!(whole.0.is_empty() && matches!(whole.1, End::Waiting { .. }), "{}", shown(input));
            false
        }
        Err(fault) => {
            assert_eq!(whole, (Vec::new(), End::Fault(fault)), "{}", shown(input));
            assert!((400..=505).contains(&fault.status()));
            false
        }
    }
}

/// Heads of an MCP server's answers.
///
/// What is read does not depend on how the head is cut into reads, takes nothing of what stands behind it, has one
/// framing, and means the same when written anew.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn answer(input: &[u8]) -> bool {
    let mut accepted = false;
    for head_only in [false, true] {
        let whole = Answer::read(input, head_only);
        for pieces in cuts(input) {
            let mut arrived = Vec::new();
            let outcome = pieces.iter().find_map(|piece| {
                arrived.extend_from_slice(piece);
                Answer::read(&arrived, head_only).transpose()
            });
            assert_eq!(outcome.transpose(), whole, "{} in {} pieces", shown(input), pieces.len());
        }
        let Ok(Some(answer)) = whole else { continue };
        accepted = true;
        answer.assert_sound(head_only);
        let wire = answer.written();
        let again = Answer::read(&wire, head_only);
        assert_eq!(again, Ok(Some(Answer { used: wire.len(), ..answer })), "{}", shown(&wire));
    }
    accepted
}

/// An [`AnswerHead`] that can be compared.
#[derive(Debug, Eq, PartialEq)]
struct Answer {
    status: u16,
    framing: Framing,
    length: Option<u64>,
    keep_alive: bool,
    event_stream: bool,
    fields: Vec<(String, Vec<u8>)>,
    used: usize,
}

impl Answer {
    fn read(input: &[u8], head_only: bool) -> Result<Option<Self>, BadAnswer> {
        let Some((head, used)) = AnswerHead::read(input, head_only)? else { return Ok(None) };
        let (before, behind) = input.split_at(used);
        assert!(before.ends_with(b"\r\n\r\n") && used > 4, "{} before {}", shown(before), shown(behind));
        Ok(Some(Self {
            status: head.status(),
            framing: head.framing(),
            length: head.content_length(),
            keep_alive: head.keep_alive(),
            event_stream: head.is_event_stream(),
            fields: head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            used,
        }))
    }

    fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(given, _)| header::same(given, name)).count()
    }

    /// Of HTTP/1.0 and HTTP/1.1 the one in which the same fields mean the same.
    fn written(&self) -> Vec<u8> {
        let minor = u8::from(self.keep_alive || self.count(header::TRANSFER_ENCODING) > 0);
        let mut wire = format!("HTTP/1.{minor} {} \r\n", self.status).into_bytes();
        write_fields(&mut wire, self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        wire
    }

    /// RFC 9112 section 6.3.
    fn assert_sound(&self, head_only: bool) {
        assert!((100..600).contains(&self.status) && self.status != 101, "{self:?}");
        assert_fields(self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        let (lengths, codings) = (self.count(header::CONTENT_LENGTH), self.count(header::TRANSFER_ENCODING));
        assert!(lengths + codings <= 1, "{self:?}");
        assert_eq!(self.length.is_some(), lengths == 1, "{self:?}");
        let bodiless = head_only || self.status < 200 || self.status == 204 || self.status == 304;
        match self.framing {
            Framing::None => assert!(bodiless, "{self:?}"),
            Framing::Length(length) => assert!(!bodiless && self.length == Some(length), "{self:?}"),
            Framing::Chunked => assert!(!bodiless && codings == 1, "{self:?}"),
            Framing::UntilClose => assert!(!bodiless && lengths + codings == 0, "{self:?}"),
        }
    }
}

/// Chunked bodies.
///
/// The data, the end and any fault do not depend on how the body is cut into reads; a second, naive reader sees the same
/// data; and the data mean the same when cut into other chunks.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn chunked(input: &[u8]) -> bool {
    let whole = dechunked(&[input]);
    for pieces in cuts(input) {
        assert_eq!(dechunked(&pieces), whole, "{} in {} pieces", shown(input), pieces.len());
    }
    let (data, Ok(Some(used))) = whole else { return false };
    assert_eq!(naively_dechunked(input), Some((data.clone(), used)), "{}", shown(input));
    for longest in [1, 16, 1 + data.len()] {
        let mut wire = Vec::new();
        write_chunks(&mut wire, &data, longest);
        let length = wire.len();
        wire.extend_from_slice(b"0\r\n\r\n"); // which is another body
        assert_eq!(dechunked(&[&wire]), (data.clone(), Ok(Some(length))), "{}", shown(&wire));
    }
    let (early, _) = input.split_at(used.saturating_sub(1));
    assert_eq!(dechunked(&[early]), (data, Ok(None)), "whole before its last byte: {}", shown(input));
    true
}

/// The data, and how many bytes the body took, if it is whole.
fn dechunked(pieces: &[&[u8]]) -> (Vec<u8>, Result<Option<usize>, &'static str>) {
    let (mut chunked, mut data, mut used) = (Chunked::default(), Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let step = match chunked.step(rest) {
                Ok(step) => step,
                Err(bad) => return (data, Err(bad.0)),
            };
            assert!(step.used > 0 || step.done, "no step forward at {}", shown(rest));
            let Some(found) = rest.get(step.data.clone()) else { panic!("{step:?} of {}", shown(rest)) };
            data.extend_from_slice(found);
            used += step.used;
            if step.done {
                return (data, Ok(Some(used)));
            }
            rest = rest.get(step.used..).unwrap_or_default();
        }
    }
    (data, Ok(None))
}

/// As RFC 9112 section 7.1.3 puts it, line by line, of a body that is there in full.
fn naively_dechunked(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut rest) = (Vec::new(), input);
    let line = |rest: &mut &[u8]| {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, behind) = rest.split_at_checked(end)?;
        *rest = behind.get(2..)?;
        Some(line.to_vec())
    };
    loop {
        let size = line(&mut rest)?;
        let digits = size.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = u64::from_str_radix(std::str::from_utf8(size.get(..digits)?).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let (chunk, behind) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        data.extend_from_slice(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
    }
    while !line(&mut rest)?.is_empty() {}
    Some((data, input.len() - rest.len()))
}

fn write_chunks(wire: &mut Vec<u8>, data: &[u8], longest: usize) {
    for chunk in data.chunks(longest) {
        wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
}

/// The fields and the empty line, never longer than they were.
fn write_fields<'f>(wire: &mut Vec<u8>, fields: impl Iterator<Item = (&'f str, &'f [u8])>) {
    for (name, value) in fields {
        wire.extend_from_slice(name.as_bytes());
        wire.push(b':');
        wire.extend_from_slice(value);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
}

/// RFC 9110 sections 5.1 and 5.5: names are tokens; values hold no control character and no white space around them.
fn assert_fields<'f>(fields: impl Iterator<Item = (&'f str, &'f [u8])>) {
    for (name, value) in fields {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        assert!(!name.is_empty() && name.bytes().all(token), "the name {name:?}");
        let plain = |b: &u8| *b == b'\t' || *b >= b' ' && *b != 0x7f;
        assert!(value.iter().all(plain) && value.trim_ascii() == value, "the value {}", shown(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

    /// What is too large for a seed: heads about as long as they may be, whose line ends fall about the limit.
    #[test]
    fn heads_about_as_large_as_they_may_be() {
        for length in HEAD_BYTES_MAX - 3..HEAD_BYTES_MAX + 4 {
            for (start, end, of_request, of_answer) in [
                ("GET /a HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n", true, false),
                ("GET /a HTTP/1.1\r\nHost: a\r\nX: ", "\n\n", false, false),
                ("GET /", " HTTP/1.1\r\nHost: a\r\n\r\n", false, false), // too long for a target
                ("HTTP/1.1 200 ", "\r\n\r\n", false, true),
                ("HTTP/1.1 200 OK\r\nX: ", "\nY: b\r\n\r\n", false, false),
            ] {
                let fill = "x".repeat(length - start.len() - end.len());
                let input = format!("{start}{fill}{end}GET /b HTTP/1.1\r\n");
                let fits = length <= HEAD_BYTES_MAX;
                assert_eq!(head(input.as_bytes()), fits && of_request, "{start}…{end} of {length}");
                assert_eq!(answer(input.as_bytes()), fits && of_answer, "{start}…{end} of {length}");
                // An empty line before a request is no part of its head.
                let behind_blank_line = format!("\r\n{input}");
                assert_eq!(
                    head(behind_blank_line.as_bytes()),
                    fits && of_request,
                    "{start}…{end} of {length}"
                );
            }
        }
    }

    #[test]
    fn about_as_many_fields_as_there_may_be() {
        for count in [HEADERS_MAX - 1, HEADERS_MAX, HEADERS_MAX + 1] {
            let fields = "X: y\r\n".repeat(count - 1);
            assert_eq!(
                head(format!("GET /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()),
                count <= HEADERS_MAX
            );
            assert_eq!(
                answer(format!("HTTP/1.1 200 OK\r\nY: z\r\n{fields}\r\n").as_bytes()),
                count <= HEADERS_MAX
            );
        }
    }
}
