//! `sse`: the event stream whose `endpoint` events are led back to us.

use std::ops::Range;

use super::{assert_tellable, cuts, shown};
use crate::config::{BaseUrl, PublicUrl};
use crate::relay::sse::{EndpointRewriter, SseFault, resolve};

const MESSAGES: &str = "/messages/";
/// What stands before every address of ours, so that none of the server's can look like one.
const OURS: &str = "https://public.example/p";

/// A stream of server-sent events.
///
/// Output and fault do not depend on how the stream is cut into reads; a client that reads the output as WHATWG HTML
/// says is given no `endpoint` event but ours; every other byte passes, and at once when its event is over.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn sse(input: &[u8]) -> bool {
    let (out, fault) = rewritten(&[input]);
    for pieces in cuts(input) {
        let cut = rewritten(&pieces);
        assert_eq!(cut, (out.clone(), fault.clone()), "{} in {} pieces", shown(input), pieces.len());
    }
    for event in events(&out) {
        let ours = event.data.starts_with(OURS.as_bytes());
        assert!(event.kind != b"endpoint" || ours, "{} gives {}", shown(input), shown(&event.data));
    }
    let expected = expected(input);
    assert!(expected.begins_with(&out, input, fault.is_some()), "{} is changed elsewhere", shown(input));
    match fault {
        None => {
            assert!(!expected.refused, "{} has an endpoint event that leads nowhere", shown(input));
            assert!(out.len() >= expected.whole, "{} keeps a whole event waiting", shown(input));
            true
        }
        Some(fault) => {
            assert!(expected.announced, "{} has no endpoint event, and yet: {fault}", shown(input));
            if let SseFault::OtherHost(found) | SseFault::OtherPath(found) = &fault {
                assert!(found.len() <= 200, "{fault}");
            }
            assert_tellable(&fault.to_string(), input);
            false
        }
    }
}

/// What passes, and the fault that ended it.
fn rewritten(pieces: &[&[u8]]) -> (Vec<u8>, Option<SseFault>) {
    let (mut rewriter, mut out) = (EndpointRewriter::new(Box::new(ours)), Vec::new());
    let fault = pieces.iter().find_map(|piece| rewriter.push(piece, &mut out).err());
    (out, fault)
}

/// The address of ours that stands for the MCP server's, as `proxy.rs` makes it but for the session's MAC.
fn ours(address: &str) -> Result<String, SseFault> {
    let (host, prefix) = ("server".into(), "/api".into());
    let base = BaseUrl { tls: false, host, port: 8000, prefix, socket: None };
    let public =
        PublicUrl { scheme: "https".into(), authority: "public.example".into(), prefix: "/p".into() };
    let (target, _) = resolve(address, &base, &public, "/sse", MESSAGES)?;
    let path = target.split('?').next().unwrap_or_default();
    assert!(path == MESSAGES || format!("{path}/") == MESSAGES, "{address:?} leads to {target:?}");
    assert!(target.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{address:?} leads to {target:?}");
    Ok(format!("{OURS}{target}"))
}

/// A line of a stream, without its ending.
struct Line {
    place: Range<usize>,
    /// Where the next one begins.
    next: usize,
}

/// The lines that have ended (WHATWG HTML section 9.2.5). A CR at the very end counts as an ending.
fn lines(stream: &[u8]) -> Vec<Line> {
    let (mut all, mut start) = (Vec::new(), 0);
    if stream.starts_with(b"\xef\xbb\xbf") {
        start = 3;
    }
    while let Some(length) =
        stream.get(start..).unwrap_or_default().iter().position(|b| matches!(b, b'\r' | b'\n'))
    {
        let end = start + length;
        let both = stream.get(end..end + 2) == Some(b"\r\n");
        let next = end + 1 + usize::from(both);
        all.push(Line { place: start..end, next });
        start = next;
    }
    all
}

/// Name and value of a line's field (section 9.2.6), and where the value begins in the line.
fn field(line: &[u8]) -> (&[u8], &[u8], usize) {
    let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
    let (name, rest) = line.split_at(colon);
    let value = rest.strip_prefix(b":").unwrap_or(rest);
    let value = value.strip_prefix(b" ").unwrap_or(value);
    (name, value, line.len() - value.len())
}

struct Event {
    kind: Vec<u8>,
    data: Vec<u8>,
}

/// The events that a client acts on.
fn events(stream: &[u8]) -> Vec<Event> {
    let (mut all, mut kind, mut data) = (Vec::new(), Vec::new(), None);
    for line in lines(stream) {
        match stream.get(line.place).map(field) {
            Some((b"", _, 0)) => {
                if let Some(data) = data.take() {
                    all.push(Event { kind: kind.clone(), data });
                }
                kind.clear();
            }
            Some((b"event", value, _)) => kind = value.to_vec(),
            Some((b"data", value, _)) => match &mut data {
                None => data = Some(value.to_vec()),
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            _ => {}
        }
    }
    all
}

/// What the output may be.
struct Expected {
    /// The whole stream, with the addresses of ours.
    bytes: Vec<u8>,
    /// How much of it belongs to events that are over.
    whole: usize,
    /// Where events end, in the input and in `bytes`.
    ends: Vec<(usize, usize)>,
    /// Some line says `event: endpoint`.
    announced: bool,
    /// Some whole `endpoint` event cannot be led back to us.
    refused: bool,
}

impl Expected {
    /// Whether `out` may be what has passed of `input`. The event at which a fault ended the stream may have passed in
    /// part before it turned out to be an `endpoint` event; then those bytes are the server's own.
    fn begins_with(&self, out: &[u8], input: &[u8], fault: bool) -> bool {
        let until = |(read, written): &(usize, usize)| {
            let (ours, theirs) = (self.bytes.get(..*written)?, input.get(*read..)?);
            Some(theirs.starts_with(out.strip_prefix(ours)?))
        };
        self.bytes.starts_with(out) || fault && self.ends.iter().any(|end| until(end) == Some(true))
    }
}

/// Worked out from the whole stream at once.
fn expected(input: &[u8]) -> Expected {
    let mut expected =
        Expected { bytes: Vec::new(), whole: 0, ends: vec![(0, 0)], announced: false, refused: false };
    let (mut copied, mut endpoint, mut data) = (0, false, Vec::new());
    for Line { place, next } in lines(input) {
        let start = place.start;
        let (name, value, value_at) = field(input.get(place.clone()).unwrap_or_default());
        match name {
            b"event" => {
                endpoint = value == b"endpoint";
                expected.announced |= endpoint;
            }
            b"data" => data.push(start + value_at..place.end),
            b"" if place.is_empty() => {
                if let (true, [address]) = (endpoint, data.as_slice()) {
                    let text = input.get(address.clone()).and_then(|text| std::str::from_utf8(text).ok());
                    if let Some(Ok(ours)) = text.map(ours) {
                        expected
                            .bytes
                            .extend_from_slice(input.get(copied..address.start).unwrap_or_default());
                        expected.bytes.extend_from_slice(ours.as_bytes());
                        copied = address.end;
                    } else {
                        expected.refused = true;
                    }
                } else {
                    expected.refused |= endpoint;
                }
                expected.bytes.extend_from_slice(input.get(copied..next).unwrap_or_default());
                copied = next;
                expected.whole = expected.bytes.len();
                expected.ends.push((next, expected.whole));
                endpoint = false;
                data.clear();
            }
            _ => {}
        }
    }
    expected.bytes.extend_from_slice(input.get(copied..).unwrap_or_default());
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_reader_reads_as_a_client_does() {
        let stream = b"\xef\xbb\xbfevent: a\r\ndata: 1\rdata:2\n\n: c\n\rdata\n\nevent: lost\n\nid: 1\ndata:  x\n\ndata: y";
        let found: Vec<_> = events(stream).into_iter().map(|event| (event.kind, event.data)).collect();
        let wanted = [("a", "1\n2"), ("", ""), ("", " x")].map(|(k, d)| (k.into(), d.into()));
        assert_eq!(found, wanted);
    }
}
