//! What the program relies on: configuration that has been checked, each value in a type of its own.
//!
//! ```text
//! text ─ tree.rs ─▶ Node ─ section.rs, file.rs ─▶ File ─ resolve.rs, trust.rs, scopes.rs ─▶ Config
//!                             what was written               what it means
//!                    └────────────── problem.rs: every Problem and Note ──────────────┘
//! ```
//!
//! [`file::File`] is the shape of `config.yaml`, word for word; turning it into a [`Config`] is the only place where
//! configuration can be wrong, and it reports everything that is wrong at once. `load.rs` walks that line.

pub mod command;
pub mod file;
pub mod login;
pub mod tree;
mod algorithm;
mod claims;
mod issuers;
mod load;
mod problem;
mod resolve;
mod scopes;
mod section;
mod stdio;
mod trust;
mod url;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::scope::{Scope, ScopeSet};
use crate::client::Network;
use crate::log;
use crate::secret::Secret;

pub use algorithm::{Algorithm, Allowed};
pub use claims::{ClaimNames, SHAPES, Shape};
pub use command::{CommandLine, Share, Stdio};
pub use load::{Outside, Overrides};
pub use problem::{LoadError, Note, NoteKind, Problem};
pub use section::Placed;

/// Everything that the program was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where we listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The URL by which clients reach us, scheme, authority and path prefix. Never taken from a request.
    pub public: PublicUrl,
    /// The paths that are served. The MCP server is reached on the same paths below its base.
    pub paths: Paths,
    /// The MCP server.
    pub upstream: Upstream,
    /// What RFC 9728 metadata says.
    pub resource: Resource,
    /// Who may issue tokens for us. At least one.
    pub issuers: Vec<Issuer>,
    /// The login relay, where it is on.
    pub login: Option<login::Login>,
    /// Which calls need which scopes.
    pub scopes: ScopeRules,
    /// Which browsers' pages may call us.
    pub cors: Cors,
    /// Authorities accepted in `Host` besides those of [`Config::public`] and the listener, lower case, `host[:port]`.
    pub allowed_hosts: Vec<String>,
    /// Proxies in front of us whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether an event stream goes on when the token that opened it has expired.
    pub streams_outlive_token: bool,
    /// Clock skew that is forgiven, in seconds.
    pub leeway_seconds: i64,
    /// How tokens of `typ` other than `at+jwt` are judged.
    pub token_type: TokenTypePolicy,
    /// Claims that must be present and equal, beyond the standard ones: `(name, accepted values)`.
    pub required_claims: Vec<(String, Vec<String>)>,
    /// Compatibility with the original's table of checks (decision D4).
    pub mcp_2025_03_26: Mcp20250326,
    /// Whether the verified identity is told to the MCP server in headers of ours.
    pub identity_headers: bool,
    /// Key for session ids; made at start when absent. Needed by replicas behind one address.
    pub session_key: Option<Secret>,
    /// Further trust roots for outgoing TLS, PEM.
    pub ca_file: Option<PathBuf>,
    /// Bounds that an operator may move.
    pub limits: Limits,
    /// How much is logged.
    pub log_level: log::Level,
    /// How a log line looks.
    pub log_format: log::Format,
}

/// `scheme://authority[/prefix]`, scheme and host in lower case, without a trailing slash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicUrl {
    /// `http` or `https`.
    pub scheme: String,
    /// `host` or `host:port`, as it stands in `Host`; a default port is left out.
    pub authority: String,
    /// Empty, or a path that begins with `/` and does not end with one.
    pub prefix: String,
}

impl PublicUrl {
    /// `scheme://authority`, as `Origin` spells it.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// The URL of `path` (which begins with `/`) below the prefix.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}://{}{}{}", self.scheme, self.authority, self.prefix, path)
    }
}

/// The endpoints, each a literal path that begins with `/`. They exclude [`PublicUrl::prefix`]: a reverse proxy in
/// front is expected to take it off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Paths {
    /// Streamable HTTP.
    pub streamable_http: String,
    /// HTTP+SSE: the event stream.
    pub sse: String,
    /// HTTP+SSE: where messages are posted. It stands for itself and, when it ends in `/`, for itself without it.
    pub messages: String,
}

/// The MCP server behind us.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// Over HTTP.
    Http {
        /// Where it is.
        base: BaseUrl,
        /// Connecting and waiting for the first byte of an answer take no longer than this.
        first_byte_timeout: Duration,
        /// Our own credential for it, sent as `Authorization`.
        authorization: Option<Secret>,
    },
    /// A subprocess.
    Stdio(Box<Stdio>),
}

/// An `http://` or `https://` URL without query and fragment, or `unix:/path/of.sock` with a path below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BaseUrl {
    /// Whether it is `https`.
    pub tls: bool,
    /// The host: a name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port, explicit or of the scheme.
    pub port: u16,
    /// Empty, or a path that begins with `/` and does not end with one.
    pub prefix: String,
    /// The socket in the file system that stands for host and port, which then only fill in `Host`.
    pub socket: Option<PathBuf>,
}

impl BaseUrl {
    /// As it is shown to people: where the MCP server is.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.socket {
            Some(path) => format!("unix:{}", path.display()),
            None => self.authority(),
        }
    }

    /// `host[:port]` as `Host` spells it, the default port left out, IPv6 in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// RFC 9728 section 2.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Configured `resource_identifier`, when it differs from the URL of the Streamable HTTP endpoint.
    pub identifier: String,
    /// Issuer identifiers, exactly as their own metadata spells them.
    pub authorization_servers: Vec<String>,
    /// The minimal set, `offline_access` taken out.
    pub scopes_supported: ScopeSet,
    /// `["header"]`, in all likelihood.
    pub bearer_methods_supported: Vec<String>,
    /// `jwks_uri` of the resource itself, when the operator wrote one to be published.
    pub jwks_uri: Option<String>,
    /// Further members (`resource_name`, `resource_documentation`, language-tagged variants …), as JSON text.
    pub extra: Vec<(String, serde_json::Value)>,
}

/// Somebody who signs tokens for us.
#[derive(Clone, Debug, Default)]
pub struct Issuer {
    /// The exact value of `iss`.
    pub issuer: String,
    /// Where its metadata is; looked for in the places of RFC 8414 and OpenID discovery when absent.
    pub metadata_url: Option<String>,
    /// Where its keys are; found by discovery when absent.
    pub jwks_uri: Option<String>,
    /// Values of its audience claim that mean us. At least one.
    pub audiences: Vec<String>,
    /// Algorithms its tokens may use.
    pub algorithms: Allowed,
    /// Where things stand in its tokens.
    pub claims: ClaimNames,
    /// Claims that its tokens must have, each with the values that are accepted.
    pub required_claims: Vec<(String, Vec<String>)>,
    /// How it is asked about opaque tokens, if it can be.
    pub introspection: Option<Introspection>,
    /// Where the configuration says so.
    pub written: Written,
}

/// How an issuer is asked about opaque tokens (RFC 7662).
#[derive(Clone, Debug)]
pub struct Introspection {
    /// Where; found by discovery when absent.
    pub endpoint: Option<String>,
    /// As whom.
    pub client_id: String,
    /// With what secret.
    pub client_secret: Secret,
    /// How the secret is sent.
    pub method: ClientAuth,
    /// How long an answer is remembered at most, in seconds.
    pub cache_seconds: i64,
}

/// How a client shows that it is the client (RFC 6749 section 2.3.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ClientAuth {
    /// `client_secret_basic`: in the `Authorization` field.
    #[default]
    Basic,
    /// `client_secret_post`: in the form.
    Post,
}

/// Which keys of the configuration say who is trusted, each with its line, for messages about tokens that are not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// Who issues.
    pub issuer: Box<str>,
    /// For whom.
    pub audience: Box<str>,
}

impl Default for Written {
    fn default() -> Self {
        Self { issuer: "issuer".into(), audience: "audience".into() }
    }
}

/// How `typ` in a token's header is judged (RFC 9068 section 4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TokenTypePolicy {
    /// `at+jwt` and `application/at+jwt` alone.
    Strict,
    /// These, `JWT` and none at all; other known types are refused.
    #[default]
    Compatible,
}

/// What a request without 2025-06-18's rules is held to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mcp20250326 {
    /// Everything, as every other revision.
    #[default]
    Strict,
    /// The original's behaviour: signature and time alone, when `MCP-Protocol-Version: 2025-03-26` is sent.
    SignatureOnly,
}

/// `cors.*` of the file.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Exact origins, or `*` alone.
    pub allowed_origins: Vec<String>,
    /// Methods granted in a preflight.
    pub allowed_methods: Vec<String>,
    /// Headers granted in a preflight, besides those that MCP needs.
    pub allowed_headers: Vec<String>,
    /// Whether cookies and the like may come along; never together with `*`.
    pub allow_credentials: bool,
}

/// What a call needs. Rules are looked up from the most to the least specific, and all that match count together.
#[derive(Clone, Debug, Default)]
pub struct ScopeRules {
    /// Scopes that every call needs.
    pub always: ScopeSet,
    /// `(pattern, item, needed)`.
    pub rules: Vec<ScopeRule>,
    /// `(broader, narrower)`: whoever holds the first holds the second (RS-10). Transitive.
    pub implies: Vec<(Scope, Scope)>,
}

/// One line of the scope rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScopeRule {
    /// Which calls it is about.
    pub subject: RuleSubject,
    /// The scopes that such a call needs, all of them.
    pub needed: ScopeSet,
}

/// Which calls a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RuleSubject {
    /// One JSON-RPC method, such as `tools/call`.
    Method(String),
    /// All methods that begin with this and a slash: `tools`, `resources`, `prompts`.
    Family(String),
    /// One method with one `params.name` (tools, prompts) or `params.uri` (resources).
    Item {
        /// The method, such as `tools/call`.
        method: String,
        /// The name or URI, compared exactly.
        item: String,
    },
    /// Requests on one HTTP path, such as `/message`.
    Path(String),
}

/// `limits.*` of the file; each default stands in [`crate::limits`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest JSON-RPC message, in bytes.
    pub message_bytes: usize,
    /// Connections in all; `None` derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Connections of one address; `None` is no limit for loopback and half of all for others.
    pub connections_per_address: Option<usize>,
    /// Open event streams.
    pub streams: usize,
    /// Open event streams of one principal; `None` is three quarters of all.
    pub streams_per_principal: Option<usize>,
    /// Tokens that do not hold, from one address in a minute, before it is answered 429; 0 is no limit.
    pub auth_failures_per_minute: u32,
    /// Worker threads; `None` derives it from the processors.
    pub workers: Option<usize>,
    /// A whole request head, from first byte to last.
    pub head_time: Duration,
    /// The fixed part of the time for a body.
    pub body_time: Duration,
    /// A kept-alive connection without a request.
    pub idle_time: Duration,
    /// A client that takes nothing.
    pub write_time: Duration,
    /// A stream on which nothing moves in either direction; `None` is for ever.
    pub stream_idle_time: Option<Duration>,
    /// From SIGTERM to the end.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        use crate::limits as l;
        Self {
            message_bytes: l::MESSAGE_BYTES_MAX,
            connections: None,
            connections_per_address: None,
            streams: l::STREAMS_MAX,
            streams_per_principal: None,
            auth_failures_per_minute: l::AUTH_FAILURES_PER_MINUTE,
            workers: None,
            head_time: l::HEAD_TIME_MAX,
            body_time: l::BODY_TIME_MAX,
            idle_time: l::IDLE_TIME_MAX,
            write_time: l::WRITE_TIME_MAX,
            stream_idle_time: None,
            drain_time: l::DRAIN_TIME_MAX,
        }
    }
}
