//! `--local`: everything in one process, offline, for a first look.
//!
//! ```text
//!  client ──▶ proxy 127.0.0.1:8080 ──▶ echo MCP server 127.0.0.1:any
//!     └─────▶ authorization server 127.0.0.1:any ──keys──▶ proxy
//! ```
//!
//! Three servers on the same engine. The proxy is the real one, started from a configuration text as an operator would
//! write it; only the two at its sides are made for this. Whoever reaches the authorization server is let in, so all
//! three listen on loopback and nowhere else.

pub mod echo;
pub mod issuer;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, Limits, Outside, Overrides};
use crate::edge::{Server, Settings};
use crate::limits::LOCAL_FORM_BYTES_MAX;
use crate::log::Log;
use crate::proxy::{Proxy, StartError, StopSignal};
use echo::Echo;
use issuer::Issuer;

/// The port of the proxy, if it is free.
const PORT: u16 = 8080;
/// How long the printed token is good for, in seconds.
const TOKEN_SECONDS: i64 = 8 * 3600;
/// Scopes of this demonstration, and what the consent page says of them.
const SCOPES: &[(&str, &str)] = &[
    ("mcp:read", "see what the server offers and read its resources and prompts"),
    ("mcp:echo", "call the tools that only answer"),
    ("mcp:admin", "call the tool that shouts"),
];

/// The demonstration, running.
pub struct Local {
    proxy: Proxy,
    issuer_server: Server<Issuer>,
    echo_server: Server<Echo>,
    issuer: Arc<Issuer>,
    origin: String,
}

impl Local {
    /// Starts all three on loopback, the proxy on `listen` or, when none is given, on its usual port or a free one.
    ///
    /// # Errors
    /// [`StartError`], with [`StartError::NotLoopback`] for an address that others could reach.
    pub fn start(listen: Option<SocketAddr>, log: &Log) -> Result<Self, StartError> {
        let system = StartError::System;
        let listener = match listen {
            Some(addr) if !addr.ip().is_loopback() => return Err(StartError::NotLoopback(addr)),
            Some(addr) => TcpListener::bind(addr).map_err(|err| StartError::Listen(addr, err))?,
            None => bind(PORT).or_else(|_| bind(0)).map_err(system)?,
        };
        let (side, behind) = (bind(0).map_err(system)?, bind(0).map_err(system)?);
        let at = |listener: &TcpListener| listener.local_addr().map(|addr| format!("http://{addr}"));
        let origin = at(&listener).map_err(system)?;
        let (issuer_url, echo_url) = (at(&side).map_err(system)?, at(&behind).map_err(system)?);

        let clock = Clock::system();
        let scopes = SCOPES.iter().map(|(scope, words)| ((*scope).to_owned(), (*words).to_owned())).collect();
        let resources = ["/mcp", "/sse", ""].map(|path| format!("{origin}{path}")).to_vec();
        let issuer = Issuer::new(issuer_url.clone(), resources, scopes, clock.clone(), log.clone());
        let issuer = Arc::new(issuer.map_err(system)?);
        let settings = || {
            let limits =
                Limits { connections: Some(512), message_bytes: LOCAL_FORM_BYTES_MAX, ..Limits::default() };
            let mut settings = Settings::new(&limits);
            settings.workers = 2;
            settings
        };
        let issuer_server =
            Server::start(side, Arc::clone(&issuer), settings(), log.clone()).map_err(system)?;
        let echo_server =
            Server::start(behind, Arc::new(Echo::new()), settings(), log.clone()).map_err(system)?;

        let text = configuration(&origin, &issuer_url, &echo_url);
        let (config, _notes) = Config::from_yaml(&text, &Overrides::default(), &Outside::nothing())
            .map_err(|_| StartError::System(io::Error::other("the built-in configuration does not hold")))?;
        let proxy = Proxy::start_on(listener, config, clock, log.clone())?;
        Ok(Self { proxy, issuer_server, echo_server, issuer, origin })
    }

    /// Where the proxy is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    /// A token for the proxy's MCP endpoint or another audience.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn token(&self, audience: Option<&str>, scopes: &str) -> io::Result<String> {
        let ours = format!("{}/mcp", self.origin);
        self.issuer.mint(audience.unwrap_or(&ours), scopes, TOKEN_SECONDS)
    }

    /// What a newcomer is told: where everything is, and lines that work when pasted.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn welcome(&self) -> io::Result<String> {
        let (origin, issuer, echo) = (&self.origin, self.issuer_server.addr(), self.echo_server.addr());
        let mut text = format!(
            "\nOpen MCP Auth Proxy, with everything built in, on loopback only. Ctrl-C ends it.\n\n  \
             MCP endpoint          {origin}/mcp\n  HTTP+SSE, for old     {origin}/sse\n  \
             authorization server  http://{issuer}   (keys made a moment ago, forgotten at the end)\n  \
             echo MCP server       http://{echo}   (behind the proxy)\n"
        );
        let good = self.token(None, "mcp:read mcp:echo")?;
        let elsewhere = self.token(Some("https://elsewhere.example"), "mcp:read mcp:echo")?;
        let lines = [
            ("A call with a good token, answered by the MCP server:", "echo", Some(&good)),
            ("The same without a token, answered 401 by the proxy:", "echo", None),
            ("With a token for another audience, 401:", "echo", Some(&elsewhere)),
            ("A tool that needs a scope more than the token has, 403:", "shout", Some(&good)),
        ];
        for (what, tool, token) in lines {
            let _ = write!(text, "\n{what}\n\n{}\n", curl(origin, tool, token.map(String::as_str)));
        }
        let _ = write!(
            text,
            "\nWith the MCP Inspector, login and consent page included:\n\n  npx @modelcontextprotocol/inspector\n  \
             then Transport Type \"Streamable HTTP\", URL {origin}/mcp, Connect\n\n"
        );
        Ok(text)
    }

    /// Stops all three.
    pub fn stop(self) {
        self.proxy.stop();
        self.issuer_server.stop();
        self.echo_server.stop();
    }
}

/// Starts the demonstration, says how to use it, and serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`]
pub fn serve(listen: Option<SocketAddr>, log: &Log) -> Result<(), StartError> {
    let signal = StopSignal::watch().map_err(StartError::System)?;
    let local = Local::start(listen, log)?;
    let welcome = local.welcome().map_err(StartError::System)?;
    let mut out = io::stdout().lock();
    // Whoever closed our standard output wants no text; the servers run all the same.
    let _ = out.write_all(welcome.as_bytes()).and_then(|()| out.flush());
    drop(out);
    signal.wait();
    local.stop();
    Ok(())
}

fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// The proxy's configuration, as an operator would write it.
fn configuration(origin: &str, issuer: &str, echo: &str) -> String {
    format!(
        "proxy_base_url: {origin}\n\
         base_url: {echo}\n\
         timeout_seconds: 30\n\
         paths: {{ sse: /sse, messages: /messages/, streamable_http: /mcp }}\n\
         transport_mode: streamable_http\n\
         cors:\n\
         \x20 allowed_origins: [\"http://localhost:6274\", \"http://127.0.0.1:6274\"] # the MCP Inspector\n\
         protected_resource_metadata:\n\
         \x20 resource_identifier: {origin}/mcp\n\
         \x20 audience: [\"{origin}/mcp\", \"{origin}/sse\", \"{origin}\"]\n\
         \x20 authorization_servers: [\"{issuer}\"]\n\
         \x20 jwks_uri: {issuer}/jwks\n\
         \x20 scopes_supported:\n\
         \x20   - \"tools/call\":\n\
         \x20       - echo: mcp:echo\n\
         \x20       - count: mcp:echo\n\
         \x20       - whoami: mcp:echo\n\
         \x20       - shout: mcp:admin\n\
         \x20   - resources: mcp:read\n\
         \x20   - prompts: mcp:read\n\
         algorithms: [ES256]\n\
         identity_headers: true\n\
         scope_hierarchy: {{ \"mcp:admin\": [\"mcp:echo\", \"mcp:read\"] }}\n"
    )
}

/// A `curl` line that calls a tool: one request of revision 2026-07-28, which needs no session.
fn curl(origin: &str, tool: &str, token: Option<&str>) -> String {
    let credentials = token.map_or_else(String::new, |token| format!("-H 'Authorization: Bearer {token}' "));
    format!(
        "curl -sS -i {origin}/mcp {credentials}-H 'Content-Type: application/json' -H 'Accept: application/json, \
         text/event-stream' -H 'MCP-Protocol-Version: 2026-07-28' -H 'Mcp-Method: tools/call' -H 'Mcp-Name: {tool}' \
         -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\
         \"arguments\":{{\"message\":\"hello\"}},\"_meta\":{{\"io.modelcontextprotocol/protocolVersion\":\
         \"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{{}}}}}}}}'"
    )
}
