//! What the tests share: an issuer, an MCP server and the proxy between them, each on 127.0.0.1:0.

pub mod idp;
pub mod issuer;
pub mod program;
pub mod raw;
pub mod server;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::auth::scope::{Scope, ScopeSet};
use open_mcp_auth_proxy::clock::{Clock, Timestamp};
use open_mcp_auth_proxy::config::{
    BaseUrl, Config, Cors, Issuer as TrustedIssuer, Limits, Mcp20250326, Paths, PublicUrl, Resource,
    RuleSubject, ScopeRule, ScopeRules, TokenTypePolicy, Upstream,
};
use open_mcp_auth_proxy::log::{self, Level, Log};
use open_mcp_auth_proxy::proxy::Proxy;
use open_mcp_auth_proxy::stdio::Bridge;

use issuer::{Issuer, Token};
use raw::{Raw, RawAnswer};
use server::McpServer;

/// The identifier of the protected resource, and so the audience of good tokens.
pub const RESOURCE: &str = "https://proxy.example/mcp";
/// When the tests happen.
pub const NOW: Timestamp = Timestamp(1_790_000_000);

/// Everything, running.
pub struct World {
    pub issuer: Issuer,
    pub server: McpServer,
    pub clock: Clock,
    pub log: Log,
    proxy: Option<Proxy>,
    addr: SocketAddr,
}

impl World {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// With a configuration changed by the test.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::built(Issuer::start(), McpServer::start(), change)
    }

    pub fn built(issuer: Issuer, server: McpServer, change: impl FnOnce(&mut Config)) -> Self {
        let clock = Clock::fixed(NOW);
        let log = Log::to_memory(Level::Debug);
        let mut config = config(&issuer, server.addr);
        change(&mut config);
        let proxy = Proxy::start(config, clock.clone(), log.clone()).expect("the proxy starts");
        let addr = proxy.addr();
        Self { issuer, server, clock, log, proxy: Some(proxy), addr }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The bridge, where the MCP server is a program.
    pub fn bridge(&self) -> &Bridge {
        self.proxy.as_ref().and_then(Proxy::bridge).expect("the MCP server is a program")
    }

    /// A good token without scopes.
    pub fn token(&self) -> Token {
        Token::new(&self.issuer.url, RESOURCE, self.clock.now().0)
    }

    pub fn raw(&self) -> Raw {
        Raw::connect(self.addr)
    }

    /// Sends a request head and body on a connection of its own and reads the answer.
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> RawAnswer {
        self.raw().send(request(method, target, headers, body)).answer().expect("an answer")
    }

    /// POST of a JSON-RPC message to the MCP endpoint, with a token or none.
    pub fn post(&self, token: Option<&Token>, body: &str) -> RawAnswer {
        let bearer = token.map(|token| format!("Bearer {}", token.compact()));
        let mut headers = vec![("Accept", "application/json, text/event-stream")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        self.ask("POST", "/mcp", &headers, body)
    }

    /// `tools/call` of a tool.
    pub fn call_tool(&self, name: &str, token: Option<&Token>) -> RawAnswer {
        self.post(token, &call_of(name))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.stop();
        }
    }
}

/// A `tools/call` message.
pub fn call_of(tool: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
    )
}

/// A whole request, as a client would write it.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str("Host: proxy.example\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if method == "POST" {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            text.push_str("Content-Type: application/json\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text
}

/// A configuration with a scope for tools and one for the tool `narrow`.
pub fn config(issuer: &Issuer, server: SocketAddr) -> Config {
    let scope = |text: &str| Scope::new(text).unwrap();
    let rule = |subject, needed: &str| ScopeRule { subject, needed: ScopeSet::parse(needed) };
    let item = |item: &str| RuleSubject::Item { method: "tools/call".into(), item: item.into() };
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        public: PublicUrl {
            scheme: "https".into(),
            authority: "proxy.example".into(),
            prefix: String::new(),
        },
        paths: Paths { streamable_http: "/mcp".into(), sse: "/sse".into(), messages: "/messages/".into() },
        upstream: Upstream::Http {
            base: BaseUrl {
                tls: false,
                host: "127.0.0.1".into(),
                port: server.port(),
                prefix: String::new(),
                socket: None,
            },
            // Longer than a busy machine lets a server wait; a test about it sets its own.
            first_byte_timeout: Duration::from_secs(20),
            authorization: None,
        },
        resource: Resource {
            identifier: RESOURCE.into(),
            authorization_servers: vec![issuer.url.clone()],
            scopes_supported: ScopeSet::parse("mcp_basic"),
            bearer_methods_supported: vec!["header".into()],
            jwks_uri: None,
            extra: Vec::new(),
        },
        issuers: vec![TrustedIssuer {
            issuer: issuer.url.clone(),
            jwks_uri: Some(issuer.jwks_uri()),
            audiences: vec![RESOURCE.into()],
            ..TrustedIssuer::default()
        }],
        login: None,
        scopes: ScopeRules {
            always: ScopeSet::default(),
            rules: vec![
                rule(item("narrow"), "mcp_narrow mcp_extra"),
                rule(RuleSubject::Family("resources".into()), "mcp_resources"),
            ],
            implies: vec![
                (scope("mcp_admin"), scope("mcp_narrow")),
                (scope("mcp_admin"), scope("mcp_extra")),
            ],
        },
        cors: Cors {
            allowed_origins: vec!["https://page.example".into()],
            allowed_methods: vec!["GET".into(), "POST".into(), "DELETE".into()],
            allowed_headers: Vec::new(),
            allow_credentials: false,
        },
        allowed_hosts: Vec::new(),
        trusted_proxies: Vec::new(),
        streams_outlive_token: false,
        leeway_seconds: 0,
        token_type: TokenTypePolicy::Compatible,
        required_claims: Vec::new(),
        mcp_2025_03_26: Mcp20250326::Strict,
        identity_headers: true,
        session_key: None,
        ca_file: None,
        limits: Limits { drain_time: Duration::from_secs(3), ..Limits::default() },
        log_level: Level::Debug,
        log_format: log::Format::Text,
    }
}

/// Holds a time against a bound, and measures again where it is longer, a few times at most. A machine with much else to
/// do is late now and then; what is slow by itself is slow each time.
pub fn at_best(what: &str, most: Duration, mut measure: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    while times.len() < 5 {
        let took = measure();
        if took < most {
            return;
        }
        times.push(took);
    }
    panic!("{what} took {times:?}, never less than {most:?}");
}

/// Waits until `holds`, for ten seconds at most.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
