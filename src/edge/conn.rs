//! One client connection, and how an answer leaves on it.
//!
//! A connection has exactly one owner at a time: its slot in [`super::park`] while it waits, the worker that serves it,
//! or the stream thread that carries its answer. Writing never blocks: what the socket does not take at once is kept,
//! at most one piece of an answer, and the connection waits until it can be written.

use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::http1::Incoming;
use super::park::Place;
use super::pump::Producer;
use crate::limits::SPARE_TEXT_BYTES_MAX;
use crate::reply::Reply;
use crate::spare;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// What the producer of its answer watches.
    Answering,
    /// Room for the rest of an answer.
    Writing,
    /// The end of a body that nobody wants, so that the answer before it is not lost to a reset.
    Linger,
}

/// How the end of an answer's body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Delivery {
    NoBody,
    Length,
    Chunked,
    Close,
}

/// The head of an answer as a producer gives it: status line and header lines, each with its CRLF, without those of
/// framing and connection and without the empty line.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The lines.
    pub lines: &'a [u8],
    /// The length of the body, where it is known.
    pub length: Option<u64>,
    /// Whether this answer has no body whatever its headers say (204, 304).
    pub bodyless: bool,
}

/// One client connection.
pub(crate) struct Conn<P> {
    pub(crate) stream: TcpStream,
    pub(crate) slot: u32,
    pub(crate) place: Option<Place>,
    pub(crate) generation: u32,
    pub(crate) peer: IpAddr,
    pub(crate) phase: Phase,
    /// What its socket is registered for.
    pub(crate) armed: EventFlags,
    /// Whether the socket had nothing left when it was last read.
    pub(crate) drained: bool,
    /// Whether the socket has reported something that a short read does not reach.
    pub(crate) beyond: bool,
    /// When waiting ends; the sweeper looks at it.
    pub(crate) deadline: Option<Instant>,
    /// Since when its body, or its next request, is waited for.
    pub(crate) since: Option<Instant>,
    /// A request that has not arrived whole, or the beginning of the next one.
    pub(crate) request: Option<Box<Incoming>>,
    pub(crate) pass: Option<P>,
    /// Who makes its answer, while that is waited for.
    pub(crate) answer: Option<Box<dyn Producer>>,
    /// Memory that a half-read body has been granted.
    pub(crate) grant: Grant,
    out: Vec<u8>,
    sent: usize,
    delivery: Delivery,
    /// Whether the connection is used again after this answer.
    pub(crate) keep: bool,
    /// Whether an unread body is behind the answer.
    pub(crate) linger: bool,
    pub(crate) lingered: usize,
    pub(crate) minor: u8,
    pub(crate) head_only: bool,
    pub(crate) _counted: Counted,
}

/// A place among the connections; given back when dropped.
pub(crate) struct Counted(pub(crate) Arc<super::Counts>, pub(crate) IpAddr);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// A share of the memory for half-read bodies; given back when dropped.
pub(crate) struct Grant {
    all: Arc<AtomicUsize>,
    taken: usize,
}

impl Grant {
    /// A share of nothing yet. `all` counts the bytes that everybody holds together.
    pub(crate) fn new(all: Arc<AtomicUsize>) -> Self {
        Self { all, taken: 0 }
    }

    /// Makes the share cover `bytes`, in large steps; `false` where all together would hold more than `most`.
    pub(crate) fn cover(&mut self, bytes: usize, most: usize) -> bool {
        const STEP: usize = 64 * 1024;
        // What one worker's own buffer holds is not counted.
        if bytes <= STEP.max(self.taken) {
            return true;
        }
        let more = bytes.next_multiple_of(STEP) - self.taken;
        if self.all.fetch_add(more, Ordering::Relaxed) + more > most {
            self.all.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.taken += more;
        true
    }

    /// Gives all of it back.
    pub(crate) fn release(&mut self) {
        if self.taken > 0 {
            self.all.fetch_sub(self.taken, Ordering::Relaxed);
            self.taken = 0;
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.release();
    }
}

impl<P> Conn<P> {
    pub(crate) fn new(stream: TcpStream, peer: IpAddr, counted: Counted, grant: Grant) -> Self {
        Self {
            stream,
            slot: 0,
            place: None,
            generation: 0,
            peer,
            phase: Phase::Idle,
            armed: EventFlags::empty(),
            drained: false,
            beyond: false,
            deadline: None,
            since: None,
            request: None,
            pass: None,
            answer: None,
            grant,
            out: Vec::new(),
            sent: 0,
            delivery: Delivery::NoBody,
            keep: false,
            linger: false,
            lingered: 0,
            minor: 1,
            head_only: false,
            _counted: counted,
        }
    }

    /// Whether a part of an answer still waits to be taken.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.out.len()
    }

    /// Sends a whole answer of ours.
    pub(crate) fn reply(&mut self, reply: &Reply, lines: &mut Vec<u8>, date: &str) -> io::Result<()> {
        lines.clear();
        status_line(lines, reply.status);
        lines.extend_from_slice(b"Date: ");
        lines.extend_from_slice(date.as_bytes());
        end_line(lines);
        header_lines(lines, reply);
        let bodyless = matches!(reply.status, 204 | 304);
        let head = Head { lines, length: Some(reply.body.len() as u64), bodyless };
        self.deliver(Some(head), &reply.body, true)
    }

    /// Sends a piece of an answer: its head with the first, data with any, the end with the last. What the socket does
    /// not take now is kept; the caller asks [`Conn::has_unsent`] before it sends another piece.
    pub(crate) fn deliver(&mut self, head: Option<Head<'_>>, data: &[u8], end: bool) -> io::Result<()> {
        let (mut framing, mut size) = ([0_u8; 96], [0_u8; 20]);
        let (mut framing_len, mut size_len) = (0, 0);
        if let Some(head) = &head {
            let mut rest = &mut framing[..];
            self.delivery = self.delivery_of(head, end);
            let length = if end && !self.head_only { Some(data.len() as u64) } else { head.length };
            match (self.delivery, length) {
                (Delivery::Chunked, _) => rest.write_all(b"Transfer-Encoding: chunked\r\n")?,
                (Delivery::Length, Some(length)) => content_length(&mut rest, length)?,
                (Delivery::NoBody, Some(length)) if !head.bodyless => content_length(&mut rest, length)?,
                (Delivery::Close, _) => self.keep = false,
                _ => {}
            }
            match (self.keep, self.minor) {
                (false, _) => rest.write_all(b"Connection: close\r\n\r\n")?,
                (true, 0) => rest.write_all(b"Connection: keep-alive\r\n\r\n")?,
                (true, _) => rest.write_all(b"\r\n")?,
            }
            let spare = rest.len();
            framing_len = framing.len() - spare;
        }
        let data = if self.delivery == Delivery::NoBody { &[][..] } else { data };
        let mut tail = &b""[..];
        if self.delivery == Delivery::Chunked {
            if !data.is_empty() {
                let mut rest = &mut size[..];
                write!(rest, "{:x}\r\n", data.len())?;
                let spare = rest.len();
                size_len = size.len() - spare;
                tail = b"\r\n";
            }
            if end {
                tail = if data.is_empty() { b"0\r\n\r\n" } else { b"\r\n0\r\n\r\n" };
            }
        }
        let lines = head.map_or(&b""[..], |head| head.lines);
        let framing = framing.get(..framing_len).unwrap_or_default();
        let size = size.get(..size_len).unwrap_or_default();
        self.send(&[lines, framing, size, data, tail])
    }

    fn delivery_of(&self, head: &Head<'_>, end: bool) -> Delivery {
        if head.bodyless || self.head_only {
            Delivery::NoBody
        } else if end || head.length.is_some() {
            Delivery::Length
        } else if self.minor == 1 {
            Delivery::Chunked
        } else {
            Delivery::Close
        }
    }

    /// Writes `parts` behind each other with one system call where nothing is in the way, and keeps what is left.
    pub(crate) fn send(&mut self, parts: &[&[u8]; 5]) -> io::Result<()> {
        let mut taken = 0;
        if !self.has_unsent() {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            if length == 0 {
                return Ok(());
            }
            taken = match self.write_some(parts, length) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => taken,
                Err(err) if again(&err) => 0,
                Err(err) => return Err(err),
            };
        }
        if !self.has_unsent() {
            self.out.clear();
            self.sent = 0;
        }
        for part in parts {
            let skip = taken.min(part.len());
            taken -= skip;
            self.out.extend_from_slice(part.get(skip..).unwrap_or_default());
        }
        Ok(())
    }

    fn write_some(&self, parts: &[&[u8]; 5], length: usize) -> io::Result<usize> {
        if length > SPARE_TEXT_BYTES_MAX {
            return (&self.stream).write_vectored(&parts.map(IoSlice::new));
        }
        // For the kernel, five pieces are more work than it is to join so few bytes.
        let mut joined = spare::bytes();
        parts.iter().for_each(|part| joined.extend_from_slice(part));
        let taken = (&self.stream).write(&joined);
        spare::put_bytes(joined);
        taken
    }

    /// Sends what was kept. `Ok(true)` when nothing is left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while self.has_unsent() {
            match (&self.stream).write(self.out.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => self.sent += taken,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if again(&err) => return Ok(false),
                Err(err) => return Err(err),
            }
        }
        self.sent = 0;
        // A buffer as large as a reply of ours may be is not kept by an idle connection.
        self.out = Vec::new();
        Ok(true)
    }
}

/// Whether an error only says that the socket has no room or data now.
pub(crate) fn again(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// `HTTP/1.1 200 OK` and its CRLF. The version is ours, whatever the client speaks (RFC 9110 section 6.2).
pub(crate) fn status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    end_line(out);
}

/// The lines of a reply's headers.
pub(super) fn header_lines(out: &mut Vec<u8>, reply: &Reply) {
    for (name, value) in &reply.headers {
        header_name(out, name);
        // One byte is pushed without a call.
        out.push(b':');
        out.push(b' ');
        out.extend_from_slice(value.as_str().as_bytes());
        end_line(out);
    }
}

fn end_line(out: &mut Vec<u8>) {
    out.push(b'\r');
    out.push(b'\n');
}

fn content_length(out: &mut &mut [u8], length: u64) -> io::Result<()> {
    out.write_all(b"Content-Length: ")?;
    out.write_all(itoa::Buffer::new().format(length).as_bytes())?;
    out.write_all(b"\r\n")
}

/// A header's name in the spelling that people know it by: `Content-Type`, `WWW-Authenticate`.
pub(crate) fn header_name(out: &mut Vec<u8>, name: &str) {
    if name == crate::header::WWW_AUTHENTICATE {
        out.extend_from_slice(b"WWW-Authenticate");
        return;
    }
    let mut start = true;
    out.extend(name.bytes().map(|byte| {
        let shown = if start { byte.to_ascii_uppercase() } else { byte };
        start = byte == b'-';
        shown
    }));
}

/// Reason phrases of the statuses that we send or relay (RFC 9110 section 15); none for others, which is legal.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// `Date` (RFC 9110 section 5.6.7) for a time in seconds since the epoch.
#[must_use]
pub(crate) fn http_date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = crate::log::civil(days);
    let pick = |names: &[&'static str], n: u64| usize::try_from(n).ok().and_then(|n| names.get(n).copied());
    let weekday = pick(&["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"], days % 7).unwrap_or_default();
    let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = pick(&names, month.saturating_sub(1)).unwrap_or_default();
    format!(
        "{weekday}, {day:02} {month} {year} {:02}:{:02}:{:02} GMT",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_names_are_spelled_as_the_rfc_does() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        let mut out = Vec::new();
        header_name(&mut out, "access-control-allow-origin");
        header_name(&mut out, "www-authenticate");
        assert_eq!(out, b"Access-Control-Allow-OriginWWW-Authenticate");
    }
}
