//! What an issuer says about itself in its metadata (RFC 8414 section 3, OpenID Connect Discovery 1.0 section 4), and
//! where to ask for it. Pure; [`super::fetch`] asks.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use super::fault::{Near, Shown};
use super::json::{self, Bounds, Json, Object};
use super::reach::Reach;
use crate::config::Algorithm;
use crate::limits::JWKS_BYTES_MAX;

/// Why a URL is not fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UrlFault {
    /// It is no absolute `http` or `https` URL with a host.
    NotAUrl,
    /// It has a fragment, or a user name or password.
    Extras,
    /// It is `http` and its host is not this machine: whoever is on the way could put in keys of his own.
    Plain,
}

impl fmt::Display for UrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAUrl => "it is no absolute https URL",
            Self::Extras => "it has a fragment or a user name",
            Self::Plain => {
                "it is http, which is accepted for localhost, 127.0.0.0/8 and [::1] alone; use https"
            }
        })
    }
}

/// Whether keys may be fetched from `url`: HTTPS, or HTTP from this machine itself.
///
/// # Errors
/// What [`UrlFault`] says.
pub fn check_url(url: &str) -> Result<(), UrlFault> {
    let parsed: Uri = url.parse().map_err(|_| UrlFault::NotAUrl)?;
    let host = parsed.host().filter(|host| !host.is_empty()).ok_or(UrlFault::NotAUrl)?;
    let user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if user || url.contains('#') {
        return Err(UrlFault::Extras);
    }
    match parsed.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(host) => Ok(()),
        Some("http") => Err(UrlFault::Plain),
        _ => Err(UrlFault::NotAUrl),
    }
}

/// Whether a host, as it stands in a URL, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The URLs at which the metadata of `issuer` may be, in the order in which MCP clients look for it: RFC 8414 section
/// 3.1, its OpenID variant with path insertion, and OpenID Connect Discovery section 4.1, which appends.
#[must_use]
pub fn metadata_urls(issuer: &str) -> Vec<String> {
    let Some(start) = issuer.find("://").map(|at| at + 3) else { return Vec::new() };
    let path_at = issuer.get(start..).and_then(|rest| rest.find('/')).map_or(issuer.len(), |at| start + at);
    let (origin, path) = issuer.split_at(path_at);
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut urls = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        urls.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    urls
}

/// Why a text is not the metadata of an issuer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MetadataFault {
    /// It is longer than any metadata.
    TooLong,
    /// It is not one JSON object.
    Json(json::Fault),
    /// It has no `issuer`, or it is no string.
    NoIssuer,
    /// It is somebody else's (RFC 8414 section 3.3).
    IssuerDiffers {
        /// Whose it says it is.
        found: Shown,
        /// What nearly makes them equal.
        near: Option<Near>,
    },
    /// It is that of many tenants at once, and its issuer has a place for one of them.
    IssuerIsTemplate(Shown),
    /// It does not name an endpoint that is needed, or not by a string.
    Lacks(&'static str),
    /// An endpoint in it is not one that is asked.
    Endpoint(&'static str, Shown, UrlFault),
}

impl fmt::Display for MetadataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {JWKS_BYTES_MAX} bytes"),
            Self::Json(why) => write!(f, "{why}"),
            Self::NoIssuer => f.write_str("it has no issuer"),
            Self::IssuerIsTemplate(found) => write!(
                f,
                "it says issuer {found}, which stands for many tenants; write an entry of issuers for each tenant that \
                 is trusted, with the tenant's own issuer"
            ),
            Self::IssuerDiffers { found, near } => {
                write!(f, "it says issuer {found}, which is not the configured one")?;
                match near {
                    Some(near) => write!(f, ": {near}; write {found}, character for character"),
                    None => write!(f, "; if {found} signs the tokens, write that"),
                }
            }
            Self::Lacks(endpoint) => write!(f, "it has no {endpoint}; write {}", key_of(endpoint)),
            Self::Endpoint(endpoint, url, why) => {
                write!(f, "its {endpoint} {url} is not used: {why}; or write {}", key_of(endpoint))
            }
        }
    }
}

/// The key of the configuration that says what the metadata does not.
fn key_of(endpoint: &str) -> &str {
    if endpoint == INTROSPECTION_ENDPOINT { "introspection.endpoint" } else { endpoint }
}

/// Where the keys are.
const JWKS_URI: &str = "jwks_uri";
/// Where the issuer tells what it thinks of a token (RFC 8414 section 2).
const INTROSPECTION_ENDPOINT: &str = "introspection_endpoint";

/// A URL, and how far it may reach.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The URL.
    pub url: String,
    /// How far it may reach.
    pub reach: Reach,
}

impl Place {
    /// One that the operator wrote down.
    #[must_use]
    pub fn named(url: &str) -> Self {
        Self { url: url.to_owned(), reach: Reach::Named }
    }
}

/// What the metadata of an issuer says, as far as it matters here. An endpoint that is not there is an error only for
/// whoever needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Metadata {
    /// Where its keys are.
    pub jwks_uri: Result<Place, MetadataFault>,
    /// Where it may be asked about a token.
    pub introspection_endpoint: Result<Place, MetadataFault>,
    /// With what it says it signs. That list is about ID tokens; nothing registered speaks of access tokens, and no
    /// issuer is known that signs them by other RSA algorithms.
    pub algorithms: Vec<Algorithm>,
}

impl Metadata {
    /// Reads the metadata of `issuer` (RFC 8414 sections 2 and 3.3), found at `url`.
    ///
    /// # Errors
    /// Where the text is not that issuer's metadata.
    pub fn read(text: &[u8], issuer: &str, url: &str) -> Result<Self, MetadataFault> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(MetadataFault::TooLong);
        }
        let metadata = json::read(text, Bounds::METADATA).map_err(MetadataFault::Json)?;
        let Some(Json::String(found)) = metadata.get("issuer") else { return Err(MetadataFault::NoIssuer) };
        if found != issuer {
            if found.contains('{') {
                return Err(MetadataFault::IssuerIsTemplate(Shown::of(found)));
            }
            let near = Near::between(found, issuer);
            return Err(MetadataFault::IssuerDiffers { found: Shown::of(found), near });
        }
        let named = [issuer, url];
        let said = metadata.get("id_token_signing_alg_values_supported");
        let said = if let Some(Json::Array(list)) = said { list.as_slice() } else { &[] };
        let algorithm = |name: &Json| match name {
            Json::String(name) => Algorithm::named(name),
            _ => None,
        };
        Ok(Self {
            jwks_uri: endpoint(&metadata, JWKS_URI, &named),
            introspection_endpoint: endpoint(&metadata, INTROSPECTION_ENDPOINT, &named),
            algorithms: said.iter().filter_map(algorithm).collect(),
        })
    }
}

fn endpoint(metadata: &Object, name: &'static str, named: &[&str]) -> Result<Place, MetadataFault> {
    let Some(Json::String(url)) = metadata.get(name) else { return Err(MetadataFault::Lacks(name)) };
    check_url(url).map_err(|why| MetadataFault::Endpoint(name, Shown::of(url), why))?;
    let reach = Reach::of(url, named);
    if reach == Reach::Public && !url.starts_with("https://") {
        return Err(MetadataFault::Endpoint(name, Shown::of(url), UrlFault::Plain));
    }
    Ok(Place { url: url.to_string(), reach })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for (url, expected) in [
            ("https://idp.example/jwks", Ok(())),
            ("https://10.0.0.1:8443/jwks?a=b", Ok(())),
            ("http://localhost:8080/jwks", Ok(())),
            ("http://LOCALHOST/jwks", Ok(())),
            ("http://127.8.0.1/jwks", Ok(())),
            ("http://[::1]:80/jwks", Ok(())),
            ("http://idp.example/jwks", Err(UrlFault::Plain)),
            ("http://10.0.0.1/jwks", Err(UrlFault::Plain)),
            ("http://localhost.evil.example/jwks", Err(UrlFault::Plain)),
            ("http://127.0.0.1.evil.example/jwks", Err(UrlFault::Plain)),
            ("http://localhost@evil.example/jwks", Err(UrlFault::Extras)),
            ("https://a:b@idp.example/", Err(UrlFault::Extras)),
            ("https://idp.example/#a", Err(UrlFault::Extras)),
            ("ftp://localhost/", Err(UrlFault::NotAUrl)),
            ("file:///etc/passwd", Err(UrlFault::NotAUrl)),
            ("/jwks", Err(UrlFault::NotAUrl)),
            ("https://", Err(UrlFault::NotAUrl)),
            ("https://a b/", Err(UrlFault::NotAUrl)),
            ("", Err(UrlFault::NotAUrl)),
        ] {
            assert_eq!(check_url(url), expected, "{url}");
        }
    }

    /// RFC 8414 sections 3.1 and 5, OpenID Connect Discovery section 4.1.
    #[test]
    fn metadata_is_looked_for_in_three_places() {
        let known = "/.well-known/";
        for (issuer, urls) in [
            (
                "https://a",
                vec![
                    format!("https://a{known}oauth-authorization-server"),
                    format!("https://a{known}openid-configuration"),
                ],
            ),
            (
                "https://a/",
                vec![
                    format!("https://a{known}oauth-authorization-server"),
                    format!("https://a{known}openid-configuration"),
                ],
            ),
            (
                "https://a:8443/realms/b/",
                vec![
                    format!("https://a:8443{known}oauth-authorization-server/realms/b"),
                    format!("https://a:8443{known}openid-configuration/realms/b"),
                    format!("https://a:8443/realms/b{known}openid-configuration"),
                ],
            ),
            ("no-url", vec![]),
        ] {
            assert_eq!(metadata_urls(issuer), urls, "{issuer}");
        }
    }

    /// RFC 8414 section 3.3.
    #[test]
    fn metadata_must_be_the_issuers_own() {
        let differs = |found, near| Err(MetadataFault::IssuerDiffers { found: Shown::of(found), near });
        let lacks = || Ok(Err(MetadataFault::Lacks("jwks_uri")));
        let plain = |url| Ok(Err(MetadataFault::Endpoint("jwks_uri", Shown::of(url), UrlFault::Plain)));
        let place = |url: &str, reach| Ok(Ok(Place { url: url.into(), reach }));
        for (text, expected) in [
            (
                r#"{"issuer":"https://a","jwks_uri":"https://a/keys","x":1}"#,
                place("https://a/keys", Reach::Named),
            ),
            (r#"{"issuer":"https://a","jwks_uri":"https://b/keys"}"#, place("https://b/keys", Reach::Public)),
            (r#"{"issuer":"https://a","jwks_uri":"https://[::1]/"}"#, place("https://[::1]/", Reach::Public)),
            (r#"{"issuer":"https://a","jwks_uri":"http://127.0.0.1/jwks"}"#, plain("http://127.0.0.1/jwks")),
            (r#"{"issuer":"https://a","jwks_uri":"http://a/"}"#, plain("http://a/")),
            (
                r#"{"issuer":"https://a/","jwks_uri":"https://b"}"#,
                differs("https://a/", Some(Near::TrailingSlash)),
            ),
            (r#"{"issuer":"http://a","jwks_uri":"https://b"}"#, differs("http://a", Some(Near::Scheme))),
            (r#"{"issuer":"https://evil","jwks_uri":"https://b"}"#, differs("https://evil", None)),
            (
                r#"{"issuer":"https://a/{tenantid}/v2.0","jwks_uri":"https://b"}"#,
                Err(MetadataFault::IssuerIsTemplate(Shown::of("https://a/{tenantid}/v2.0"))),
            ),
            (r#"{"jwks_uri":"https://b"}"#, Err(MetadataFault::NoIssuer)),
            (r#"{"issuer":["https://a"],"jwks_uri":"https://b"}"#, Err(MetadataFault::NoIssuer)),
            (r#"{"issuer":"https://a"}"#, lacks()),
            (r#"{"issuer":"https://a","jwks_uri":7}"#, lacks()),
            ("<html>", Err(MetadataFault::Json(json::Fault::Syntax { line: 1, column: 1 }))),
            (
                r#"{"issuer":"https://a","issuer":"https://a","jwks_uri":"https://b"}"#,
                Err(MetadataFault::Json(json::Fault::Repeated(Shown::of("issuer")))),
            ),
        ] {
            let found = Metadata::read(text.as_bytes(), "https://a", "https://a/metadata");
            assert_eq!(found.map(|metadata| metadata.jwks_uri), expected, "{text}");
        }
        let text = r#"{"issuer":"https://a","id_token_signing_alg_values_supported":["HS256","ES256",1,"PS256"],
            "introspection_endpoint":"https://inside/introspect"}"#;
        let metadata = Metadata::read(text.as_bytes(), "https://a", "https://inside/metadata").unwrap();
        assert_eq!(metadata.algorithms, [Algorithm::Es256, Algorithm::Ps256]);
        assert_eq!(metadata.introspection_endpoint, Ok(Place::named("https://inside/introspect")));
    }
}
