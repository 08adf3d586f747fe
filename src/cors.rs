//! Whose pages may call us, and under which names (T-01 to T-04, PRM-08).
//!
//! A browser lets any page send requests to any address, and a name that its owner points at 127.0.0.1 makes a server
//! on this machine a page's "own" (DNS rebinding). So `Host` must be a name that we answer to, and `Origin`, where there
//! is one, must be our own or configured, before anything else is looked at. Programs that are not browsers send no
//! `Origin` and are judged by their token alone.
//!
//! What we grant goes on every answer to that request, errors included: without it a page cannot read the challenge
//! that tells it how to log in.

use std::fmt;
use std::net::SocketAddr;

use crate::config::Config;
use crate::edge::http1::Incoming;
use crate::header;
use crate::limits::PREFLIGHT_SECONDS_MAX;
use crate::reply::{HeaderValue, Reply};
use crate::route::Place;

/// What a page may read besides the body.
const EXPOSED: &str = "WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, Retry-After";

/// What a page may send; `Mcp-Param-*` and what is configured come on top.
const ALLOWED: [&str; 11] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::ACCEPT,
    header::MCP_PROTOCOL_VERSION,
    header::MCP_SESSION_ID,
    header::LAST_EVENT_ID,
    header::MCP_METHOD,
    header::MCP_NAME,
    "traceparent",
    "tracestate",
    "baggage",
];

/// A request from where none may come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Foreign {
    /// `Host` is a name that we do not answer to.
    Host,
    /// `Origin` is a page that was not allowed.
    Origin,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the host is not one of ours",
            Self::Origin => "the origin is not allowed",
        })
    }
}

/// What a page may do with the answer to one request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Grant {
    /// No page asked.
    #[default]
    None,
    /// Any page may read it.
    Anyone,
    /// This page may.
    Page {
        /// The origin, as it was sent.
        origin: HeaderValue,
        /// Whether cookies and the like may have come along.
        credentials: bool,
    },
}

impl Grant {
    /// The headers that every answer to this request carries, ours or relayed.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, HeaderValue)> {
        let exposed = (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::fixed(EXPOSED));
        match self {
            Self::None => Vec::new(),
            Self::Anyone => vec![(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::fixed("*")), exposed],
            Self::Page { origin, credentials } => {
                let mut headers = vec![
                    (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
                    (header::VARY, HeaderValue::fixed("Origin")),
                    exposed,
                ];
                if *credentials {
                    headers.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::fixed("true")));
                }
                headers
            }
        }
    }

    /// `reply` with [`Grant::headers`], unless it has a grant already.
    #[must_use]
    pub fn dress(&self, mut reply: Reply) -> Reply {
        if !reply.headers.iter().any(|(name, _)| *name == header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            reply.headers.extend(self.headers());
        }
        reply
    }
}

/// The rules, in the form in which they are compared.
#[derive(Debug)]
pub struct Cors {
    hosts: Vec<String>,
    origins: Vec<String>,
    any_origin: bool,
    credentials: bool,
    methods: Option<String>,
    headers: Vec<String>,
    any_header: bool,
}

impl Cors {
    /// The rules of `config` for a listener that is bound to `bound`.
    #[must_use]
    pub fn new(config: &Config, bound: SocketAddr) -> Self {
        let own = own_authorities(bound);
        let public = &config.public;
        let mut hosts = own.clone();
        hosts.push(public.authority.to_ascii_lowercase());
        if !has_port(&public.authority) {
            let port = if public.scheme == "https" { 443 } else { 80 };
            hosts.push(format!("{}:{port}", public.authority.to_ascii_lowercase()));
        }
        hosts.extend(config.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()));
        let given = config.cors.allowed_origins.iter().map(|origin| normal_origin(origin));
        let own = own.iter().map(|authority| normal_origin(&format!("http://{authority}")));
        let origins = given.chain(own).chain([normal_origin(&public.origin())]).collect();
        let any_origin = config.cors.allowed_origins.iter().any(|origin| origin == "*");
        let methods = &config.cors.allowed_methods;
        Self {
            hosts,
            origins,
            any_origin,
            // The Fetch standard has no "*" with credentials; the file that asks for both is refused when it is read.
            credentials: config.cors.allow_credentials && !any_origin,
            methods: (!methods.is_empty()).then(|| methods.join(", ")),
            headers: config.cors.allowed_headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            any_header: config.cors.allowed_headers.iter().any(|name| name == "*"),
        }
    }

    /// Whether the request was sent to a name of ours. HTTP/1.0 has requests without `Host`, and browsers do not send
    /// them.
    ///
    /// # Errors
    /// [`Foreign::Host`].
    pub fn check_host(&self, request: &Incoming) -> Result<(), Foreign> {
        let Some(host) = request.header(header::HOST) else { return Ok(()) };
        let ours = self.hosts.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(host));
        if ours { Ok(()) } else { Err(Foreign::Host) }
    }

    /// Judges host and origin, and says what the answer grants.
    ///
    /// # Errors
    /// A foreign host or origin, which is answered 403 without any grant.
    pub fn admit(&self, request: &Incoming) -> Result<Grant, Foreign> {
        self.check_host(request)?;
        let mut origins = request.headers_of(header::ORIGIN);
        let Some(origin) = origins.next() else { return Ok(Grant::None) };
        if origins.next().is_some() {
            return Err(Foreign::Origin);
        }
        if self.any_origin {
            return Ok(Grant::Anyone);
        }
        // "null", the origin of a sandboxed frame or a file, is allowed only where it is listed itself.
        match self.origins.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(origin)) {
            Some(_) => {
                let origin = HeaderValue::cleaned(String::from_utf8_lossy(origin));
                Ok(Grant::Page { origin, credentials: self.credentials })
            }
            None => Err(Foreign::Origin),
        }
    }

    /// The answer to OPTIONS (Fetch standard, "CORS-preflight request"; RFC 9110 section 9.3.7). It needs no token: a
    /// browser sends none. The grant itself is added as to every answer.
    #[must_use]
    pub fn preflight(&self, request: &Incoming, grant: &Grant, place: Place) -> Reply {
        let reply = Reply::new(204).header(header::ALLOW, HeaderValue::fixed(place.allow()));
        if *grant == Grant::None || request.header(header::ACCESS_CONTROL_REQUEST_METHOD).is_none() {
            return reply;
        }
        let methods = match (&self.methods, place) {
            (Some(methods), Place::Mcp(_)) => HeaderValue::cleaned(methods.clone()),
            _ => HeaderValue::fixed(place.allow()),
        };
        let asked = request.header_str(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
        let asked = asked.split(',').map(str::trim).filter(|name| self.allows_header(name));
        let allowed = asked.collect::<Vec<_>>().join(", ");
        let reply = reply
            .header(header::ACCESS_CONTROL_ALLOW_METHODS, methods)
            .header(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::cleaned(PREFLIGHT_SECONDS_MAX.to_string()))
            .header(header::VARY, HeaderValue::fixed("Access-Control-Request-Headers"));
        if allowed.is_empty() {
            return reply;
        }
        reply.header(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::cleaned(allowed))
    }

    fn allows_header(&self, name: &str) -> bool {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        self.any_header
            || ALLOWED.contains(&name.as_str())
            || name.starts_with(header::MCP_PARAM_PREFIX)
            || self.headers.contains(&name)
    }
}

/// What `Host` says when the listener is called by its address. One that listens on every address is called by loopback
/// names or by ones that are configured; we cannot know which addresses lead to us.
fn own_authorities(bound: SocketAddr) -> Vec<String> {
    let port = bound.port();
    let address = bound.ip().to_canonical();
    let mut names = Vec::new();
    if address.is_loopback() || address.is_unspecified() {
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
    }
    if !address.is_unspecified() {
        names.push(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() });
    }
    let bare = if port == 80 { names.clone() } else { Vec::new() };
    names.iter().map(|name| format!("{name}:{port}")).chain(bare).collect()
}

fn has_port(authority: &str) -> bool {
    authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'))
}

/// As browsers spell it: lower case, without the scheme's own port and without a slash at the end.
fn normal_origin(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let origin = origin.strip_suffix('/').unwrap_or(&origin);
    let port = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(port).unwrap_or(origin).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::{config, request};
    use crate::route::{Document, Endpoint};

    fn cors(change: impl FnOnce(&mut Config)) -> Cors {
        let mut config = config();
        change(&mut config);
        Cors::new(&config, SocketAddr::from(([127, 0, 0, 1], 8080)))
    }

    fn ask(cors: &Cors, host: &str, origin: Option<&str>) -> Result<Grant, Foreign> {
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        cors.admit(&request(&format!("GET /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n")))
    }

    /// T-04: the listener's own names and the public one, with its port or without.
    #[test]
    fn hosts() {
        let cors = cors(|config| config.allowed_hosts = vec!["proxy.internal:9000".to_owned()]);
        for (host, ours) in [
            ("h.example", true),
            ("H.Example", true),
            ("h.example:443", true),
            ("h.example:80", false),
            ("h.example.", false),
            ("localhost:8080", true),
            ("127.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("localhost", false),
            ("localhost:8081", false),
            ("127.0.0.2:8080", false),
            ("evil.example.com", false),
            ("evil.example.com:8080", false),
            ("h.example.evil.com", false),
            ("proxy.internal:9000", true),
            ("proxy.internal", false),
        ] {
            assert_eq!(ask(&cors, host, None).is_ok(), ours, "{host}");
        }
        assert_eq!(cors.check_host(&request("GET /mcp HTTP/1.0\r\n\r\n")), Ok(()));
        for (bound, host, ours) in [
            ("192.0.2.7:8080", "192.0.2.7:8080", true),
            ("192.0.2.7:8080", "localhost:8080", false),
            ("0.0.0.0:8080", "localhost:8080", true),
            ("[::]:80", "127.0.0.1", true),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080", true),
            ("[::ffff:127.0.0.1]:8080", "127.0.0.1:8080", true),
        ] {
            let cors = Cors::new(&config(), bound.parse().unwrap());
            assert_eq!(ask(&cors, host, None).is_ok(), ours, "{bound} {host}");
        }
    }

    /// T-01, T-02: foreign pages are refused, on loopback too; no origin is served.
    #[test]
    fn origins() {
        let some = cors(|config| {
            config.cors.allowed_origins =
                vec!["https://App.example:443/".to_owned(), "http://x:6274".to_owned()];
        });
        let any = cors(|config| config.cors.allowed_origins = vec!["*".to_owned()]);
        let null = cors(|config| config.cors.allowed_origins = vec!["null".to_owned()]);
        for (cors, origin, allowed) in [
            (&some, "https://app.example", true),
            (&some, "HTTPS://APP.EXAMPLE", true),
            (&some, "http://app.example", false),
            (&some, "https://app.example.evil", false),
            (&some, "https://app.example:444", false),
            (&some, "https://sub.app.example", false),
            (&some, "http://x:6274", true),
            (&some, "http://x", false),
            (&some, "https://h.example", true),
            (&some, "http://h.example", false),
            (&some, "http://127.0.0.1:8080", true),
            (&some, "http://localhost:8080", true),
            (&some, "http://localhost:3000", false),
            (&some, "https://localhost:8080", false),
            (&some, "null", false),
            (&some, "", false),
            (&some, "*", false),
            (&some, "https://app.example https://app.example", false),
            (&null, "null", true),
            (&any, "http://anything", true),
            (&any, "null", true),
        ] {
            assert_eq!(ask(cors, "h.example", Some(origin)).is_ok(), allowed, "{origin}");
        }
        assert_eq!(ask(&some, "h.example", None), Ok(Grant::None));
        let twice = "https://app.example\r\nOrigin: https://app.example";
        assert_eq!(ask(&some, "h.example", Some(twice)), Err(Foreign::Origin));
        assert_eq!(ask(&some, "evil", Some("https://app.example")), Err(Foreign::Host));
    }

    /// PRM-08: the origin itself and what it may read; `*` only without credentials.
    #[test]
    fn grants() {
        let shown = |grant: Grant| {
            let lines =
                grant.headers().into_iter().map(|(name, value)| format!("{name}: {}", value.as_str()));
            lines.collect::<Vec<_>>()
        };
        let exposed = format!("access-control-expose-headers: {EXPOSED}");
        let page = |credentials| {
            cors(|config| {
                config.cors.allowed_origins = vec!["https://app.example".to_owned()];
                config.cors.allow_credentials = credentials;
            })
        };
        let any = cors(|config| {
            config.cors.allowed_origins = vec!["*".to_owned()];
            config.cors.allow_credentials = true;
        });
        let origin = "access-control-allow-origin: https://app.example";
        let get = |cors: &Cors| shown(ask(cors, "h.example", Some("https://app.example")).unwrap());
        assert_eq!(get(&page(false)), [origin, "vary: Origin", &exposed]);
        assert_eq!(
            get(&page(true)),
            [origin, "vary: Origin", &exposed, "access-control-allow-credentials: true"]
        );
        assert_eq!(get(&any), ["access-control-allow-origin: *", &exposed]);
        assert_eq!(shown(Grant::None), Vec::<String>::new());
    }

    /// PRM-08: the requested headers filtered, never `*`, which would not cover `Authorization`.
    #[test]
    fn preflights() {
        let cors = cors(|config| {
            config.cors.allowed_methods = vec!["GET".to_owned(), "POST".to_owned()];
            config.cors.allowed_headers = vec!["X-Mine".to_owned()];
        });
        let ask = |grant: &Grant, place, asked: &str| {
            let head = format!(
                "OPTIONS /mcp HTTP/1.1\r\nHost: h\r\nAccess-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: {asked}\r\n\r\n"
            );
            let reply = cors.preflight(&request(&head), grant, place);
            let get = |name| {
                reply
                    .headers
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| value.as_str().to_owned())
            };
            let (methods, headers) =
                (get(header::ACCESS_CONTROL_ALLOW_METHODS), get(header::ACCESS_CONTROL_ALLOW_HEADERS));
            (reply.status, methods.unwrap_or_default(), headers.unwrap_or_default())
        };
        let mcp = Place::Mcp(Endpoint::StreamableHttp);
        let document = Place::ResourceMetadata(Document::Root);
        for (grant, place, asked, methods, headers) in [
            (Grant::Anyone, mcp, "authorization,content-type", "GET, POST", "authorization, content-type"),
            (Grant::Anyone, mcp, "Mcp-Param-City, x-mine", "GET, POST", "Mcp-Param-City, x-mine"),
            (Grant::Anyone, mcp, "cookie, x-forwarded-for, *, mcp-param-\u{e9}", "GET, POST", ""),
            (Grant::Anyone, document, "mcp-protocol-version", "GET, HEAD, OPTIONS", "mcp-protocol-version"),
            (Grant::None, mcp, "authorization", "", ""),
        ] {
            assert_eq!(ask(&grant, place, asked), (204, methods.to_owned(), headers.to_owned()), "{asked}");
        }
    }
}
