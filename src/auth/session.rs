//! Sessions bound to whoever opened them, without a table (decision D6; requirements SSE-05 and section 4.4).
//!
//! The session id that we hand out is the MCP server's own, with a MAC behind it over the issuer, the subject and that
//! id. A session presented by anyone else, or made up, fails the MAC and is answered as an unknown one. Nothing is
//! stored, so nothing fills up, and every replica with the same key comes to the same verdict. `client_id` stays out of
//! it: a user who logs in again with another client may go on with the session.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::Principal;
use crate::secret::Secret;

/// The query parameter that carries the MAC of an HTTP+SSE session.
pub const SESSION_PARAMETER: &str = "mcp_auth_session";

/// Characters of a MAC: 32 bytes in base64url.
const MAC_CHARS: usize = 43;

/// The key of all session MACs.
pub struct SessionKey(hmac::Key);

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// What a MAC is for, so that one made for one purpose is worth nothing for another.
#[derive(Clone, Copy)]
enum Purpose {
    Header,
    Query,
    State,
}

impl SessionKey {
    /// A key made from the configured one, or from the system's random source.
    #[must_use]
    pub fn new(configured: Option<&Secret>) -> Self {
        let mut bytes = [0_u8; 32];
        match configured {
            Some(secret) => {
                let outer = hmac::Key::new(hmac::HMAC_SHA256, b"open-mcp-auth-proxy session key");
                let derived = hmac::sign(&outer, secret.expose().as_bytes());
                for (to, from) in bytes.iter_mut().zip(derived.as_ref()) {
                    *to = *from;
                }
            }
            None => {
                // Without a random source nothing here is safe; ring reports that once the system has given up.
                let filled = SystemRandom::new().fill(&mut bytes);
                assert!(filled.is_ok(), "the system has no random numbers");
            }
        }
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }

    /// The id that the client gets for the MCP server's `id`; `None` for an id that no header could carry (MCP:
    /// visible ASCII).
    #[must_use]
    pub fn seal(&self, principal: &Principal, id: &str) -> Option<String> {
        let visible = !id.is_empty() && id.bytes().all(|b| (0x21..0x7f).contains(&b));
        visible.then(|| format!("{id}.{}", self.mac(Purpose::Header, principal, id.as_bytes())))
    }

    /// The MCP server's id in one of ours; `None` where it was not handed out to this principal.
    #[must_use]
    pub fn open<'a>(&self, principal: &Principal, sealed: &'a str) -> Option<&'a str> {
        let (id, mac) = sealed.rsplit_once('.')?;
        self.holds(Purpose::Header, principal, id.as_bytes(), mac).then_some(id)
    }

    /// As [`SessionKey::seal`], for a `requestState` of MCP 2026-07-28 that we made (M-20).
    #[must_use]
    pub fn seal_state(&self, principal: &Principal, id: &str) -> String {
        format!("{id}.{}", self.mac(Purpose::State, principal, id.as_bytes()))
    }

    /// As [`SessionKey::open`], for such a `requestState`.
    #[must_use]
    pub fn open_state<'a>(&self, principal: &Principal, sealed: &'a str) -> Option<&'a str> {
        let (id, mac) = sealed.rsplit_once('.')?;
        self.holds(Purpose::State, principal, id.as_bytes(), mac).then_some(id)
    }

    /// `target`, a path with or without a query, with the MAC of its query as one more parameter.
    #[must_use]
    pub fn seal_target(&self, principal: &Principal, target: &str) -> String {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let mac = self.mac(Purpose::Query, principal, query.as_bytes());
        let join = if !target.contains('?') {
            "?"
        } else if query.is_empty() {
            ""
        } else {
            "&"
        };
        format!("{target}{join}{SESSION_PARAMETER}={mac}")
    }

    /// The target as the MCP server spelled it, byte for byte; `None` where the MAC is missing, is not the last
    /// parameter as we wrote it, or was made for somebody else or another query.
    #[must_use]
    pub fn open_target<'a>(&self, principal: &Principal, target: &'a str) -> Option<OpenTarget<'a>> {
        let (path, query) = target.split_once('?')?;
        let (rest, mac) = query.rsplit_once(SESSION_PARAMETER)?;
        let mac = mac.strip_prefix('=')?;
        let original = match rest.strip_suffix('&') {
            Some(original) if !original.is_empty() => original,
            _ if rest.is_empty() => "",
            _ => return None,
        };
        let held = !original.split('&').any(|part| part.starts_with(SESSION_PARAMETER))
            && self.holds(Purpose::Query, principal, original.as_bytes(), mac);
        held.then_some(OpenTarget { path, query: original })
    }

    fn context(&self, purpose: Purpose, principal: &Principal, id: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(match purpose {
            Purpose::Header => b"header",
            Purpose::Query => b"query-",
            Purpose::State => b"state-",
        });
        // With its length before it, no part can pass for the end of the one before.
        for part in [principal.issuer.as_bytes(), principal.subject.as_bytes(), id] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context
    }

    fn mac(&self, purpose: Purpose, principal: &Principal, id: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.context(purpose, principal, id).sign())
    }

    fn holds(&self, purpose: Purpose, principal: &Principal, id: &[u8], mac: &str) -> bool {
        if mac.len() != MAC_CHARS {
            return false;
        }
        let Ok(given) = URL_SAFE_NO_PAD.decode(mac) else { return false };
        let ours = self.context(purpose, principal, id).sign();
        // A second MAC over both hides from the clock where they differ.
        let blind = hmac::sign(&self.0, ours.as_ref());
        hmac::verify(&self.0, &given, blind.as_ref()).is_ok()
    }
}

/// A target without our parameter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenTarget<'a> {
    /// The path.
    pub path: &'a str,
    /// The query; empty where there was none.
    pub query: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::ScopeSet;
    use crate::clock::Timestamp;

    fn principal(issuer: &str, subject: &str) -> Principal {
        let (issuer, subject) = (issuer.into(), subject.into());
        Principal { issuer, subject, client_id: None, scopes: ScopeSet::default(), expires: Timestamp(0) }
    }

    #[test]
    fn a_session_opens_for_its_principal_alone() {
        let key = SessionKey::new(None);
        let alice = principal("https://issuer", "alice");
        let sealed = key.seal(&alice, "abc.def").unwrap();
        assert_eq!(key.open(&alice, &sealed), Some("abc.def"));
        for (whose, other) in [
            ("another subject", principal("https://issuer", "bob")),
            ("another issuer", principal("https://other", "alice")),
            ("the same letters cut elsewhere", principal("https://issueral", "ice")),
        ] {
            assert_eq!(key.open(&other, &sealed), None, "{whose}");
        }
        for forged in
            ["abc.def", "", ".", "abc.def.", &sealed[1..], &sealed[..sealed.len() - 1], &format!("x{sealed}")]
        {
            assert_eq!(key.open(&alice, forged), None, "{forged}");
        }
        assert_eq!(SessionKey::new(None).open(&alice, &sealed), None, "another key");
        assert_eq!(key.seal(&alice, "no space"), None);
    }

    #[test]
    fn a_configured_key_is_the_same_everywhere() {
        let secret = Secret::new("shared".into());
        let alice = principal("https://issuer", "alice");
        let sealed = SessionKey::new(Some(&secret)).seal(&alice, "abc").unwrap();
        assert_eq!(SessionKey::new(Some(&secret)).open(&alice, &sealed), Some("abc"));
    }

    #[test]
    fn a_target_comes_back_byte_for_byte() {
        let key = SessionKey::new(None);
        let (alice, bob) = (principal("i", "alice"), principal("i", "bob"));
        for target in ["/messages/?session_id=a%20b&x=", "/messages?sessionId=1", "/messages", "/m?&&"] {
            let sealed = key.seal_target(&alice, target);
            let open = key.open_target(&alice, &sealed).unwrap();
            let joined = if open.query.is_empty() {
                open.path.to_owned()
            } else {
                format!("{}?{}", open.path, open.query)
            };
            assert_eq!(joined, target);
            assert_eq!(key.open_target(&bob, &sealed), None);
            assert_eq!(key.open_target(&alice, target), None, "without the parameter");
            assert_eq!(key.open_target(&alice, &format!("{sealed}&x=y")), None, "something behind it");
            assert_eq!(key.open_target(&alice, &sealed.replace('?', "?z=1&")), None, "something before it");
        }
    }

    #[test]
    fn a_mac_for_a_header_is_none_for_a_query() {
        let key = SessionKey::new(None);
        let alice = principal("i", "alice");
        let sealed = key.seal(&alice, "a=b").unwrap();
        let mac = sealed.rsplit_once('.').unwrap().1;
        assert_eq!(key.open_target(&alice, &format!("/m?a=b&{SESSION_PARAMETER}={mac}")), None);
        let state = key.seal_state(&alice, "a=b");
        assert_eq!((key.open_state(&alice, &state), key.open(&alice, &state)), (Some("a=b"), None));
        assert_eq!(key.open_state(&alice, &sealed), None);
        assert_eq!(key.open_state(&principal("i", "bob"), &state), None);
    }
}
