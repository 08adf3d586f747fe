//! A stand-in for the challenge builder of `auth`.

use super::{Denied, scope::ScopeSet};
use crate::reply::HeaderValue;

/// `WWW-Authenticate`.
#[must_use]
pub fn value(denied: &Denied, resource_metadata_url: &str, scopes: &ScopeSet) -> HeaderValue {
    let error = match denied {
        Denied::NoToken => "",
        Denied::Malformed(_) => "error=\"invalid_request\", ",
        Denied::BadToken(_) => "error=\"invalid_token\", ",
        Denied::TooNarrow { .. } => "error=\"insufficient_scope\", ",
    };
    let scope = if scopes.is_empty() { String::new() } else { format!(", scope=\"{scopes}\"") };
    HeaderValue::cleaned(format!("Bearer {error}resource_metadata=\"{resource_metadata_url}\"{scope}"))
}

/// The OAuth error object.
#[must_use]
pub fn body(denied: &Denied) -> Vec<u8> {
    let error = match denied {
        Denied::NoToken | Denied::BadToken(_) => "invalid_token",
        Denied::Malformed(_) => "invalid_request",
        Denied::TooNarrow { .. } => "insufficient_scope",
    };
    format!(r#"{{"error":"{error}"}}"#).into_bytes()
}
