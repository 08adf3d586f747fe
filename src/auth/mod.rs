//! Who is asking, and may they: from the `Authorization` header to a [`Permit`].
//!
//! Only this module makes a [`Permit`], and the relay takes one by value: code that forgets the check does not compile.

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
