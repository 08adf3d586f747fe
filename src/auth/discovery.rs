//! Where an issuer's key set is, by its metadata (RFC 8414 section 3, OpenID Connect Discovery 1.0 section 4). Pure.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use super::fault::{Near, Shown};
use super::json::{self, Bounds, Json};
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
fn is_loopback(host: &str) -> bool {
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
    /// It has no `jwks_uri`, or it is no string.
    NoJwksUri,
    /// Its `jwks_uri` cannot be fetched.
    JwksUri(Shown, UrlFault),
}

impl fmt::Display for MetadataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {JWKS_BYTES_MAX} bytes"),
            Self::Json(why) => write!(f, "{why}"),
            Self::NoIssuer => f.write_str("it has no issuer"),
            Self::IssuerDiffers { found, near } => {
                write!(f, "it says issuer {found}, which is not the configured one")?;
                near.map_or(Ok(()), |near| write!(f, ": {near}"))
            }
            Self::NoJwksUri => f.write_str("it has no jwks_uri"),
            Self::JwksUri(url, why) => write!(f, "its jwks_uri {url} is not fetched: {why}"),
        }
    }
}

/// The `jwks_uri` in the metadata of `issuer` (RFC 8414 sections 2 and 3.3).
///
/// # Errors
/// Where the text is not that issuer's metadata or leads nowhere.
pub fn jwks_uri(text: &[u8], issuer: &str) -> Result<String, MetadataFault> {
    if text.len() > JWKS_BYTES_MAX {
        return Err(MetadataFault::TooLong);
    }
    let metadata = json::read(text, Bounds::METADATA).map_err(MetadataFault::Json)?;
    let Some(Json::String(found)) = metadata.get("issuer") else { return Err(MetadataFault::NoIssuer) };
    if found != issuer {
        let near = Near::between(found, issuer);
        return Err(MetadataFault::IssuerDiffers { found: Shown::of(found), near });
    }
    let Some(Json::String(url)) = metadata.get("jwks_uri") else { return Err(MetadataFault::NoJwksUri) };
    check_url(url).map_err(|why| MetadataFault::JwksUri(Shown::of(url), why))?;
    Ok(url.clone())
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

    /// RFC 8414 sections 3.1 and 5, OpenID Connect Discovery section 4.1; requirements 5.3.
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
        let differs = |found, near| MetadataFault::IssuerDiffers { found: Shown::of(found), near };
        let here = "http://127.0.0.1/jwks";
        for (text, expected) in [
            (r#"{"issuer":"https://a","jwks_uri":"https://b/keys","x":1}"#, Ok("https://b/keys")),
            (r#"{"issuer":"https://a","jwks_uri":"http://127.0.0.1/jwks"}"#, Ok(here)),
            (
                r#"{"issuer":"https://a/","jwks_uri":"https://b"}"#,
                Err(differs("https://a/", Some(Near::TrailingSlash))),
            ),
            (r#"{"issuer":"https://evil","jwks_uri":"https://b"}"#, Err(differs("https://evil", None))),
            (r#"{"jwks_uri":"https://b"}"#, Err(MetadataFault::NoIssuer)),
            (r#"{"issuer":["https://a"],"jwks_uri":"https://b"}"#, Err(MetadataFault::NoIssuer)),
            (r#"{"issuer":"https://a"}"#, Err(MetadataFault::NoJwksUri)),
            (r#"{"issuer":"https://a","jwks_uri":7}"#, Err(MetadataFault::NoJwksUri)),
            (
                r#"{"issuer":"https://a","jwks_uri":"http://b/"}"#,
                Err(MetadataFault::JwksUri(Shown::of("http://b/"), UrlFault::Plain)),
            ),
            ("<html>", Err(MetadataFault::Json(json::Fault::Syntax { line: 1, column: 1 }))),
            (
                r#"{"issuer":"https://a","issuer":"https://a","jwks_uri":"https://b"}"#,
                Err(MetadataFault::Json(json::Fault::Repeated(Shown::of("issuer")))),
            ),
        ] {
            assert_eq!(jwks_uri(text.as_bytes(), "https://a"), expected.map(str::to_owned), "{text}");
        }
    }
}
