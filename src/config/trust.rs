//! Who may issue tokens, where their keys are, and which audiences mean us.
//!
//! The original's files say this in several places, and in some not at all. The order of belief: `issuers` or
//! `issuer`; the `authorization_servers`; `default.path…response.issuer`; the organisation of `asgardeo` or `demo`.
//! Whatever is not said in so many words is a guess, and each guess becomes a note that names the settling line.

use super::file::{File, Metadata, Mode, Provider as Section};
use super::issuers;
use super::problem::Findings;
use super::resolve::Resolver;
use super::section::{Placed, quote};
use super::tree::Path;
use super::url::{Url, UrlFault};
use super::{Allowed, Introspection, Issuer, Paths, PublicUrl, Resource, Shape, Written};
use crate::auth::scope::ScopeSet;
use crate::limits::INTROSPECTION_SECONDS_MAX;

/// Where Asgardeo's organisations live.
const ASGARDEO: &str = "https://api.asgardeo.io/t/";
/// What Asgardeo puts behind an organisation's URL to make the `iss` of its tokens.
const ASGARDEO_ISSUER_PATH: &str = "/oauth2/token";
/// And its key set.
const ASGARDEO_JWKS_PATH: &str = "/oauth2/jwks";

/// Both halves of the answer.
pub(super) struct Trust {
    pub(super) issuers: Vec<Issuer>,
    pub(super) resource: Resource,
    /// Where the file names this proxy itself as an authorization server.
    pub(super) names_us: Option<Path>,
    /// Whether it names any other.
    pub(super) servers_written: bool,
}

/// One member of the metadata, from whichever of its places has it. Two that differ are a contradiction.
pub(super) fn metadata<'f, T: Same>(
    file: &'f File,
    findings: &Findings,
    key: &str,
    member: impl Fn(&'f Metadata) -> &'f Option<Placed<T>>,
) -> Option<&'f Placed<T>> {
    let mut given = places(file).filter_map(|metadata| member(metadata).as_ref());
    let first = given.next()?;
    for other in given.filter(|other| !first.value.same(&other.value)) {
        let found = format!("another {key} than that of {}", first.path);
        findings.problem_once(&other.path, found, format!("keep {} alone", first.path));
    }
    Some(first)
}

fn places(file: &File) -> impl Iterator<Item = &Metadata> {
    [
        &file.protected_resource_metadata,
        &file.asgardeo.metadata,
        &file.top_level_metadata,
        &file.demo.metadata,
    ]
    .into_iter()
}

/// Whether two values say the same, wherever they stand.
pub(super) trait Same {
    fn same(&self, other: &Self) -> bool;
}

impl Same for String {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Same for super::tree::Node {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Same for Vec<Placed<String>> {
    fn same(&self, other: &Self) -> bool {
        self.iter().map(|text| &text.value).eq(other.iter().map(|text| &text.value))
    }
}

/// `resource_identifier`, wherever it stands.
pub(super) fn resource_identifier(file: &File) -> Option<&Placed<String>> {
    places(file).find_map(|metadata| metadata.resource_identifier.as_ref())
}

/// Decides it.
pub(super) fn resolve(
    resolver: &Resolver<'_>,
    public: &PublicUrl,
    paths: &Paths,
    scopes: &ScopeSet,
) -> Option<Trust> {
    let Resolver { file, findings, .. } = resolver;
    let truster = Truster { resolver, file, findings, public, paths };
    let identifier = truster.identifier();
    let audiences = truster.audiences(&identifier);
    let (servers, names_us) = truster.authorization_servers();
    let issuers = truster.issuers(&servers, &audiences);
    let jwks_uri_told = metadata(file, findings, "jwks_uri", |m| &m.jwks_uri);
    if let Some(text) = jwks_uri_told {
        truster.key_url(text);
    }
    let bearer_methods_supported = truster.bearer_methods();
    if issuers.is_empty() {
        let told = file.issuers.is_some() || file.issuer.is_some() || !servers.is_empty();
        if let (false, Some(at)) = (told, &names_us) {
            let fix = "write issuer: the exact `iss` of the tokens of your identity provider";
            findings.problem(at, "this is the proxy itself, and nothing says who signs tokens", fix);
        } else if !told {
            let fix = "add protected_resource_metadata with authorization_servers, a list with the issuer \
                       of your identity provider: the exact `iss` of its tokens";
            let found = "missing: nothing says who may sign tokens";
            findings.problem(
                &resolver.top.key("protected_resource_metadata").key("authorization_servers"),
                found,
                fix,
            );
        }
        return None;
    }
    let authorization_servers = if servers.is_empty() {
        issuers.iter().map(|issuer| issuer.issuer.clone()).collect()
    } else {
        servers.iter().map(|text| text.value.clone()).collect()
    };
    let resource = Resource {
        identifier,
        authorization_servers,
        scopes_supported: truster.published(scopes),
        bearer_methods_supported,
        // The original's jwks_uri names the provider's keys; the member of RFC 9728 section 2 would name ours.
        jwks_uri: None,
        extra: places(file).flat_map(|metadata| metadata.extra.clone()).collect(),
    };
    Some(Trust { issuers, resource, names_us, servers_written: !servers.is_empty() })
}

/// The section that `--asgardeo`, `--demo` or `mode` asks for.
pub(super) fn organisation_by_mode<'f>(resolver: &Resolver<'f>) -> Option<&'f Section> {
    match resolver.mode() {
        Some(Mode::Asgardeo) => Some(&resolver.file.asgardeo),
        Some(Mode::Demo) => Some(&resolver.file.demo),
        Some(Mode::Default) | None => None,
    }
}

/// Where that section stands.
pub(super) fn section_path(resolver: &Resolver<'_>) -> Path {
    resolver.top.key(if resolver.mode() == Some(Mode::Demo) { "demo" } else { "asgardeo" })
}

/// The URL of an organisation: as written, or by its name in Asgardeo.
pub(super) fn organisation_base(resolver: &Resolver<'_>, section: &Section) -> Option<Placed<String>> {
    if let Some(text) = &section.base_url {
        return Some(Placed::new(text.value.trim_end_matches('/').to_owned(), text.path.clone()));
    }
    let org = section.org_name.as_ref()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !is_placeholder(org) && !org.bytes().all(fits) {
        let found = format!("{} is no name of an organisation", org.shown());
        let fix = "write it as it stands in https://api.asgardeo.io/t/NAME";
        resolver.findings.problem_once(&org.path, found, fix);
    }
    Some(Placed::new(format!("{ASGARDEO}{}", org.value), org.path.clone()))
}

struct Truster<'a> {
    resolver: &'a Resolver<'a>,
    file: &'a File,
    findings: &'a Findings,
    public: &'a PublicUrl,
    paths: &'a Paths,
}

impl Truster<'_> {
    /// RFC 9728 section 1.2: an absolute URL without a fragment.
    fn identifier(&self) -> String {
        let endpoint = self.public.join(&self.paths.streamable_http);
        let written = metadata(self.file, self.findings, "resource_identifier", |m| &m.resource_identifier);
        let Some(text) = written else { return endpoint };
        match Url::parse(text) {
            Ok(url) if url.origin() != self.public.origin() => self.findings.warn(
                &text.path,
                format!("it is not below {}, so clients are told another resource", self.public.join("")),
                "write the URL by which clients reach this proxy into proxy_base_url",
            ),
            Ok(_) => {}
            Err(fault) => {
                let fix = "write the URL of the protected endpoint";
                self.resolver.url_problem(text, fault, fix);
            }
        }
        text.value.clone()
    }

    /// Values of `aud` that mean us: what is written, and every URL that our metadata calls a resource (RFC 8707
    /// section 2: clients ask for a token for exactly that URL).
    fn audiences(&self, identifier: &str) -> Vec<String> {
        let written = metadata(self.file, self.findings, "audience", |m| &m.audience);
        let mut audiences: Vec<String> = Vec::new();
        match written.filter(|list| !list.value.is_empty()) {
            Some(list) => {
                for text in &list.value {
                    self.placeholder(text, "the value that your identity provider puts into `aud`");
                    audiences.push(text.value.clone());
                }
            }
            None => {
                let guessed = self.audience_parameters();
                let told: Vec<_> =
                    guessed.iter().map(String::as_str).chain([identifier]).map(quote).collect();
                let at = self.resolver.top.key("protected_resource_metadata").key("audience");
                self.findings.guess(
                    &at,
                    format!("not given; tokens for {} are accepted", told.join(" and ")),
                    "write protected_resource_metadata.audience: the value of `aud` in your tokens",
                );
                audiences.extend(guessed);
            }
        }
        let endpoints = [&self.paths.streamable_http, &self.paths.sse].map(|path| self.public.join(path));
        for own in std::iter::once(identifier.to_owned()).chain(endpoints) {
            if !audiences.contains(&own) {
                audiences.push(own);
            }
        }
        audiences
    }

    /// Audiences that the file has the identity provider asked for: they can only be meant for us.
    fn audience_parameters(&self) -> Vec<String> {
        let mut audiences: Vec<String> = Vec::new();
        for (_, rule) in &self.file.default.path {
            let parameters = rule.add_body_params.iter().chain(&rule.add_query_params);
            let named = parameters.filter(|(name, _)| name == "audience").map(|(_, value)| value.as_str());
            let query = rule.authorization_endpoint.as_ref().and_then(|text| text.split_once('?'));
            let pairs = query.map_or("", |(_, query)| query).split('&');
            let asked = pairs.filter_map(|pair| pair.strip_prefix("audience="));
            for audience in named.chain(asked.filter(|audience| !audience.contains(['%', '+']))) {
                if !audience.is_empty() && !audiences.iter().any(|known| known == audience) {
                    audiences.push(audience.to_owned());
                }
            }
        }
        audiences
    }

    /// Those that sign tokens, and the place where this proxy itself is among them.
    fn authorization_servers(&self) -> (Vec<Placed<String>>, Option<Path>) {
        let key = "authorization_servers";
        let written = metadata(self.file, self.findings, key, |m| &m.authorization_servers);
        let mut servers = written.map(|list| list.value.clone()).unwrap_or_default();
        let own = self.public.join("");
        let is_us = |text: &Placed<String>| text.trim_end_matches('/') == own;
        let at = servers.iter().find(|text| is_us(text)).map(|text| text.path.clone());
        servers.retain(|text| !is_us(text));
        (servers, at)
    }

    /// At least one, unless a problem was told or the file says nothing at all.
    fn issuers(&self, servers: &[Placed<String>], audiences: &[String]) -> Vec<Issuer> {
        let shape =
            self.file.provider.as_ref().and_then(|provider| Shape::of(provider.name)).unwrap_or_default();
        let algorithms = |shape: Shape| match &self.file.algorithms {
            Some(written) => written.clone(),
            None => Allowed::Listed(vec![shape.algorithm]),
        };
        let key = self.resolver.top.key("protected_resource_metadata").key("audience");
        let audience_at = metadata(self.file, self.findings, "audience", |m| &m.audience)
            .map_or(key, |list| list.path.clone());
        let issuer = |issuer: &str, at: &Path, jwks_uri: Option<String>| Issuer {
            written: Written {
                issuer: self.findings.place(at).into(),
                audience: self.findings.place(&audience_at).into(),
            },
            issuer: issuer.to_owned(),
            jwks_uri,
            audiences: audiences.to_vec(),
            algorithms: algorithms(shape),
            claims: shape.names(),
            required_claims: shape.required_claims(),
            ..Issuer::default()
        };
        if let Some(list) = &self.file.issuers {
            if let Some(one) = &self.file.issuer {
                self.findings.problem(&one.path, "given together with issuers", "move it into the list");
            }
            let mut issuers: Vec<Issuer> = Vec::new();
            for entry in &list.value {
                self.issuer_url(&entry.issuer);
                let jwks_uri = entry.jwks_uri.as_ref().map(|text| self.key_url(text));
                let mut found = issuer(&entry.issuer, &entry.issuer.path, jwks_uri);
                found.metadata_url = entry.metadata_url.as_ref().map(|text| self.key_url(text));
                if let Some(own) = entry.audience.as_ref().filter(|list| !list.value.is_empty()) {
                    found.audiences = own.value.iter().map(|text| text.value.clone()).collect();
                    found.written.audience = self.findings.place(&own.path).into();
                }
                let shape = entry.provider.unwrap_or(shape);
                found.algorithms = entry.algorithms.clone().unwrap_or_else(|| algorithms(shape));
                found.claims = entry.claims(shape, self.findings);
                found.required_claims = entry.required(shape);
                found.introspection = entry.introspection.as_ref().and_then(|one| self.introspection(one));
                if found.introspection.is_some() && issuers.iter().any(|other| other.introspection.is_some())
                {
                    let at = entry.introspection.as_ref().map_or(&entry.issuer.path, |one| &one.path);
                    self.findings.problem(
                        at,
                        "another issuer has introspection too, and an opaque token does not say whose it is",
                        "keep it for one issuer, and have the others issue JWT access tokens",
                    );
                }
                if issuers.iter().any(|other| other.issuer == found.issuer) {
                    self.findings.problem(
                        &entry.issuer.path,
                        "this issuer is listed twice",
                        "keep one entry",
                    );
                }
                issuers.push(found);
            }
            if list.value.is_empty() {
                self.findings.problem(&list.path, "no entry", "add an entry with issuer, or take it out");
            }
            return issuers;
        }
        if let Some(one) = &self.file.issuer {
            self.issuer_url(one);
            return vec![issuer(one, &one.path, self.keys_of(one, true))];
        }
        if !servers.is_empty() {
            let mut issuers = Vec::new();
            for text in servers {
                self.issuer_url(text);
                let keys = self.keys_of(text, servers.len() == 1);
                issuers.push(issuer(text, &text.path, keys.clone()));
                // The original's files name the organisation; its tokens name the endpoint below it.
                if let Some(base) = self.organisation_of(text) {
                    let real = format!("{base}{ASGARDEO_ISSUER_PATH}");
                    let keys = keys.or_else(|| Some(format!("{base}{ASGARDEO_JWKS_PATH}")));
                    let note = format!("Asgardeo's tokens say {real}, which is accepted as well");
                    self.findings.guess(&text.path, note, format!("write issuer: {real}"));
                    issuers.push(issuer(&real, &text.path, keys));
                }
            }
            return issuers;
        }
        if let Some(one) = self.default_issuer() {
            self.issuer_url(one);
            let text = format!("not given; {} is taken from {}", quote(&one.value), one.path);
            let hint = format!("write issuer: {}", one.value);
            self.findings.guess(&self.resolver.top.key("issuer"), text, hint);
            return vec![issuer(one, &one.path, self.keys_of(one, true))];
        }
        let Some(org) = self.organisation() else { return Vec::new() };
        let base = &org.value;
        self.issuer_url(&org);
        let real = format!("{base}{ASGARDEO_ISSUER_PATH}");
        let text = format!("the issuer is {}", quote(&real));
        self.findings.guess(&org.path, text, format!("write issuer: {real}"));
        let keys = self.keys_of(&Placed::new(real.clone(), org.path.clone()), true);
        vec![issuer(&real, &org.path, keys.or_else(|| Some(format!("{base}{ASGARDEO_JWKS_PATH}"))))]
    }

    /// Complete, or told what is missing.
    fn introspection(&self, written: &Placed<issuers::Introspection>) -> Option<Introspection> {
        let missing = |key: &str, fix: &str| self.findings.problem(&written.path.key(key), "missing", fix);
        if written.client_id.is_none() {
            missing("client_id", "write the client as which this proxy is known to the issuer");
        }
        if written.client_secret.is_none() {
            missing("client_secret", "write it, or client_secret_file with the name of a file that holds it");
        }
        Some(Introspection {
            endpoint: written.endpoint.as_ref().map(|text| self.key_url(text)),
            client_id: written.client_id.as_ref()?.value.clone(),
            client_secret: written.client_secret.as_ref()?.value.clone(),
            method: written.auth_method,
            cache_seconds: written
                .cache_seconds
                .as_ref()
                .map_or(INTROSPECTION_SECONDS_MAX, |seconds| i64::try_from(seconds.value).unwrap_or(0)),
        })
    }

    /// The issuer in a hand-written answer to a metadata request.
    fn default_issuer(&self) -> Option<&Placed<String>> {
        let rules = &self.file.default.path;
        let proper = |path: &str| path.starts_with("/.well-known/");
        let first = rules.iter().find(|(path, rule)| proper(path) && rule.issuer.is_some());
        first.or_else(|| rules.iter().find(|(_, rule)| rule.issuer.is_some()))?.1.issuer.as_ref()
    }

    /// The URL of the organisation whose tokens are accepted when nothing else says so.
    fn organisation(&self) -> Option<Placed<String>> {
        let (asgardeo, demo) = (&self.file.asgardeo, &self.file.demo);
        let given = |section: &'_ Section| section.org_name.is_some() || section.base_url.is_some();
        let real = |section: &'_ Section| !section.org_name.as_ref().is_some_and(|org| is_placeholder(org));
        let section = match organisation_by_mode(self.resolver) {
            Some(section) => section,
            None if given(asgardeo) && real(asgardeo) || !given(demo) => asgardeo,
            None => demo,
        };
        if let Some(org) = &section.org_name {
            self.placeholder(org, "the name of your organisation in Asgardeo");
        }
        organisation_base(self.resolver, section)
    }

    /// The URL of the organisation that an authorization server is, where its tokens name the endpoint below it.
    fn organisation_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        let own = organisation_by_mode(self.resolver).and_then(|section| section.base_url.as_ref());
        let bare = text.trim_end_matches('/');
        let ours = own.is_some_and(|own| own.trim_end_matches('/') == bare);
        asgardeo_base(text).or_else(|| ours.then_some(bare))
    }

    /// Where the keys of an issuer are, if the file says so. One `jwks_uri` and several issuers belong together
    /// only where they share an origin: a key set that vouches for two issuers mixes them up.
    fn keys_of(&self, issuer: &Placed<String>, only: bool) -> Option<String> {
        let from_metadata = metadata(self.file, self.findings, "jwks_uri", |m| &m.jwks_uri);
        let responses = self.file.default.path.iter().filter_map(|(_, rule)| rule.jwks_uri.as_ref());
        let mut told = from_metadata.into_iter().chain(&self.file.default.jwks_url).chain(responses);
        let keys = told.next()?;
        let origin = |text: &str| Url::parse(text).map(|url| url.origin()).ok();
        if only || origin(keys) == origin(issuer) {
            return Some(self.key_url(keys));
        }
        let note = format!("its keys are found by discovery, {} is on another host", keys.path);
        self.findings.guess(&issuer.path, note, "write issuers, a list with issuer and jwks_uri");
        None
    }

    /// RFC 8414 section 2: https, no query, no fragment. Plain http never leaves this machine.
    fn issuer_url(&self, text: &Placed<String>) {
        if self.placeholder(text, "the issuer of your identity provider") {
            return;
        }
        if text.contains(['{', '*']) {
            let found =
                format!("{} stands for many issuers, and each one is trusted by its name", text.shown());
            let fix = "write issuers, a list with an entry for each tenant that is trusted";
            self.findings.problem(&text.path, found, fix);
            return;
        }
        match Url::parse(text) {
            Ok(url) if url.tls || url.is_loopback() => {}
            Ok(_) => {
                let found = format!("{} is http, on another machine", text.shown());
                self.findings.problem(&text.path, found, "write its https:// URL (RFC 8414 section 2)");
            }
            Err(fault) => {
                self.resolver.url_problem(text, fault, "write the exact `iss` of its tokens");
            }
        }
    }

    /// Keys over plain http could be anybody's.
    fn key_url(&self, text: &Placed<String>) -> String {
        // A query may belong to the URL of a key set.
        let bare = text.split_once('?').map_or(text.as_str(), |(bare, _)| bare);
        match Url::parse(bare) {
            Ok(url) if url.tls || url.is_loopback() => {}
            Ok(_) => {
                let found = format!("{} is http, on another machine", text.shown());
                self.findings.problem_once(&text.path, found, "write an https:// URL");
            }
            Err(UrlFault::Path) if is_placeholder(text) => {}
            Err(fault) => {
                let found = format!("{} is not asked for anything: {fault}", text.shown());
                self.findings.problem_once(
                    &text.path,
                    found,
                    "write the https:// URL of your identity provider",
                );
            }
        }
        text.value.clone()
    }

    /// RFC 9728 section 2 knows header, body and query; a token is taken from the header alone (RFC 6750 section 2.1).
    fn bearer_methods(&self) -> Vec<String> {
        let key = "bearer_methods_supported";
        let written = metadata(self.file, self.findings, key, |m| &m.bearer_methods_supported);
        for text in written.map_or(&[][..], |list| list.value.as_slice()) {
            match text.as_str() {
                "header" => {}
                "body" | "query" => self.findings.ignored(
                    &text.path,
                    format!("tokens in the {} are not accepted, so this is not published", text.value),
                    "keep header alone",
                ),
                _ => {
                    let found = format!("{} is no method", text.shown());
                    self.findings.problem(&text.path, found, "write header");
                }
            }
        }
        vec!["header".to_owned()]
    }

    /// RS-11: `offline_access` is between a client and its authorization server.
    fn published(&self, scopes: &ScopeSet) -> ScopeSet {
        let mut published = scopes.clone();
        published.0.retain(|scope| scope.as_str() != "offline_access");
        if published.0.len() < scopes.0.len()
            && let Some(written) = places(self.file).find_map(|m| m.scopes_supported.as_ref())
        {
            let text = "offline_access is not published: it is no scope of a resource";
            self.findings.ignored(&written.path, text, "take it out");
        }
        published
    }

    /// Whether a text is still what documentation has in its place; then it is told.
    fn placeholder(&self, text: &Placed<String>, what: &str) -> bool {
        if is_placeholder(text) {
            let found = format!("{} is a placeholder, so no token will be accepted", text.shown());
            self.findings.warn(&text.path, found, format!("write {what}"));
        }
        is_placeholder(text)
    }
}

/// `<org_name>` and the like.
fn is_placeholder(text: &str) -> bool {
    text.split_once('<').is_some_and(|(_, rest)| rest.contains('>'))
}

/// `https://api.asgardeo.io/t/ORG`, without the slash that may follow, where an issuer is just that.
fn asgardeo_base(issuer: &str) -> Option<&str> {
    let org = issuer.strip_prefix(ASGARDEO)?.trim_end_matches('/');
    (!org.is_empty() && !org.contains('/')).then(|| issuer.trim_end_matches('/'))
}
