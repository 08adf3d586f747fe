//! Every provider that speaks OAuth by itself: found by its issuer's metadata, described in `default`, or both.
//!
//! The order of belief, for each endpoint: what `response` of the configuration says, what `path_mapping` says, what the
//! provider's metadata says, and at last the original's rule, which is our path below `default.base_url`.

use std::net::IpAddr;

use serde_json::{Map, Value};
use ureq::http::Uri;

use super::Provider;
use super::document::{AUTHORIZE, Description, Direct, REGISTER, Registration, TOKEN};
use super::idp::{Ask, Idp, IdpFault};
use crate::auth::discovery::{self, Place};
use crate::auth::fault::Shown;
use crate::auth::reach::Reach;
use crate::config::login::Described;
use crate::provider::preset::Preset;

/// Codes that MCP clients look for (ASR-06).
const CHALLENGES: &str = "code_challenge_methods_supported";

/// A provider that the configuration describes, or whose issuer does.
#[derive(Debug)]
pub struct Default {
    described: Described,
    preset: &'static Preset,
}

impl Default {
    /// From the configuration.
    #[must_use]
    pub fn new(described: Described, preset: &'static Preset) -> Self {
        Self { described, preset }
    }

    /// The metadata of the issuer, from the first of its places that has it.
    fn discover(&self, idp: &Idp) -> Result<Map<String, Value>, IdpFault> {
        let issuer = self.described.issuer.as_str();
        let urls = match &self.described.metadata {
            Some(url) => vec![url.clone()],
            None => discovery::metadata_urls(issuer),
        };
        let mut tried = Vec::new();
        for url in urls {
            match self.fetch(idp, &url, issuer) {
                Ok(members) => return Ok(members),
                // The other places are on the same host.
                Err(fault @ IdpFault::Unreachable(..)) => {
                    tried.push(fault);
                    break;
                }
                Err(fault) => tried.push(fault),
            }
        }
        Err(IdpFault::Undiscovered(tried))
    }

    fn fetch(&self, idp: &Idp, url: &str, issuer: &str) -> Result<Map<String, Value>, IdpFault> {
        let told = idp.ask(&Ask { url, reach: Reach::Named, body: None, authorization: None })?;
        if told.status != 200 {
            return Err(IdpFault::Status(Shown::of(url), told.status));
        }
        let Ok(Value::Object(members)) = serde_json::from_slice(&told.body) else {
            return Err(IdpFault::NotJson(Shown::of(url), told.status));
        };
        // RFC 8414 section 3.3: metadata of another issuer must not be used.
        let found = members.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if found != issuer {
            let (found, wanted) = (Shown::of(found), Shown::of(issuer));
            return Err(IdpFault::Issuer { url: Shown::of(url), found, wanted });
        }
        for name in ["authorization_endpoint", "token_endpoint", "registration_endpoint"] {
            let endpoint = members.get(name).map(|value| value.as_str().unwrap_or_default());
            if endpoint.is_some_and(|endpoint| !is_proper(endpoint, issuer)) {
                return Err(IdpFault::Member(Shown::of(url), name));
            }
        }
        Ok(members)
    }

    /// One endpoint: what is written, or what was found, or where the original would look.
    fn endpoint(
        &self,
        members: &Map<String, Value>,
        name: &'static str,
        mapped: Option<&String>,
        path: &str,
    ) -> Result<Place, IdpFault> {
        let written = &self.described;
        let found = members.get(name).and_then(Value::as_str);
        let mapped = mapped.map(|url| Place::named(url));
        let (first, second) = if written.response.contains_key(name) {
            (found.map(Place::named), mapped)
        } else {
            (mapped, found.map(|url| self.derived(url)))
        };
        let below = || written.base.as_ref().map(|base| Place::named(&format!("{base}{path}")));
        let missing = || IdpFault::Member(Shown::of(&self.described.issuer), name);
        first.or(second).or_else(below).ok_or_else(missing)
    }

    /// An endpoint that stands in metadata: only where the operator named its host may that be in here.
    fn derived(&self, url: &str) -> Place {
        let written = &self.described;
        let named = [Some(&written.issuer), written.metadata.as_ref(), written.base.as_ref()];
        let named: Vec<&str> = named.into_iter().flatten().map(String::as_str).collect();
        Place { url: url.to_owned(), reach: Reach::of(url, &named) }
    }
}

impl Provider for Default {
    fn describe(&self, idp: &Idp) -> Result<Description, IdpFault> {
        let written = &self.described;
        let (mut members, by_hand) = if !written.response.is_empty() {
            (written.response.clone(), true)
        } else {
            match self.discover(idp) {
                Ok(members) => (members, false),
                // The original needs no metadata; an issuer that answers and has none is one of its kind.
                Err(IdpFault::Undiscovered(tried))
                    if written.base.is_some() && tried.iter().all(has_no_metadata) =>
                {
                    (Map::new(), true)
                }
                Err(fault) => return Err(fault),
            }
        };
        let mapped = &written.mapped;
        let authorize =
            self.endpoint(&members, "authorization_endpoint", mapped.authorize.as_ref(), AUTHORIZE)?.url;
        let token = self.endpoint(&members, "token_endpoint", mapped.token.as_ref(), TOKEN)?;
        let offers = mapped.register.is_some() || members.contains_key("registration_endpoint") || by_hand;
        let register = if self.preset.registration && offers {
            let url = self.endpoint(&members, "registration_endpoint", mapped.register.as_ref(), REGISTER);
            url.ok().map(Registration::At)
        } else {
            None
        };
        if (by_hand || self.preset.s256) && !members.contains_key(CHALLENGES) {
            members.insert(CHALLENGES.to_owned(), Value::from(vec!["S256"]));
        }
        let told = |name: &str| written.response.contains_key(name);
        let direct = Direct {
            authorize: told("authorization_endpoint") && !written.changes.authorize,
            token: told("token_endpoint") && !written.changes.token,
            register: told("registration_endpoint") && !written.changes.register,
        };
        Ok(Description { members, authorize, token, register, direct })
    }
}

/// 404 and the like: there is somebody, and nothing at that place.
fn has_no_metadata(fault: &IdpFault) -> bool {
    matches!(fault, IdpFault::Status(_, 400..=499) | IdpFault::NotJson(_, 200 | 400..=499))
}

/// Whether an endpoint that a remote issuer names is one that we may ask: encrypted, and not on this machine or in a
/// network of its own unless the issuer is there too.
fn is_proper(endpoint: &str, issuer: &str) -> bool {
    discovery::check_url(endpoint).is_ok() && (is_inside(issuer) || !is_inside(endpoint))
}

/// Whether the host of a URL is this machine or an address that is not the internet's.
fn is_inside(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return true };
    let host = url.host().unwrap_or_default().trim_end_matches('.');
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(ip)) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64; // RFC 6598
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared
        }
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        Err(_) => bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::login::{Changes, Mapped};

    /// Requirements 4.3: what is derived must not lead where only this machine can go.
    #[test]
    fn a_remote_issuer_names_no_endpoint_in_here() {
        let (remote, local) = ("https://idp.example", "http://127.0.0.1:9000");
        for (endpoint, issuer, proper) in [
            ("https://idp.example/token", remote, true),
            ("https://other.example/token", remote, true),
            ("http://idp.example/token", remote, false),
            ("http://127.0.0.1:6379/", remote, false),
            ("https://localhost/token", remote, false),
            ("https://10.0.0.7/token", remote, false),
            ("https://169.254.169.254/latest", remote, false),
            ("https://[fd00::1]/token", remote, false),
            ("https://[::ffff:10.0.0.1]/token", remote, false),
            ("file:///etc/passwd", remote, false),
            ("http://127.0.0.1:9000/token", local, true),
            ("https://idp.example/token", local, true),
        ] {
            assert_eq!(is_proper(endpoint, issuer), proper, "{endpoint} of {issuer}");
        }
    }

    /// Requirements 4.3: what an endpoint's name leads to is judged when it is connected to, unless the operator named
    /// its host.
    #[test]
    fn an_endpoint_that_metadata_names_must_be_public() {
        let described = |response: Value| Described {
            issuer: "https://idp.corp".into(),
            metadata: Some("https://meta.corp/known".into()),
            base: Some("https://base.corp".into()),
            response: response.as_object().cloned().unwrap_or_default(),
            mapped: Mapped::default(),
            changes: Changes::default(),
        };
        let name = "token_endpoint";
        let reach = |described: Described, found: &str, mapped: Option<&str>| {
            let provider = Default::new(described, Preset::generic());
            let members = Map::from_iter([(name.to_owned(), Value::from(found))]);
            let mapped = mapped.map(str::to_owned);
            let place = provider.endpoint(&members, name, mapped.as_ref(), TOKEN).unwrap();
            (place.url, place.reach)
        };
        for (found, expected) in [
            ("https://idp.corp/token", Reach::Named),
            ("https://IDP.corp:8443/token", Reach::Named),
            ("https://meta.corp/token", Reach::Named),
            ("https://base.corp/token", Reach::Named),
            ("https://elsewhere.example/token", Reach::Public),
            ("https://idp.corp.evil.example/token", Reach::Public),
            ("https://localhost/token", Reach::Public),
        ] {
            let judged = reach(described(Value::Null), found, None);
            assert_eq!(judged, (found.to_owned(), expected), "{found}");
        }
        let elsewhere = "https://elsewhere.corp/token";
        let (url, judged) = reach(described(Value::Null), "https://x.example/", Some(elsewhere));
        assert_eq!((url.as_str(), judged), (elsewhere, Reach::Named), "path_mapping");
        let response = serde_json::json!({ name: elsewhere });
        assert_eq!(reach(described(response), elsewhere, None).1, Reach::Named, "response");
    }
}
