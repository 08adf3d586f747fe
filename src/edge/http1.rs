//! One request, read once into one buffer, as strictly as RFC 9112 allows.
//!
//! `httparse` splits the head; this module refuses what it lets pass (a bare LF, odd targets, a missing or second
//! `Host`) and everything about framing that two readers could understand differently. The bytes of head and body stay
//! where they were read; [`Incoming`] holds places in that buffer, so a request costs no allocation of its own.
//!
//! ```text
//! buf: │ head …\r\n\r\n │ body, chunks already joined │ raw bytes not looked at │ spare │
//!      0            head_len                      body_end       raw          filled
//! ```

use std::fmt;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};

use super::chunked::Chunked;
use crate::header;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};

/// A request method. Another one is answered 501 before a handler sees it (RFC 9110 section 9.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
    /// OPTIONS
    Options,
}

impl Method {
    /// As it stands in the request line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    fn read(name: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Delete, Self::Options, Self::Head, Self::Put, Self::Patch]
            .into_iter()
            .find(|method| method.as_str() == name)
    }
}

/// Why a request cannot be read. Each one is answered with its status, and the connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// 400: not HTTP, or HTTP that two readers could understand differently.
    Malformed(&'static str),
    /// 408: head or body did not arrive in time.
    TooSlow,
    /// 413: the body is larger than a message may be.
    BodyTooLarge,
    /// 414: the request target is longer than [`TARGET_BYTES_MAX`].
    TargetTooLong,
    /// 417: an expectation other than `100-continue`.
    Expectation,
    /// 431: the head is longer than [`HEAD_BYTES_MAX`] or has more than [`HEADERS_MAX`] fields.
    HeadTooLarge,
    /// 501: a method or transfer coding that nothing here knows.
    Unknown(&'static str),
    /// 503: all the memory that bodies may take together is taken.
    Busy,
    /// 505: another HTTP version.
    Version,
}

impl Fault {
    /// The status code of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooSlow => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::Unknown(_) => 501,
            Self::Busy => 503,
            Self::Version => 505,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(why) | Self::Unknown(why) => why,
            Self::TooSlow => "the request did not arrive in time",
            Self::BodyTooLarge => "the body is larger than a message may be",
            Self::TargetTooLong => "the request target is too long",
            Self::Expectation => "the only expectation known is 100-continue",
            Self::HeadTooLarge => "the request head is too large",
            Self::Busy => "too much is being read at once",
            Self::Version => "the versions spoken here are HTTP/1.0 and HTTP/1.1",
        })
    }
}

/// One header field, as places in the buffer of an [`Incoming`].
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    name: (usize, usize),
    value: (usize, usize),
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Debug, Default)]
enum Framing {
    #[default]
    None,
    Length(usize),
    Chunked(Chunked),
}

/// A request: its head checked and split and, once [`Incoming::read_body`] says so, its body whole.
#[derive(Debug)]
pub struct Incoming {
    buf: Vec<u8>,
    filled: usize,
    scanned: usize,
    blank_line_skipped: bool,
    head_len: usize,
    method: Method,
    target: (usize, usize),
    minor: u8,
    keep_alive: bool,
    expects_continue: bool,
    spans: Vec<Span>,
    framing: Framing,
    body_end: usize,
    raw: usize,
    body_done: bool,
    peer: IpAddr,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            buf: Vec::new(),
            filled: 0,
            scanned: 0,
            blank_line_skipped: false,
            head_len: 0,
            method: Method::Get,
            target: (0, 0),
            minor: 1,
            keep_alive: false,
            expects_continue: false,
            spans: Vec::new(),
            framing: Framing::None,
            body_end: 0,
            raw: 0,
            body_done: false,
            peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }
}

/// Spare room that a read is given, in bytes.
const READ_BYTES: usize = 8 * 1024;
/// The most a single read asks for once a body is known to be large.
const READ_BYTES_LARGE: usize = 256 * 1024;

impl Incoming {
    /// A whole request out of one piece of bytes, and how many of them it took. For tests, fuzzing and replays.
    ///
    /// # Errors
    /// As [`Incoming::read_head`] and [`Incoming::read_body`]; `Ok(None)` where the request is not whole.
    pub fn parse(bytes: &[u8], peer: IpAddr, body_max: usize) -> Result<Option<(Self, usize)>, Fault> {
        let mut incoming = Self::default();
        incoming.start(peer);
        incoming.put(bytes);
        if !incoming.read_head(body_max)? || !incoming.read_body(body_max)? {
            return Ok(None);
        }
        let used = bytes.len() - (incoming.filled - incoming.raw);
        Ok(Some((incoming, used)))
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// The request target as it was sent: origin-form in visible ASCII, or `*` with OPTIONS.
    #[must_use]
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The path of the target, exactly as it was sent: nothing is decoded or normalised.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// What stands behind the first `?` of the target.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The minor version: HTTP/1.`minor`.
    #[must_use]
    pub fn minor(&self) -> u8 {
        self.minor
    }

    /// All header fields in the order they were sent: the name as it was spelled, and the value without the white
    /// space around it.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.spans.iter().map(|span| (self.text(span.name), self.bytes(span.value)))
    }

    /// The first field of this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers_of(name).next()
    }

    /// The first field of this name as text; `None` too where it is not ASCII.
    #[must_use]
    pub fn header_str(&self, name: &str) -> Option<&str> {
        self.header(name).filter(|value| value.is_ascii()).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every field of this name.
    pub fn headers_of(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = move |span: &&Span| header::same(self.bytes(span.name), name);
        self.spans.iter().filter(named).map(|span| self.bytes(span.value))
    }

    /// The body; whole when [`Incoming::read_body`] has said so, and empty when there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes((self.head_len, self.body_end))
    }

    /// Who sent it, by the connection's other end.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether the client would use the connection again (RFC 9112 section 9.3).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue && self.minor == 1 && !self.body_done && self.filled == self.head_len
    }

    fn text(&self, place: (usize, usize)) -> &str {
        std::str::from_utf8(self.bytes(place)).unwrap_or_default()
    }

    fn bytes(&self, place: (usize, usize)) -> &[u8] {
        self.buf.get(place.0..place.1).unwrap_or_default()
    }

    // What follows is for the engine.

    /// Begins a connection: nothing read yet.
    pub(crate) fn start(&mut self, peer: IpAddr) {
        self.clear();
        self.peer = peer;
    }

    /// Forgets everything but the buffer, which the next connection may use.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
        self.reset();
    }

    fn reset(&mut self) {
        self.scanned = 0;
        self.blank_line_skipped = false;
        self.head_len = 0;
        self.spans.clear();
        self.framing = Framing::None;
        self.body_end = 0;
        self.raw = 0;
        self.body_done = false;
        self.expects_continue = false;
        self.keep_alive = false;
    }

    /// Forgets the request that was answered; bytes of the next one, which a client may have sent already, stay.
    /// Returns how many.
    pub(crate) fn next(&mut self) -> usize {
        let consumed = if self.body_done { self.raw } else { self.filled };
        self.buf.copy_within(consumed..self.filled, 0);
        self.filled -= consumed;
        self.reset();
        self.filled
    }

    /// Bytes that were read and not yet understood as a whole request.
    pub(crate) fn held(&self) -> usize {
        self.filled
    }

    /// Whether the head is whole.
    pub(crate) fn has_head(&self) -> bool {
        self.head_len > 0
    }

    /// Gives large buffers back to the system once they are no longer needed.
    pub(crate) fn shrink(&mut self) {
        if self.buf.len() > 4 * READ_BYTES && self.filled <= READ_BYTES {
            self.buf.truncate(READ_BYTES);
            self.buf.shrink_to_fit();
        }
    }

    /// Gives back what nothing was read into, for a request that waits for its rest.
    pub(crate) fn shrink_to_held(&mut self) {
        self.buf.truncate(self.filled);
        self.buf.shrink_to_fit();
    }

    /// Copies bytes in, as if they had been read.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buf.truncate(self.filled);
        self.buf.extend_from_slice(bytes);
        self.filled = self.buf.len();
    }

    /// One read from the connection. `Ok(0)` is its end.
    pub(crate) fn fill(&mut self, mut stream: impl Read) -> io::Result<usize> {
        // By what has arrived, never by what the peer says will come.
        let room = if self.filled > 4 * READ_BYTES { self.filled.min(READ_BYTES_LARGE) } else { READ_BYTES };
        if self.buf.len() < self.filled + room / 2 {
            self.buf.resize(self.filled + room, 0);
        }
        let read = stream.read(self.buf.get_mut(self.filled..).unwrap_or_default())?;
        self.filled += read;
        Ok(read)
    }

    /// Whether the last [`Incoming::fill`] got less than it asked for.
    pub(crate) fn has_room(&self) -> bool {
        self.filled < self.buf.len()
    }

    /// Looks whether the head is whole, and takes it apart. Called again when more has arrived; looks at each byte
    /// once.
    ///
    /// # Errors
    /// Every [`Fault`] but those of time.
    pub fn read_head(&mut self, body_max: usize) -> Result<bool, Fault> {
        if self.head_len > 0 {
            return Ok(true);
        }
        if self.scanned == 0 && !self.skip_blank_line() {
            return Ok(false);
        }
        let Some(head_len) = self.find_head_end()? else {
            if self.filled > HEAD_BYTES_MAX {
                let line_ends = self.bytes((0, HEAD_BYTES_MAX)).contains(&b'\n');
                return Err(if line_ends { Fault::HeadTooLarge } else { Fault::TargetTooLong });
            }
            return Ok(false);
        };
        self.split_head(head_len)?;
        self.check_target()?;
        self.check_fields(body_max)?;
        self.head_len = head_len;
        self.body_end = head_len;
        self.raw = head_len;
        self.body_done = matches!(self.framing, Framing::None | Framing::Length(0));
        Ok(true)
    }

    /// RFC 9112 section 2.2: an empty line before the request line is not held against a client. One is enough, however
    /// it arrives. `false` while a CR waits for its LF.
    fn skip_blank_line(&mut self) -> bool {
        match self.bytes((0, self.filled)) {
            [b'\r'] if !self.blank_line_skipped => return false,
            [b'\r', b'\n', ..] if !self.blank_line_skipped => {
                self.buf.copy_within(2..self.filled, 0);
                self.filled -= 2;
                self.blank_line_skipped = true;
            }
            _ => {}
        }
        true
    }

    /// The place behind the empty line that ends the head. A line that ends in LF alone is refused as soon as it is
    /// seen: what stands behind it would be a header to one reader and part of a value to another. Nothing beyond
    /// [`HEAD_BYTES_MAX`] is looked at, so that the verdict does not depend on how much one read brought.
    fn find_head_end(&mut self) -> Result<Option<usize>, Fault> {
        let seen = self.filled.min(HEAD_BYTES_MAX);
        if matches!(self.buf.first(), Some(first) if seen > 0 && !first.is_ascii_uppercase()) {
            return Err(Fault::Malformed("the request does not begin with a method"));
        }
        let unseen = self.buf.get(self.scanned..seen).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', unseen).map(|at| at + self.scanned) {
            let before = self.buf.get(..at).unwrap_or_default();
            if !before.ends_with(b"\r") {
                return Err(Fault::Malformed("a line ends in LF without CR"));
            }
            if before.ends_with(b"\r\n\r") {
                return Ok(Some(at + 1));
            }
        }
        self.scanned = seen;
        Ok(None)
    }

    fn split_head(&mut self, head_len: usize) -> Result<(), Fault> {
        let head = self.buf.get(..head_len).unwrap_or_default();
        let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == head_len => {}
            Ok(_) => return Err(Fault::Malformed("the head does not end where its empty line is")),
            Err(httparse::Error::TooManyHeaders) => return Err(Fault::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(Fault::Version),
            Err(httparse::Error::Token) => return Err(Fault::Malformed("the request line is not of HTTP/1")),
            Err(_) => return Err(Fault::Malformed("a header is malformed")),
        }
        let base = head.as_ptr().addr();
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr().saturating_sub(base);
            (start, start + part.len())
        };
        self.method =
            Method::read(request.method.unwrap_or_default()).ok_or(Fault::Unknown("unknown method"))?;
        self.target = place(request.path.unwrap_or_default().as_bytes());
        self.minor = request.version.unwrap_or(1);
        self.spans.clear();
        for field in request.headers.iter() {
            if field.name.is_empty() {
                return Err(Fault::Malformed("a header has no name"));
            }
            let value = field.value.trim_ascii();
            if has_control(value) {
                return Err(Fault::Malformed("a header holds a control character"));
            }
            self.spans.push(Span { name: place(field.name.as_bytes()), value: place(value) });
        }
        Ok(())
    }

    /// RFC 9112 section 3.2: origin-form, or asterisk-form with OPTIONS. We are no forward proxy.
    fn check_target(&self) -> Result<(), Fault> {
        let target = self.bytes(self.target);
        if target.len() > TARGET_BYTES_MAX {
            return Err(Fault::TargetTooLong);
        }
        if target == b"*" && self.method == Method::Options {
            return Ok(());
        }
        let visible = |b: &u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(b);
        if !target.starts_with(b"/") || !target.iter().all(visible) {
            return Err(Fault::Malformed("the request target is not a path"));
        }
        Ok(())
    }

    /// Host, framing, connection and expectation (RFC 9112 sections 3.2, 6 and 9.3; RFC 9110 section 10.1.1).
    fn check_fields(&mut self, body_max: usize) -> Result<(), Fault> {
        let mut hosts = 0;
        let mut length = None;
        let mut coding = None;
        let (mut close, mut keep, mut expects) = (false, false, false);
        for span in &self.spans {
            let (name, value) = (self.bytes(span.name), self.bytes(span.value));
            if header::same(name, header::HOST) {
                hosts += 1;
                if !is_authority(value) {
                    return Err(Fault::Malformed("Host is not an authority"));
                }
            } else if header::same(name, header::CONTENT_LENGTH) {
                if length.replace(content_length(value)?).is_some() {
                    return Err(Fault::Malformed("Content-Length is given twice"));
                }
            } else if header::same(name, header::TRANSFER_ENCODING) {
                if coding.replace(value.eq_ignore_ascii_case(b"chunked")).is_some() {
                    return Err(Fault::Malformed("Transfer-Encoding is given twice"));
                }
            } else if header::same(name, header::CONNECTION) {
                // An option is a token (RFC 9110 section 7.6.1); of a comma between quotes no two readers think alike.
                if value.contains(&b'"') {
                    return Err(Fault::Malformed("a Connection option holds a quote"));
                }
                for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    close |= token.eq_ignore_ascii_case(b"close");
                    keep |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if header::same(name, header::EXPECT) {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Fault::Expectation);
                }
                expects = true;
            }
        }
        if hosts > 1 || hosts == 0 && self.minor == 1 {
            return Err(Fault::Malformed("there must be one Host"));
        }
        self.framing = match (length, coding) {
            (Some(_), Some(_)) => return Err(Fault::Malformed("Content-Length with Transfer-Encoding")),
            (None, Some(_)) if self.minor == 0 => {
                return Err(Fault::Malformed("Transfer-Encoding in HTTP/1.0"));
            }
            (None, Some(false)) => return Err(Fault::Unknown("the only transfer coding known is chunked")),
            (None, Some(true)) => Framing::Chunked(Chunked::default()),
            (Some(length), None) => match usize::try_from(length) {
                Ok(length) if length <= body_max => Framing::Length(length),
                _ => return Err(Fault::BodyTooLarge),
            },
            (None, None) => Framing::None,
        };
        self.keep_alive = !close && (self.minor == 1 || keep);
        self.expects_continue = expects;
        Ok(())
    }

    /// Takes what has arrived of the body; says whether that was the last of it.
    ///
    /// # Errors
    /// [`Fault::Malformed`] for broken chunks, [`Fault::BodyTooLarge`] beyond `body_max` bytes of data.
    pub fn read_body(&mut self, body_max: usize) -> Result<bool, Fault> {
        if self.body_done {
            return Ok(true);
        }
        match &mut self.framing {
            Framing::None => self.body_done = true,
            Framing::Length(length) => {
                let end = self.head_len + *length;
                self.body_end = end.min(self.filled);
                self.raw = self.body_end;
                self.body_done = self.raw == end;
            }
            Framing::Chunked(chunked) => {
                while self.raw < self.filled && !self.body_done {
                    let unread = self.buf.get(self.raw..self.filled).unwrap_or_default();
                    let step = chunked.step(unread).map_err(|bad| Fault::Malformed(bad.0))?;
                    let (from, to) = (self.raw + step.data.start, self.raw + step.data.end);
                    let data = (self.body_end - self.head_len + step.data.len()) as u64;
                    if data.saturating_add(chunked.announced()) > body_max as u64 {
                        return Err(Fault::BodyTooLarge);
                    }
                    self.buf.copy_within(from..to, self.body_end);
                    self.body_end += step.data.len();
                    self.raw += step.used;
                    self.body_done = step.done;
                }
                // Size lines and line ends are not kept, so that a body of one-byte chunks cannot hold six times its
                // size.
                if !self.body_done && self.raw > self.body_end {
                    self.buf.copy_within(self.raw..self.filled, self.body_end);
                    self.filled -= self.raw - self.body_end;
                    self.raw = self.body_end;
                }
            }
        }
        Ok(self.body_done)
    }
}

/// RFC 9112 section 3.2, RFC 3986 section 3.2: a host and perhaps a port. An empty one is for targets that have no
/// authority, of which none is served here; a name that needs percent-encoding is no host's.
fn is_authority(value: &[u8]) -> bool {
    let (host_fits, port) = if let Some(literal) = value.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', literal) else { return false };
        let (address, port) = literal.split_at(end);
        let fits = |b: &u8| b.is_ascii_hexdigit() || b":.".contains(b);
        (!address.is_empty() && address.iter().all(fits), port.get(1..).unwrap_or_default())
    } else {
        let (name, port) = value.split_at(memchr::memchr(b':', value).unwrap_or(value.len()));
        let fits = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(b);
        (!name.is_empty() && name.iter().all(fits), port)
    };
    host_fits
        && (port.is_empty()
            || port.strip_prefix(b":").is_some_and(|port| port.iter().all(u8::is_ascii_digit)))
}

/// Whether a field's value holds what may not stand in one.
///
/// Nearly all values are clean, and a token is long. So eight bytes are looked at at once: a byte below 0x20 borrows
/// from its highest bit when 0x20 is taken from it, as does one that is 0x7f when it is turned to zero before. A borrow
/// from a neighbour, a tab or a byte beyond ASCII may look the same, and is then looked at by itself.
pub(crate) fn has_control(value: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let harmful = |b: &u8| *b < b' ' && *b != b'\t' || *b == 0x7f;
    let suspect = |eight: &[u8; 8]| {
        let word = u64::from_le_bytes(*eight);
        let low = word.wrapping_sub(EACH * 0x20);
        let delete = (word ^ (EACH * 0x7f)).wrapping_sub(EACH);
        (low | delete | word) & (EACH * 0x80) != 0
    };
    let (eights, rest) = value.as_chunks::<8>();
    rest.iter().any(harmful) || eights.iter().any(|eight| suspect(eight) && eight.iter().any(harmful))
}

/// RFC 9112 section 6.2: digits, and nothing else.
fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).map(str::parse);
    match number {
        Some(Ok(number)) => Ok(number),
        Some(Err(_)) => Err(Fault::BodyTooLarge), // digits that do not fit 64 bits
        None => Err(Fault::Malformed("Content-Length is not a number")),
    }
}

#[cfg(test)]
mod tests {
    /// Every byte, at every place of a word and of what is left behind one.
    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for (byte, at, filler) in (0..=255_u8)
            .flat_map(|b| (0..21).flat_map(move |at| [b' ', b'\t', b'z', 0xff].map(|f| (b, at, f))))
        {
            let mut value = [filler; 21];
            value[at] = byte;
            let harmful = byte.is_ascii_control() && byte != b'\t';
            assert_eq!(super::has_control(&value), harmful, "{byte} at {at} among {filler}");
        }
    }
}
