//! The `WWW-Authenticate` field and the body of a refusal (RFC 6750 section 3, RFC 9728 section 5.1).
//!
//! Status and further headers are [`crate::reply`]'s. The texts are the client's: the reason for the operator's log is
//! [`Denied`]'s `Display`.

use super::Denied;
use super::scope::ScopeSet;
use crate::reply::HeaderValue;
use crate::spare;

/// A scope that asks for refresh tokens and says nothing about a resource; it is not listed (RS-11).
const OFFLINE_ACCESS: &str = "offline_access";

/// The challenge. `resource_metadata` is the URL of our metadata document (RS-05), and `scopes` what is suggested to
/// ask for where the refusal itself does not say it (RS-07).
#[must_use]
pub fn value(denied: &Denied, resource_metadata: &str, scopes: &ScopeSet) -> HeaderValue {
    let mut text = spare::text();
    text.push_str("Bearer ");
    if let Some((error, description)) = error_of(denied) {
        parameter(&mut text, "error", [error]);
        parameter(&mut text, "error_description", [description]);
    }
    let scopes = match denied {
        Denied::TooNarrow { needed } => needed,
        _ => scopes,
    };
    let mut listed = scopes.0.iter().map(|scope| scope.as_str()).filter(|s| *s != OFFLINE_ACCESS).peekable();
    if listed.peek().is_some() {
        parameter(&mut text, "scope", listed);
    }
    parameter(&mut text, "resource_metadata", [resource_metadata]);
    HeaderValue::visible(text)
}

/// The body: the same as an OAuth error object (RFC 6749 section 5.2), which is what clients look for there.
#[must_use]
pub fn body(denied: &Denied) -> Vec<u8> {
    // RFC 6750 section 3.1 keeps the code out of the challenge where no token was sent. A client that fails to parse a
    // body without `error` still has to be told something there.
    let (error, description) = error_of(denied).unwrap_or(("unauthorized", "An access token is required"));
    // Both are texts of ours, in which nothing has to be escaped; a test reads them back.
    let mut body = spare::bytes();
    for part in [r#"{"error":""#, error, r#"","error_description":""#, description, r#""}"#] {
        body.extend_from_slice(part.as_bytes());
    }
    body
}

/// `error` and `error_description`; none where no token was sent (RFC 6750 section 3.1, decision D8).
fn error_of(denied: &Denied) -> Option<(&'static str, &'static str)> {
    match denied {
        Denied::NoToken => None,
        Denied::Malformed(why) => Some(("invalid_request", why.client_text())),
        Denied::BadToken(fault) => Some(("invalid_token", fault.client_text())),
        Denied::TooNarrow { .. } => {
            Some(("insufficient_scope", "The access token lacks a scope that this request needs"))
        }
    }
}

/// One `name="value"`, of words with a space between them. All of its parameters keep to `%x20-21 / %x23-5B / %x5D-7E` (RFC 6750 section 3), so no quoting
/// is needed; whatever else a value should hold becomes a space.
fn parameter<'a>(text: &mut String, name: &str, words: impl IntoIterator<Item = &'a str>) {
    if !text.ends_with(' ') {
        text.push_str(", ");
    }
    text.push_str(name);
    text.push_str("=\"");
    let fits = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
    for (at, word) in words.into_iter().enumerate() {
        if at > 0 {
            text.push(' ');
        }
        if word.bytes().fold(true, |all, b| all & fits(b)) {
            text.push_str(word);
        } else {
            text.extend(word.chars().map(|c| if u8::try_from(c).is_ok_and(fits) { c } else { ' ' }));
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::bearer::Malformed;
    use crate::auth::fault::TokenFault;

    const URL: &str = "https://mcp.example/.well-known/oauth-protected-resource/mcp";

    /// RS-04, RS-05, RS-07, RS-08, RS-11; RFC 6750 section 3; D8.
    #[test]
    fn each_refusal_has_its_challenge() {
        let suggested = ScopeSet::parse("mcp offline_access");
        let needed = ScopeSet::parse("write read offline_access");
        for (denied, challenge, error) in [
            (Denied::NoToken, format!(r#"Bearer scope="mcp", resource_metadata="{URL}""#), "unauthorized"),
            (
                Denied::BadToken(TokenFault::Expired { ago: 1 }),
                format!(
                    r#"Bearer error="invalid_token", error_description="The access token expired", scope="mcp", resource_metadata="{URL}""#
                ),
                "invalid_token",
            ),
            (
                Denied::Malformed(Malformed::TwoCredentials),
                format!(
                    r#"Bearer error="invalid_request", error_description="More than one Authorization header field", scope="mcp", resource_metadata="{URL}""#
                ),
                "invalid_request",
            ),
            (
                Denied::TooNarrow { needed },
                format!(
                    r#"Bearer error="insufficient_scope", error_description="The access token lacks a scope that this request needs", scope="read write", resource_metadata="{URL}""#
                ),
                "insufficient_scope",
            ),
        ] {
            assert_eq!(value(&denied, URL, &suggested).as_str(), challenge);
            let body: serde_json::Value = serde_json::from_slice(&body(&denied)).unwrap();
            assert_eq!(body["error"], error);
            assert!(body["error_description"].is_string());
        }
    }

    /// RFC 6750 section 3: at least one parameter, and none with a quote or a line end of somebody else's.
    #[test]
    fn no_value_can_end_its_quotes() {
        let shown = value(&Denied::NoToken, "https://a\"\r\nX: y\\", &ScopeSet::parse("offline_access"));
        assert_eq!(shown.as_str(), r#"Bearer resource_metadata="https://a   X: y ""#);
    }
}
