//! The head of the MCP server's answer, read as strictly as a client's request: a server that two readers could
//! understand differently could smuggle an answer to the next client on the same connection.

use std::fmt;
use std::mem::MaybeUninit;

use crate::edge::http1::has_control;
use crate::header;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// Why an answer cannot be relayed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadAnswer(pub &'static str);

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// How the end of the body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
    /// Until the connection ends.
    UntilClose,
}

/// A head, taken apart where it was read.
#[derive(Debug)]
pub struct AnswerHead<'a> {
    status: u16,
    bytes: &'a [u8],
    spans: [Field; HEADERS_MAX],
    count: usize,
    framing: Framing,
    length: Option<u64>,
    keep_alive: bool,
    event_stream: bool,
}

/// Where a name and its value begin and end; a head is shorter than [`HEAD_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    name: Span,
    value: Span,
}

type Span = (u16, u16);

const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize, "a place in a head fits a span");

impl<'a> AnswerHead<'a> {
    /// Reads a head from the front of `buf`; with it the number of bytes that it takes. `Ok(None)` while it is not
    /// whole. `head_only` says that the request was a HEAD, whose answer has no body.
    ///
    /// # Errors
    /// A head that is malformed, too large, or whose framing is ambiguous; a switch to another protocol.
    pub fn read(buf: &'a [u8], head_only: bool) -> Result<Option<(Self, usize)>, BadAnswer> {
        let Some(end) = head_end(buf)? else {
            return if buf.len() > HEAD_BYTES_MAX {
                Err(BadAnswer("its head is too large"))
            } else {
                Ok(None)
            };
        };
        let head = buf.get(..end).unwrap_or_default();
        let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        match parser.parse_response_with_uninit_headers(&mut answer, head, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(BadAnswer("it has too many headers")),
            _ => return Err(BadAnswer("its head is not of HTTP/1")),
        }
        let status = answer.code.unwrap_or_default();
        if !(100..600).contains(&status) || status == 101 {
            return Err(BadAnswer("its status is none that can be relayed"));
        }
        let base = head.as_ptr().addr();
        let short = |place: usize| u16::try_from(place).unwrap_or(u16::MAX);
        let place = |part: &[u8]| {
            let start = part.as_ptr().addr().saturating_sub(base);
            (short(start), short(start + part.len()))
        };
        let mut spans = [Field::default(); HEADERS_MAX];
        let count = answer.headers.len();
        let mut found = Found { minor: answer.version.unwrap_or(1), ..Found::default() };
        for (span, field) in spans.iter_mut().zip(answer.headers.iter()) {
            let value = field.value.trim_ascii();
            if has_control(value) {
                return Err(BadAnswer("a header of it holds a control character"));
            }
            found.look(field.name, value)?;
            *span = Field { name: place(field.name.as_bytes()), value: place(value) };
        }
        let framing = found.framing(status, head_only)?;
        let (length, keep_alive, event_stream) = (found.length, found.keep_alive(), found.event_stream);
        let answer = Self { status, bytes: head, spans, count, framing, length, keep_alive, event_stream };
        Ok(Some((answer, end)))
    }

    /// The status code, 100 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether another head follows (RFC 9110 section 15.2).
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// How the body ends.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// `Content-Length`, which an answer to HEAD has without a body.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the connection can be used again.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the body is `text/event-stream` (WHATWG HTML, server-sent events).
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.event_stream
    }

    /// All fields: the name as it was spelled and the value without the white space around it.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields().iter().map(|field| {
            (std::str::from_utf8(self.bytes(field.name)).unwrap_or_default(), self.bytes(field.value))
        })
    }

    /// The first field of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let named = |field: &&Field| header::same(self.bytes(field.name), name);
        self.fields().iter().find(named).map(|field| self.bytes(field.value))
    }

    fn fields(&self) -> &[Field] {
        self.spans.get(..self.count).unwrap_or_default()
    }

    fn bytes(&self, place: Span) -> &'a [u8] {
        self.bytes.get(usize::from(place.0)..usize::from(place.1)).unwrap_or_default()
    }
}

/// The place behind the empty line; a line that ends in LF alone is refused. Nothing beyond [`HEAD_BYTES_MAX`] is looked
/// at, so that the verdict does not depend on how much one read brought.
fn head_end(buf: &[u8]) -> Result<Option<usize>, BadAnswer> {
    let seen = buf.get(..buf.len().min(HEAD_BYTES_MAX)).unwrap_or_default();
    for at in memchr::memchr_iter(b'\n', seen) {
        let before = buf.get(..at).unwrap_or_default();
        if !before.ends_with(b"\r") {
            return Err(BadAnswer("a line of its head ends in LF without CR"));
        }
        if before.ends_with(b"\r\n\r") {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

#[derive(Default)]
struct Found {
    minor: u8,
    length: Option<u64>,
    chunked: Option<bool>,
    close: bool,
    keep: bool,
    event_stream: bool,
    content_types: u8,
}

impl Found {
    fn look(&mut self, name: &str, value: &[u8]) -> Result<(), BadAnswer> {
        if header::same(name, header::CONTENT_LENGTH) {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length =
                std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            let length = length.ok_or(BadAnswer("its Content-Length is not a number"))?;
            if self.length.replace(length).is_some() {
                return Err(BadAnswer("it has two Content-Length headers"));
            }
        } else if header::same(name, header::TRANSFER_ENCODING) {
            if self.chunked.replace(value.eq_ignore_ascii_case(b"chunked")).is_some() {
                return Err(BadAnswer("it has two Transfer-Encoding headers"));
            }
        } else if header::same(name, header::CONNECTION) {
            for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if header::same(name, header::CONTENT_TYPE) {
            let media = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
            self.event_stream |= self.content_types == 0 && media.eq_ignore_ascii_case(b"text/event-stream");
            self.content_types = self.content_types.saturating_add(1);
        }
        Ok(())
    }

    fn keep_alive(&self) -> bool {
        !self.close && (self.minor == 1 || self.keep)
    }

    fn framing(&self, status: u16, head_only: bool) -> Result<Framing, BadAnswer> {
        match (self.length, self.chunked) {
            (Some(_), Some(_)) => Err(BadAnswer("it has Content-Length and Transfer-Encoding")),
            (None, Some(_)) if self.minor == 0 => Err(BadAnswer("it has Transfer-Encoding in HTTP/1.0")),
            (None, Some(false)) => Err(BadAnswer("its transfer coding is not chunked")),
            _ if head_only || status < 200 || matches!(status, 204 | 304) => Ok(Framing::None),
            (None, Some(true)) => Ok(Framing::Chunked),
            (Some(length), None) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::UntilClose),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<(AnswerHead<'_>, usize)>, BadAnswer> {
        AnswerHead::read(text.as_bytes(), false)
    }

    #[test]
    fn framing_follows_the_rfc() {
        for (head, framing) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::Length(5)),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", Framing::Chunked),
            ("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose),
            ("HTTP/1.0 200 OK\r\n\r\n", Framing::UntilClose),
            ("HTTP/1.1 204 No Content\r\n\r\n", Framing::None),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Framing::None),
            ("HTTP/1.1 100 Continue\r\n\r\n", Framing::None),
        ] {
            let (answer, used) = read(head).unwrap().unwrap();
            assert_eq!((answer.framing(), used), (framing, head.len()), "{head}");
        }
        let (answer, _) =
            AnswerHead::read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).unwrap().unwrap();
        assert_eq!((answer.framing(), answer.content_length()), (Framing::None, Some(5)));
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
            "HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 999 Odd\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "garbage\r\n\r\n",
        ] {
            assert!(read(head).is_err(), "{head}");
        }
        assert!(read(&format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_BYTES_MAX))).is_err());
        assert!(read("HTTP/1.1 200 OK\r\nA: b\r\n").unwrap().is_none());
    }

    #[test]
    fn an_event_stream_is_known_by_its_media_type() {
        for (value, is) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("application/json", false),
            ("text/event-streams", false),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {value}\r\n\r\n");
            let (answer, _) = read(&head).unwrap().unwrap();
            assert_eq!(answer.is_event_stream(), is, "{value}");
        }
    }
}
