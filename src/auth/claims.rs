//! What a token whose signature holds must say (RFC 7519 section 4.1, RFC 9068 section 4, RFC 8707 section 2).
//!
//! A [`Claims`] is made by [`super::token`], after it has verified the signature, and by [`super::introspection`], after
//! the issuer has answered for the token, and by nobody else. Judging is pure: the time is
//! given. The verdict on the audience is kept apart from the others, because one compatibility setting waives it
//! (decision D4) and nothing waives the rest.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::Principal;
use super::fault::{Near, Shown, TokenFault};
use super::json::{Json, Object};
use super::scope::{Scope, ScopeSet};
use super::token::TokenType;
use crate::clock::Timestamp;
use crate::config::ClaimNames;
use crate::limits::NUMERIC_DATE_MAX;

/// What tokens of one issuer are held to.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Values of the audience claim that mean us, as [`canonical`] writes them.
    pub audiences: Vec<String>,
    /// The key of the configuration that names the issuer.
    pub issuer_at: Box<str>,
    /// The key of the configuration that names the audiences.
    pub audience_at: Box<str>,
    /// Where things stand.
    pub names: ClaimNames,
    /// Clock skew that is forgiven, in seconds.
    pub leeway_seconds: i64,
    /// Claims that must be there and say one of these values.
    pub required_claims: Vec<(String, Vec<String>)>,
}

/// Claims under a signature that holds.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'t> {
    object: &'t Object,
    typ: TokenType,
    /// Until when it counts without an `exp`.
    without_exp: Option<Timestamp>,
}

/// A token that holds, its audience aside.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose it is.
    pub principal: Arc<Principal>,
    /// Why it is not meant for us; `None` where it is.
    pub not_for_us: Option<TokenFault>,
    /// The first moment at which it holds no more, leeway included.
    pub until: Timestamp,
}

impl<'t> Claims<'t> {
    /// For [`super::token`], which calls it when the signature holds.
    pub(super) fn of(object: &'t Object, typ: TokenType) -> Self {
        Self { object, typ, without_exp: None }
    }

    /// For [`super::introspection`], which calls it when the issuer says that the token is active. Its answer need not
    /// have an `exp` (RFC 7662 section 2.2), and then counts until `latest`.
    pub(super) fn of_answer(object: &'t Object, latest: Timestamp) -> Self {
        Self { object, typ: TokenType::Absent, without_exp: Some(latest) }
    }

    /// Judges them. `issuer` is the one whose keys hold the signature; `iss` has chosen it, so it is equal.
    ///
    /// # Errors
    /// The first rule that is not met; the audience is reported in [`Verified::not_for_us`].
    pub fn judge(&self, issuer: &str, rules: &Rules, now: Timestamp) -> Result<Verified, TokenFault> {
        self.require_access_token()?;
        let until = self.require_time(rules.leeway_seconds, now)?;
        let names = &rules.names;
        let mut client_id = None;
        for name in &names.client_id {
            client_id = client_id.or(self.name(name)?);
        }
        // A token that a client got for itself may lack `sub`. RFC 9068 section 2.2 would put the client's own name
        // there, so that is what it is taken for. Where people are known by another claim, it must be there.
        let own = client_id.filter(|_| names.subject == "sub");
        let subject = self.name(&names.subject)?.or(own).ok_or_else(|| missing(&names.subject))?;
        let mut scopes = BTreeSet::new();
        for name in &names.scopes {
            scopes.append(&mut self.scopes(name)?);
        }
        for (claim, accepted) in &rules.required_claims {
            self.require_claim(claim, accepted)?;
        }
        let principal = Principal {
            issuer: issuer.into(),
            subject: subject.into(),
            client_id: client_id.map(Into::into),
            scopes: ScopeSet(scopes),
            expires: until.plus(-rules.leeway_seconds),
        };
        Ok(Verified { principal: Arc::new(principal), not_for_us: self.not_for_us(rules)?, until })
    }

    /// RFC 8725 section 3.12: tokens of other kinds, signed by the same keys, must not pass for access tokens.
    fn require_access_token(&self) -> Result<(), TokenFault> {
        // RFC 9449 section 7.2; RFC 8705 section 3 binds by the same claim.
        if self.object.get("cnf").is_some() {
            return Err(TokenFault::SenderConstrained);
        }
        if self.typ == TokenType::AccessToken {
            return Ok(());
        }
        // OpenID Connect Core sections 2 and 3.3.2.11: an ID token; RFC 8417 section 2.2: a logout or security event.
        for claim in ["nonce", "at_hash", "c_hash", "events"] {
            if self.object.get(claim).is_some() {
                return Err(TokenFault::NotAnAccessToken { claim });
            }
        }
        // Keycloak says in a claim what others say in the header; "Bearer" is its access token.
        match self.object.get("typ") {
            Some(Json::String(typ)) if ["ID", "Refresh", "Offline", "Logout"].contains(&typ.as_str()) => {
                return Err(TokenFault::NotAnAccessToken { claim: "typ" });
            }
            _ => {}
        }
        // And so do Cognito and Hydra.
        match self.object.get("token_use") {
            Some(Json::String(used)) if !["access", "access_token"].contains(&used.as_str()) => {
                Err(TokenFault::NotAnAccessToken { claim: "token_use" })
            }
            _ => Ok(()),
        }
    }

    /// RFC 7519 sections 4.1.4 to 4.1.6. Until when the token holds.
    fn require_time(&self, leeway: i64, now: Timestamp) -> Result<Timestamp, TokenFault> {
        let expires = self.date("exp")?.or(self.without_exp).ok_or_else(|| missing("exp"))?;
        let until = expires.plus(leeway);
        if now >= until {
            return Err(TokenFault::Expired { ago: now.0.saturating_sub(expires.0) });
        }
        for claim in ["nbf", "iat"] {
            let from = self.date(claim)?.unwrap_or(now);
            if from > now.plus(leeway) {
                return Err(TokenFault::NotYet { claim, ahead: from.0.saturating_sub(now.0) });
            }
        }
        Ok(until)
    }

    /// A `NumericDate` (RFC 7519 section 2): a number of seconds, whole or not, between 1970 and the year 9999. A
    /// fraction is cut off, which ends a token at most a second early.
    fn date(&self, claim: &'static str) -> Result<Option<Timestamp>, TokenFault> {
        const WANTED: &str = "a number of seconds between 1970 and 9999";
        let malformed = || malformed(claim, WANTED);
        let seconds = match self.object.get(claim) {
            None => return Ok(None),
            Some(Json::Integer(seconds)) => *seconds,
            Some(Json::Float(seconds)) => whole(*seconds).ok_or_else(malformed)?,
            Some(_) => return Err(malformed()),
        };
        if (0..=NUMERIC_DATE_MAX).contains(&seconds) {
            Ok(Some(Timestamp(seconds)))
        } else {
            Err(malformed())
        }
    }

    /// The name of somebody: if it is there, it must be one.
    fn name(&self, claim: &str) -> Result<Option<&'t str>, TokenFault> {
        match self.object.get(claim) {
            None => Ok(None),
            Some(Json::String(name)) if !name.is_empty() && !name.contains(char::is_control) => {
                Ok(Some(name))
            }
            Some(_) => Err(malformed(claim, "a string that is not empty and has no control characters")),
        }
    }

    /// `scope` is a space-separated list (RFC 8693 section 4.2), `scp` often an array, and either may be the other. What
    /// cannot be a scope grants nothing; an element of an array is one scope, spaces or not.
    fn scopes(&self, claim: &str) -> Result<BTreeSet<Scope>, TokenFault> {
        match self.object.get(claim) {
            None => Some(BTreeSet::new()),
            Some(Json::String(list)) => Some(ScopeSet::parse(list).0),
            Some(Json::Array(list)) => {
                strings(list).map(|list| list.into_iter().filter_map(Scope::new).collect())
            }
            Some(_) => None,
        }
        .ok_or_else(|| malformed(claim, LIST))
    }

    /// RS-12, RS-15; RFC 7519 section 4.1.3, RFC 8707 section 2: any element equal to one of our identifiers, never a
    /// part of one. `Some` is why it is not meant for us; an error is a claim that cannot be read, which nothing waives.
    fn not_for_us(&self, rules: &Rules) -> Result<Option<TokenFault>, TokenFault> {
        let mut names = rules.names.audience.iter();
        let Some((claim, value)) = names.find_map(|name| Some((name, self.object.get(name)?))) else {
            return Ok(Some(missing(&rules.names.audience.join(" or "))));
        };
        let found = match value {
            Json::String(one) => vec![one.as_str()],
            Json::Array(list) => strings(list).ok_or_else(|| malformed(claim, LIST))?,
            _ => return Err(malformed(claim, LIST)),
        };
        if found.iter().any(|value| rules.audiences.iter().any(|accepted| canonical(value) == *accepted)) {
            return Ok(None);
        }
        let near =
            found.iter().find_map(|value| rules.audiences.iter().find_map(|own| Near::between(value, own)));
        let accepted = Shown::list(rules.audiences.iter().map(String::as_str));
        Ok(Some(TokenFault::Audience {
            claim: claim.as_str().into(),
            found: Shown::list(found),
            accepted,
            near,
            at: rules.audience_at.clone(),
        }))
    }

    /// A claim that the configuration asks for: a string, number or truth value that is accepted, or an array that has
    /// one.
    fn require_claim(&self, claim: &str, accepted: &[String]) -> Result<(), TokenFault> {
        let text = |value: &Json| match value {
            Json::String(text) => Some(text.to_string()),
            Json::Integer(number) => Some(number.to_string()),
            Json::Bool(truth) => Some(truth.to_string()),
            _ => None,
        };
        let values: Vec<String> = match self.object.get(claim) {
            Some(Json::Array(list)) => list.iter().filter_map(text).collect(),
            Some(one) => text(one).into_iter().collect(),
            None => Vec::new(),
        };
        if values.iter().any(|value| accepted.contains(value)) {
            return Ok(());
        }
        Err(TokenFault::RequiredClaim {
            claim: Shown::of(claim),
            found: self.object.get(claim).map(|_| Shown::list(values.iter().map(String::as_str))),
            accepted: Shown::list(accepted.iter().map(String::as_str)),
        })
    }
}

/// What an audience or a list of scopes is.
const LIST: &str = "a string or an array of strings";

fn missing(claim: &str) -> TokenFault {
    TokenFault::ClaimMissing { claim: claim.into() }
}

fn malformed(claim: &str, wanted: &'static str) -> TokenFault {
    TokenFault::ClaimMalformed { claim: claim.into(), wanted }
}

/// The elements of an array that holds strings alone.
fn strings(list: &[Json]) -> Option<Vec<&str>> {
    list.iter().map(|value| if let Json::String(text) = value { Some(text.as_str()) } else { None }).collect()
}

/// A number of seconds without its fraction, where it is one at all.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn whole(seconds: f64) -> Option<i64> {
    // Both ends are far below 2^53, so no whole number of seconds is lost on the way.
    (0.0..253_402_300_800.0).contains(&seconds).then(|| seconds.floor() as i64)
}

/// An identifier as it is compared (RS-15): scheme and host of a URL in lower case, everything else as it stands.
#[must_use]
pub fn canonical(identifier: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = identifier.split_once("://") else { return Cow::Borrowed(identifier) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if !scheme.bytes().chain(host.bytes()).any(|b| b.is_ascii_uppercase()) {
        return Cow::Borrowed(identifier);
    }
    let user = user.map_or_else(String::new, |user| format!("{user}@"));
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    Cow::Owned(format!("{scheme}://{user}{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RS-15: "compare after scheme/host lowercasing only; path exact".
    #[test]
    fn only_scheme_and_host_have_no_case() {
        for (identifier, compared) in [
            ("HTTPS://Api.Example.COM:8443/MCP?Q#F", "https://api.example.com:8443/MCP?Q#F"),
            ("https://User@Host/", "https://User@host/"),
            ("https://host", "https://host"),
            ("https://HOST", "https://host"),
            ("Client-ID", "Client-ID"),
            ("URN:Example:A", "URN:Example:A"),
        ] {
            assert_eq!(canonical(identifier), compared);
        }
    }
}
