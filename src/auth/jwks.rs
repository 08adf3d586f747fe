//! An issuer's key set (RFC 7517): from bytes to the keys that may verify a token. Pure; fetching is
//! [`super::keys`]'s.
//!
//! A key is parsed once, when its set is loaded, and one that cannot be used does not spoil the set (RFC 7517 section
//! 5): it is set aside with its reason, so that the log can say why a token that names it is refused.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::{BoxedUint, PublicKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::fault::{Shown, TokenFault};
use super::json::{self, Bounds, Json, Object};
use crate::config::Algorithm;
use crate::limits::{JWKS_BYTES_MAX, JWKS_KEYS_MAX, KEYS_TRIED_MAX, RSA_BITS_MAX, RSA_BITS_MIN};

/// The name of an algorithm in RFC 7518 section 3.1.
#[must_use]
pub fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rs256 => "RS256",
        Algorithm::Rs384 => "RS384",
        Algorithm::Rs512 => "RS512",
    }
}

/// The algorithm of this name, if it can be verified. Names are case-sensitive (RFC 7515 section 4.1.1).
#[must_use]
pub fn algorithm_named(name: &str) -> Option<Algorithm> {
    [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512]
        .into_iter()
        .find(|algorithm| algorithm_name(*algorithm) == name)
}

/// An RSA key that may verify signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    kid: Option<Box<str>>,
    algorithm: Option<Algorithm>,
    key: PublicKey,
}

impl Key {
    /// Whether `signature` over `message` is this key's (RFC 8017 section 8.2.2).
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let (scheme, digest) = match algorithm {
            Algorithm::Rs256 => (Pkcs1v15Sign::new::<Sha256>(), Sha256::digest(message).to_vec()),
            Algorithm::Rs384 => (Pkcs1v15Sign::new::<Sha384>(), Sha384::digest(message).to_vec()),
            Algorithm::Rs512 => (Pkcs1v15Sign::new::<Sha512>(), Sha512::digest(message).to_vec()),
        };
        self.key.verify(scheme, &digest, signature).is_ok()
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm)
    }
}

/// Why a key of a set is set aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// It is no JSON object.
    NotAnObject,
    /// A member is there twice (RFC 7517 section 4).
    Repeated(Shown),
    /// A member is missing or of the wrong type.
    Member(&'static str),
    /// `kty` is not RSA.
    KeyType(Shown),
    /// `use` is not `sig` (RFC 7517 section 4.2).
    Use(Shown),
    /// `key_ops` does not contain `verify` (RFC 7517 section 4.3).
    Operations,
    /// `alg` is for nothing that is verified here.
    Algorithm(Shown),
    /// The modulus is too short, too long, or no modulus.
    Modulus {
        /// Its length in bits.
        bits: usize,
    },
    /// The public exponent is even, less than 3, or beyond 33 bits.
    Exponent,
    /// The set publishes the private part as well, so that anyone may sign with it.
    PrivatePart,
    /// More keys stood before it than are looked at.
    TooMany,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject => f.write_str("it is no JSON object"),
            Self::Repeated(name) => write!(f, "its member {name} is there twice"),
            Self::Member(name) => write!(f, "its member {name} is missing or malformed"),
            Self::KeyType(found) => write!(f, "its kty is {found}, and only RSA is verified"),
            Self::Use(found) => write!(f, "its use is {found} and not 'sig'"),
            Self::Operations => f.write_str("its key_ops do not contain 'verify'"),
            Self::Algorithm(found) => {
                write!(f, "its alg is {found}, and only RS256, RS384 and RS512 are verified")
            }
            Self::Modulus { bits } => {
                write!(
                    f,
                    "its modulus has {bits} bits, and {RSA_BITS_MIN} to {RSA_BITS_MAX} odd ones are accepted"
                )
            }
            Self::Exponent => f.write_str("its public exponent is not an odd number from 3 to 2^33"),
            Self::PrivatePart => {
                f.write_str("it is published with its private part, so anyone can sign with it")
            }
            Self::TooMany => write!(f, "only the first {JWKS_KEYS_MAX} keys of a set are looked at"),
        }
    }
}

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
    /// Reads a key set (RFC 7517 section 5).
    ///
    /// # Errors
    /// Where the text is no key set at all. A set without a usable key is a set: [`KeySet::is_empty`] tells.
    pub fn parse(text: &[u8]) -> Result<Self, SetFault> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(SetFault::TooLong);
        }
        let set = json::read(text, Bounds::KEY_SET).map_err(SetFault::Json)?;
        let Some(Json::Array(entries)) = set.get("keys") else { return Err(SetFault::NoKeys) };
        let mut read = Self::default();
        for (position, entry) in entries.iter().enumerate() {
            let kid = match entry {
                Json::Object(jwk) => match jwk.get("kid") {
                    Some(Json::String(kid)) => Some(kid.as_str().into()),
                    _ => None,
                },
                _ => None,
            };
            let key = if position < JWKS_KEYS_MAX { read_key(entry) } else { Err(Unusable::TooMany) };
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
    /// first few that fit (RFC 7515 section 4.1.4, requirements section 5.7). Never more than [`KEYS_TRIED_MAX`], so
    /// that no token costs more RSA operations than that.
    ///
    /// # Errors
    /// Where there is none, and why. `issuer` is for that text alone.
    pub fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        issuer: &str,
    ) -> Result<impl Iterator<Item = &Key> + use<'_>, TokenFault> {
        let wanted = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let found: Vec<&Key> =
            self.keys.iter().filter(wanted).filter(|key| key.fits(algorithm)).take(KEYS_TRIED_MAX).collect();
        if !found.is_empty() {
            return Ok(found.into_iter());
        }
        let issuer = Shown::of(issuer);
        let Some(named) = kid else { return Err(TokenFault::NoKey { issuer }) };
        let kid_shown = Shown::of(named);
        if self.keys.iter().any(|key| wanted(&key)) {
            return Err(TokenFault::KeyForOther { kid: kid_shown, found: algorithm });
        }
        Err(match self.skipped.iter().find(|skipped| skipped.kid.as_deref() == kid) {
            Some(skipped) => TokenFault::KeyUnusable { kid: kid_shown, why: skipped.why.clone() },
            None => TokenFault::KeyUnknown { kid: kid_shown, issuer },
        })
    }
}

/// A text member that may be absent.
fn text<'j>(jwk: &'j Object, name: &'static str) -> Result<Option<&'j str>, Unusable> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Json::String(value)) => Ok(Some(value)),
        Some(_) => Err(Unusable::Member(name)),
    }
}

/// A `Base64urlUInt` (RFC 7518 section 2) without the leading zeros that some issuers prepend.
fn number(jwk: &Object, name: &'static str) -> Result<Vec<u8>, Unusable> {
    let value = text(jwk, name)?.ok_or(Unusable::Member(name))?;
    let bytes = URL_SAFE_NO_PAD.decode(value).map_err(|_| Unusable::Member(name))?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn read_key(entry: &Json) -> Result<Key, Unusable> {
    let jwk = match entry {
        Json::Object(jwk) => jwk,
        Json::Repeated(name) => return Err(Unusable::Repeated(name.clone())),
        _ => return Err(Unusable::NotAnObject),
    };
    let kid = text(jwk, "kid")?;
    match text(jwk, "kty")?.ok_or(Unusable::Member("kty"))? {
        "RSA" => {}
        other => return Err(Unusable::KeyType(Shown::of(other))),
    }
    if let Some(other) = text(jwk, "use")?.filter(|used| *used != "sig") {
        return Err(Unusable::Use(Shown::of(other)));
    }
    match jwk.get("key_ops") {
        Some(Json::Array(operations)) if !operations.contains(&Json::String("verify".into())) => {
            return Err(Unusable::Operations);
        }
        None | Some(Json::Array(_)) => {}
        Some(_) => return Err(Unusable::Member("key_ops")),
    }
    let algorithm = match text(jwk, "alg")? {
        None => None,
        Some(name) => Some(algorithm_named(name).ok_or_else(|| Unusable::Algorithm(Shown::of(name)))?),
    };
    if jwk.get("d").is_some() {
        return Err(Unusable::PrivatePart);
    }
    let (modulus, exponent) = (number(jwk, "n")?, number(jwk, "e")?);
    let bits = bits(&modulus);
    let odd = modulus.last().is_some_and(|byte| byte & 1 == 1);
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) || !odd {
        return Err(Unusable::Modulus { bits });
    }
    // rsa itself ends at 33 bits, so that a key cannot make verification slow.
    if exponent.is_empty() || exponent == [1] || exponent.len() > 5 {
        return Err(Unusable::Exponent);
    }
    let (n, e) = (BoxedUint::from_be_slice_vartime(&modulus), BoxedUint::from_be_slice_vartime(&exponent));
    let key =
        PublicKey::new_with_size_limits(n, e, RSA_BITS_MIN..=RSA_BITS_MAX).map_err(|_| Unusable::Exponent)?;
    Ok(Key { kid: kid.map(Into::into), algorithm, key })
}

/// How many bits a number without leading zero bytes has.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::tests::issuer::{TestKey, b64};

    /// RFC 7517 sections 4 and 5, RFC 7518 sections 2, 3.3 and 6.3.1, RFC 8725 section 3.5; requirements 5.7. Beside each
    /// key stands a good one, which is never spoilt.
    #[test]
    fn one_bad_key_is_set_aside_and_spoils_nothing() {
        let n = TestKey::One.modulus();
        let with = |name: &str, value: Value| {
            let mut jwk = TestKey::One.jwk("k");
            jwk[name] = value;
            jwk
        };
        let without = |name: &str| {
            let mut jwk = TestKey::One.jwk("k");
            jwk.as_object_mut().unwrap().remove(name);
            jwk
        };
        let modulus = |bytes: Vec<u8>| with("n", b64(bytes).into());
        let even = [&n[..255], &[n[255] & 0xfe]].concat();
        let bits_2047 = [&[0x7f][..], &n[1..]].concat();
        let huge = [&[0xff; 1024][..], &n[255..]].concat();
        let text = Shown::of;
        for (what, key, expected) in [
            ("as it should be", TestKey::One.jwk("k"), Ok(())),
            ("use sig", with("use", "sig".into()), Ok(())),
            ("key_ops", with("key_ops", json!(["sign", "verify"])), Ok(())),
            ("alg", with("alg", "RS384".into()), Ok(())),
            ("a certificate", with("x5c", json!(["AAAA"])), Ok(())),
            ("leading zero", modulus([&[0, 0][..], &n].concat()), Ok(())),
            ("e = 3", with("e", "Aw".into()), Ok(())),
            ("no kid", without("kid"), Ok(())),
            ("use enc", with("use", "enc".into()), Err(Unusable::Use(text("enc")))),
            ("use SIG", with("use", "SIG".into()), Err(Unusable::Use(text("SIG")))),
            ("use null", with("use", Value::Null), Err(Unusable::Member("use"))),
            ("key_ops without verify", with("key_ops", json!(["sign"])), Err(Unusable::Operations)),
            ("key_ops empty", with("key_ops", json!([])), Err(Unusable::Operations)),
            ("key_ops a string", with("key_ops", "verify".into()), Err(Unusable::Member("key_ops"))),
            ("alg PS256", with("alg", "PS256".into()), Err(Unusable::Algorithm(text("PS256")))),
            ("alg RSA-OAEP", with("alg", "RSA-OAEP".into()), Err(Unusable::Algorithm(text("RSA-OAEP")))),
            ("alg rs256", with("alg", "rs256".into()), Err(Unusable::Algorithm(text("rs256")))),
            ("kty EC", with("kty", "EC".into()), Err(Unusable::KeyType(text("EC")))),
            ("kty oct", json!({"kty": "oct", "k": "AAAA"}), Err(Unusable::KeyType(text("oct")))),
            ("no kty", without("kty"), Err(Unusable::Member("kty"))),
            ("no n", without("n"), Err(Unusable::Member("n"))),
            ("no e", without("e"), Err(Unusable::Member("e"))),
            ("n padded", with("n", format!("{}==", b64(&n)).into()), Err(Unusable::Member("n"))),
            ("n a number", with("n", 5.into()), Err(Unusable::Member("n"))),
            ("kid a number", with("kid", 5.into()), Err(Unusable::Member("kid"))),
            ("1024 bits", TestKey::Short.jwk("k"), Err(Unusable::Modulus { bits: 1024 })),
            ("2047 bits", modulus(bits_2047), Err(Unusable::Modulus { bits: 2047 })),
            ("8200 bits", modulus(huge), Err(Unusable::Modulus { bits: 8200 })),
            ("no bits", modulus(vec![0; 256]), Err(Unusable::Modulus { bits: 0 })),
            ("an even modulus", modulus(even), Err(Unusable::Modulus { bits: 2048 })),
            ("e = 0", with("e", "AA".into()), Err(Unusable::Exponent)),
            ("e = 1", with("e", "AQ".into()), Err(Unusable::Exponent)),
            ("e = 4", with("e", "BA".into()), Err(Unusable::Exponent)),
            ("e of 34 bits", with("e", b64([2, 0, 0, 0, 1]).into()), Err(Unusable::Exponent)),
            ("e huge", with("e", b64([1; 300]).into()), Err(Unusable::Exponent)),
            ("with d", with("d", "AQAB".into()), Err(Unusable::PrivatePart)),
            ("no object", json!("key"), Err(Unusable::NotAnObject)),
        ] {
            let set = json!({ "keys": [key, TestKey::Two.jwk("good")], "other": true }).to_string();
            let set = KeySet::parse(set.as_bytes()).unwrap();
            let skipped = set.skipped().first().map_or(Ok(()), |skipped| Err(skipped.why.clone()));
            assert_eq!(skipped, expected, "{what}");
            assert!(set.candidates(Some("good"), Algorithm::Rs256, "i").is_ok(), "{what}");
            assert!(!format!("{:?}", set.skipped()).contains("AQAB"), "{what}: no key material in a log");
        }
        let twice = format!(r#"{{"keys":[{{"kty":"RSA","kty":"RSA"}},{}]}}"#, TestKey::Two.jwk("good"));
        let set = KeySet::parse(twice.as_bytes()).unwrap();
        assert_eq!((set.len(), &set.skipped()[0].why), (1, &Unusable::Repeated(text("kty"))));
    }

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

    /// RFC 7515 section 4.1.4; requirements 5.7: `kid` and `kty` and `use` and `key_ops` and `alg`; duplicate kids: each;
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
                Err(TokenFault::KeyForOther { kid: kid("fixed"), found: Algorithm::Rs256 }),
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
        let none = KeySet::default().candidates(None, Algorithm::Rs256, "i").map(Iterator::count);
        assert_eq!(none, Err(TokenFault::NoKey { issuer: kid("i") }));
    }

    /// RFC 7518 section 3.3, RFC 8017 section 8.2.2.
    #[test]
    fn a_signature_holds_under_its_own_algorithm_key_and_message_alone() {
        let set = KeySet::parse(json!({ "keys": [TestKey::One.jwk("k")] }).to_string().as_bytes()).unwrap();
        let key = &set.keys[0];
        let other = TestKey::Two.sign("RS256", "message");
        for algorithm in [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512] {
            let signature = TestKey::One.sign(algorithm_name(algorithm), "message");
            assert!(key.verifies(algorithm, b"message", &signature));
            assert!(!key.verifies(algorithm, b"messagE", &signature));
            assert!(!key.verifies(algorithm, b"message", &signature[..255]));
            assert!(!key.verifies(algorithm, b"message", &[&[0], &signature[..]].concat()));
            assert!(!key.verifies(algorithm, b"message", &other));
            assert!(
                !key.verifies(algorithm, b"message", &[0; 256]) && !key.verifies(algorithm, b"message", &[])
            );
            let wrong = if algorithm == Algorithm::Rs256 { Algorithm::Rs512 } else { Algorithm::Rs256 };
            assert!(!key.verifies(wrong, b"message", &signature));
        }
    }
}
