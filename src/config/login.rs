//! The login relay: whether it is on, which provider stands behind it, and what is changed on the way there.
//!
//! The original always serves it; here it is on where its file asks for it, in so many words or by describing a provider
//! in `default`, `path_mapping` or an organisation with `mode`. Whoever writes nothing of this has clients log in at the
//! identity provider itself, which is what MCP since 2025-06-18 does anyway (decision D2).

use serde_json::{Map, Value};

use super::file::{File, LoginRelay, Mode, PathRule, Provider as Section};
use super::problem::Findings;
use super::resolve::{Resolver, path_fault};
use super::section::{Placed, quote};
use super::trust::{self, Trust};
use super::{Paths, PublicUrl};
use crate::metadata;
use crate::provider::document::{AUTHORIZE, OAUTH, OPENID, REGISTER, TOKEN};
use crate::provider::preset::Preset;
use crate::secret::Secret;

/// Names and values.
pub type Parameters = Vec<(String, String)>;

/// What is served of the login, and for whom.
#[derive(Clone, Debug)]
pub struct Login {
    /// Whether our metadata names us as the authorization server; otherwise only clients that look here on their own
    /// log in through us, as those of MCP 2025-03-26 do.
    pub advertised: bool,
    /// Who stands behind it.
    pub source: Source,
    /// What is special about them.
    pub preset: &'static Preset,
    /// What is added on the way.
    pub added: Added,
    /// Values of `resource` that mean us, the audience to ask for first.
    pub audiences: Vec<String>,
    /// Further paths of `path_mapping`: ours, and the URL behind it.
    pub passed: Vec<(String, String)>,
}

/// Who stands behind the relay.
#[derive(Clone, Debug)]
pub enum Source {
    /// A provider that is described, or found by its issuer.
    Described(Described),
    /// An organisation in Asgardeo, or a WSO2 Identity Server.
    Asgardeo(Asgardeo),
}

/// What the file says of a provider.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its issuer, whose metadata is asked where the file does not describe it.
    pub issuer: String,
    /// Where that metadata is, if not in its usual places.
    pub metadata: Option<String>,
    /// `default.base_url`, without a slash at its end.
    pub base: Option<String>,
    /// `default.path./.well-known/….response`.
    pub response: Map<String, Value>,
    /// Endpoints by `path_mapping`.
    pub mapped: Mapped,
    /// Endpoints for which something is changed, so that clients must come to us.
    pub changes: Changes,
}

/// Endpoints by `path_mapping`, as URLs.
#[derive(Clone, Debug, Default)]
pub struct Mapped {
    /// Of `/authorize`.
    pub authorize: Option<String>,
    /// Of `/token`.
    pub token: Option<String>,
    /// Of `/register`.
    pub register: Option<String>,
}

/// Whether requests to an endpoint go on changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// `/authorize`
    pub authorize: bool,
    /// `/token`
    pub token: bool,
    /// `/register`
    pub register: bool,
}

/// An organisation.
#[derive(Clone, Debug)]
pub struct Asgardeo {
    /// `https://api.asgardeo.io/t/ORG` or the like, without a slash at its end.
    pub base: String,
    /// The authorization endpoint.
    pub authorize: String,
    /// The token endpoint.
    pub token: String,
    /// Of an application that may create applications; without it, clients cannot register.
    pub credentials: Option<(String, Secret)>,
    /// Values of `aud` that registered clients' tokens are to have.
    pub audiences: Vec<String>,
}

/// What is added to requests on their way.
#[derive(Clone, Debug, Default)]
pub struct Added {
    /// To the query of the authorization endpoint.
    pub authorize_query: Parameters,
    /// To the URL of the token endpoint.
    pub token_query: Parameters,
    /// To the form, or the JSON, of a token request.
    pub token_body: Parameters,
    /// To the URL of the registration endpoint.
    pub register_query: Parameters,
    /// To the JSON of a registration.
    pub register_body: Parameters,
}

/// What belongs to the client and to nobody else: with one of these in the file, every client would be the same one to
/// the provider, and its users would consent for all of them.
const OF_THE_CLIENT: [&str; 12] = [
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "redirect_uri",
    "redirect_uris",
    "state",
    "code",
    "code_verifier",
    "code_challenge",
    "code_challenge_method",
    "refresh_token",
];

/// Decides it, and names us in the metadata where that follows.
pub(super) fn resolve(
    resolver: &Resolver<'_>,
    public: &PublicUrl,
    paths: &Paths,
    trust: &mut Trust,
) -> Option<Login> {
    let File { default, path_mapping, login_relay, .. } = resolver.file;
    let findings = resolver.findings;
    let organisation = trust::organisation_by_mode(resolver);
    let described = default.base_url.is_some() || !default.path.is_empty() || !path_mapping.is_empty();
    let written = login_relay.as_ref().map(|written| written.value);
    let named = trust.names_us.clone();
    if written == Some(LoginRelay::Off) {
        if let Some(named) = named {
            let fix = "write login_relay: advertised, or name the identity provider";
            findings.problem(&named, "this is the proxy itself, while login_relay is off", fix);
        }
        without_effect(resolver);
        return None;
    }
    if written.is_none() && named.is_none() && organisation.is_none() && !described {
        return None;
    }
    let advertised = match written {
        Some(LoginRelay::Advertised) => true,
        Some(LoginRelay::On | LoginRelay::Off) => named.is_some(),
        None => named.is_some() || organisation.is_some() && !trust.servers_written,
    };
    let reader = Reader { resolver, findings, public, paths };
    let preset = reader.preset(organisation.is_some());
    let issuer = trust.issuers.first()?.issuer.clone();
    let mut added = reader.added();
    let login = match organisation {
        Some(section) => {
            let Some(base) = trust::organisation_base(resolver, section) else {
                let demo = resolver.mode() == Some(Mode::Demo);
                let fix = match demo {
                    true => {
                        "write demo: { org_name: openmcpauthdemo }, the public sandbox, or an organisation of yours"
                    }
                    false => {
                        "write asgardeo: { org_name: NAME }, the name as in https://api.asgardeo.io/t/NAME, or base_url"
                    }
                };
                let at = trust::section_path(resolver).key("org_name");
                findings.problem(&at, "missing, while the mode asks for it", fix);
                return None;
            };
            let base = base.value;
            if !trust.issuers.iter().any(|one| is_below(&one.issuer, &base)) {
                let accepted: Vec<&str> = trust.issuers.iter().map(|one| one.issuer.as_str()).collect();
                let told =
                    format!("logins go to {base}, while tokens are accepted from {}", accepted.join(", "));
                let fix = format!(
                    "take authorization_servers, jwks_uri and issuer out, or write issuer: {base}/oauth2/token"
                );
                findings.warn(&trust::section_path(resolver), told, fix);
            }
            let (mapped, _, passed) = reader.mapped(&base);
            let endpoint =
                |mapped: Option<String>, path: &str| mapped.unwrap_or_else(|| format!("{base}{path}"));
            let settings = Asgardeo {
                authorize: endpoint(mapped.authorize, "/oauth2/authorize"),
                token: endpoint(mapped.token, "/oauth2/token"),
                credentials: reader.credentials(section),
                audiences: reader.own_urls(&trust.resource.identifier),
                base,
            };
            // Of a hand-written body nothing would be left: applications have a shape of their own.
            added.register_body.clear();
            (Source::Asgardeo(settings), passed)
        }
        None => {
            let base = default.base_url.as_ref().and_then(|text| reader.base(text));
            let below = base.clone().unwrap_or_else(|| issuer.trim_end_matches('/').to_owned());
            let (mapped, metadata, passed) = reader.mapped(&below);
            let changes = Changes {
                authorize: !added.authorize_query.is_empty() || preset.adapts(),
                token: !added.token_query.is_empty() || !added.token_body.is_empty() || preset.adapts(),
                register: !added.register_query.is_empty() || !added.register_body.is_empty(),
            };
            let response = reader.response();
            let metadata = metadata.or_else(|| trust.issuers.first()?.metadata_url.clone());
            (Source::Described(Described { issuer, metadata, base, response, mapped, changes }), passed)
        }
    };
    if advertised {
        let own = public.join("");
        let others = std::mem::take(&mut trust.resource.authorization_servers);
        trust.resource.authorization_servers.push(own);
        if named.is_some() && trust.servers_written {
            trust.resource.authorization_servers.extend(others);
        }
    }
    let audiences = trust.issuers.first().map(|issuer| issuer.audiences.clone()).unwrap_or_default();
    let (source, passed) = login;
    Some(Login { advertised, source, preset, added, audiences, passed })
}

/// Whether an issuer is that organisation, or an endpoint of it.
fn is_below(issuer: &str, base: &str) -> bool {
    issuer.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What does nothing while the relay is off.
fn without_effect(resolver: &Resolver<'_>) {
    let File { default, path_mapping, .. } = resolver.file;
    let why = "not used: login_relay is off, so clients talk to the identity provider themselves";
    if !path_mapping.is_empty() {
        resolver.findings.ignored(
            &resolver.top.key("path_mapping"),
            why,
            "it may stay; nothing depends on it",
        );
    }
    let adds = |rule: &PathRule| !rule.add_body_params.is_empty() || !rule.add_query_params.is_empty();
    if let Some((place, _)) = default.path.iter().find(|(_, rule)| adds(rule)) {
        resolver.findings.ignored(&place.path, why, "it may stay; nothing depends on it");
    }
}

struct Reader<'a> {
    resolver: &'a Resolver<'a>,
    findings: &'a Findings,
    public: &'a PublicUrl,
    paths: &'a Paths,
}

impl Reader<'_> {
    fn preset(&self, organisation: bool) -> &'static Preset {
        let Some(written) = &self.resolver.file.provider else {
            let entry = self.resolver.file.issuers.as_ref().and_then(|list| list.value.first());
            let named = entry.and_then(|entry| entry.provider).map_or("generic", |shape| shape.provider);
            let name = if organisation { "asgardeo" } else { named };
            return Preset::named(name).unwrap_or_else(Preset::generic);
        };
        if organisation && written.value.name != "asgardeo" {
            let found = format!("{}, while mode says that Asgardeo stands behind us", written.value.name);
            self.findings.problem(&written.path, found, "take one of the two lines out");
        }
        written.value
    }

    /// `default.base_url`: requests with codes and secrets go there.
    fn base(&self, text: &Placed<String>) -> Option<String> {
        let url = self.resolver.url(text, "write the URL of your identity provider")?;
        if !url.tls && !url.is_loopback() {
            let found = format!("{} is http, on another machine", text.shown());
            self.findings.problem(&text.path, found, "write its https:// URL (RFC 6749 section 3.2)");
        }
        Some(text.value.trim_end_matches('/').to_owned())
    }

    fn credentials(&self, section: &Section) -> Option<(String, Secret)> {
        let at = |key: &str| trust::section_path(self.resolver).key(key);
        let id = section.client_id.as_ref().filter(|id| !id.is_empty());
        let secret = section.client_secret.as_ref().filter(|secret| !secret.value.expose().is_empty());
        match (id, secret) {
            (Some(id), Some(secret)) => Some((id.value.clone(), secret.value.clone())),
            (Some(_), None) => {
                let fix = "write client_secret, or client_secret_file, of an application that may create applications";
                self.findings.problem(&at("client_secret"), "missing, while client_id is given", fix);
                None
            }
            _ => {
                let text = "not given, so clients cannot register through this proxy";
                self.findings.guess(&at("client_id"), text, "write client_id and client_secret");
                None
            }
        }
    }

    fn own_urls(&self, identifier: &str) -> Vec<String> {
        let mut urls = vec![identifier.to_owned()];
        for path in [&self.paths.streamable_http, &self.paths.sse] {
            let url = self.public.join(path);
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        urls
    }

    /// `path_mapping` below `base`: our own paths, the place of the metadata, and the rest.
    fn mapped(&self, base: &str) -> (Mapped, Option<String>, Parameters) {
        let (mut mapped, mut metadata, mut passed) = (Mapped::default(), None, Vec::new());
        for (from, to) in &self.resolver.file.path_mapping {
            let url = format!("{base}{to}");
            let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}#?".contains(&b);
            if !to.bytes().all(plain) {
                self.findings.problem(&from.path, "what it is mapped to is no path", "write a plain path");
            }
            match from.as_str() {
                AUTHORIZE => mapped.authorize = Some(url),
                TOKEN => mapped.token = Some(url),
                REGISTER => mapped.register = Some(url),
                OAUTH => metadata = Some(url),
                OPENID => metadata = metadata.or(Some(url)),
                path if path.starts_with("/.well-known/") => {
                    self.findings.ignored(&from.path, "not served under that name", "take the line out");
                }
                path => {
                    self.own_path(from, path);
                    passed.push((path.to_owned(), url));
                }
            }
        }
        (mapped, metadata, passed)
    }

    /// A path that is served for the login must not be one of MCP's.
    fn own_path(&self, at: &Placed<String>, path: &str) {
        let Paths { streamable_http, sse, messages } = self.paths;
        let bare = |path: &str| path.trim_end_matches('/').to_owned();
        if let Some(why) = path_fault(path) {
            let found = format!("{} {why}", quote(path));
            self.findings.problem(&at.path, found, "write a plain path, such as /revoke");
        } else if [streamable_http, sse, messages].into_iter().any(|known| bare(known) == bare(path)) {
            let found = format!("{} is where MCP is spoken", quote(path));
            self.findings.problem(&at.path, found, "map another path, or take the line out");
        }
    }

    fn response(&self) -> Map<String, Value> {
        let rules = &self.resolver.file.default.path;
        let of = |path: &str| {
            rules.iter().find(|(place, rule)| place.as_str() == path && !rule.response.is_empty())
        };
        let rule = of(OAUTH).or_else(|| of(OPENID));
        rule.map(|(_, rule)| rule.response.iter().cloned().collect()).unwrap_or_default()
    }

    fn added(&self) -> Added {
        let mut added = Added::default();
        for (place, rule) in &self.resolver.file.default.path {
            let parameters = |list: &[(String, Placed<String>)]| -> Parameters {
                list.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect()
            };
            for (name, value) in rule.add_query_params.iter().chain(&rule.add_body_params) {
                if OF_THE_CLIENT.contains(&name.as_str()) {
                    let found =
                        format!("{name} is the client's own, and adding it would make all clients one");
                    let fix = "take it out; each client registers, or is configured with a client_id";
                    self.findings.problem(&value.path, found, fix);
                }
            }
            let (query, body) = (parameters(&rule.add_query_params), parameters(&rule.add_body_params));
            let ignored = |what: &str| self.findings.ignored(&place.path, what, "take it out");
            match place.as_str() {
                AUTHORIZE => {
                    added.authorize_query = query;
                    if !body.is_empty() {
                        ignored("its addBodyParams are not used: a browser is sent on with a query alone");
                    }
                }
                TOKEN => (added.token_query, added.token_body) = (query, body),
                REGISTER => (added.register_query, added.register_body) = (query, body),
                OAUTH | OPENID => {
                    if !query.is_empty() || !body.is_empty() {
                        ignored("nothing is added to a request for metadata");
                    }
                }
                path if path.starts_with(metadata::WELL_KNOWN) => {
                    ignored("not used: protected_resource_metadata says what is served there");
                }
                _ => ignored("not used: rules are for /authorize, /token, /register and their metadata"),
            }
        }
        added
    }
}
