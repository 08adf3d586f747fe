//! Who is asking, and may they: from the `Authorization` header to a [`Permit`].
//!
//! Only this module makes a [`Permit`], and the relay takes one by value: code that forgets the check does not compile.

pub mod challenge;
pub mod scope;
pub mod session;

use std::sync::Arc;

use crate::clock::Timestamp;
use scope::ScopeSet;

/// Whose token it was, as a verified token says it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// `iss`.
    pub issuer: Box<str>,
    /// `sub`.
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

// Stand-ins until the real ones are merged over this file.

/// Why a token is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenFault {
    /// Any reason.
    Bad,
}

/// Why a request is denied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Denied {
    /// None was sent.
    NoToken,
    /// The header cannot be read.
    Malformed(&'static str),
    /// The token does not hold.
    BadToken(TokenFault),
    /// It holds and is not enough.
    TooNarrow {
        /// Every scope that the call needs.
        needed: ScopeSet,
    },
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Why nobody was authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthError {
    /// The client's fault.
    Denied(Denied),
    /// Ours.
    KeysUnavailable,
}

/// Judges tokens.
#[derive(Debug)]
pub struct Authenticator(crate::config::ScopeRules);

impl Authenticator {
    /// A stand-in: takes `Bearer good:scope,scope`.
    #[must_use]
    pub fn stand_in(config: &crate::config::Config) -> Self {
        Self(config.scopes.clone())
    }

    /// Who is asking.
    ///
    /// # Errors
    /// They do not say, or not well enough.
    pub fn authenticate(
        &self,
        request: &crate::edge::http1::Incoming,
        now: Timestamp,
    ) -> Result<Arc<Principal>, AuthError> {
        let Some(token) = request.header_str("authorization").and_then(|v| v.strip_prefix("Bearer ")) else {
            return Err(AuthError::Denied(Denied::NoToken));
        };
        if request.headers_of("authorization").nth(1).is_some() {
            return Err(AuthError::Denied(Denied::Malformed("two")));
        }
        match token.split_once(':') {
            Some(("good", scopes)) => Ok(Arc::new(Principal {
                issuer: "https://idp.example/".into(),
                subject: "alice\u{7}".into(),
                client_id: None,
                scopes: ScopeSet::parse(&scopes.replace(',', " ")),
                expires: now.plus(60),
            })),
            Some(("later", _)) => Err(AuthError::KeysUnavailable),
            _ => Err(AuthError::Denied(Denied::BadToken(TokenFault::Bad))),
        }
    }

    /// May they.
    ///
    /// # Errors
    /// They may not.
    pub fn permit(
        &self,
        principal: &Arc<Principal>,
        calls: &mut dyn Iterator<Item = scope::CallSubject<'_>>,
    ) -> Result<Permit, Denied> {
        use crate::config::RuleSubject as R;
        let mut needed = ScopeSet::default();
        for call in calls {
            needed.0.extend(self.0.always.0.iter().cloned());
            for rule in &self.0.rules {
                let hit = match &rule.subject {
                    R::Method(method) => method == call.method,
                    R::Family(family) => call.method.split_once('/').is_some_and(|(f, _)| f == family),
                    R::Item { method, item } => method == call.method && Some(item.as_str()) == call.item,
                    R::Path(path) => path == call.path,
                };
                if hit {
                    needed.0.extend(rule.needed.0.iter().cloned());
                }
            }
        }
        if needed.0.is_subset(&principal.scopes.0) {
            Ok(Permit { principal: Arc::clone(principal) })
        } else {
            Err(Denied::TooNarrow { needed })
        }
    }
}
