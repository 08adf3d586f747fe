//! An issuer's key set (RFC 7517): from bytes to the keys that may verify a token. Pure; fetching is
//! [`super::keys`]'s.
//!
//! A key is parsed once, when its set is loaded, and one that cannot be used does not spoil the set (RFC 7517 section
//! 5): it is set aside with its reason, so that the log can say why a token that names it is refused.

use std::fmt;

use super::fault::{Shown, TokenFault};
use super::json::{self, Bounds, Json};
use super::key::{Key, Unusable};
use crate::config::{Algorithm, Allowed};
use crate::limits::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, KEYS_TRIED_MAX};

/// A key that was set aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// Its place in the set, from 0.
    pub position: usize,
    /// Its `kid`, where one can be read.
    pub kid: Option<Box<str>>,
    /// What is wrong with it.
    pub why: Unusable,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "key {}: {}", Shown::of(kid), self.why),
            None => write!(f, "key number {} without kid: {}", self.position + 1, self.why),
        }
    }
}

/// Why a text is no key set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SetFault {
    /// It is longer than any key set.
    TooLong,
    /// It is not one JSON object.
    Json(json::Fault),
    /// It has no array `keys` (RFC 7517 section 5).
    NoKeys,
}

impl fmt::Display for SetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {JWKS_BYTES_MAX} bytes"),
            Self::Json(why) => write!(f, "{why}"),
            Self::NoKeys => f.write_str("it has no array 'keys', so it is no JSON Web Key Set"),
        }
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    skipped: Vec<Skipped>,
}

impl KeySet {
    /// Reads a key set (RFC 7517 section 5) of an issuer whose keys may be for any algorithm.
    ///
    /// # Errors
    /// As [`KeySet::parse_for`].
    pub fn parse(text: &[u8]) -> Result<Self, SetFault> {
        Self::parse_for(text, &Allowed::Auto, &[])
    }

    /// Reads a key set (RFC 7517 section 5) of an issuer whose tokens may use the algorithms `allowed`, and whose
    /// metadata `says` these.
    ///
    /// # Errors
    /// Where the text is no key set at all. A set without a usable key is a set: [`KeySet::is_empty`] tells.
    pub fn parse_for(text: &[u8], allowed: &Allowed, says: &[Algorithm]) -> Result<Self, SetFault> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(SetFault::TooLong);
        }
        let set = json::read(text, Bounds::KEY_SET).map_err(SetFault::Json)?;
        let Some(Json::Array(entries)) = set.get("keys") else { return Err(SetFault::NoKeys) };
        let mut read = Self::default();
        let unmarked = allowed.of_unmarked_rsa_key(says);
        for (position, entry) in entries.iter().enumerate() {
            let kid = match entry {
                Json::Object(jwk) => match jwk.get("kid") {
                    Some(Json::String(kid)) => Some(kid.as_str().into()),
                    _ => None,
                },
                _ => None,
            };
            let key = if position < JWKS_KEYS_MAX {
                Key::read(entry, allowed, unmarked)
            } else {
                Err(Unusable::TooMany)
            };
            match key {
                Ok(key) => read.keys.push(key),
                Err(why) => read.skipped.push(Skipped { position, kid, why }),
            }
            if position == JWKS_KEYS_MAX {
                break; // one line in the log says it for all that follow
            }
        }
        Ok(read)
    }

    /// How many keys can be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that can be used, in the order of the set.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that were set aside, in the order of the set.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Whether both hold the same usable keys, so that every token is judged alike by them.
    #[must_use]
    pub fn same_keys(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// The keys that may have signed a token: those of its `kid`, all of them where two share it, or without `kid` the
    /// first few that fit (RFC 7515 section 4.1.4). Never more than [`KEYS_TRIED_MAX`], so
    /// that no token costs more signature operations than that.
    ///
    /// # Errors
    /// Where there is none, and why. `issuer` is for that text alone.
    pub fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        issuer: &str,
    ) -> Result<impl Iterator<Item = &Key> + use<'_>, TokenFault> {
        let wanted = |key: &&Key| kid.is_none() || key.kid() == kid;
        let fits = |key: &&Key| key.algorithm() == algorithm;
        let mut found = [None; KEYS_TRIED_MAX];
        for (place, key) in found.iter_mut().zip(self.keys.iter().filter(wanted).filter(fits)) {
            *place = Some(key);
        }
        if found.iter().any(Option::is_some) {
            return Ok(found.into_iter().flatten());
        }
        let issuer = Shown::of(issuer);
        let Some(named) = kid else { return Err(TokenFault::NoKey { issuer }) };
        let kid_shown = Shown::of(named);
        if let Some(key) = self.keys.iter().find(wanted) {
            let (own, marked) = (key.algorithm(), key.is_marked());
            return Err(TokenFault::KeyForOther { kid: kid_shown, found: algorithm, own, marked });
        }
        Err(match self.skipped.iter().find(|skipped| skipped.kid.as_deref() == kid) {
            Some(skipped) => TokenFault::KeyUnusable { kid: kid_shown, why: skipped.why.clone() },
            None => TokenFault::KeyUnknown { kid: kid_shown, issuer },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::tests::issuer::TestKey;

    #[test]
    fn what_is_no_set_is_refused() {
        let long = format!("{{\"keys\":[]}}{}", " ".repeat(JWKS_BYTES_MAX));
        for (text, expected) in [
            (r#"{"keys":[]}"#, Ok(0)),
            (r#"{"keys":{}}"#, Err(SetFault::NoKeys)),
            (r#"{"Keys":[]}"#, Err(SetFault::NoKeys)),
            ("[]", Err(SetFault::Json(json::Fault::NotAnObject))),
            (r#"{"keys":[]}x"#, Err(SetFault::Json(json::Fault::Trailing))),
            (long.as_str(), Err(SetFault::TooLong)),
        ] {
            assert_eq!(KeySet::parse(text.as_bytes()).map(|set| set.len()), expected, "{:.20}", text);
        }
    }

    #[test]
    fn a_set_has_a_bound_and_says_so() {
        let jwk = TestKey::One.jwk("k");
        let set = json!({ "keys": vec![jwk; JWKS_KEYS_MAX + 10] }).to_string();
        let set = KeySet::parse(set.as_bytes()).unwrap();
        assert_eq!((set.len(), set.skipped().len()), (JWKS_KEYS_MAX, 1));
        assert_eq!(set.skipped()[0].why, Unusable::TooMany);
    }

    /// RFC 7515 section 4.1.4: `kid` and `kty` and `use` and `key_ops` and `alg`; duplicate kids: each;
    /// no kid: a few.
    #[test]
    fn keys_are_chosen_by_all_that_they_say() {
        let mut fixed = TestKey::Two.jwk("fixed");
        fixed["alg"] = "RS512".into();
        let mut nameless = TestKey::One.jwk("");
        nameless.as_object_mut().unwrap().remove("kid");
        let twins = vec![TestKey::One.jwk("twin"); KEYS_TRIED_MAX + 2];
        let keys = [vec![fixed, nameless, TestKey::Short.jwk("short")], twins].concat();
        let set = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let kid = |name| Shown::of(name);
        for (named, algorithm, expected) in [
            (Some("fixed"), Algorithm::Rs512, Ok(1)),
            (
                Some("fixed"),
                Algorithm::Rs256,
                Err(TokenFault::KeyForOther {
                    kid: kid("fixed"),
                    found: Algorithm::Rs256,
                    own: Algorithm::Rs512,
                    marked: true,
                }),
            ),
            (
                Some("twin"),
                Algorithm::Ps256,
                Err(TokenFault::KeyForOther {
                    kid: kid("twin"),
                    found: Algorithm::Ps256,
                    own: Algorithm::Rs256,
                    marked: false,
                }),
            ),
            (Some("twin"), Algorithm::Rs256, Ok(KEYS_TRIED_MAX)),
            (
                Some("Twin"),
                Algorithm::Rs256,
                Err(TokenFault::KeyUnknown { kid: kid("Twin"), issuer: kid("i") }),
            ),
            (Some(""), Algorithm::Rs256, Err(TokenFault::KeyUnknown { kid: kid(""), issuer: kid("i") })),
            (
                Some("short"),
                Algorithm::Rs256,
                Err(TokenFault::KeyUnusable { kid: kid("short"), why: Unusable::Modulus { bits: 1024 } }),
            ),
            (None, Algorithm::Rs256, Ok(KEYS_TRIED_MAX)),
        ] {
            let found = set.candidates(named, algorithm, "i").map(Iterator::count);
            assert_eq!(found, expected, "{named:?}");
        }
        assert_eq!(
            set.candidates(None, Algorithm::Es256, "i").err(),
            Some(TokenFault::NoKey { issuer: kid("i") })
        );
        let none = KeySet::default().candidates(None, Algorithm::Rs256, "i").map(Iterator::count);
        assert_eq!(none, Err(TokenFault::NoKey { issuer: kid("i") }));
    }
}
