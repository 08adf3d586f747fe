//! The shape of `config.yaml`, word for word: which keys there are, and the type of each.
//!
//! Only [`File::read`] fills it and only `resolve.rs` reads it. It holds what was written and where; what the values
//! mean together, and what is taken where the file is silent, is decided in `resolve.rs`. The keys of the original
//! proxy come in three shapes, all of which load: `protected_resource_metadata:`, and before that the same keys in
//! `asgardeo:` or at the top.

use super::issuers::{self, Issuer};
use super::load::Outside;
use super::problem::Findings;
use super::section::{Placed, Section, show};
use super::tree::{Node, Path};
use super::{Allowed, Mcp20250326, Share, TokenTypePolicy};
use crate::limits as l;
use crate::log;
use crate::provider::preset::{PRESETS, Preset};
use crate::secret::Secret;

/// Text where it stands.
pub type Text = Option<Placed<String>>;
/// Texts where they stand.
pub type Texts = Option<Placed<Vec<Placed<String>>>>;
/// A number where it stands.
pub type Number = Option<Placed<u64>>;
/// A switch where it stands.
pub type Flag = Option<Placed<bool>>;

/// `config.yaml`.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name, which config.yaml describes")]
pub struct File {
    pub proxy_base_url: Text,
    pub listen_address: Text,
    pub listen_port: Number,
    pub base_url: Text,
    pub port: Number,
    pub timeout_seconds: Number,
    pub paths: Paths,
    pub transport_mode: Option<Placed<Transport>>,
    pub stdio: Stdio,
    /// `path_mapping`: our path to the provider's.
    pub path_mapping: Vec<(Placed<String>, String)>,
    pub login_relay: Option<Placed<LoginRelay>>,
    pub provider: Option<Placed<&'static Preset>>,
    pub cors: Cors,
    pub mode: Option<Placed<Mode>>,
    pub demo: Provider,
    pub asgardeo: Provider,
    pub default: Default_,
    pub protected_resource_metadata: Metadata,
    /// The keys of `protected_resource_metadata` written at the top, as the original's README had them once.
    pub top_level_metadata: Metadata,
    pub issuer: Text,
    pub issuers: Option<Placed<Vec<Issuer>>>,
    pub algorithms: Option<Allowed>,
    pub leeway_seconds: Number,
    pub token_type: TokenTypePolicy,
    pub required_claims: Vec<(String, Vec<String>)>,
    pub mcp_2025_03_26: Option<Placed<Mcp20250326>>,
    pub allowed_hosts: Vec<Placed<String>>,
    pub trusted_proxies: Vec<Placed<String>>,
    pub streams_outlive_token: bool,
    pub identity_headers: bool,
    pub session_key: Option<Placed<Secret>>,
    pub ca_file: Text,
    pub upstream_authorization: Option<Placed<Secret>>,
    pub required_scopes: Texts,
    /// `scope_hierarchy`: the broader scope and the narrower ones.
    pub scope_hierarchy: Vec<(Placed<String>, Vec<Placed<String>>)>,
    pub limits: Limits,
    pub log_level: Option<log::Level>,
    pub log_format: log::Format,
}

/// `paths`
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct Paths {
    pub sse: Text,
    pub messages: Text,
    pub streamable_http: Text,
}

/// `transport_mode`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// HTTP+SSE; Streamable HTTP is served beside it.
    Sse,
    /// Streamable HTTP; HTTP+SSE is served beside it.
    StreamableHttp,
    /// A subprocess.
    Stdio,
}

/// `mode`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The identity provider is what the file says.
    Default,
    /// The organisation in `demo`.
    Demo,
    /// The organisation in `asgardeo`.
    Asgardeo,
}

/// `login_relay`
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginRelay {
    /// Nothing of it is served.
    Off,
    /// It is served to clients that look for it at our origin.
    On,
    /// And our metadata sends all clients there.
    Advertised,
}

/// `stdio`
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct Stdio {
    pub enabled: Flag,
    pub user_command: Text,
    pub work_dir: Text,
    pub args: Vec<Placed<String>>,
    /// `NAME=value`, each a possible secret.
    pub env: Vec<Secret>,
    pub shell: Flag,
    pub inherit_env: Flag,
    pub share: Option<Placed<Share>>,
    pub sessions: Number,
    pub sessions_per_principal: Number,
    pub session_idle_seconds: Number,
    pub request_seconds: Number,
    pub line_bytes: Number,
}

/// `cors`
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct Cors {
    pub allowed_origins: Texts,
    pub allowed_methods: Texts,
    pub allowed_headers: Texts,
    pub allow_credentials: Flag,
}

/// `demo` and `asgardeo`
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct Provider {
    pub org_name: Text,
    pub base_url: Text,
    pub client_id: Text,
    pub client_secret: Option<Placed<Secret>>,
    /// The keys of `protected_resource_metadata` in their older place.
    pub metadata: Metadata,
}

/// `default`: an identity provider described by hand.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct Default_ {
    pub base_url: Text,
    pub jwks_url: Text,
    pub path: Vec<(Placed<String>, PathRule)>,
}

/// One entry of `default.path`.
#[derive(Debug, Default)]
pub struct PathRule {
    /// `response.issuer`
    pub issuer: Text,
    /// `response.jwks_uri`
    pub jwks_uri: Text,
    /// `response.authorization_endpoint`
    pub authorization_endpoint: Text,
    /// Every member of `response`, for the document that is served at that path.
    pub response: Vec<(String, serde_json::Value)>,
    /// `addQueryParams`: name and value.
    pub add_query_params: Vec<(String, Placed<String>)>,
    /// `addBodyParams`: name and value.
    pub add_body_params: Vec<(String, Placed<String>)>,
}

/// `protected_resource_metadata`, in any of its three places.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct Metadata {
    pub resource_identifier: Text,
    pub audience: Texts,
    pub scopes_supported: Option<Placed<Node>>,
    pub authorization_servers: Texts,
    pub jwks_uri: Text,
    pub bearer_methods_supported: Texts,
    /// `resource_name` and the like, with their language-tagged variants.
    pub extra: Vec<(String, serde_json::Value)>,
}

/// `limits`
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct Limits {
    pub message_bytes: Number,
    pub connections: Number,
    pub connections_per_address: Number,
    pub streams: Number,
    pub streams_per_principal: Number,
    pub auth_failures_per_minute: Number,
    pub workers: Number,
    pub head_seconds: Number,
    pub body_seconds: Number,
    pub idle_seconds: Number,
    pub write_seconds: Number,
    pub stream_idle_seconds: Number,
    pub drain_seconds: Number,
}

/// Members of RFC 9728 section 2 that only inform a person, and may carry a language tag.
const TEXT_MEMBERS: &[&str] =
    &["resource_name", "resource_documentation", "resource_policy_uri", "resource_tos_uri"];

impl File {
    /// Reads the tree. Whatever is wrong in it goes to `findings` and is left out.
    pub(super) fn read(root: &Node, outside: &Outside<'_>, findings: &Findings) -> Self {
        let mut top = Section::of(root, Path::default(), outside, findings);
        let port = || 0..=u64::from(u16::MAX);
        let file = Self {
            proxy_base_url: top.text("proxy_base_url"),
            listen_address: top.text("listen_address"),
            listen_port: top.number("listen_port", port()),
            base_url: top.text("base_url"),
            port: top.number("port", port()),
            timeout_seconds: top.number("timeout_seconds", 1..=l::CONFIG_SECONDS_MAX),
            paths: top.section("paths").map(Paths::read).unwrap_or_default(),
            transport_mode: top.choice(
                "transport_mode",
                &[
                    ("sse", Transport::Sse),
                    ("streamable_http", Transport::StreamableHttp),
                    ("stdio", Transport::Stdio),
                ],
            ),
            stdio: top.section("stdio").map(Stdio::read).unwrap_or_default(),
            path_mapping: top.section("path_mapping").map(path_mapping).unwrap_or_default(),
            login_relay: top.choice(
                "login_relay",
                &[("off", LoginRelay::Off), ("on", LoginRelay::On), ("advertised", LoginRelay::Advertised)],
            ),
            provider: top.choice("provider", &presets()),
            cors: top.section("cors").map(Cors::read).unwrap_or_default(),
            mode: top.choice(
                "mode",
                &[("default", Mode::Default), ("demo", Mode::Demo), ("asgardeo", Mode::Asgardeo)],
            ),
            demo: top.section("demo").map(Provider::read).unwrap_or_default(),
            asgardeo: top.section("asgardeo").map(Provider::read).unwrap_or_default(),
            default: top.section("default").map(Default_::read).unwrap_or_default(),
            protected_resource_metadata: top
                .section("protected_resource_metadata")
                .map(|mut section| {
                    let metadata = Metadata::read(&mut section);
                    section.done();
                    metadata
                })
                .unwrap_or_default(),
            top_level_metadata: Metadata::read(&mut top),
            issuer: top.text("issuer"),
            issuers: issuers::read(&mut top, findings),
            algorithms: issuers::algorithms(&mut top, findings),
            leeway_seconds: top.number("leeway_seconds", 0..=600),
            token_type: top
                .choice(
                    "token_type",
                    &[("compatible", TokenTypePolicy::Compatible), ("strict", TokenTypePolicy::Strict)],
                )
                .map(|choice| choice.value)
                .unwrap_or_default(),
            required_claims: top.section("required_claims").map(required_claims).unwrap_or_default(),
            mcp_2025_03_26: top.choice(
                "mcp_2025_03_26",
                &[("strict", Mcp20250326::Strict), ("signature_only", Mcp20250326::SignatureOnly)],
            ),
            allowed_hosts: top.list("allowed_hosts").map(|list| list.value).unwrap_or_default(),
            trusted_proxies: top.list("trusted_proxies").map(|list| list.value).unwrap_or_default(),
            streams_outlive_token: top.flag("streams_outlive_token").is_some_and(|flag| flag.value),
            identity_headers: top.flag("identity_headers").is_some_and(|flag| flag.value),
            session_key: top.secret("session_key"),
            ca_file: top.text("ca_file"),
            upstream_authorization: top.secret("upstream_authorization"),
            required_scopes: top.words("required_scopes"),
            scope_hierarchy: top.section("scope_hierarchy").map(scope_hierarchy).unwrap_or_default(),
            limits: top.section("limits").map(Limits::read).unwrap_or_default(),
            log_level: top
                .choice(
                    "log_level",
                    &[
                        ("error", log::Level::Error),
                        ("warn", log::Level::Warn),
                        ("info", log::Level::Info),
                        ("debug", log::Level::Debug),
                    ],
                )
                .map(|choice| choice.value),
            log_format: top
                .choice("log_format", &[("text", log::Format::Text), ("json", log::Format::Json)])
                .map(|choice| choice.value)
                .unwrap_or_default(),
        };
        top.done();
        file
    }
}

fn presets() -> Vec<(&'static str, &'static Preset)> {
    PRESETS.iter().map(|preset| (preset.name, preset)).collect()
}

impl Paths {
    fn read(mut section: Section<'_>) -> Self {
        let paths = Self {
            sse: section.text("sse"),
            messages: section.text("messages"),
            streamable_http: section.text("streamable_http"),
        };
        section.done();
        paths
    }
}

impl Stdio {
    fn read(mut section: Section<'_>) -> Self {
        let (many, seconds) = (|| 1..=100_000, || 1..=l::CONFIG_SECONDS_MAX);
        let bytes_max = u64::try_from(l::BODY_BYTES_IN_FLIGHT_MAX).unwrap_or(u64::MAX);
        let stdio = Self {
            enabled: section.flag("enabled"),
            user_command: section.text("user_command"),
            work_dir: section.text("work_dir"),
            args: section.list("args").map(|list| list.value).unwrap_or_default(),
            env: section.list("env").map(|list| environment(&section, list)).unwrap_or_default(),
            shell: section.flag("shell"),
            inherit_env: section.flag("inherit_env"),
            share: section.choice("share", &[("all", Share::All), ("principal", Share::Principal)]),
            sessions: section.number("sessions", many()),
            sessions_per_principal: section.number("sessions_per_principal", many()),
            session_idle_seconds: section.number("session_idle_seconds", seconds()),
            request_seconds: section.number("request_seconds", seconds()),
            line_bytes: section.number("line_bytes", 1024..=bytes_max),
        };
        section.done();
        stdio
    }
}

/// `stdio.env`: every entry is `NAME=value`; the message about one that is not never shows it.
fn environment(section: &Section<'_>, list: Placed<Vec<Placed<String>>>) -> Vec<Secret> {
    let fits = |entry: &Placed<String>| {
        let named = entry.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '));
        if !named {
            section.wrong(&entry.path, "found an entry without a name and =", "write NAME=value");
        }
        named
    };
    list.value.into_iter().filter(fits).map(|entry| Secret::new(entry.value)).collect()
}

impl Cors {
    fn read(mut section: Section<'_>) -> Self {
        let cors = Self {
            allowed_origins: section.list("allowed_origins"),
            allowed_methods: section.list("allowed_methods"),
            allowed_headers: section.list("allowed_headers"),
            allow_credentials: section.flag("allow_credentials"),
        };
        section.done();
        cors
    }
}

impl Provider {
    fn read(mut section: Section<'_>) -> Self {
        let provider = Self {
            org_name: section.text("org_name"),
            base_url: section.text("base_url"),
            client_id: section.text("client_id"),
            client_secret: section.secret("client_secret"),
            metadata: Metadata::read(&mut section),
        };
        section.done();
        provider
    }
}

impl Default_ {
    fn read(mut section: Section<'_>) -> Self {
        let default = Self {
            base_url: section.text("base_url"),
            jwks_url: section.text("jwks_url"),
            path: section.section("path").map(path_rules).unwrap_or_default(),
        };
        section.done();
        default
    }
}

fn path_rules(section: Section<'_>) -> Vec<(Placed<String>, PathRule)> {
    let entries = section.entries();
    entries
        .map(|(key, node, path)| {
            let place = Placed::new(key.to_owned(), path.clone());
            (place, PathRule::read(section.below(node, path)))
        })
        .collect()
}

impl PathRule {
    fn read(mut section: Section<'_>) -> Self {
        let mut rule = Self {
            add_query_params: parameters(&mut section, "addQueryParams"),
            add_body_params: parameters(&mut section, "addBodyParams"),
            ..Self::default()
        };
        if let Some(mut response) = section.section("response") {
            rule.issuer = response.text("issuer");
            rule.jwks_uri = response.text("jwks_uri");
            rule.authorization_endpoint = response.text("authorization_endpoint");
            // Metadata has many members and everybody may add some (RFC 8414 section 2): any key is welcome.
            rule.response = response.entries().map(|(key, node, _)| (key.to_owned(), json(node))).collect();
        }
        section.done();
        rule
    }
}

fn parameters(section: &mut Section<'_>, key: &str) -> Vec<(String, Placed<String>)> {
    let Some((node, path)) = section.node(key) else { return Vec::new() };
    let Node::List(nodes) = node else {
        section.wrong(&path, &format!("found {}", show(node)), "write a list of maps with name and value");
        return Vec::new();
    };
    let mut parameters = Vec::new();
    for (n, node) in nodes.iter().enumerate() {
        let place = path.index(n);
        let mut entry = section.below(node, place.clone());
        match (entry.text("name"), entry.text("value")) {
            (Some(name), Some(value)) => parameters.push((name.value, value)),
            _ => section.wrong(&place, "name or value is missing", "write both"),
        }
        entry.done();
    }
    parameters
}

impl Metadata {
    fn read(section: &mut Section<'_>) -> Self {
        let mut metadata = Self {
            resource_identifier: section.text("resource_identifier"),
            audience: section.list("audience"),
            scopes_supported: section
                .node("scopes_supported")
                .map(|(node, path)| Placed::new(node.clone(), path)),
            authorization_servers: section.list("authorization_servers"),
            jwks_uri: section.text("jwks_uri"),
            bearer_methods_supported: section.list("bearer_methods_supported"),
            extra: Vec::new(),
        };
        for stem in TEXT_MEMBERS {
            for key in std::iter::once((*stem).to_owned()).chain(section.tagged(stem)) {
                if let Some(text) = section.text(&key) {
                    metadata.extra.push((key, text.value.into()));
                }
            }
        }
        metadata
    }
}

pub(super) fn required_claims(section: Section<'_>) -> Vec<(String, Vec<String>)> {
    let mut claims = Vec::new();
    for (name, node, path) in section.entries() {
        let values: Vec<_> = section.texts(node, &path).into_iter().map(|text| text.value).collect();
        if ["iss", "aud", "exp", "nbf", "iat"].contains(&name) {
            section.wrong(&path, "this claim is always checked", "take it out; use issuer and audience");
        } else if values.is_empty() {
            section.wrong(&path, "no accepted value", "write one value or a list of values");
        } else {
            claims.push((name.to_owned(), values));
        }
    }
    claims
}

fn scope_hierarchy(section: Section<'_>) -> Vec<(Placed<String>, Vec<Placed<String>>)> {
    let entries = section.entries();
    entries
        .map(|(broader, node, path)| {
            let narrower = section.texts(node, &path).iter().flat_map(super::section::split).collect();
            (Placed::new(broader.to_owned(), path), narrower)
        })
        .collect()
}

fn path_mapping(section: Section<'_>) -> Vec<(Placed<String>, String)> {
    let mut mapping = Vec::new();
    for (from, node, path) in section.entries() {
        let to = section.texts(node, &path).into_iter().map(|text| text.value).next();
        match to {
            Some(to) if from.starts_with('/') && to.starts_with('/') => {
                mapping.push((Placed::new(from.to_owned(), path), to));
            }
            Some(_) => section.wrong(&path, "this maps no path to a path", "begin both with /"),
            None => {}
        }
    }
    mapping
}

impl Limits {
    fn read(mut section: Section<'_>) -> Self {
        let many = || 1..=1_000_000;
        let seconds = || 1..=l::CONFIG_SECONDS_MAX;
        let bytes_max = u64::try_from(l::BODY_BYTES_IN_FLIGHT_MAX).unwrap_or(u64::MAX);
        let limits = Self {
            message_bytes: section.number("message_bytes", 1024..=bytes_max),
            connections: section.number("connections", many()),
            connections_per_address: section.number("connections_per_address", many()),
            streams: section.number("streams", many()),
            streams_per_principal: section.number("streams_per_principal", many()),
            auth_failures_per_minute: section.number("auth_failures_per_minute", 0..=1_000_000),
            workers: section.number("workers", 1..=1024),
            head_seconds: section.number("head_seconds", seconds()),
            body_seconds: section.number("body_seconds", seconds()),
            idle_seconds: section.number("idle_seconds", seconds()),
            write_seconds: section.number("write_seconds", seconds()),
            stream_idle_seconds: section.number("stream_idle_seconds", 0..=l::CONFIG_SECONDS_MAX),
            drain_seconds: section.number("drain_seconds", 0..=l::CONFIG_SECONDS_MAX),
        };
        section.done();
        limits
    }
}

/// A node as JSON, for members that we only pass on.
fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value;
    match node {
        Node::Null | Node::Tagged => Value::Null,
        Node::Bool(value) => (*value).into(),
        Node::Int(value) => i64::try_from(*value).map_or_else(|_| value.to_string().into(), Value::from),
        Node::Float(value) => (*value).into(),
        Node::Text(text) => text.value.as_str().into(),
        Node::List(nodes) => nodes.iter().map(json).collect(),
        Node::Map(entries) => {
            Value::Object(entries.iter().map(|(key, node)| (key.clone(), json(node))).collect())
        }
    }
}
