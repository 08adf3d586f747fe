//! The event stream of HTTP+SSE (2024-11-05), with its `endpoint` events led back to us (requirements SSE-01 to SSE-05).
//!
//! The first event tells the client where to post its messages. As the MCP server writes it, that is the MCP server
//! itself: a client that followed it would go around every check. So the address in it becomes ours, and everything else
//! passes byte for byte, whatever its size and however it is cut.
//!
//! An event is held back only while it may still turn out to be an `endpoint` event, and a client cannot act on an event
//! before its empty line anyway. As soon as its `event` field says something else, its bytes pass as they come; should
//! the field change its mind afterwards, which only a hostile server does, the stream is ended.

use std::fmt;

use crate::config::{BaseUrl, PublicUrl};

/// Bytes of one event that are held while its kind is open. An `endpoint` event is a line or two.
const HELD_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a line that are looked at once an event passes: enough for `event: endpoint`.
const LOOK_BYTES_MAX: usize = 32;

/// Why the stream cannot go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SseFault {
    /// The `endpoint` event names another server.
    OtherHost(String),
    /// The `endpoint` event names a path that is not served here.
    OtherPath(String),
    /// The `endpoint` event holds no address.
    NoAddress,
    /// An event became an `endpoint` event after its bytes had passed.
    TooLate,
}

impl fmt::Display for SseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherHost(found) => {
                write!(f, "its endpoint event names {found:?}, which is not the server of base_url")
            }
            Self::OtherPath(found) => {
                write!(
                    f,
                    "its endpoint event names {found:?}; write that path as paths.messages if it is right"
                )
            }
            Self::NoAddress => f.write_str("its endpoint event holds no address"),
            Self::TooLate => f.write_str("its endpoint event is hidden behind other fields"),
        }
    }
}

/// Turns the address in an `endpoint` event into ours.
pub type Rewrite = Box<dyn Fn(&str) -> Result<String, SseFault> + Send>;

/// A filter for the bytes of one stream.
pub struct EndpointRewriter {
    rewrite: Rewrite,
    held: Vec<u8>,
    /// Where the current line begins in `held`.
    line: usize,
    /// The data lines in `held`: where their values begin and end.
    data: Vec<(usize, usize)>,
    endpoint: bool,
    comments_only: bool,
    /// The bytes of this event pass; `look` holds the first ones of the current line.
    passing: bool,
    look: Vec<u8>,
    look_len: usize,
    after_cr: bool,
    begun: bool,
}

impl fmt::Debug for EndpointRewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointRewriter({} bytes held)", self.held.len())
    }
}

impl EndpointRewriter {
    /// A filter that hands each address to `rewrite`.
    #[must_use]
    pub fn new(rewrite: Rewrite) -> Self {
        Self {
            rewrite,
            held: Vec::new(),
            line: 0,
            data: Vec::new(),
            endpoint: false,
            comments_only: true,
            passing: false,
            look: Vec::new(),
            look_len: 0,
            after_cr: false,
            begun: false,
        }
    }

    /// Takes the next bytes of the stream and appends what can go on to `out`.
    ///
    /// # Errors
    /// [`SseFault`], after which the stream must be ended.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), SseFault> {
        let mut rest = input;
        while !rest.is_empty() {
            if self.after_cr {
                self.after_cr = false;
                if let Some((b'\n', behind)) = rest.split_first() {
                    // The second half of a line end that has been dealt with.
                    if self.held.is_empty() {
                        out.push(b'\n')
                    } else {
                        self.hold(b"\n")
                    }
                    self.line = self.held.len();
                    self.let_pass_when_full(out)?;
                    rest = behind;
                    continue;
                }
            }
            // Held to the byte, so that where a long event begins to pass does not depend on how the stream is cut.
            let room = if self.passing { rest.len() } else { HELD_BYTES_MAX + 1 - self.held.len() };
            let (near, far) = rest.split_at(room.min(rest.len()));
            let (part, ending, behind) = match memchr::memchr2(b'\n', b'\r', near) {
                Some(at) => {
                    let (part, tail) = rest.split_at(at);
                    let (ending, behind) = tail.split_at(1);
                    (part, ending, behind)
                }
                None => (near, &b""[..], far),
            };
            rest = behind;
            if self.passing {
                self.pass(part, ending, out)?;
            } else {
                self.hold(part);
                if !ending.is_empty() {
                    self.line_ended(ending, out)?;
                }
                self.let_pass_when_full(out)?;
            }
            self.after_cr = ending == b"\r";
        }
        Ok(())
    }

    fn hold(&mut self, part: &[u8]) {
        self.held.extend_from_slice(part);
    }

    /// A whole line stands in `held`, without its ending.
    fn line_ended(&mut self, ending: &[u8], out: &mut Vec<u8>) -> Result<(), SseFault> {
        if !std::mem::replace(&mut self.begun, true) && self.held.starts_with(b"\xef\xbb\xbf") {
            self.line = 3; // a byte order mark, which a client skips
        }
        let start = self.line;
        let line = self.held.get(start..).unwrap_or_default();
        if line.is_empty() {
            self.held.extend_from_slice(ending);
            return self.event_ended(out);
        }
        let (name, value_at) = field(line);
        let mut other = false;
        match name {
            b"event" => {
                self.endpoint = line.get(value_at..) == Some(b"endpoint");
                other = !self.endpoint;
                self.comments_only = false;
            }
            b"data" => {
                self.data.push((start + value_at, self.held.len()));
                self.comments_only = false;
            }
            b"" => {} // a comment
            _ => self.comments_only = false,
        }
        self.held.extend_from_slice(ending);
        self.line = self.held.len();
        if self.comments_only {
            out.append(&mut self.held); // a keep-alive is not kept waiting
            self.line = 0;
        } else if other {
            self.let_pass(out)?;
        }
        Ok(())
    }

    fn event_ended(&mut self, out: &mut Vec<u8>) -> Result<(), SseFault> {
        if self.endpoint {
            let address = match self.data.as_slice() {
                [(from, to)] => (*from, *to),
                _ => return Err(SseFault::NoAddress),
            };
            let bytes = self.held.get(address.0..address.1).unwrap_or_default();
            let text = std::str::from_utf8(bytes).map_err(|_| SseFault::NoAddress)?;
            let ours = (self.rewrite)(text)?;
            self.held.splice(address.0..address.1, ours.into_bytes());
        }
        out.append(&mut self.held);
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.held.clear();
        self.line = 0;
        self.data.clear();
        self.endpoint = false;
        self.comments_only = true;
        self.passing = false;
        self.look.clear();
        self.look_len = 0;
    }

    fn let_pass_when_full(&mut self, out: &mut Vec<u8>) -> Result<(), SseFault> {
        if self.held.len() > HELD_BYTES_MAX { self.let_pass(out) } else { Ok(()) }
    }

    /// From here on the bytes of this event pass as they come.
    fn let_pass(&mut self, out: &mut Vec<u8>) -> Result<(), SseFault> {
        self.begun = true;
        if self.endpoint {
            return Err(SseFault::TooLate);
        }
        self.passing = true;
        let line = self.held.get(self.line..).unwrap_or_default();
        self.look_len = line.len();
        self.look = line.get(..line.len().min(LOOK_BYTES_MAX)).unwrap_or_default().to_vec();
        out.append(&mut self.held);
        self.line = 0;
        Ok(())
    }

    fn pass(&mut self, part: &[u8], ending: &[u8], out: &mut Vec<u8>) -> Result<(), SseFault> {
        out.extend_from_slice(part);
        out.extend_from_slice(ending);
        let room = LOOK_BYTES_MAX.saturating_sub(self.look.len()).min(part.len());
        self.look.extend_from_slice(part.get(..room).unwrap_or_default());
        self.look_len += part.len();
        if ending.is_empty() {
            return Ok(());
        }
        if self.look_len == 0 {
            self.forget();
            return Ok(());
        }
        let (name, value_at) = field(&self.look);
        if self.look_len <= LOOK_BYTES_MAX
            && name == b"event"
            && self.look.get(value_at..) == Some(b"endpoint")
        {
            return Err(SseFault::TooLate);
        }
        self.look.clear();
        self.look_len = 0;
        Ok(())
    }
}

/// The name of a line's field, and where its value begins: behind the colon and one space.
fn field(line: &[u8]) -> (&[u8], usize) {
    match memchr::memchr(b':', line) {
        Some(at) => {
            let name = line.get(..at).unwrap_or_default();
            (name, at + 1 + usize::from(line.get(at + 1) == Some(&b' ')))
        }
        None => (line, line.len()),
    }
}

/// Where `address`, as the MCP server behind `base` wrote it on the stream at `sse_path`, leads here: the target below
/// our public URL, and whether it was a whole URL. Only the `messages` endpoint is ever the answer.
///
/// # Errors
/// [`SseFault::OtherHost`], [`SseFault::OtherPath`] and [`SseFault::NoAddress`].
pub fn resolve(
    address: &str,
    base: &BaseUrl,
    public: &PublicUrl,
    sse_path: &str,
    messages_path: &str,
) -> Result<(String, bool), SseFault> {
    let address = address.split('#').next().unwrap_or_default();
    if address.is_empty() || !address.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(SseFault::NoAddress);
    }
    let shown = || address.chars().take(200).collect::<String>();
    let (whole, mut prefix, reference) = match authority_of(address) {
        Some((scheme, authority, reference)) => {
            let our_own = scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(&public.scheme))
                && authority.eq_ignore_ascii_case(&public.authority);
            if !is_base(scheme, authority, base) && !our_own {
                return Err(SseFault::OtherHost(shown()));
            }
            // A server that knows of us by X-Forwarded-Host may write our own address.
            let ours_only = our_own && !is_base(scheme, authority, base);
            (true, if ours_only { &public.prefix } else { &base.prefix }, reference)
        }
        None => (false, &base.prefix, address),
    };
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let sse = format!("{}{sse_path}", base.prefix);
    let path = if path.starts_with('/') {
        path.to_owned()
    } else if path.is_empty() && !whole {
        sse
    } else if whole {
        prefix = &base.prefix;
        format!("/{path}")
    } else {
        let folder = sse.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{path}")
    };
    let path = without_dots(&path);
    let local = path.strip_prefix(prefix.as_str()).unwrap_or_default();
    let known = local == messages_path || messages_path.strip_suffix('/').is_some_and(|bare| local == bare);
    if !known {
        return Err(SseFault::OtherPath(shown()));
    }
    Ok((query.map_or_else(|| local.to_owned(), |query| format!("{local}?{query}")), whole))
}

/// Scheme (none in `//host/…`), authority and the rest of a reference that names a server.
fn authority_of(address: &str) -> Option<(Option<&str>, &str, &str)> {
    let (scheme, rest) = match address.strip_prefix("//") {
        Some(rest) => (None, rest),
        None => {
            let (scheme, rest) = address.split_once(':')?;
            let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            if !is_scheme {
                return None;
            }
            // `mailto:x` and the like name no server; an authority that is empty matches none either.
            (Some(scheme), rest.strip_prefix("//").unwrap_or_default())
        }
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    Some((scheme, authority, rest))
}

fn is_base(scheme: Option<&str>, authority: &str, base: &BaseUrl) -> bool {
    let ours = if base.tls { "https" } else { "http" };
    let default = if base.tls { ":443" } else { ":80" };
    let authority = authority.strip_suffix(default).unwrap_or(authority);
    scheme.is_none_or(|scheme| scheme.eq_ignore_ascii_case(ours))
        && authority.eq_ignore_ascii_case(&base.authority())
}

/// RFC 3986 section 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &[u8], piece: usize) -> Result<Vec<u8>, SseFault> {
        let mut rewriter = EndpointRewriter::new(Box::new(|address| Ok(format!("[{address}]"))));
        let mut out = Vec::new();
        for piece in input.chunks(piece) {
            rewriter.push(piece, &mut out)?;
        }
        Ok(out)
    }

    /// SSE-02, SSE-03: only the address changes, however the stream is cut and whatever ends its lines.
    #[test]
    fn only_the_address_changes() {
        for (input, output) in [
            ("event: endpoint\ndata: /m?a=b\n\n", "event: endpoint\ndata: [/m?a=b]\n\n"),
            ("event: endpoint\r\ndata: /m\r\n\r\n", "event: endpoint\r\ndata: [/m]\r\n\r\n"),
            ("event: endpoint\rdata: /m\r\r", "event: endpoint\rdata: [/m]\r\r"),
            ("event:endpoint\ndata:/m\n\n", "event:endpoint\ndata:[/m]\n\n"),
            (
                "data: /m\nid: 1\nevent: endpoint\nretry: 5\n\n",
                "data: [/m]\nid: 1\nevent: endpoint\nretry: 5\n\n",
            ),
            ("\u{feff}event: endpoint\ndata: /m\n\n", "\u{feff}event: endpoint\ndata: [/m]\n\n"),
            (
                ": hi\n\nevent: endpoint\ndata: /m\n\nevent: message\ndata: {}\n\n",
                ": hi\n\nevent: endpoint\ndata: [/m]\n\nevent: message\ndata: {}\n\n",
            ),
            ("event: message\ndata: event: endpoint\n\n", "event: message\ndata: event: endpoint\n\n"),
            ("event: endpoints\ndata: /m\n\n", "event: endpoints\ndata: /m\n\n"),
            ("event:  endpoint\ndata: /m\n\n", "event:  endpoint\ndata: /m\n\n"),
            (
                "event: message\nevent: x\ndata: 1\n\ndata: 2\n\n",
                "event: message\nevent: x\ndata: 1\n\ndata: 2\n\n",
            ),
            ("event: endpoint\ndata: /m\n\r\n", "event: endpoint\ndata: [/m]\n\r\n"),
            ("data\n\ndata: a\ndata: b\n\n: c\n", "data\n\ndata: a\ndata: b\n\n: c\n"),
        ] {
            for piece in 1..=input.len() {
                let got = run(input.as_bytes(), piece).unwrap();
                assert_eq!(String::from_utf8_lossy(&got), output, "{input:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_large_event_passes_whole_in_bounded_memory() {
        let mut input = b"event: message\ndata: ".to_vec();
        input.resize(input.len() + 5 * 1024 * 1024, b'x');
        input.extend_from_slice(b"\n\n");
        let mut rewriter = EndpointRewriter::new(Box::new(|_| Err(SseFault::NoAddress)));
        let mut out = Vec::new();
        for piece in input.chunks(4096) {
            rewriter.push(piece, &mut out).unwrap();
            assert!(rewriter.held.capacity() <= 4 * HELD_BYTES_MAX);
        }
        assert!(out == input);
        let bare: Vec<u8> = [&b"data: "[..], &vec![b'x'; 100_000], b"\n\n"].concat();
        assert!(run(&bare, 1000).unwrap() == bare, "without an event field too");
    }

    /// What is held and what passes is decided byte by byte, and not by what one read happens to bring.
    #[test]
    fn a_long_first_line_is_judged_the_same_however_it_is_cut() {
        let long = "x".repeat(HELD_BYTES_MAX);
        let endpoint = "event: endpoint\ndata: /m\n\n";
        for (stream, output) in [
            (format!(": {long}\n{endpoint}"), Err(SseFault::TooLate)),
            (format!(": {long}\n\n{endpoint}"), Ok("event: endpoint\ndata: [/m]\n\n")),
            // A byte order mark is one at the very beginning alone.
            (format!("data: {long}\n\n\u{feff}{endpoint}"), Ok("\u{feff}event: endpoint\ndata: /m\n\n")),
            (format!("id: {}\r\ndata: x\n\n", "x".repeat(HELD_BYTES_MAX - 5)), Ok("data: x\n\n")),
        ] {
            for piece in [1, 1000, HELD_BYTES_MAX, HELD_BYTES_MAX + 1, stream.len()] {
                let got = run(stream.as_bytes(), piece).map(|out| String::from_utf8(out).unwrap());
                match output {
                    Ok(end) => assert!(got.is_ok_and(|out| out.ends_with(end)), "pieces of {piece}"),
                    Err(ref fault) => assert_eq!(got.as_ref(), Err(fault), "pieces of {piece}"),
                }
            }
        }
    }

    #[test]
    fn an_endpoint_event_cannot_be_hidden() {
        let late = format!("data: {}\nevent: endpoint\n\n", "x".repeat(HELD_BYTES_MAX + 1));
        for input in [
            "event: message\nevent: endpoint\ndata: /m\n\n",
            late.as_str(),
            "event: message\ndata: 1\nevent:endpoint\n\n",
        ] {
            for piece in [1, 7, input.len()] {
                assert_eq!(run(input.as_bytes(), piece), Err(SseFault::TooLate));
            }
        }
        assert_eq!(run(b"event: endpoint\n\n", 99), Err(SseFault::NoAddress));
        assert_eq!(run(b"event: endpoint\ndata: /a\ndata: /b\n\n", 99), Err(SseFault::NoAddress));
    }

    #[test]
    fn nothing_whole_is_kept_waiting() {
        let mut rewriter = EndpointRewriter::new(Box::new(|address| Ok(address.to_owned())));
        for whole in [
            ": keep-alive\n",
            "data: 1\n\n",
            "event: endpoint\ndata: /m\n\n",
            "event: message\n",
            "data: half",
        ] {
            let mut out = Vec::new();
            rewriter.push(whole.as_bytes(), &mut out).unwrap();
            assert_eq!(out, whole.as_bytes());
        }
    }

    /// SSE-03: whatever the form, the address leads to our messages endpoint or nowhere.
    #[test]
    fn every_form_of_address_is_resolved() {
        let base = |prefix: &str| BaseUrl {
            tls: false,
            host: "server".into(),
            port: 8000,
            prefix: prefix.into(),
            socket: None,
        };
        let public =
            PublicUrl { scheme: "https".into(), authority: "public.example".into(), prefix: "/p".into() };
        let good =
            |address: &str, prefix: &str| resolve(address, &base(prefix), &public, "/sse", "/messages/");
        for (address, prefix, target, whole) in [
            ("/messages/?session_id=1", "", "/messages/?session_id=1", false),
            ("/messages?sessionId=1", "", "/messages?sessionId=1", false),
            ("messages/?a", "", "/messages/?a", false),
            ("./messages/?a", "", "/messages/?a", false),
            ("/x/../messages/", "", "/messages/", false),
            ("http://server:8000/messages/?a", "", "/messages/?a", true),
            ("HTTP://SERVER:8000/messages/?a", "", "/messages/?a", true),
            ("//server:8000/messages/", "", "/messages/", true),
            ("/api/messages/?a", "/api", "/messages/?a", false),
            ("messages/", "/api", "/messages/", false),
            ("https://public.example/p/messages/?a", "/api", "/messages/?a", true),
            ("/messages/?a#b", "", "/messages/?a", false),
        ] {
            assert_eq!(good(address, prefix), Ok((target.to_owned(), whole)), "{address}");
        }
        for address in [
            "http://evil.example/messages/",
            "http://server:8001/messages/",
            "https://server:8000/messages/",
            "//evil.example/messages/",
            "http://server:8000@evil.example/messages/",
            "http:/messages/",
            "javascript:alert(1)",
        ] {
            assert!(matches!(good(address, ""), Err(SseFault::OtherHost(_))), "{address}");
        }
        for address in
            ["/other?a", "?a=b", "/messages/x", "/messages//", "http://server:8000", "/api/messages/"]
        {
            assert!(matches!(good(address, ""), Err(SseFault::OtherPath(_))), "{address}");
        }
        for address in ["", "#a", "/mess ages/", "/messages/\u{e9}"] {
            assert_eq!(good(address, ""), Err(SseFault::NoAddress), "{address}");
        }
    }
}
