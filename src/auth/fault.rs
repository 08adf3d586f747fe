//! Why a token is refused, told twice: a short text for whoever holds the token, and for the operator's log what was
//! found and which line of the configuration to look at.
//!
//! The client never reads more than the RFC's words: what exactly is wrong with a forged token is nobody's business but
//! the operator's. Values out of a token are shown by [`Shown`] alone, cut short and with nothing that could forge a
//! log line.

use std::fmt;
use std::sync::Arc;

use super::json;
use super::key::Unusable;
use crate::config::Algorithm;
use crate::limits::SHOWN_CHARS_MAX;
use crate::spare;

/// A value that came from outside, in single quotes (a log line adds double ones of its own), cut after [`SHOWN_CHARS_MAX`] characters and with everything but
/// printable ASCII escaped. Made to be read by people, not to be compared with anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown(Arc<str>);

impl Shown {
    /// Makes `value` harmless.
    #[must_use]
    pub fn of(value: &str) -> Self {
        let mut text = spare::text();
        text.push('\'');
        let mut rest = value.chars();
        for c in rest.by_ref().take(SHOWN_CHARS_MAX) {
            match c {
                ' '..='~' if c != '\'' && c != '\\' => text.push(c),
                _ => text.extend(c.escape_default()),
            }
        }
        text.push('\'');
        if rest.next().is_some() {
            text.push('…');
        }
        let shown = Arc::from(text.as_str());
        spare::put_bytes(text.into_bytes());
        Self(shown)
    }

    /// The values of a list, a few of them.
    #[must_use]
    pub fn list<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        const FEW: usize = 4;
        let mut values = values.into_iter();
        let mut text: Vec<String> =
            values.by_ref().take(FEW).map(|value| Self::of(value).to_string()).collect();
        let more = values.count();
        if more > 0 {
            text.push(format!("and {more} more"));
        }
        Self(text.join(", ").into())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a compact JWS (RFC 7515 section 7.1) that is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// The first segment.
    Header,
    /// The second.
    Claims,
    /// The third.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// How two values that should be equal come close; it is nearly always the whole story of a first installation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Near {
    /// One ends with a slash.
    TrailingSlash,
    /// One is `http` where the other is `https`.
    Scheme,
    /// Upper against lower case.
    Case,
    /// White space around one of them.
    Space,
    /// The same origin, and another path.
    Path,
}

impl Near {
    /// What nearly makes `found` equal to `wanted`, if anything does.
    #[must_use]
    pub fn between(found: &str, wanted: &str) -> Option<Self> {
        let scheme_and_rest = |url: &'static str, of: &str| of.strip_prefix(url).map(str::to_owned);
        if found.trim() == wanted.trim() {
            return Some(Self::Space);
        }
        if found.trim_end_matches('/') == wanted.trim_end_matches('/') {
            return Some(Self::TrailingSlash);
        }
        if found.eq_ignore_ascii_case(wanted) {
            return Some(Self::Case);
        }
        for (one, other) in [(found, wanted), (wanted, found)] {
            let plain = scheme_and_rest("http://", one);
            if plain.is_some() && plain == scheme_and_rest("https://", other) {
                return Some(Self::Scheme);
            }
        }
        let origin = |url: &str| {
            let (scheme, rest) = url.split_once("://")?;
            Some(format!("{scheme}://{}", rest.split('/').next()?))
        };
        (origin(found).is_some() && origin(found) == origin(wanted)).then_some(Self::Path)
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrailingSlash => "they differ by a trailing slash alone",
            Self::Scheme => "one is http and the other https",
            Self::Case => "they differ in upper and lower case alone",
            Self::Space => "they differ in white space alone",
            Self::Path => "they differ in the path alone",
        })
    }
}

/// Why a bearer token is not accepted. `Display` is for the operator's log, [`TokenFault::client_text`] for the client.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenFault {
    /// What follows `Bearer` is no `b64token` (RFC 6750 section 2.1).
    NotAToken,
    /// Longer than any token may be.
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// One of its segments is longer than it may be.
    PartTooLong {
        /// Which one.
        part: Part,
    },
    /// Five segments: a JWE (RFC 7516 section 7.1).
    Encrypted,
    /// Not three segments: no JWT, perhaps an opaque token.
    NotAJwt {
        /// How many segments it has.
        segments: usize,
    },
    /// A segment is not base64url as RFC 7515 section 2 has it: unpadded and canonical.
    Base64 {
        /// Which one.
        part: Part,
    },
    /// A segment does not hold the JSON object that it should.
    Json {
        /// Which one.
        part: Part,
        /// What is wrong with it.
        why: json::Fault,
    },
    /// A header parameter is missing or of the wrong type.
    HeaderParameter {
        /// Which one.
        name: &'static str,
    },
    /// `alg` is `none`, symmetric, or nothing that is verified here (RFC 8725 section 3.1).
    Algorithm {
        /// What it says.
        found: Shown,
    },
    /// `alg` is known, and not on the list of its issuer.
    AlgorithmNotAllowed {
        /// What it says.
        found: Algorithm,
        /// Whose token it says it is.
        issuer: Shown,
    },
    /// A header parameter that changes how a JWS is read (`crit`, RFC 7515 section 4.1.11; `b64`, RFC 7797).
    Extension {
        /// Which one.
        name: &'static str,
    },
    /// `typ` is not that of an access token (RFC 8725 section 3.11; RFC 9068 section 2.1).
    TokenType {
        /// What it says; `None` where there is none.
        found: Option<Shown>,
        /// Whether the strict policy alone refuses it.
        by_policy: bool,
    },
    /// The issuer is not one of ours.
    Issuer {
        /// What `iss` says.
        found: Shown,
        /// Who may issue tokens.
        accepted: Shown,
        /// What nearly makes them equal.
        near: Option<Near>,
        /// The key of the configuration that says who.
        at: Box<str>,
    },
    /// No key of the issuer has the token's `kid`.
    KeyUnknown {
        /// What the token calls it.
        kid: Shown,
        /// Whose key it would be.
        issuer: Shown,
    },
    /// The key of that `kid` cannot be used.
    KeyUnusable {
        /// What the token calls it.
        kid: Shown,
        /// What is wrong with it.
        why: Unusable,
    },
    /// The key of that `kid` is for another algorithm (RFC 7517 section 4.4).
    KeyForOther {
        /// What the token calls it.
        kid: Shown,
        /// What the token says it is signed with.
        found: Algorithm,
        /// What the key is for.
        own: Algorithm,
        /// Whether its entry says so; if not, the configuration does.
        marked: bool,
    },
    /// The token names no key, and the issuer has none that would do.
    NoKey {
        /// Whose keys were looked at.
        issuer: Shown,
    },
    /// The signature does not hold.
    Signature {
        /// Whose keys were tried.
        issuer: Shown,
        /// The key's name, where the token gives one.
        kid: Option<Shown>,
    },
    /// A claim that must be there is not.
    ClaimMissing {
        /// Which one.
        claim: Box<str>,
    },
    /// A claim is of a type or value that its RFC does not allow.
    ClaimMalformed {
        /// Which one.
        claim: Box<str>,
        /// What it must be.
        wanted: &'static str,
    },
    /// Its time is over (RFC 7519 section 4.1.4).
    Expired {
        /// Seconds since then.
        ago: i64,
    },
    /// Its time has not come (RFC 7519 section 4.1.5, and `iat` in the future).
    NotYet {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// Seconds until then.
        ahead: i64,
    },
    /// It is meant for somebody else (RFC 8707 section 2; RFC 9068 section 4).
    Audience {
        /// The claim that says it, `aud` nearly always.
        claim: Box<str>,
        /// What it says.
        found: Shown,
        /// What would have been accepted.
        accepted: Shown,
        /// What nearly makes them equal.
        near: Option<Near>,
        /// The key of the configuration that says so.
        at: Box<str>,
    },
    /// Its issuer was asked about it, and answers that it is good for nothing: expired, revoked, or never issued (RFC 7662
    /// section 2.2).
    Inactive {
        /// Who says so.
        issuer: Shown,
    },
    /// It is an ID token, or another token that is not for a resource (RFC 8725 section 3.12).
    NotAnAccessToken {
        /// The claim that gives it away.
        claim: &'static str,
    },
    /// It is bound to a key of its sender and came without the proof (RFC 9449 section 7.2, RFC 8705 section 3).
    SenderConstrained,
    /// A claim that the configuration asks for is missing or says something else.
    RequiredClaim {
        /// Which one.
        claim: Shown,
        /// What it says; `None` where there is none.
        found: Option<Shown>,
        /// What is accepted.
        accepted: Shown,
    },
}

impl TokenFault {
    /// The `error_description` of RFC 6750 section 3: true, short, and of no use for finding out our configuration.
    #[must_use]
    pub fn client_text(&self) -> &'static str {
        match self {
            Self::NotAToken
            | Self::TooLong { .. }
            | Self::PartTooLong { .. }
            | Self::Encrypted
            | Self::NotAJwt { .. }
            | Self::Base64 { .. }
            | Self::Json { .. }
            | Self::HeaderParameter { .. }
            | Self::Extension { .. }
            | Self::ClaimMissing { .. }
            | Self::ClaimMalformed { .. } => "The access token is malformed",
            Self::Algorithm { .. }
            | Self::AlgorithmNotAllowed { .. }
            | Self::KeyUnknown { .. }
            | Self::KeyUnusable { .. }
            | Self::KeyForOther { .. }
            | Self::NoKey { .. }
            | Self::Signature { .. } => "The signature of the access token cannot be verified",
            Self::Issuer { .. } => {
                "The access token was not issued by an authorization server of this resource"
            }
            Self::TokenType { .. } | Self::NotAnAccessToken { .. } => "The token is not an access token",
            Self::Expired { .. } => "The access token expired",
            Self::Inactive { .. } => "The access token is not active",
            Self::NotYet { .. } => "The access token is not valid yet",
            Self::Audience { .. } => "The access token was not issued for this resource",
            Self::SenderConstrained => "The access token must not be used as a bearer token",
            Self::RequiredClaim { .. } => "The access token lacks a required claim",
        }
    }

    /// Whether it is no signed token at all, so that only its issuer can say what it is worth.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        matches!(
            self,
            Self::NotAJwt { .. }
                | Self::Encrypted
                | Self::Base64 { part: Part::Header }
                | Self::Json { part: Part::Header, .. }
        )
    }

    /// Whether a newer key set of the issuer might tell otherwise.
    #[must_use]
    pub fn may_be_cured_by_newer_keys(&self) -> bool {
        matches!(
            self,
            Self::KeyUnknown { .. }
                | Self::KeyUnusable { .. }
                | Self::KeyForOther { .. }
                | Self::NoKey { .. }
                | Self::Signature { .. }
        )
    }
}

fn mismatch(f: &mut fmt::Formatter<'_>, near: Option<Near>, fix: fmt::Arguments<'_>) -> fmt::Result {
    match near {
        Some(near) => write!(f, ": {near}; {fix}"),
        None => write!(f, "; {fix}"),
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAToken => f.write_str("what follows Bearer holds characters that no token has"),
            Self::TooLong { bytes } => write!(f, "the token is {bytes} bytes long, which is more than is read"),
            Self::PartTooLong { part } => write!(f, "the token's {part} is longer than is read"),
            Self::Encrypted => f.write_str(
                "the token is encrypted (JWE); let the authorization server send signed access tokens that are not",
            ),
            Self::NotAJwt { segments } => write!(
                f,
                "the token has {segments} segments and not the three of a JWT; if the authorization server issues \
                 opaque tokens, write introspection for it, or switch it to JWT access tokens"
            ),
            Self::Base64 { part } => write!(f, "the token's {part} is not unpadded canonical base64url"),
            Self::Json { part, why } => write!(f, "the token's {part} cannot be read: {why}"),
            Self::HeaderParameter { name } => {
                write!(f, "the token's header parameter {name} is missing or no string")
            }
            Self::Algorithm { found } => write!(
                f,
                "the token says alg {found}, which is never accepted; let the authorization server sign access tokens \
                 with {}",
                Algorithm::NAMES
            ),
            Self::AlgorithmNotAllowed { found, issuer } => write!(
                f,
                "the token is signed with {found}, which is not on the list of {issuer}; if that is meant, add {found} to \
                 algorithms of that issuer"
            ),
            Self::Extension { name } => {
                write!(f, "the token's header has {name}, an extension that is not understood here")
            }
            Self::TokenType { found, by_policy } => {
                match found {
                    Some(found) => write!(f, "the token says typ {found}")?,
                    None => f.write_str("the token says no typ")?,
                }
                f.write_str(if *by_policy {
                    "; token_type strict accepts at+jwt alone, compatible accepts JWT and none as well"
                } else {
                    ", which is not that of an access token; the client must send its access token"
                })
            }
            Self::Issuer { found, accepted, near, at } => {
                write!(f, "the token was issued by {found}, and accepted is {accepted}")?;
                mismatch(f, *near, format_args!("if that issuer is trusted, write {found} into {at}"))
            }
            Self::KeyUnknown { kid, issuer } => write!(
                f,
                "the token names key {kid}, which is not in the key set of {issuer}; check that jwks_uri belongs to \
                 the issuer that signed it"
            ),
            Self::KeyUnusable { kid, why } => {
                write!(f, "the token names key {kid}, which is in the key set and cannot be used: {why}")
            }
            Self::KeyForOther { kid, found, own, marked } => {
                write!(f, "the token is signed with {found} by key {kid}, which is for {own}")?;
                if *marked {
                    return f.write_str(" and for nothing else");
                }
                write!(
                    f,
                    ": its entry in the key set has no alg, so it is taken for the first RSA algorithm of algorithms; \
                     if its issuer signs with {found}, write {found} first"
                )
            }
            Self::NoKey { issuer } => write!(
                f,
                "the token names no key, and the key set of {issuer} has no key for its algorithm"
            ),
            Self::Signature { issuer, kid } => {
                f.write_str("the token's signature does not hold under ")?;
                match kid {
                    Some(kid) => write!(f, "key {kid} of {issuer}")?,
                    None => write!(f, "any key of {issuer}")?,
                }
                f.write_str("; it is forged, or jwks_uri belongs to somebody else")
            }
            Self::ClaimMissing { claim } => write!(
                f,
                "the token has no {claim}; let the authorization server put it into access tokens (RFC 9068 section 2)"
            ),
            Self::ClaimMalformed { claim, wanted } => write!(f, "the token's {claim} is not {wanted}"),
            Self::Expired { ago } => write!(
                f,
                "the token expired {ago} seconds ago; if that is news to the client, compare the clocks, or raise \
                 leeway_seconds"
            ),
            Self::Inactive { issuer } => write!(f, "the token is not active, says {issuer}: it expired, was revoked, or is no token of that issuer"),
            Self::NotYet { claim, ahead } => write!(
                f,
                "the token's {claim} lies {ahead} seconds ahead; compare the clocks, or raise leeway_seconds"
            ),
            Self::Audience { claim, found, accepted, near, at } => {
                write!(f, "the token's {claim} is {found}, and accepted is {accepted}")?;
                mismatch(f, *near, format_args!("if that means this server, write it into {at}"))
            }
            Self::NotAnAccessToken { claim } => write!(
                f,
                "the token has the claim {claim}, so it is an ID token or the like; the client must send its access \
                 token"
            ),
            Self::SenderConstrained => f.write_str(
                "the token has a cnf claim, so it is bound to a key, and came as a plain bearer token; switch DPoP \
                 and mutual TLS off for this client",
            ),
            Self::RequiredClaim { claim, found, accepted } => {
                match found {
                    Some(found) => write!(f, "the token's claim {claim} is {found}")?,
                    None => write!(f, "the token has no claim {claim}")?,
                }
                write!(f, ", and required_claims accepts {accepted}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8725 section 2.8 in spirit: what stands in a token reaches a log only as text.
    #[test]
    fn a_shown_value_is_short_and_harmless() {
        for (value, shown) in [
            ("https://issuer", "'https://issuer'"),
            ("a\nb", "'a\\nb'"),
            ("\u{1b}[31m", "'\\u{1b}[31m'"),
            ("it's", "'it\\'s'"),
            ("müller", "'m\\u{fc}ller'"),
        ] {
            assert_eq!(Shown::of(value).to_string(), shown);
        }
        assert_eq!(Shown::of(&"x".repeat(500)).to_string().chars().count(), SHOWN_CHARS_MAX + 3);
        let five = Shown::list(["a", "b", "c", "d", "e"]).to_string();
        assert_eq!(five, "'a', 'b', 'c', 'd', and 1 more");
    }

    #[test]
    fn a_near_miss_is_called_by_its_name() {
        for (found, wanted, near) in [
            ("https://a/", "https://a", Some(Near::TrailingSlash)),
            ("https://a/b", "https://a/b/", Some(Near::TrailingSlash)),
            ("http://a/b", "https://a/b", Some(Near::Scheme)),
            ("https://a/b", "http://a/b", Some(Near::Scheme)),
            ("https://a/B", "https://a/b", Some(Near::Case)),
            (" https://a", "https://a", Some(Near::Space)),
            ("https://a/b", "https://a/c", Some(Near::Path)),
            ("https://a", "https://b", None),
            ("client", "https://a", None),
        ] {
            assert_eq!(Near::between(found, wanted), near, "{found} {wanted}");
        }
    }

    /// RFC 6750 section 3: `error_description` is `%x20-21 / %x23-5B / %x5D-7E`; style: the log text is lower case and
    /// has no full stop at its end.
    #[test]
    fn every_fault_has_two_texts_that_fit_their_readers() {
        let x = || Shown::of("x");
        for fault in [
            TokenFault::NotAToken,
            TokenFault::TooLong { bytes: 9000 },
            TokenFault::PartTooLong { part: Part::Header },
            TokenFault::Encrypted,
            TokenFault::NotAJwt { segments: 1 },
            TokenFault::Base64 { part: Part::Signature },
            TokenFault::Json { part: Part::Claims, why: json::Fault::TooDeep },
            TokenFault::HeaderParameter { name: "alg" },
            TokenFault::Algorithm { found: x() },
            TokenFault::AlgorithmNotAllowed { found: Algorithm::Rs512, issuer: x() },
            TokenFault::Extension { name: "crit" },
            TokenFault::TokenType { found: Some(x()), by_policy: false },
            TokenFault::TokenType { found: None, by_policy: true },
            TokenFault::Issuer { found: x(), accepted: x(), near: Some(Near::Scheme), at: "issuer".into() },
            TokenFault::KeyUnknown { kid: x(), issuer: x() },
            TokenFault::KeyUnusable { kid: x(), why: Unusable::PrivatePart },
            TokenFault::KeyForOther {
                kid: x(),
                found: Algorithm::Rs256,
                own: Algorithm::Ps256,
                marked: true,
            },
            TokenFault::KeyForOther {
                kid: x(),
                found: Algorithm::Rs256,
                own: Algorithm::Ps256,
                marked: false,
            },
            TokenFault::NoKey { issuer: x() },
            TokenFault::Signature { issuer: x(), kid: Some(x()) },
            TokenFault::Signature { issuer: x(), kid: None },
            TokenFault::ClaimMissing { claim: "exp".into() },
            TokenFault::ClaimMalformed { claim: "exp".into(), wanted: "a number" },
            TokenFault::Expired { ago: 1 },
            TokenFault::Inactive { issuer: x() },
            TokenFault::NotYet { claim: "nbf", ahead: 100 },
            TokenFault::Audience {
                claim: "aud".into(),
                found: x(),
                accepted: x(),
                near: None,
                at: "audience".into(),
            },
            TokenFault::NotAnAccessToken { claim: "nonce" },
            TokenFault::SenderConstrained,
            TokenFault::RequiredClaim { claim: x(), found: Some(x()), accepted: x() },
            TokenFault::RequiredClaim { claim: x(), found: None, accepted: x() },
        ] {
            let (client, log) = (fault.client_text(), fault.to_string());
            assert!(client.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{client}");
            assert!(!log.ends_with('.') && log.starts_with(|c: char| c.is_ascii_lowercase()), "{log}");
            assert!(!log.contains("  "), "{log}");
        }
    }
}
