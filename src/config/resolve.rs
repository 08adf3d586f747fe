//! From what was written to what the program relies on: defaults, derived values and contradictions.
//!
//! Who may issue tokens, and for whom they must be meant, is decided in `trust.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use super::file::{Cors as FileCors, File, Mode, Number, Text, Transport};
use super::load::{Outside, Overrides};
use super::problem::Findings;
use super::section::{Placed, quote};
use super::tree::Path;
use super::url::{Url, UrlFault, split_authority, unix_base};
use super::{BaseUrl, Config, Cors, Limits, Mcp20250326, Paths, PublicUrl, ScopeRules, Upstream};
use super::{login, scopes, trust};
use crate::auth::scope::{Scope, ScopeSet};
use crate::client::{Network, NoNetwork};
use crate::limits as l;
use crate::log;

/// The port that the original listens on.
const LISTEN_PORT: u16 = 8080;
/// The port of the MCP server in the original.
const SERVER_PORT: u16 = 8000;
/// `timeout_seconds` in the original's file.
const TIMEOUT_SECONDS: u64 = 10;

/// The configuration, or nothing where a problem leaves no value to go on with.
pub(super) fn config(
    file: &File,
    overrides: &Overrides,
    outside: &Outside<'_>,
    findings: &Findings,
) -> Option<Config> {
    let resolver = Resolver { file, overrides, outside, findings, top: Path::default() };
    // Everything is computed before anything is given up, so that all problems are found.
    let paths = resolver.paths();
    let listen = resolver.listen();
    let public = resolver.public(&paths);
    let upstream = resolver.upstream(listen);
    let scopes = resolver.scopes(&paths);
    let mut trust = public.as_ref().and_then(|public| trust::resolve(&resolver, public, &paths, &scopes.1));
    let login = match (&public, &mut trust) {
        (Some(public), Some(trust)) => login::resolve(&resolver, public, &paths, trust),
        _ => None,
    };
    let (cors, allowed_hosts, limits) = (resolver.cors(), resolver.allowed_hosts(), resolver.limits());
    let (session_key, ca_file) = (resolver.session_key(), resolver.ca_file());
    let (mcp_2025_03_26, trusted_proxies) = (resolver.mcp_2025_03_26(), resolver.trusted_proxies());
    resolver.without_effect();
    let trust = trust?;
    Some(Config {
        listen: listen?,
        public: public?,
        paths,
        upstream: upstream?,
        scopes: scopes.0,
        cors,
        allowed_hosts,
        trusted_proxies,
        streams_outlive_token: file.streams_outlive_token,
        leeway_seconds: file
            .leeway_seconds
            .as_ref()
            .map_or(l::LEEWAY_SECONDS, |placed| i64::try_from(placed.value).unwrap_or(l::LEEWAY_SECONDS)),
        token_type: file.token_type,
        required_claims: file.required_claims.clone(),
        mcp_2025_03_26,
        identity_headers: file.identity_headers,
        session_key,
        ca_file,
        limits,
        log_level: if overrides.debug {
            log::Level::Debug
        } else {
            file.log_level.unwrap_or(log::Level::Info)
        },
        log_format: file.log_format,
        resource: trust.resource,
        issuers: trust.issuers,
        login,
    })
}

pub(super) struct Resolver<'a> {
    pub(super) file: &'a File,
    pub(super) overrides: &'a Overrides,
    outside: &'a Outside<'a>,
    pub(super) findings: &'a Findings,
    pub(super) top: Path,
}

impl Resolver<'_> {
    pub(super) fn transport(&self) -> Option<Transport> {
        let written = self.file.transport_mode.as_ref().map(|transport| transport.value);
        if self.overrides.stdio { Some(Transport::Stdio) } else { written }
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        match (self.overrides.asgardeo, self.overrides.demo, &self.file.mode) {
            (true, _, _) => Some(Mode::Asgardeo),
            (_, true, _) => Some(Mode::Demo),
            (_, _, mode) => mode.as_ref().map(|mode| mode.value),
        }
    }

    fn paths(&self) -> Paths {
        let written = &self.file.paths;
        let path = |text: &Text, default: &str| {
            let Some(text) = text else { return default.to_owned() };
            if let Some(why) = path_fault(text) {
                self.findings.problem(
                    &text.path,
                    format!("{} {why}", text.shown()),
                    format!("write a plain path, such as {default}"),
                );
            }
            text.value.clone()
        };
        let paths = Paths {
            streamable_http: path(&written.streamable_http, "/mcp"),
            sse: path(&written.sse, "/sse"),
            messages: path(&written.messages, "/messages/"),
        };
        let placed = [
            (&paths.sse, &written.sse, "sse"),
            (&paths.messages, &written.messages, "messages"),
            (&paths.streamable_http, &written.streamable_http, "streamable_http"),
        ];
        for (n, (one, at, key)) in placed.iter().enumerate() {
            let bare = |path: &str| path.trim_end_matches('/').to_owned();
            let same = placed.iter().take(n).find(|(other, _, _)| bare(other) == bare(one));
            if let Some((_, other_at, other)) = same {
                let at = at.as_ref().or(other_at.as_ref());
                let shown = at.map_or_else(|| quote(one), Placed::shown);
                let at = at.map_or_else(|| self.top.key("paths"), |text| text.path.clone());
                let found = format!("{key} and {other} are both {shown}");
                self.findings.problem(&at, found, "give each endpoint a path of its own");
            }
        }
        paths
    }

    fn listen(&self) -> Option<SocketAddr> {
        let port = self.listen_port();
        let Some(text) = &self.file.listen_address else {
            return Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        };
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = match bare.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) if bare.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
            Err(_) => {
                let fix = "write an IP address: 127.0.0.1 for this machine alone, 0.0.0.0 or :: for all \
                           interfaces; the port goes into listen_port";
                self.findings.problem(&text.path, format!("{} is no address", text.shown()), fix);
                return None;
            }
        };
        if !address.is_loopback() {
            self.findings.warn(
                &text.path,
                format!("{address} can be reached from other machines"),
                "put a TLS proxy in front, or write 127.0.0.1",
            );
        }
        Some(SocketAddr::new(address, port))
    }

    fn listen_port(&self) -> u16 {
        port(&self.file.listen_port).unwrap_or(LISTEN_PORT)
    }

    /// The URL by which clients reach us: as written, or what the resource identifier says, or this machine.
    fn public(&self, paths: &Paths) -> Option<PublicUrl> {
        let listen_port = self.listen_port();
        if let Some(text) = &self.file.proxy_base_url {
            let mut url = self.url(text, "write the URL by which clients reach this proxy")?;
            if !url.tls && !url.is_loopback() {
                self.findings.warn(
                    &text.path,
                    "tokens travel to it unencrypted",
                    "serve https there (RFC 6750 section 5.3)",
                );
            }
            // The original's file has the port in listen_port alone.
            if !url.tls && url.port.is_none() && url.is_loopback() && listen_port != 80 {
                url.port = Some(listen_port).filter(|port| *port != 0);
                let text_ = format!("listen_port is taken as its port: {}", url.origin());
                let hint = format!("write proxy_base_url: {}", url.origin());
                self.findings.guess(&text.path, text_, hint);
            }
            return Some(url.into_public());
        }
        let at = self.top.key("proxy_base_url");
        let identifier = trust::resource_identifier(self.file);
        if let Some(mut url) = identifier.and_then(|text| Url::parse(text).ok()) {
            let Paths { streamable_http, sse, messages } = paths;
            let endpoints = [streamable_http, sse, messages].into_iter();
            if let Some(prefix) = endpoints.filter_map(|path| url.path.strip_suffix(path.as_str())).next() {
                url.path = prefix.to_owned();
            }
            let public = url.into_public();
            let text = format!("not given; {} is taken from resource_identifier", public.join(""));
            self.findings.guess(&at, text, format!("write proxy_base_url: {}", public.join("")));
            return Some(public);
        }
        let public = PublicUrl {
            scheme: "http".into(),
            authority: format!("localhost:{listen_port}"),
            prefix: String::new(),
        };
        let text = format!("not given; {} is taken", public.join(""));
        self.findings.guess(&at, text, "write the URL by which clients reach this proxy");
        Some(public)
    }

    fn upstream(&self, listen: Option<SocketAddr>) -> Option<Upstream> {
        if self.transport() == Some(Transport::Stdio) {
            return self.stdio().map(|stdio| Upstream::Stdio(Box::new(stdio)));
        }
        let base = match &self.file.base_url {
            Some(text) => {
                let base = self.base(text)?;
                if let Some(port) = self.file.port.as_ref().filter(|port| port.value != u64::from(base.port))
                {
                    let text = format!("not used, base_url says {}", base.shown());
                    self.findings.ignored(&port.path, text, "take the line out; it is for stdio alone");
                }
                base
            }
            None => {
                let port = port(&self.file.port).filter(|port| *port > 0).unwrap_or(SERVER_PORT);
                let text = format!("not given; http://localhost:{port} is taken");
                self.findings.guess(&self.top.key("base_url"), text, "write the URL of the MCP server");
                BaseUrl { tls: false, host: "localhost".into(), port, prefix: String::new(), socket: None }
            }
        };
        if listen.is_some_and(|listen| is_same_place(&base, listen)) {
            let at =
                self.file.base_url.as_ref().map_or_else(|| self.top.key("listen_port"), |t| t.path.clone());
            let fix = "write the URL of the MCP server, or another listen_port";
            self.findings.problem(&at, "this is where the proxy itself listens", fix);
        }
        let seconds = self.file.timeout_seconds.as_ref().map_or(TIMEOUT_SECONDS, |seconds| seconds.value);
        Some(Upstream::Http {
            base,
            first_byte_timeout: Duration::from_secs(seconds),
            authorization: self.upstream_authorization(),
        })
    }

    fn base(&self, text: &Placed<String>) -> Option<BaseUrl> {
        match unix_base(text) {
            None => Some(self.url(text, "write the URL of the MCP server")?.into_base()),
            Some(Ok(base)) => Some(base),
            Some(Err(why)) => {
                let fix = "write unix:/run/server.sock, or unix:/run/server.sock:/path for a path below it";
                self.findings.problem(&text.path, format!("{}: {why}", text.shown()), fix);
                None
            }
        }
    }

    fn upstream_authorization(&self) -> Option<crate::secret::Secret> {
        let secret = self.file.upstream_authorization.as_ref()?;
        let value = secret.value.expose();
        let fits = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if !fits || !value.trim().contains(' ') || value.trim() != value {
            let fix =
                "write it as the header has it: a scheme, one space and the credential, in visible ASCII";
            self.findings.problem(&secret.path, "this is no value of an Authorization header", fix);
        }
        Some(secret.value.clone())
    }

    /// The rules, and every scope that is worth publishing.
    fn scopes(&self, paths: &Paths) -> (ScopeRules, ScopeSet) {
        let written = trust::metadata(self.file, self.findings, "scopes_supported", |m| &m.scopes_supported);
        let read = written.map(|node| scopes::read(&node.value, &node.path, paths, self.findings));
        let read = read.unwrap_or_default();
        let set = |words: &[Placed<String>]| -> ScopeSet {
            ScopeSet(words.iter().filter_map(|word| scopes::scope(word, self.findings)).collect())
        };
        let always = self.file.required_scopes.as_ref().map(|words| set(words)).unwrap_or_default();
        let mut implies: Vec<(Scope, Scope)> = Vec::new();
        for (broader, narrower) in &self.file.scope_hierarchy {
            let Some(broad) = scopes::scope(broader, self.findings) else { continue };
            implies.extend(set(narrower).0.into_iter().map(|narrow| (broad.clone(), narrow)));
        }
        let mut published = read.mentioned;
        published.0.extend(always.0.iter().cloned());
        (ScopeRules { always, rules: read.rules, implies }, published)
    }

    fn cors(&self) -> Cors {
        let FileCors { allowed_origins, allowed_methods, allowed_headers, allow_credentials } =
            &self.file.cors;
        let mut origins: Vec<String> = Vec::new();
        let written = allowed_origins.as_ref().map_or(&[][..], |list| list.value.as_slice());
        for text in written {
            match origin(text) {
                Ok(origin) if !origins.contains(&origin) => origins.push(origin),
                Ok(_) => {}
                Err(fix) => {
                    self.findings.problem(&text.path, format!("{} is no origin", text.shown()), fix);
                }
            }
        }
        let credentials = allow_credentials.as_ref().is_some_and(|flag| flag.value);
        if let Some(star) = written.iter().find(|text| text.as_str() == "*") {
            if credentials {
                let fix = "list the origins one by one, or write allow_credentials: false";
                let found = "\"*\", while allow_credentials is true";
                self.findings.problem(&star.path, found, fix);
            } else if written.len() > 1 {
                self.findings.problem(
                    &star.path,
                    "\"*\" beside other origins",
                    "keep \"*\" alone, or the others",
                );
            } else {
                self.findings.warn(
                    &star.path,
                    "every web page may call this proxy",
                    "list the origins one by one",
                );
            }
        }
        let tokens = |list: &Option<Placed<Vec<Placed<String>>>>, what: &str| -> Option<Vec<String>> {
            let list = list.as_ref()?;
            let fits = |text: &&Placed<String>| {
                let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
                if !fits {
                    let found = format!("{} is no {what}", text.shown());
                    self.findings.problem(
                        &text.path,
                        found,
                        "write one name an entry (RFC 9110 section 5.6.2)",
                    );
                }
                fits
            };
            Some(list.value.iter().filter(fits).map(|text| text.value.clone()).collect())
        };
        let methods = tokens(allowed_methods, "method")
            .map(|methods| methods.iter().map(|method| method.to_ascii_uppercase()).collect())
            .unwrap_or_else(|| ["GET", "POST", "DELETE"].map(str::to_owned).to_vec());
        Cors {
            allowed_origins: origins,
            allowed_methods: methods,
            allowed_headers: tokens(allowed_headers, "header name").unwrap_or_default(),
            allow_credentials: credentials,
        }
    }

    fn allowed_hosts(&self) -> Vec<String> {
        let mut hosts = Vec::new();
        for text in &self.file.allowed_hosts {
            match split_authority(text) {
                Ok((host, port)) => {
                    let host = if host.contains(':') { format!("[{host}]") } else { host };
                    hosts.push(port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")));
                }
                Err(_) => {
                    let fix = "write host or host:port, as the Host header has it, without scheme and path";
                    self.findings.problem(&text.path, format!("{} is no host", text.shown()), fix);
                }
            }
        }
        hosts
    }

    fn trusted_proxies(&self) -> Vec<Network> {
        let mut networks = Vec::new();
        for text in &self.file.trusted_proxies {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(NoNetwork) => {
                    let fix = "write an address, or a network such as 10.0.0.0/8 with nothing set behind its prefix";
                    self.findings.problem(&text.path, format!("{} is no network", quote(&text.value)), fix);
                }
            }
        }
        networks
    }

    fn mcp_2025_03_26(&self) -> Mcp20250326 {
        let Some(written) = &self.file.mcp_2025_03_26 else { return Mcp20250326::Strict };
        if written.value == Mcp20250326::SignatureOnly {
            self.findings.warn(
                &written.path,
                "a client that sends MCP-Protocol-Version: 2025-03-26 is held to signature and time alone, \
                 not to issuer, audience and scopes",
                "write strict",
            );
        }
        written.value
    }

    fn session_key(&self) -> Option<crate::secret::Secret> {
        let key = self.file.session_key.as_ref()?;
        if key.value.expose().len() < l::SESSION_KEY_BYTES_MIN {
            let found = format!("shorter than {} characters", l::SESSION_KEY_BYTES_MIN);
            self.findings.problem(&key.path, found, "make one with: openssl rand -hex 32");
        }
        Some(key.value.clone())
    }

    fn ca_file(&self) -> Option<PathBuf> {
        let text = self.file.ca_file.as_ref()?;
        let found = match (self.outside.read_file)(FilePath::new(text.as_str())) {
            Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => None,
            Ok(_) => Some(format!("{} holds no certificate", text.shown())),
            Err(error) => Some(format!("{} cannot be read ({error})", text.shown())),
        };
        if let Some(found) = found {
            self.findings.problem(&text.path, found, "name a PEM file with CERTIFICATE blocks");
        }
        Some(PathBuf::from(&text.value))
    }

    fn limits(&self) -> Limits {
        let written = &self.file.limits;
        let plain = Limits::default();
        let count = |number: &Number| number.as_ref().and_then(|number| usize::try_from(number.value).ok());
        let time = |number: &Number, default: Duration| {
            number.as_ref().map_or(default, |number| Duration::from_secs(number.value))
        };
        let (all, each) = (count(&written.connections), count(&written.connections_per_address));
        if let (Some(all), Some(each), Some(at)) = (all, each, &written.connections_per_address)
            && each > all
        {
            let found = format!("{each}, while connections is {all}");
            self.findings.problem(&at.path, found, "write at most as many as connections");
        }
        Limits {
            message_bytes: count(&written.message_bytes).unwrap_or(plain.message_bytes),
            connections: all,
            connections_per_address: each,
            streams: count(&written.streams).unwrap_or(plain.streams),
            streams_per_principal: count(&written.streams_per_principal),
            auth_failures_per_minute: written
                .auth_failures_per_minute
                .as_ref()
                .and_then(|number| u32::try_from(number.value).ok())
                .unwrap_or(plain.auth_failures_per_minute),
            workers: count(&written.workers),
            head_time: time(&written.head_seconds, plain.head_time),
            body_time: time(&written.body_seconds, plain.body_time),
            idle_time: time(&written.idle_seconds, plain.idle_time),
            write_time: time(&written.write_seconds, plain.write_time),
            stream_idle_time: written
                .stream_idle_seconds
                .as_ref()
                .filter(|seconds| seconds.value > 0)
                .map(|seconds| Duration::from_secs(seconds.value)),
            drain_time: time(&written.drain_seconds, plain.drain_time),
        }
    }

    /// Keys that are known and do nothing.
    fn without_effect(&self) {
        for (key, provider, mode) in
            [("demo", &self.file.demo, Mode::Demo), ("asgardeo", &self.file.asgardeo, Mode::Asgardeo)]
        {
            if self.mode() != Some(mode) && (provider.client_id.is_some() || provider.client_secret.is_some())
            {
                let why = format!("its client credentials are not used: the mode is not {key}");
                self.findings.ignored(&self.top.key(key), why, format!("write mode: {key}, or let it stay"));
            }
        }
        let stdio = self.file.stdio.enabled.as_ref().filter(|enabled| enabled.value);
        if let (Some(enabled), true) = (stdio, self.transport() != Some(Transport::Stdio)) {
            self.findings.ignored(
                &enabled.path,
                "the command is not started: transport_mode is not stdio",
                "write transport_mode: stdio, or enabled: false",
            );
        }
    }

    /// An `http` or `https` URL, or a problem.
    pub(super) fn url(&self, text: &Placed<String>, fix: &str) -> Option<Url> {
        match Url::parse(text) {
            Ok(url) => Some(url),
            Err(fault) => {
                self.url_problem(text, fault, fix);
                None
            }
        }
    }

    pub(super) fn url_problem(&self, text: &Placed<String>, fault: UrlFault, fix: &str) {
        // A password in the URL must not be shown again.
        let found = match fault {
            UrlFault::UserInfo => fault.to_string(),
            _ if text.value.contains('@') => fault.to_string(),
            _ => format!("{} is no URL that can be used here: {fault}", text.shown()),
        };
        self.findings.problem(&text.path, found, format!("{fix}, such as https://mcp.example.com"));
    }
}

fn port(number: &Number) -> Option<u16> {
    number.as_ref().and_then(|number| u16::try_from(number.value).ok())
}

/// Why a path cannot be served literally.
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    if !path.starts_with('/') {
        Some("does not begin with /")
    } else if !path.bytes().all(plain) {
        Some("has characters other than letters, digits and - . _ ~ /")
    } else if path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | "..")) {
        Some("has an empty segment, or one of dots")
    } else if path == "/.well-known" || path.starts_with("/.well-known/") {
        Some("is in the place of the metadata (RFC 8615)")
    } else {
        None
    }
}

/// Whether a request to the MCP server would come back to us.
fn is_same_place(base: &BaseUrl, listen: SocketAddr) -> bool {
    if base.socket.is_some() {
        return false;
    }
    let address = base.host.parse::<IpAddr>().ok();
    let local = base.host == "localhost" || address.is_some_and(|address| address.is_loopback());
    let reached = address == Some(listen.ip())
        || local && (listen.ip().is_unspecified() || listen.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST));
    listen.port() != 0 && base.port == listen.port() && reached
}

/// An origin as a browser sends it (RFC 6454 section 6.2), or what to write.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    match Url::parse(text) {
        Ok(url) if url.path.is_empty() => Ok(url.origin()),
        Ok(url) => Err(format!("write it without a path: {}", url.origin())),
        // Pages of extensions and of editors have schemes of their own.
        Err(UrlFault::Scheme) if is_other_origin(text) => Ok(text.to_owned()),
        Err(_) => Err("write scheme, host and port, such as http://localhost:5173".into()),
    }
}

fn is_other_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let scheme_fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b);
    let host_fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(scheme_fits)
        && !host.is_empty()
        && host.bytes().all(host_fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact_or_refused() {
        for (text, origin_) in [
            ("*", Ok("*")),
            ("http://localhost:5173", Ok("http://localhost:5173")),
            ("HTTPS://Example.com:443", Ok("https://example.com")),
            ("vscode-webview://abc123", Ok("vscode-webview://abc123")),
            ("https://example.com/", Err("write it without a path: https://example.com")),
            ("null", Err("write scheme, host and port, such as http://localhost:5173")),
            ("https://*.example.com", Err("write scheme, host and port, such as http://localhost:5173")),
            ("localhost:5173", Err("write scheme, host and port, such as http://localhost:5173")),
        ] {
            assert_eq!(origin(text), origin_.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    /// Only literal paths are served, so nothing that could be spelled in two ways.
    #[test]
    fn a_served_path_has_one_spelling() {
        for (path, fits) in [
            ("/mcp", true),
            ("/messages/", true),
            ("/", true),
            ("/a/b-c_d.e~f", true),
            ("mcp", false),
            ("", false),
            ("/a//b", false),
            ("/a/../b", false),
            ("/a/.", false),
            ("/a%2fb", false),
            ("/a;b", false),
            ("/a?b", false),
            ("/\u{e4}", false),
            ("/.well-known/x", false),
        ] {
            assert_eq!(path_fault(path).is_none(), fits, "{path}");
        }
    }
}
