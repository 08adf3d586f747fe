//! What crosses between client and MCP server and what stops here, in both directions, in one place.
//!
//! Both heads are built anew from the parsed form: nothing that was only tolerated by a parser survives. Everything end
//! to end crosses, known or not (requirements M-10, T-08), except what is listed here with its reason.

use std::io::Write as _;
use std::net::IpAddr;

use super::answer::AnswerHead;
use crate::auth::Principal;
use crate::edge::http1::{Incoming, Method};
use crate::header;
use crate::reply::HeaderValue;
use crate::secret::Secret;

/// Fields of a request that stop here, besides those of one connection and `Proxy-*`.
const STOPPED_REQUEST: &[&str] = &[
    // Written anew: they belong to the message that we send.
    header::HOST,
    header::CONTENT_LENGTH,
    header::EXPECT,
    // RS-13: the client's credentials are for us alone.
    header::AUTHORIZATION,
    header::COOKIE,
    header::DPOP,
    // The MCP server's own id stands behind ours.
    header::MCP_SESSION_ID,
    // Judged here. A server that guards itself against DNS rebinding would refuse an origin that is welcome to us.
    header::ORIGIN,
    // T-09: an event stream that is compressed is held back.
    header::ACCEPT_ENCODING,
    // Ours to write: whoever sits behind us believes them.
    header::FORWARDED,
    header::X_FORWARDED_FOR,
    header::X_FORWARDED_HOST,
    header::X_FORWARDED_PROTO,
    header::X_REAL_IP,
];

/// Fields of an answer that stop here, besides those of one connection.
const STOPPED_ANSWER: &[&str] = &[
    header::CONTENT_LENGTH,
    header::MCP_SESSION_ID,
    // Its cookies would be sent back to us, and we drop cookies.
    header::SET_COOKIE,
    // A challenge of the MCP server's own would send the client to log in for another resource than this one.
    header::WWW_AUTHENTICATE,
    header::PROXY_AUTHENTICATE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
];

/// A request as it leaves for the MCP server.
pub struct Outbound<'a> {
    /// Path and query.
    pub target: &'a str,
    /// `Host`.
    pub authority: &'a str,
    /// The MCP server's own session id.
    pub session: Option<&'a str>,
    /// Our credential for the MCP server.
    pub authorization: Option<&'a Secret>,
    /// Whose request it is, if the MCP server is to know.
    pub identity: Option<&'a Principal>,
    /// Scheme and authority by which the client reached us.
    pub public: (&'a str, &'a str),
    /// The client's address.
    pub peer: IpAddr,
}

/// Writes the head of `request` as it goes to the MCP server.
pub fn request_head(out: &mut Vec<u8>, request: &Incoming, to: &Outbound<'_>) {
    out.clear();
    let put = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    for part in [request.method().as_str(), " ", to.target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    put(out, "Host", to.authority.as_bytes());
    let named = Named::of(request.headers_of(header::CONNECTION));
    for (name, value) in request.headers() {
        if !stops(name, STOPPED_REQUEST) && !is_identity(name) && !named.has(name) {
            put(out, name, value);
        }
    }
    let body = request.body().len();
    if body > 0 || matches!(request.method(), Method::Post | Method::Put | Method::Patch) {
        put(out, "Content-Length", itoa::Buffer::new().format(body).as_bytes());
    }
    if let Some(session) = to.session {
        put(out, "Mcp-Session-Id", session.as_bytes());
    }
    if let Some(authorization) = to.authorization {
        put(out, "Authorization", authorization.expose().as_bytes());
    }
    if let Some(who) = to.identity {
        put(out, header::X_MCP_AUTH_ISSUER, escaped(&who.issuer).as_bytes());
        put(out, header::X_MCP_AUTH_SUBJECT, escaped(&who.subject).as_bytes());
        if let Some(client) = &who.client_id {
            put(out, header::X_MCP_AUTH_CLIENT_ID, escaped(client).as_bytes());
        }
        put(out, header::X_MCP_AUTH_SCOPES, who.scopes.to_string().as_bytes());
    }
    let _ = write!(out, "X-Forwarded-For: {}\r\n", to.peer);
    put(out, "X-Forwarded-Proto", to.public.0.as_bytes());
    put(out, "X-Forwarded-Host", to.public.1.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Bytes of most heads of answers.
const HEAD_USUAL: usize = 512;

/// What is added to the MCP server's answer.
pub struct Inbound<'a> {
    /// The session id as the client is to know it.
    pub session: Option<&'a str>,
    /// What the client's origin is granted.
    pub grant: &'a [(&'static str, HeaderValue)],
}

/// Writes status line and headers of the MCP server's answer as they go to the client, without framing and the empty
/// line.
pub fn answer_head(out: &mut Vec<u8>, answer: &AnswerHead<'_>, inbound: &Inbound<'_>) {
    out.clear();
    out.reserve(HEAD_USUAL);
    crate::edge::status_line(out, answer.status());
    let named =
        Named::of(answer.headers().filter(|(n, _)| header::same(n, header::CONNECTION)).map(|(_, v)| v));
    let (mut typed, mut cached, mut unbuffered) = (false, false, false);
    for (name, value) in answer.headers() {
        let is = |known: &str| header::same(name, known);
        if stops(name, STOPPED_ANSWER) || is_cors(name) || named.has(name) {
            continue;
        }
        if is(header::CONTENT_TYPE) && std::mem::replace(&mut typed, true) {
            continue; // strict clients refuse two; the first is the one that everybody else reads
        }
        cached |= is(header::CACHE_CONTROL);
        unbuffered |= is(header::X_ACCEL_BUFFERING);
        line(out, name, value);
    }
    if answer.is_event_stream() {
        if !cached {
            line(out, "Cache-Control", b"no-cache");
        }
        if !unbuffered {
            line(out, "X-Accel-Buffering", b"no");
        }
    }
    if let Some(session) = inbound.session {
        line(out, "Mcp-Session-Id", session.as_bytes());
    }
    for (name, value) in inbound.grant {
        crate::edge::header_name(out, name);
        line(out, "", value.as_str().as_bytes());
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn stops(name: &str, list: &[&str]) -> bool {
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    starts("proxy-") || list.iter().chain(header::HOP_BY_HOP).any(|stopped| header::same(name, stopped))
}

fn is_cors(name: &str) -> bool {
    name.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("access-control-"))
}

/// Whether a name could be taken for one of our identity headers, by servers too that read `_` for `-`.
fn is_identity(name: &str) -> bool {
    const PREFIX: &[u8] = b"x-mcp-auth-";
    let name = name.as_bytes();
    name.len() >= PREFIX.len()
        && name.iter().zip(PREFIX).all(|(given, ours)| {
            let given = if *given == b'_' { b'-' } else { given.to_ascii_lowercase() };
            given == *ours
        })
}

/// The names that `Connection` lists (RFC 9110 section 7.6.1).
struct Named(String);

impl Named {
    fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut names = String::new();
        for value in values {
            for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                let token = std::str::from_utf8(token).unwrap_or_default();
                if !matches!(token, "" | "close" | "keep-alive") {
                    names.push_str(token);
                    names.push(',');
                }
            }
        }
        Self(names)
    }

    /// A field that decides something here, and that the MCP server decides on too, cannot be made to vanish between
    /// us.
    fn has(&self, name: &str) -> bool {
        const NEVER: &[&str] = &[
            header::ACCEPT,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::MCP_METHOD,
            header::MCP_NAME,
            header::MCP_PROTOCOL_VERSION,
            header::LAST_EVENT_ID,
        ];
        !self.0.is_empty()
            && self.0.split(',').any(|named| header::same(named, name))
            && !NEVER.iter().any(|never| header::same(never, name))
            && !name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(header::MCP_PARAM_PREFIX))
    }
}

/// Percent-encodes whatever is not visible ASCII, and the percent sign.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::ScopeSet;
    use crate::clock::Timestamp;

    fn outgoing(request: &str, identity: Option<&Principal>) -> String {
        let peer = IpAddr::from([192, 0, 2, 1]);
        let (request, _) = Incoming::parse(request.as_bytes(), peer, 1000).unwrap().unwrap();
        let secret = Secret::new("Bearer ours".into());
        let to = Outbound {
            target: "/mcp?x",
            authority: "server:8000",
            session: Some("theirs"),
            authorization: identity.is_some().then_some(&secret),
            identity,
            public: ("https", "public.example"),
            peer,
        };
        let mut out = Vec::new();
        request_head(&mut out, &request, &to);
        String::from_utf8(out).unwrap()
    }

    /// RS-13, T-08, M-10 and section 4.13.
    #[test]
    fn what_stops_here_stops_in_every_spelling() {
        let head = outgoing(
            "POST /a HTTP/1.1\r\nHOST: public.example\r\nAuthorization: Bearer secret\r\nCookie: a=b\r\nDPoP: x\r\n\
             Proxy-Authorization: x\r\nProxy-Foo: x\r\nConnection: keep-alive, X-Named, Content-Type, Mcp-Name\r\n\
             X-Named: x\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nOrigin: https://o\r\n\
             x-mcp-auth-subject: forged\r\nX_MCP_Auth_Subject: forged\r\nX-MCP_AUTH-scopes: forged\r\n\
             X-Forwarded-For: forged\r\nForwarded: for=forged\r\nMcp-Session-Id: ours.mac\r\nAccept-Encoding: br\r\n\
             Content-Type: application/json\r\nMcp-Name: echo\r\nMcp-Param-X: 1\r\ntraceparent: 00\r\n\
             Content-Length: 2\r\n\r\n{}",
            None,
        );
        assert_eq!(
            head,
            "POST /mcp?x HTTP/1.1\r\nHost: server:8000\r\nContent-Type: application/json\r\nMcp-Name: echo\r\n\
             Mcp-Param-X: 1\r\ntraceparent: 00\r\nContent-Length: 2\r\nMcp-Session-Id: theirs\r\n\
             X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\n\r\n"
        );
    }

    #[test]
    fn the_server_is_told_who_asks_in_one_line_each() {
        let who = Principal {
            issuer: "https://issuer".into(),
            subject: "J\u{fc}rgen\r\nX: y".into(),
            client_id: Some("c 1".into()),
            scopes: ScopeSet::parse("b a"),
            expires: Timestamp(0),
        };
        let head = outgoing("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", Some(&who));
        for expected in [
            "Authorization: Bearer ours\r\n",
            "x-mcp-auth-issuer: https://issuer\r\n",
            "x-mcp-auth-subject: J%C3%BCrgen%0D%0AX:%20y\r\n",
            "x-mcp-auth-client-id: c%201\r\n",
            "x-mcp-auth-scopes: a b\r\n",
        ] {
            assert!(head.contains(expected), "{expected} in {head}");
        }
        assert!(!head.contains("Content-Length"));
    }

    #[test]
    fn an_answer_keeps_what_is_end_to_end() {
        let head = "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Type: text/event-stream\r\nContent-Type: text/html\r\n\
                    Connection: X-Named\r\nX-Named: x\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\
                    Access-Control-Allow-Origin: *\r\nWWW-Authenticate: Bearer\r\nMcp-Session-Id: theirs\r\n\
                    X-Other: 1\r\n\r\n";
        let (answer, _) = AnswerHead::read(head.as_bytes(), false).unwrap().unwrap();
        let grant = [(header::VARY, HeaderValue::fixed("Origin"))];
        let mut out = Vec::new();
        answer_head(&mut out, &answer, &Inbound { session: Some("ours"), grant: &grant });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Type: text/event-stream\r\nX-Other: 1\r\n\
             Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\nMcp-Session-Id: ours\r\nVary: Origin\r\n"
        );
    }
}
