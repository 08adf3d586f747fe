//! Dynamic client registration (RFC 7591), and which redirect URIs may be registered and used.

use serde_json::{Value, json};

use super::OAuthError;
use crate::limits::{LOCAL_REDIRECTS_MAX, LOCAL_VALUE_BYTES_MAX};

/// Schemes that run or show something by themselves, and so are no way back to a client.
const NEVER: [&str; 10] =
    ["javascript", "data", "file", "blob", "about", "vbscript", "view-source", "ws", "wss", "ftp"];
/// Longest name of a client, in characters; the consent page has room for no more.
const NAME_CHARS_MAX: usize = 60;

/// What a client says of itself, after the look at it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Registration {
    pub(super) name: String,
    pub(super) redirect_uris: Vec<String>,
}

impl Registration {
    /// Reads the body of a registration request (RFC 7591 section 2).
    ///
    /// # Errors
    /// `invalid_redirect_uri` or `invalid_client_metadata` (section 3.2.2).
    pub(super) fn read(body: &[u8]) -> Result<Self, OAuthError> {
        let bad = |text: &'static str| OAuthError::new("invalid_client_metadata", text);
        let Ok(Value::Object(metadata)) = serde_json::from_slice::<Value>(body) else {
            return Err(bad("the body must be a JSON object"));
        };
        let Some(uris) = metadata.get("redirect_uris").and_then(Value::as_array) else {
            return Err(OAuthError::new("invalid_redirect_uri", "redirect_uris must be a list of strings"));
        };
        if uris.is_empty() || uris.len() > LOCAL_REDIRECTS_MAX {
            return Err(OAuthError::new("invalid_redirect_uri", "redirect_uris must name 1 to 16 addresses"));
        }
        let mut redirect_uris = Vec::new();
        for uri in uris {
            let Some(uri) = uri.as_str().filter(|uri| allowed(uri)) else {
                return Err(OAuthError::new(
                    "invalid_redirect_uri",
                    "a redirect URI is https, http on loopback, or an application's own scheme, without a fragment",
                ));
            };
            redirect_uris.push(uri.to_owned());
        }
        let lists = |name: &str, wanted: &str| match metadata.get(name) {
            None | Some(Value::Null) => true,
            Some(given) => given.as_array().is_some_and(|list| list.iter().any(|item| item == wanted)),
        };
        if !lists("grant_types", "authorization_code") || !lists("response_types", "code") {
            return Err(bad("only the authorization code grant is offered"));
        }
        let name = match metadata.get("client_name") {
            None | Some(Value::Null) => "An unnamed client".to_owned(),
            // Control and direction characters could make the page say another name than it seems to.
            Some(Value::String(name)) => name.chars().filter(|c| shown(*c)).take(NAME_CHARS_MAX).collect(),
            Some(_) => return Err(bad("client_name must be a string")),
        };
        Ok(Self { name, redirect_uris })
    }

    /// The answer (RFC 7591 section 3.2.1): what was registered, not what was asked for.
    pub(super) fn answer(&self, client_id: &str, issued: i64) -> Value {
        json!({
            "client_id": client_id, "client_id_issued_at": issued, "client_name": self.name,
            "redirect_uris": self.redirect_uris, "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"], "token_endpoint_auth_method": "none",
        })
    }
}

fn shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whether a code may be sent to `uri` at all (OAuth 2.1 section 2.3; MCP "Communication Security").
fn allowed(uri: &str) -> bool {
    let plain = uri.len() <= LOCAL_VALUE_BYTES_MAX && uri.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let Some((scheme, rest)) = uri.split_once(':').filter(|_| plain) else { return false };
    let lower = scheme.to_ascii_lowercase();
    let well_formed = lower.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && lower.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    match lower.as_str() {
        "https" => rest.strip_prefix("//").is_some_and(|rest| authority(rest).is_some()),
        "http" => loopback(uri).is_some(),
        _ => well_formed && !rest.is_empty() && !NEVER.contains(&lower.as_str()),
    }
}

/// The authority at the beginning of what follows `//`, if it is one that nobody can misread.
fn authority(rest: &str) -> Option<&str> {
    let authority = rest.split(['/', '?', '\\']).next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    (!authority.is_empty() && authority.bytes().all(plain) && !rest.contains('\\')).then_some(authority)
}

/// `http://` on loopback: the host, and what follows the port.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let authority = authority(rest)?;
    let after = rest.get(authority.len()..)?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, "80"),
    };
    let is_loopback = ["127.0.0.1", "[::1]", "localhost"].contains(&host);
    (is_loopback && port.parse::<u16>().is_ok()).then_some((host, after))
}

/// Whether `given` is `registered`: byte for byte, but on loopback with any port, since a native client takes the one
/// that is free (RFC 8252 section 7.3).
pub(super) fn same_redirect(registered: &str, given: &str) -> bool {
    registered == given || loopback(registered).is_some_and(|known| loopback(given) == Some(known))
}

/// The origin or scheme that a page may send a form on to, as a source of a content security policy.
pub(super) fn form_target(uri: &str) -> Option<String> {
    let (scheme, rest) = uri.split_once(':')?;
    match rest.strip_prefix("//") {
        Some(rest) if scheme == "http" || scheme == "https" => {
            authority(rest).map(|authority| format!("{scheme}://{authority}"))
        }
        _ => Some(format!("{scheme}:")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_uris_lead_back_to_a_client_or_are_refused() {
        for (uri, good) in [
            ("https://app.example/cb", true),
            ("http://127.0.0.1:6274/oauth/callback", true),
            ("http://localhost/cb", true),
            ("http://[::1]:8/cb", true),
            ("cursor://anysphere.cursor-retrieval/oauth/callback", true),
            ("com.example.app:/cb", true),
            ("http://app.example/cb", false),
            ("http://localhost.evil.example/cb", false),
            ("http://localhost@evil.example/cb", false),
            ("http://localhost:80@evil.example/cb", false),
            ("http://localhost\\@evil.example/cb", false),
            ("http://127.0.0.1:99999/cb", false),
            ("https:///cb", false),
            ("https://a b/cb", false),
            ("https://app.example/cb#f", false),
            ("https://app.example/\r\nX: y", false),
            ("javascript:alert(1)", false),
            ("JavaScript:alert(1)", false),
            ("data:text/html,x", false),
            ("1a:b", false),
            ("nothing", false),
            ("", false),
        ] {
            assert_eq!(allowed(uri), good, "{uri}");
        }
    }

    #[test]
    fn loopback_ports_may_change_and_nothing_else() {
        for (registered, given, same) in [
            ("http://127.0.0.1:1/cb", "http://127.0.0.1:2/cb", true),
            ("http://127.0.0.1/cb", "http://127.0.0.1:2/cb", true),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1:2/other", false),
            ("http://127.0.0.1:1/cb", "http://localhost:1/cb", false),
            ("https://a.example:1/cb", "https://a.example:2/cb", false),
            ("app:/cb", "app:/cb", true),
            ("app:/cb", "app:/cb2", false),
        ] {
            assert_eq!(same_redirect(registered, given), same, "{registered} {given}");
        }
    }

    /// RFC 7591 section 3.2.2.
    #[test]
    fn registrations_are_read_or_refused() {
        let good = Registration::read(
            br#"{"redirect_uris":["http://localhost:1/cb"],"client_name":"A\u202e\u0000B","scope":"x"}"#,
        )
        .unwrap();
        assert_eq!((good.name.as_str(), good.redirect_uris.len()), ("AB", 1));
        for (body, error) in [
            ("[]", "invalid_client_metadata"),
            ("{", "invalid_client_metadata"),
            ("{}", "invalid_redirect_uri"),
            (r#"{"redirect_uris":[]}"#, "invalid_redirect_uri"),
            (r#"{"redirect_uris":"http://localhost/cb"}"#, "invalid_redirect_uri"),
            (r#"{"redirect_uris":[1]}"#, "invalid_redirect_uri"),
            (r#"{"redirect_uris":["http://far.example/"]}"#, "invalid_redirect_uri"),
            (r#"{"redirect_uris":["app:/"],"client_name":1}"#, "invalid_client_metadata"),
            (
                r#"{"redirect_uris":["app:/"],"grant_types":["client_credentials"]}"#,
                "invalid_client_metadata",
            ),
            (r#"{"redirect_uris":["app:/"],"response_types":["token"]}"#, "invalid_client_metadata"),
        ] {
            assert_eq!(Registration::read(body.as_bytes()).unwrap_err().error, error, "{body}");
        }
    }
}
