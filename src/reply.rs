//! An answer of our own, and the one place where a [`Refusal`] becomes status, headers and body.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use smol_str::SmolStr;

use crate::auth::scope::ScopeSet;
use crate::auth::{Denied, challenge};
use crate::cors::Foreign;
use crate::edge::http1::Fault;
use crate::header;
use crate::limits::{BUSY_RETRY_SECONDS, JWKS_COOLDOWN_SECONDS};
use crate::mcp::MessageFault;
use crate::route::Place;
use crate::spare;

/// The value of a header that we write. It cannot hold CR, LF, NUL or any other control character, so no value that
/// came from a peer can end a header line early (RFC 9110 section 5.5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeaderValue(Cow<'static, str>);

impl HeaderValue {
    /// A value known when the program is compiled.
    #[must_use]
    pub const fn fixed(value: &'static str) -> Self {
        Self(Cow::Borrowed(value))
    }

    /// `value` with every byte that may not stand in a header replaced by a space.
    #[must_use]
    pub fn cleaned(value: impl Into<String>) -> Self {
        let value: String = value.into();
        // All of it is looked at, so that many bytes are looked at at once.
        if value.bytes().fold(true, |all, b| all & (0x20..0x7f).contains(&b)) {
            return Self(Cow::Owned(value));
        }
        Self(Cow::Owned(value.chars().map(|c| if (' '..='~').contains(&c) { c } else { ' ' }).collect()))
    }

    /// A value whose bytes have been looked at already, each of them visible ASCII or a space.
    pub(crate) fn visible(value: String) -> Self {
        debug_assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)), "it has been looked at");
        Self(Cow::Owned(value))
    }

    /// The text as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A whole answer: status, headers and a body that is already in memory.
///
/// `Content-Length`, `Connection` and `Date` are the engine's to write; they are not put in here.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code, 200 to 599.
    pub status: u16,
    /// Header names in lower case, in the order they are sent.
    pub headers: Vec<(&'static str, HeaderValue)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer without a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let mut headers = HEADERS.take();
        headers.reserve(HEADERS_USUAL);
        Self { status, headers, body: Vec::new() }
    }

    /// Gives its memory to the next answers of this thread.
    pub(crate) fn spare(mut self) {
        spare::put_bytes(self.body);
        for (_, value) in self.headers.drain(..) {
            if let Cow::Owned(text) = value.0 {
                spare::put_bytes(text.into_bytes());
            }
        }
        HEADERS.set(self.headers);
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status)
            .header(crate::header::CONTENT_TYPE, HeaderValue::fixed("application/json"))
            .body(body)
    }

    /// 302: a browser goes on at `location` (RFC 6749 section 1.7). Nothing on the way keeps it or tells where it was.
    #[must_use]
    pub fn found(location: String) -> Self {
        Self::new(302)
            .header(header::LOCATION, HeaderValue::cleaned(location))
            .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
            .header(header::REFERRER_POLICY, HeaderValue::fixed("no-referrer"))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// Headers of most answers of ours.
const HEADERS_USUAL: usize = 8;

thread_local! {
    static HEADERS: Cell<Vec<(&'static str, HeaderValue)>> = const { Cell::new(Vec::new()) };
}

/// Why a request was not relayed, sorted by whose move is next.
#[derive(Debug)]
pub enum Refusal<'a> {
    /// 403: a page or a name that may not call us. Nobody's move.
    Foreign(Foreign),
    /// 404: the client must call another path.
    NotFound,
    /// 405: the client must use another method.
    MethodNotAllowed(Place),
    /// 400 to 505: the client must send another request.
    Client(ClientFault),
    /// 400: the client must send another message.
    Message(MessageFault),
    /// 400, 401, 403: the client needs a token, or a stronger one.
    Denied {
        /// What is wrong with the one it has.
        denied: Denied,
        /// Where it finds out who issues them.
        metadata: &'a str,
        /// What it should ask for, where `denied` does not say.
        scopes: Cow<'a, ScopeSet>,
    },
    /// 404: a session that is not this caller's, or that nobody knows; the client must begin anew (D6, SH-13).
    UnknownSession {
        /// The id of the request, as it was written.
        id: Option<SmolStr>,
    },
    /// 400: a message that does not fit its session (requirements SH-01, SH-12, SH-16).
    Session {
        /// Why.
        fault: SessionFault,
        /// The id of the request, as it was written.
        id: Option<SmolStr>,
    },
    /// 503: no key has ever been fetched; the operator must look at the identity provider (D8).
    KeysUnavailable,
    /// 502, 504: the operator must look at the MCP server.
    Upstream {
        /// What it did.
        fault: UpstreamFault,
        /// The id of the request, as it was written.
        id: Option<SmolStr>,
    },
    /// 400 to 504: a login that goes no further.
    Login(LoginFault),
    /// 429: this address has sent too many tokens that do not hold; the client must come back later.
    TooManyFailures {
        /// After so many seconds.
        seconds: u32,
    },
    /// 429: this principal holds as many event streams as one may; it must end one first.
    TooManyStreams {
        /// The id of the request, as it was written.
        id: Option<SmolStr>,
    },
    /// 503: anyone may try again soon.
    Busy {
        /// The id of the request, as it was written.
        id: Option<SmolStr>,
    },
}

/// A request that cannot be judged, as its sender made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientFault {
    /// The engine could not read it.
    Unreadable(Fault),
    /// This header, in lower case, stands there twice, or in a spelling that some servers take for it (T-10).
    Repeated(Box<str>),
    /// 415: `Content-Type` is not JSON in UTF-8.
    ContentType,
    /// 415: the body is encoded, so that we would judge other bytes than the MCP server.
    ContentEncoding,
    /// 400: GET and DELETE have no body here, since nobody would judge it.
    UnexpectedBody,
}

impl ClientFault {
    fn status(&self) -> u16 {
        match self {
            Self::Unreadable(fault) => fault.status(),
            Self::Repeated(_) | Self::UnexpectedBody => 400,
            Self::ContentType | Self::ContentEncoding => 415,
        }
    }
}

impl fmt::Display for ClientFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(fault) => write!(f, "{fault}"),
            Self::Repeated(name) => write!(f, "the header {name} is not unique"),
            Self::ContentType => f.write_str("the content type must be application/json in UTF-8"),
            Self::ContentEncoding => f.write_str("the body must not have a content encoding"),
            Self::UnexpectedBody => f.write_str("a request with this method has no body"),
        }
    }
}

/// Why a message does not fit its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionFault {
    /// No `Mcp-Session-Id`, and no `initialize` either (SH-12).
    Missing,
    /// `MCP-Protocol-Version` is not the version that was agreed on (SH-16).
    Version,
    /// `initialize` in a session that has been initialized.
    AlreadyInitialized,
    /// An array of messages under a revision without batches (SH-01).
    NoBatches,
    /// The id of a request that still waits for its answer.
    IdInUse,
    /// A message that cannot be led.
    Unreadable,
}

impl fmt::Display for SessionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "Mcp-Session-Id is missing; a session begins with initialize",
            Self::Version => "MCP-Protocol-Version is not the version of this session",
            Self::AlreadyInitialized => "this session has been initialized",
            Self::NoBatches => "the protocol version of this session has no batches",
            Self::IdInUse => "a request with this id still waits for its answer",
            Self::Unreadable => "a message of this form cannot be led in a session",
        })
    }
}

/// Why a login goes no further, in OAuth's words (RFC 6749 sections 4.1.2.1 and 5.2, RFC 7591 section 3.2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginFault {
    /// 400: the request is not one.
    Request(&'static str),
    /// 400: a token for somebody else than us is asked for (RFC 8707 section 2).
    Target,
    /// 400: a redirect URI cannot be had.
    RedirectUri(&'static str),
    /// 400: a client cannot be as it wants to.
    ClientMetadata(&'static str),
    /// 404: clients cannot register.
    NoRegistration,
    /// 411: the length of the body is not said beforehand.
    NoLength,
    /// 413: the body is too large.
    TooLarge,
    /// 415: the body is of another type.
    ContentType(&'static str),
    /// 429: too many requests of one address; again after so many seconds.
    TooMany(u32),
    /// 502: the operator must look at the identity provider.
    Provider,
    /// 503: too many logins at once.
    Busy,
    /// 504: the identity provider did not answer in time.
    TimedOut,
}

impl LoginFault {
    fn status(self) -> u16 {
        match self {
            Self::Request(_) | Self::Target | Self::RedirectUri(_) | Self::ClientMetadata(_) => 400,
            Self::NoRegistration => 404,
            Self::NoLength => 411,
            Self::TooLarge => 413,
            Self::ContentType(_) => 415,
            Self::TooMany(_) => 429,
            Self::Provider => 502,
            Self::Busy => 503,
            Self::TimedOut => 504,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::RedirectUri(_) => "invalid_redirect_uri",
            Self::ClientMetadata(_) => "invalid_client_metadata",
            Self::Target => "invalid_target",
            Self::Provider => "server_error",
            Self::TooMany(_) | Self::Busy | Self::TimedOut => "temporarily_unavailable",
            _ => "invalid_request",
        }
    }

    /// The answer, before any grant to a page.
    #[must_use]
    pub fn reply(self) -> Reply {
        let (code, words) = (self.code(), serde_json::Value::from(self.to_string()));
        let body = format!(r#"{{"error":"{code}","error_description":{words}}}"#);
        let reply = Reply::json(self.status(), body)
            .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
            .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::fixed("nosniff"));
        match self {
            Self::ContentType(wanted) => reply.header(header::ACCEPT, HeaderValue::fixed(wanted)),
            Self::TooMany(seconds) => {
                reply.header(header::RETRY_AFTER, HeaderValue::cleaned(seconds.to_string()))
            }
            Self::Busy | Self::TimedOut => {
                reply.header(header::RETRY_AFTER, HeaderValue::cleaned(BUSY_RETRY_SECONDS.to_string()))
            }
            _ => reply,
        }
    }
}

impl fmt::Display for LoginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request(words) | Self::RedirectUri(words) | Self::ClientMetadata(words) => words,
            Self::Target => "resource is not what this server protects",
            Self::NoRegistration => "clients cannot register here; use a client_id of the identity provider",
            Self::NoLength => "the body needs a content-length",
            Self::TooLarge => "the body is too large",
            Self::ContentType(_) => "the body has another content type",
            Self::TooMany(_) => "too many requests from this address",
            Self::Provider => "the identity provider gave no good answer",
            Self::Busy => "too many logins at once",
            Self::TimedOut => "the identity provider did not answer in time",
        })
    }
}

/// What the MCP server did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UpstreamFault {
    /// 502: no connection, or one that ended before the answer began.
    Unreachable,
    /// 504: no answer within `timeout_seconds`.
    TimedOut,
    /// 502: an answer that is not HTTP as we read it.
    BadAnswer,
}

impl fmt::Display for UpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "the MCP server cannot be reached",
            Self::TimedOut => "the MCP server did not answer in time",
            Self::BadAnswer => "the MCP server sent an answer that is not HTTP",
        })
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(foreign) => write!(f, "{foreign}"),
            Self::NotFound => f.write_str("no such path"),
            Self::MethodNotAllowed(place) => write!(f, "the methods here are {}", place.allow()),
            Self::Client(fault) => write!(f, "{fault}"),
            Self::Message(fault) => write!(f, "{fault}"),
            Self::Denied { denied, .. } => write!(f, "{denied}"),
            Self::UnknownSession { .. } => f.write_str("no such session"),
            Self::Session { fault, .. } => write!(f, "{fault}"),
            Self::Login(fault) => fault.fmt(f),
            Self::KeysUnavailable => f.write_str("tokens cannot be verified at the moment"),
            Self::Upstream { fault, .. } => write!(f, "{fault}"),
            Self::TooManyFailures { .. } => f.write_str("too many tokens from this address did not hold"),
            Self::TooManyStreams { .. } => f.write_str("too many event streams are open for this user"),
            Self::Busy { .. } => f.write_str("too many requests at once"),
        }
    }
}

/// `Server error` of JSON-RPC 2.0 section 5.1, where its meaning lies in the HTTP status. It is no error of a modern
/// server, so a client does not take it for one (section 1.3 of MCP 2026-07-28's errors lists those).
const SERVER_ERROR: i32 = -32000;
/// What the official servers say about a session that they do not know.
const SESSION_NOT_FOUND: i32 = -32001;
/// `Invalid Request` of JSON-RPC 2.0 section 5.1.
const INVALID_REQUEST: i32 = -32600;
/// `Internal error` of JSON-RPC 2.0 section 5.1.
const INTERNAL_ERROR: i32 = -32603;

impl Refusal<'_> {
    /// The answer, before any grant to a page: status, headers and body of every refusal are made here.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let (status, body) = match self {
            Self::Login(fault) => return fault.reply(),
            Self::Denied { denied, .. } => (denied_status(denied), challenge::body(denied)),
            Self::Foreign(_) => (403, self.rpc_error(SERVER_ERROR, None)),
            Self::NotFound => (404, self.rpc_error(SERVER_ERROR, None)),
            Self::MethodNotAllowed(_) => (405, self.rpc_error(SERVER_ERROR, None)),
            Self::Client(fault) => (fault.status(), self.rpc_error(SERVER_ERROR, None)),
            Self::Message(fault) => (400, self.rpc_error(fault.reason.code(), fault.id.as_deref())),
            Self::UnknownSession { id } => (404, self.rpc_error(SESSION_NOT_FOUND, id.as_deref())),
            Self::Session { fault: SessionFault::Missing | SessionFault::Version, id } => {
                (400, self.rpc_error(SERVER_ERROR, id.as_deref()))
            }
            Self::Session { id, .. } => (400, self.rpc_error(INVALID_REQUEST, id.as_deref())),
            Self::KeysUnavailable => (503, self.rpc_error(INTERNAL_ERROR, None)),
            Self::Upstream { fault: UpstreamFault::TimedOut, id } => {
                (504, self.rpc_error(INTERNAL_ERROR, id.as_deref()))
            }
            Self::Upstream { id, .. } => (502, self.rpc_error(INTERNAL_ERROR, id.as_deref())),
            Self::TooManyFailures { .. } => (429, self.rpc_error(SERVER_ERROR, None)),
            Self::TooManyStreams { id } => (429, self.rpc_error(SERVER_ERROR, id.as_deref())),
            Self::Busy { id } => (503, self.rpc_error(INTERNAL_ERROR, id.as_deref())),
        };
        let reply = Reply::json(status, body)
            .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
            .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::fixed("nosniff"));
        let seconds = |seconds: String| HeaderValue::cleaned(seconds);
        match self {
            Self::Denied { denied, metadata, scopes } => {
                let scopes = if let Denied::TooNarrow { needed } = denied { needed } else { scopes };
                reply.header(header::WWW_AUTHENTICATE, challenge::value(denied, metadata, scopes))
            }
            Self::MethodNotAllowed(place) => reply.header(header::ALLOW, HeaderValue::fixed(place.allow())),
            // RFC 9110 section 15.5.16: a 415 says what would have been taken.
            Self::Client(ClientFault::ContentEncoding) => {
                reply.header(header::ACCEPT_ENCODING, HeaderValue::fixed("identity"))
            }
            Self::Client(ClientFault::ContentType) => {
                reply.header(header::ACCEPT, HeaderValue::fixed("application/json"))
            }
            Self::KeysUnavailable => {
                reply.header(header::RETRY_AFTER, seconds(JWKS_COOLDOWN_SECONDS.to_string()))
            }
            Self::TooManyFailures { seconds: after } => {
                reply.header(header::RETRY_AFTER, seconds(after.to_string()))
            }
            Self::Busy { .. }
            | Self::TooManyStreams { .. }
            | Self::Client(ClientFault::Unreadable(Fault::Busy)) => {
                reply.header(header::RETRY_AFTER, seconds(BUSY_RETRY_SECONDS.to_string()))
            }
            _ => reply,
        }
    }

    fn rpc_error(&self, code: i32, id: Option<&str>) -> Vec<u8> {
        rpc_error(code, &self.to_string(), id).into_bytes()
    }
}

/// A JSON-RPC answer of the modern era, `body`, whose error has `code` if it is one. Those that say that the request
/// itself was wrong decide the status; all others travel under 200 (M-04, M-05, M-18).
#[must_use]
pub fn modern(body: Vec<u8>, code: Option<i64>) -> Reply {
    let status = match code {
        Some(-32601) => 404,
        Some(-32022..=-32020) => 400,
        _ => 200,
    };
    Reply::json(status, body)
        .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
        .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::fixed("nosniff"))
}

/// A JSON-RPC error. Without an id the member is left out, as MCP does, rather than null, which its clients refuse.
#[must_use]
pub fn rpc_error(code: i32, message: &str, id: Option<&str>) -> String {
    let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
    let message = serde_json::Value::from(message);
    format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":{message}}}}}"#)
}

/// RFC 6750 section 3.1.
fn denied_status(denied: &Denied) -> u16 {
    match denied {
        Denied::Malformed(_) => 400,
        Denied::NoToken | Denied::BadToken(_) => 401,
        Denied::TooNarrow { .. } => 403,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::Reason;
    use crate::route::Endpoint;

    /// D7, D8, T-02, SH-13: status, JSON-RPC code and the header that tells the client what to do.
    #[test]
    fn each_refusal_has_its_status_code_and_header() {
        let id = || Some("\"a\"".into());
        let fault = |reason| Refusal::Message(MessageFault { reason, id: id() });
        let unreadable = |fault| Refusal::Client(ClientFault::Unreadable(fault));
        let upstream = |fault| Refusal::Upstream { fault, id: id() };
        for (refusal, status, code, with_id, extra) in [
            (Refusal::Foreign(Foreign::Host), 403, -32000, false, None),
            (Refusal::Foreign(Foreign::Origin), 403, -32000, false, None),
            (Refusal::NotFound, 404, -32000, false, None),
            (
                Refusal::MethodNotAllowed(Place::Mcp(Endpoint::Sse)),
                405,
                -32000,
                false,
                Some("allow: GET, OPTIONS"),
            ),
            (unreadable(Fault::TooSlow), 408, -32000, false, None),
            (unreadable(Fault::BodyTooLarge), 413, -32000, false, None),
            (unreadable(Fault::Busy), 503, -32000, false, Some("retry-after: 2")),
            (Refusal::Client(ClientFault::Repeated("mcp-name".into())), 400, -32000, false, None),
            (Refusal::Client(ClientFault::UnexpectedBody), 400, -32000, false, None),
            (Refusal::Client(ClientFault::ContentType), 415, -32000, false, Some("accept: application/json")),
            (
                Refusal::Client(ClientFault::ContentEncoding),
                415,
                -32000,
                false,
                Some("accept-encoding: identity"),
            ),
            (fault(Reason::VersionDiffers), 400, -32020, true, None),
            (fault(Reason::ClaimMissing), 400, -32602, true, None),
            (fault(Reason::NameLookalike("method")), 400, -32600, true, None),
            (Refusal::UnknownSession { id: id() }, 404, -32001, true, None),
            (Refusal::Session { fault: SessionFault::Missing, id: id() }, 400, -32000, true, None),
            (Refusal::Session { fault: SessionFault::IdInUse, id: id() }, 400, -32600, true, None),
            (Refusal::KeysUnavailable, 503, -32603, false, Some("retry-after: 10")),
            (upstream(UpstreamFault::Unreachable), 502, -32603, true, None),
            (upstream(UpstreamFault::BadAnswer), 502, -32603, true, None),
            (upstream(UpstreamFault::TimedOut), 504, -32603, true, None),
            (Refusal::TooManyFailures { seconds: 15 }, 429, -32000, false, Some("retry-after: 15")),
            (Refusal::TooManyStreams { id: id() }, 429, -32000, true, Some("retry-after: 2")),
            (Refusal::Busy { id: id() }, 503, -32603, true, Some("retry-after: 2")),
        ] {
            let reply = refusal.reply();
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!((reply.status, &body["error"]["code"]), (status, &code.into()), "{refusal:?}");
            assert_eq!(body.get("id"), with_id.then_some(&"a".into()), "{refusal:?}");
            let lines: Vec<_> =
                reply.headers.iter().map(|(name, value)| format!("{name}: {}", value.as_str())).collect();
            for always in [
                "content-type: application/json",
                "cache-control: no-store",
                "x-content-type-options: nosniff",
            ] {
                assert_eq!(lines.iter().filter(|line| *line == always).count(), 1, "{lines:?}");
            }
            assert_eq!(lines.len(), 3 + usize::from(extra.is_some()), "{lines:?}");
            assert!(extra.is_none_or(|extra| lines.iter().any(|line| line == extra)), "{lines:?}");
        }
    }

    /// RS-03, RS-04, RS-05, RS-08: an OAuth error object, and a challenge with the metadata and the scopes.
    #[test]
    fn a_denial_is_an_oauth_error_with_a_challenge() {
        let (minimal, needed) = (ScopeSet::parse("basic"), ScopeSet::parse("a b"));
        let metadata = "https://h.example/.well-known/oauth-protected-resource/mcp";
        for (denied, status, scopes) in
            [(Denied::NoToken, 401, "scope=\"basic\""), (Denied::TooNarrow { needed }, 403, "scope=\"a b\"")]
        {
            let reply = Refusal::Denied { denied, metadata, scopes: Cow::Borrowed(&minimal) }.reply();
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            let challenge = reply.headers.iter().find(|(name, _)| *name == header::WWW_AUTHENTICATE).unwrap();
            assert_eq!(reply.status, status);
            assert!(
                challenge.1.as_str().contains(metadata) && challenge.1.as_str().contains(scopes),
                "{challenge:?}"
            );
            assert!(body["error"].is_string() && body.get("jsonrpc").is_none(), "{body}");
            assert!(
                reply
                    .headers
                    .iter()
                    .any(|(name, value)| *name == header::CACHE_CONTROL && value.as_str() == "no-store")
            );
        }
    }
}
