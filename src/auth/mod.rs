//! Who is asking, and may they: from the `Authorization` header to a [`Permit`].
//!
//! ```text
//! bearer ─▶ cache ─▶ token ─▶ keys (jwks, discovery, fetch) ─▶ claims ─▶ Principal ─▶ scope ─▶ Permit
//!                                                           challenge ◀─ Denied ◀─ fault
//! ```
//!
//! Only this module makes a [`Permit`], and the relay takes one by value: code that forgets the check does not compile.
//! An opaque token goes from `bearer` to `introspection`, and its answer to the same `claims`.
//! Everything in it is pure and given the time, except `introspection` and `keys` with their `fetch`, `reach` and `roots`, which talk to the issuers.

pub mod bearer;
pub mod token;
pub mod claims;
pub mod json;
pub mod key;
mod pkcs1;
pub mod jwks;
pub mod keys;
pub mod discovery;
pub mod reach;
pub(crate) mod agents;
pub mod fetch;
pub mod roots;
pub mod introspection;
pub mod survey;
pub mod cache;
pub mod scope;
pub mod session;
pub mod fault;
pub mod challenge;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::config::{Allowed, Config, Mcp20250326, TokenTypePolicy};
use crate::edge::http1::Incoming;
use crate::header;
use crate::limits::{INTROSPECTION_WORKERS, REFUSED_CACHE_SECONDS};
use crate::log::{Level, Log};
use bearer::Malformed;
use cache::{Basis, Refusals, TokenHash, Tokens};
use claims::{Rules, Verified};
use fault::{Near, Shown, TokenFault};
use introspection::Introspector;
use keys::{KeyStore, Newer};
use scope::{CallSubject, ScopeSet, ScopeTable};
use token::Unverified;

/// Whose token it was, as a verified token says it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// `iss`.
    pub issuer: Box<str>,
    /// `sub`; without it the client's name, as RFC 9068 section 2.2 puts it for a token that a client got for itself.
    pub subject: Box<str>,
    /// `client_id`, or `azp` where the issuer calls it that.
    pub client_id: Option<Box<str>>,
    /// `scope` and `scp`.
    pub scopes: ScopeSet,
    /// `exp`.
    pub expires: Timestamp,
}

/// Proof that one request passed authorization. Its fields are private to `auth`, so `auth` is the only source.
#[derive(Debug)]
pub struct Permit {
    principal: Arc<Principal>,
}

impl Permit {
    /// Whose request it is.
    #[must_use]
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }
}

/// Why a request is refused: the client must get a token, another one, or a stronger one.
#[derive(Clone, Debug, PartialEq)]
pub enum Denied {
    /// 401 without `error`: it carries no token (RFC 6750 section 3.1).
    NoToken,
    /// 400 `invalid_request`: it carries more than one.
    Malformed(Malformed),
    /// 401 `invalid_token`.
    BadToken(TokenFault),
    /// 403 `insufficient_scope`.
    TooNarrow {
        /// Every scope that the request needs, at once.
        needed: ScopeSet,
    },
}

impl Denied {
    /// The status code (RFC 6750 section 3.1).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NoToken | Self::BadToken(_) => 401,
            Self::Malformed(_) => 400,
            Self::TooNarrow { .. } => 403,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("the request carries no bearer token in its Authorization field"),
            Self::Malformed(why) => why.fmt(f),
            Self::BadToken(fault) => fault.fmt(f),
            Self::TooNarrow { needed } => {
                write!(f, "the token lacks a scope; this request needs {}", Shown::of(&needed.to_string()))
            }
        }
    }
}

/// Why a request does not get past its token.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthError {
    /// The client's move.
    Denied(Denied),
    /// 503: the keys of the token's issuer could never be fetched, or not for too long. Logging in again would not help
    /// the client, so it is not told to (decision D8).
    KeysUnavailable,
    /// 503: the issuer could not be asked about an opaque token.
    IntrospectionUnavailable,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(denied) => denied.fmt(f),
            Self::KeysUnavailable => f.write_str(
                "the keys of the token's issuer are not available; the line that says why stands earlier in this log",
            ),
            Self::IntrospectionUnavailable => f.write_str(
                "the issuer could not be asked about the token, or too many requests wait for it; a line earlier in \
                 this log says why",
            ),
        }
    }
}

impl From<Denied> for AuthError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<TokenFault> for AuthError {
    fn from(fault: TokenFault) -> Self {
        Self::Denied(Denied::BadToken(fault))
    }
}

/// One issuer, and what its tokens are held to.
#[derive(Debug)]
struct Trusted {
    issuer: String,
    /// The key of the configuration that names it.
    at: Box<str>,
    algorithms: Allowed,
    rules: Rules,
}

/// Judges requests.
pub struct Authenticator {
    issuers: Vec<Trusted>,
    token_type: TokenTypePolicy,
    compatibility: Mcp20250326,
    scopes: ScopeTable,
    keys: Arc<KeyStore>,
    tokens: Tokens,
    refusals: Refusals,
    /// Opaque tokens, where an issuer can be asked about them.
    introspector: Option<Introspector>,
    log: Log,
}

impl Authenticator {
    /// An authenticator for the issuers of `config`, whose keys `keys` holds.
    #[must_use]
    pub fn new(config: &Config, keys: Arc<KeyStore>, log: Log) -> Self {
        if config.mcp_2025_03_26 == Mcp20250326::SignatureOnly {
            log.warn(
                "mcp_2025_03_26 is signature_only: whoever sends MCP-Protocol-Version: 2025-03-26 is let in with a \
                 token for any audience and without scopes",
                &[],
            );
        }
        let trusted = |issuer: &crate::config::Issuer| Trusted {
            issuer: issuer.issuer.clone(),
            at: issuer.written.issuer.clone(),
            algorithms: issuer.algorithms.clone(),
            rules: Rules {
                audiences: issuer.audiences.iter().map(|aud| claims::canonical(aud).into_owned()).collect(),
                issuer_at: issuer.written.issuer.clone(),
                audience_at: issuer.written.audience.clone(),
                names: issuer.claims.clone(),
                leeway_seconds: config.leeway_seconds,
                required_claims: config
                    .required_claims
                    .iter()
                    .chain(&issuer.required_claims)
                    .cloned()
                    .collect(),
            },
        };
        let workers = config.limits.workers.unwrap_or(INTROSPECTION_WORKERS);
        let introspector = config.issuers.iter().find_map(|issuer| {
            let settings = issuer.introspection.clone()?;
            Introspector::new(&issuer.issuer, settings, Arc::clone(&keys), workers, log.clone())
        });
        Self {
            introspector,
            issuers: config.issuers.iter().map(trusted).collect(),
            token_type: config.token_type,
            compatibility: config.mcp_2025_03_26,
            scopes: ScopeTable::new(&config.scopes),
            keys,
            tokens: Tokens::default(),
            refusals: Refusals::default(),
            log,
        }
    }

    /// The scope rules, for whoever must know what a call needs.
    #[must_use]
    pub fn scopes(&self) -> &ScopeTable {
        &self.scopes
    }

    /// Whose request it is. Needs the head alone. May wait for a key set, by
    /// [`crate::limits::JWKS_WAIT_MAX`] at most, or for an answer about an opaque token.
    ///
    /// # Errors
    /// Where the request carries no token that holds, or nobody can tell.
    pub fn authenticate(&self, request: &Incoming, now: Timestamp) -> Result<Arc<Principal>, AuthError> {
        let token = bearer::token_of(request)?;
        let hash = TokenHash::of(token);
        let verdict = self.verify(token, hash, now).and_then(|verified| match verified.not_for_us {
            Some(fault) if !self.is_lenient(request) => Err(fault.into()),
            _ => Ok(verified.principal),
        });
        if let Err(why) = &verdict
            && self.log.wants(Level::Debug)
        {
            self.log.debug("token refused", &[("token", &hash.short()), ("reason", why)]);
        }
        verdict
    }

    /// Whether judging this request costs more than a look: it carries a token that is not remembered to hold.
    #[must_use]
    pub fn would_verify(&self, request: &Incoming, now: Timestamp) -> bool {
        let remembered = |token| {
            let current = |basis: Basis| self.keys.is_current(basis);
            let hash = TokenHash::of(token);
            self.tokens.get(&hash, now, current).is_some()
                || self.introspector.as_ref().is_some_and(|introspector| introspector.remembers(hash, now))
        };
        bearer::token_of(request).is_ok_and(|token| !remembered(token))
    }

    /// What a token is worth by itself, outside of any request. May wait as [`Authenticator::authenticate`] does.
    ///
    /// # Errors
    /// Where it does not hold, or nobody can tell.
    pub fn judge(&self, token: &str, now: Timestamp) -> Result<Arc<Principal>, AuthError> {
        let verified = self.verify(token, TokenHash::of(token), now)?;
        verified.not_for_us.map_or(Ok(verified.principal), |fault| Err(fault.into()))
    }

    /// Lets a principal make all of these calls, or none.
    ///
    /// # Errors
    /// [`Denied::TooNarrow`] with every scope that they need together.
    pub fn permit(&self, principal: &Arc<Principal>, calls: &[CallSubject<'_>]) -> Result<Permit, Denied> {
        self.scopes.allow(&principal.scopes, calls).map_err(|needed| Denied::TooNarrow { needed })?;
        Ok(Permit { principal: Arc::clone(principal) })
    }

    /// As [`Authenticator::permit`], where the compatibility setting of decision D4 counts: with
    /// `mcp_2025_03_26: signature_only` a request of that revision needs no scope.
    ///
    /// # Errors
    /// As [`Authenticator::permit`].
    pub fn permit_for(
        &self,
        request: &Incoming,
        principal: &Arc<Principal>,
        calls: &[CallSubject<'_>],
    ) -> Result<Permit, Denied> {
        if self.is_lenient(request) {
            return Ok(Permit { principal: Arc::clone(principal) });
        }
        self.permit(principal, calls)
    }

    /// The scopes that a call needs.
    #[must_use]
    pub fn needed_for(&self, call: CallSubject<'_>) -> ScopeSet {
        self.scopes.needed_for(&[call])
    }

    /// Whether audience and scopes are waived (decision D4): the operator asked for the original's behaviour, and the
    /// request says exactly that revision. Signature, issuer, time and required claims are never waived.
    fn is_lenient(&self, request: &Incoming) -> bool {
        let mut versions = request.headers_of(header::MCP_PROTOCOL_VERSION);
        self.compatibility == Mcp20250326::SignatureOnly
            && versions.next() == Some(b"2025-03-26")
            && versions.next().is_none()
    }

    fn verify(&self, token: &str, hash: TokenHash, now: Timestamp) -> Result<Verified, AuthError> {
        let current = |basis: Basis| self.keys.is_current(basis);
        if let Some(verified) = self.tokens.get(&hash, now, current) {
            return Ok(verified);
        }
        if let Some(fault) = self.refusals.get(&hash, now, current) {
            return Err(fault.into());
        }
        let unverified = match Unverified::parse(token) {
            Ok(unverified) => unverified,
            Err(fault) if fault.is_opaque() => return self.ask_about(token, hash, fault, now),
            Err(fault) => return Err(fault.into()),
        };
        let trusted = self.issuer_of(&unverified)?;
        let issuer = &trusted.issuer;
        unverified.require(&trusted.algorithms, self.token_type, issuer)?;

        let place = self.keys.find(issuer).ok_or(AuthError::KeysUnavailable)?;
        let mut keys = match self.keys.current(place) {
            Some(keys) => keys,
            None => match self.keys.newer(place, None) {
                Newer::Keys(keys) => keys,
                Newer::Same | Newer::NotBefore(_) | Newer::Crowded => return Err(AuthError::KeysUnavailable),
            },
        };
        // How long a refusal by these keys may stand: not beyond the moment at which they may be asked for again.
        let mut refused_until = now.plus(REFUSED_CACHE_SECONDS);
        let mut signed = unverified.signed_by(&keys.set, issuer);
        if signed.as_ref().is_err_and(TokenFault::may_be_cured_by_newer_keys) {
            match self.keys.newer(place, Some(keys.generation)) {
                Newer::Keys(newer) => {
                    keys = newer;
                    signed = unverified.signed_by(&keys.set, issuer);
                }
                Newer::Same => {}
                Newer::NotBefore(moment) => refused_until = refused_until.min(moment),
                Newer::Crowded => refused_until = now,
            }
        }
        let basis = Basis { issuer: place, generation: keys.generation };
        let judged = signed.and_then(|claims| claims.judge(issuer, &trusted.rules, now));
        match &judged {
            Ok(verified) => self.tokens.put(hash, verified.clone(), basis, now),
            // A token that is too early will hold one day; one whose key is unknown cost no RSA operation.
            Err(TokenFault::NotYet { .. }) => {}
            Err(fault)
                if fault.may_be_cured_by_newer_keys() && !matches!(fault, TokenFault::Signature { .. }) => {}
            Err(fault) if refused_until > now => {
                self.refusals.put(hash, fault.clone(), refused_until, basis, now);
            }
            Err(_) => {}
        }
        Ok(judged?)
    }

    /// A token that says nothing by itself is judged by the one issuer that can be asked, or refused for what it is.
    fn ask_about(
        &self,
        token: &str,
        hash: TokenHash,
        fault: TokenFault,
        now: Timestamp,
    ) -> Result<Verified, AuthError> {
        let Some(introspector) = &self.introspector else { return Err(fault.into()) };
        let trusted = self.issuers.iter().find(|trusted| trusted.issuer == introspector.issuer());
        let trusted = trusted.ok_or(AuthError::IntrospectionUnavailable)?;
        introspector.verify(token, hash, &trusted.rules, now)
    }

    /// The issuer that a token names (RFC 8414 section 2, RFC 8725 section 3.8): compared exactly, and judged by no
    /// other's keys.
    fn issuer_of(&self, token: &Unverified<'_>) -> Result<&Trusted, TokenFault> {
        let found = token.issuer()?;
        self.issuers.iter().find(|trusted| trusted.issuer == found).ok_or_else(|| {
            let mut all = self.issuers.iter();
            let near = all.find_map(|trusted| Some((Near::between(found, &trusted.issuer)?, trusted)));
            let at = near.map(|(_, trusted)| trusted).or_else(|| self.issuers.first());
            TokenFault::Issuer {
                found: Shown::of(found),
                accepted: Shown::list(self.issuers.iter().map(|trusted| trusted.issuer.as_str())),
                near: near.map(|(near, _)| near),
                at: at.map_or_else(Box::default, |trusted| trusted.at.clone()),
            }
        })
    }
}
