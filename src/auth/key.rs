//! One key of an issuer (RFC 7517 section 4): from its JSON to something that verifies signatures of one algorithm.
//!
//! A key serves one algorithm and no other (RFC 8725 section 3.1). It says which by `alg`, or by its curve; an RSA key
//! that says nothing gets the one that the caller names. So [`Key::verifies`] takes no algorithm: there is nothing for
//! a token to choose. RSA is verified with the `rsa` crate (pkcs1.rs), the curves by ring, which TLS brings anyway (decision D16).

use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::agreement;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::{BoxedUint, PublicKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::fault::Shown;
use super::json::{Json, Object};
use super::pkcs1;
use crate::config::{Algorithm, Allowed};
use crate::limits::{JWKS_KEYS_MAX, RSA_BITS_MAX, RSA_BITS_MIN};

/// A key that may verify signatures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    /// Whether it says itself what it is for, by its `alg` or by its curve.
    marked: bool,
    material: Material,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Material {
    Rsa(PublicKey),
    /// A point as ring takes it: 4, x and y for a Weierstrass curve, the encoded point for Ed25519.
    Point(Box<[u8]>),
}

impl Key {
    /// Reads one entry of a key set, for an issuer that may use these algorithms.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(entry: &Json, allowed: &Allowed, unmarked_rsa: Option<Algorithm>) -> Result<Self, Unusable> {
        let jwk = match entry {
            Json::Object(jwk) => jwk,
            Json::Repeated(name) => return Err(Unusable::Repeated(name.clone())),
            _ => return Err(Unusable::NotAnObject),
        };
        let kid = text(jwk, "kid")?;
        let kty = text(jwk, "kty")?.ok_or(Unusable::Member("kty"))?;
        if !["RSA", "EC", "OKP"].contains(&kty) {
            return Err(Unusable::KeyType(Shown::of(kty)));
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
        let said = match text(jwk, "alg")? {
            None => None,
            Some(name) => {
                let known = Algorithm::named(name).ok_or_else(|| Unusable::Algorithm(Shown::of(name)))?;
                Some(known)
            }
        };
        if jwk.get("d").is_some() {
            return Err(Unusable::PrivatePart);
        }
        let (algorithm, material) = match kty {
            "RSA" => {
                let material = rsa_key(jwk)?;
                (said.or(unmarked_rsa).ok_or(Unusable::NotAllowed(Algorithm::Rs256))?, material)
            }
            _ => curve_key(kty, jwk)?,
        };
        // `alg` may not contradict what the key is (RFC 7518 section 3.1 gives each algorithm its kind of key).
        let fits = said.is_none_or(|said| if kty == "RSA" { said.is_rsa() } else { said == algorithm });
        if !fits {
            return Err(Unusable::Contradiction(said.unwrap_or(algorithm)));
        }
        if !allowed.permits(algorithm) {
            return Err(Unusable::NotAllowed(algorithm));
        }
        let marked = said.is_some() || !algorithm.is_rsa();
        Ok(Self { kid: kid.map(Into::into), algorithm, marked, material })
    }

    /// Its name.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The one algorithm that it is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether it says itself what it is for.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.marked
    }

    /// Whether `signature` over `message` is this key's: for RSA RFC 8017 sections 8.1.2 and 8.2.2, for the curves the
    /// bare numbers of RFC 7518 section 3.4 and RFC 8032 section 5.1.7, each of exactly its length.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match (self.algorithm, &self.material) {
            (Algorithm::Rs256, Material::Rsa(key)) => {
                pkcs1::verifies(key, &RS256, &Sha256::digest(message), signature)
            }
            (Algorithm::Rs384, Material::Rsa(key)) => {
                pkcs1::verifies(key, &RS384, &Sha384::digest(message), signature)
            }
            (Algorithm::Rs512, Material::Rsa(key)) => {
                pkcs1::verifies(key, &RS512, &Sha512::digest(message), signature)
            }
            // The salt is as long as the hash, no shorter and no longer (RFC 7518 section 3.5).
            (Algorithm::Ps256, Material::Rsa(key)) => key.pss_verify::<Sha256>(message, signature).is_ok(),
            (Algorithm::Ps384, Material::Rsa(key)) => key.pss_verify::<Sha384>(message, signature).is_ok(),
            (Algorithm::Ps512, Material::Rsa(key)) => key.pss_verify::<Sha512>(message, signature).is_ok(),
            (Algorithm::Es256, Material::Point(point)) => {
                holds(&ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            (Algorithm::Es384, Material::Point(point)) => {
                holds(&ECDSA_P384_SHA384_FIXED, point, message, signature)
            }
            (Algorithm::EdDsa, Material::Point(point)) => holds(&ED25519, point, message, signature),
            // `read` makes no such key.
            (_, Material::Rsa(_) | Material::Point(_)) => false,
        }
    }
}

// Each holds its DigestInfo on the heap.
static RS256: LazyLock<Pkcs1v15Sign> = LazyLock::new(Pkcs1v15Sign::new::<Sha256>);
static RS384: LazyLock<Pkcs1v15Sign> = LazyLock::new(Pkcs1v15Sign::new::<Sha384>);
static RS512: LazyLock<Pkcs1v15Sign> = LazyLock::new(Pkcs1v15Sign::new::<Sha512>);

fn holds(
    algorithm: &'static dyn VerificationAlgorithm,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
}

/// RFC 7518 section 6.3.1.
fn rsa_key(jwk: &Object) -> Result<Material, Unusable> {
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
    Ok(Material::Rsa(key))
}

/// RFC 7518 section 6.2.1 for `EC`, RFC 8037 section 2 for `OKP`: the curve decides on the algorithm, and a coordinate
/// has exactly the length of its field.
fn curve_key(kty: &str, jwk: &Object) -> Result<(Algorithm, Material), Unusable> {
    let curve = text(jwk, "crv")?.ok_or(Unusable::Member("crv"))?;
    let (algorithm, length, field) = match (kty, curve) {
        ("EC", "P-256") => (Algorithm::Es256, 32, Some(&agreement::ECDH_P256)),
        ("EC", "P-384") => (Algorithm::Es384, 48, Some(&agreement::ECDH_P384)),
        ("OKP", "Ed25519") => (Algorithm::EdDsa, 32, None),
        _ => return Err(Unusable::Curve(Shown::of(curve))),
    };
    let x = coordinate(jwk, "x", length)?;
    let Some(field) = field else {
        return if is_of_small_order(&x) {
            Err(Unusable::SmallOrder)
        } else {
            Ok((algorithm, Material::Point(x.into())))
        };
    };
    let point = [&[4][..], &x, &coordinate(jwk, "y", length)?].concat();
    if is_on_curve(field, &point) {
        Ok((algorithm, Material::Point(point.into())))
    } else {
        Err(Unusable::OffCurve)
    }
}

/// The points of Ed25519 whose order is 8 or less, also as numbers beyond the field; ring verifies by them. A signature
/// that anybody can write down holds under such a key, and one of only zeros is among them.
fn is_of_small_order(point: &[u8]) -> bool {
    const OF_ORDER_8: [&[u8]; 2] = [
        b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc",
        b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03",
    ];
    // The highest bit is the sign of the other coordinate.
    let Some((last, low)) = point.split_last() else { return false };
    match (low.split_first(), last & 0x7f) {
        (Some((0 | 1, rest)), 0) => rest.iter().all(|byte| *byte == 0),
        (Some((0xec..=0xee, rest)), 0x7f) => rest.iter().all(|byte| *byte == 0xff),
        (_, 0x05 | 0x7a) => OF_ORDER_8.contains(&low),
        _ => false,
    }
}

/// ring looks at a point when it is used. An agreement with a key that lives for this line alone uses it now, so that
/// the set says what is wrong with a key and not each of its tokens.
fn is_on_curve(field: &'static agreement::Algorithm, point: &[u8]) -> bool {
    let Ok(own) = agreement::EphemeralPrivateKey::generate(field, &SystemRandom::new()) else { return false };
    agreement::agree_ephemeral(own, &agreement::UnparsedPublicKey::new(field, point), |_| ()).is_ok()
}

/// A text member that may be absent.
fn text<'j>(jwk: &'j Object, name: &'static str) -> Result<Option<&'j str>, Unusable> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Json::String(value)) => Ok(Some(value)),
        Some(_) => Err(Unusable::Member(name)),
    }
}

fn bytes(jwk: &Object, name: &'static str) -> Result<Vec<u8>, Unusable> {
    let value = text(jwk, name)?.ok_or(Unusable::Member(name))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| Unusable::Member(name))
}

/// A `Base64urlUInt` (RFC 7518 section 2) without the leading zeros that some issuers prepend.
fn number(jwk: &Object, name: &'static str) -> Result<Vec<u8>, Unusable> {
    Ok(bytes(jwk, name)?.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn coordinate(jwk: &Object, name: &'static str, length: usize) -> Result<Vec<u8>, Unusable> {
    let value = bytes(jwk, name)?;
    if value.len() == length { Ok(value) } else { Err(Unusable::Coordinate { name, bytes: value.len() }) }
}

/// How many bits a number without leading zero bytes has.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
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
    /// `kty` is none that is verified.
    KeyType(Shown),
    /// `crv` is none that is verified.
    Curve(Shown),
    /// `use` is not `sig` (RFC 7517 section 4.2).
    Use(Shown),
    /// `key_ops` does not contain `verify` (RFC 7517 section 4.3).
    Operations,
    /// `alg` is for nothing that is verified here.
    Algorithm(Shown),
    /// `alg` is for keys of another type or curve.
    Contradiction(Algorithm),
    /// It is for an algorithm that its issuer's tokens may not use.
    NotAllowed(Algorithm),
    /// The modulus is too short, too long, or no modulus.
    Modulus {
        /// Its length in bits.
        bits: usize,
    },
    /// The public exponent is even, less than 3, or beyond 33 bits.
    Exponent,
    /// A coordinate is shorter or longer than its curve's field.
    Coordinate {
        /// Which one.
        name: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The coordinates are no point of the curve.
    OffCurve,
    /// A point of Ed25519 under which signatures of anybody hold.
    SmallOrder,
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
            Self::KeyType(found) => write!(f, "its kty is {found}, and only RSA, EC and OKP are verified"),
            Self::Curve(found) => {
                write!(f, "its crv is {found}, and only P-256, P-384 and Ed25519 are verified")
            }
            Self::Use(found) => write!(f, "its use is {found} and not 'sig'"),
            Self::Operations => f.write_str("its key_ops do not contain 'verify'"),
            Self::Algorithm(found) => {
                write!(f, "its alg is {found}, and only {} are verified", Algorithm::NAMES)
            }
            Self::Contradiction(said) => write!(f, "its alg is {said}, which is for keys of another kind"),
            Self::NotAllowed(algorithm) => {
                write!(
                    f,
                    "it is for {algorithm}, which is not in algorithms of its issuer; add it if that is meant"
                )
            }
            Self::Modulus { bits } => {
                write!(
                    f,
                    "its modulus has {bits} bits, and {RSA_BITS_MIN} to {RSA_BITS_MAX} odd ones are accepted"
                )
            }
            Self::Exponent => f.write_str("its public exponent is not an odd number from 3 to 2^33"),
            Self::Coordinate { name, bytes } => {
                write!(f, "its coordinate {name} has {bytes} bytes, which is not the length of its curve's")
            }
            Self::OffCurve => f.write_str("its coordinates are no point of its curve"),
            Self::SmallOrder => f.write_str("anybody can sign under it"),
            Self::PrivatePart => {
                f.write_str("it is published with its private part, so anyone can sign with it")
            }
            Self::TooMany => write!(f, "only the first {JWKS_KEYS_MAX} keys of a set are looked at"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::json::{self as reader, Bounds};
    use crate::auth::jwks::KeySet;
    use crate::auth::tests::issuer::{TestKey, b64};

    /// RFC 7517 sections 4 and 5, RFC 7518 sections 2, 3.3 and 6.3.1, RFC 8725 section 3.5. Beside each
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
            ("alg PS256", with("alg", "PS256".into()), Ok(())),
            ("alg ES256", with("alg", "ES256".into()), Err(Unusable::Contradiction(Algorithm::Es256))),
            ("alg HS256", with("alg", "HS256".into()), Err(Unusable::Algorithm(text("HS256")))),
            ("alg none", with("alg", "none".into()), Err(Unusable::Algorithm(text("none")))),
            ("alg RSA-OAEP", with("alg", "RSA-OAEP".into()), Err(Unusable::Algorithm(text("RSA-OAEP")))),
            ("alg rs256", with("alg", "rs256".into()), Err(Unusable::Algorithm(text("rs256")))),
            ("kty EC", with("kty", "EC".into()), Err(Unusable::Member("crv"))),
            ("kty rsa", with("kty", "rsa".into()), Err(Unusable::KeyType(text("rsa")))),
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

    /// RFC 7518 section 6.2.1, RFC 8037 section 2.
    #[test]
    fn a_key_on_a_curve_is_exactly_that() {
        let jwk = |key: TestKey, name: &str, value: Value| {
            let mut jwk = key.jwk("k");
            match value {
                Value::Null => drop(jwk.as_object_mut().unwrap().remove(name)),
                value => jwk[name] = value,
            }
            jwk
        };
        let coordinate =
            |key: TestKey, name: &str| URL_SAFE_NO_PAD.decode(key.jwk("k")[name].as_str().unwrap()).unwrap();
        let (p256, p384, ed) = (TestKey::P256, TestKey::P384, TestKey::Ed25519);
        let (x, y) = (coordinate(p256, "x"), coordinate(p256, "y"));
        let padded = b64([&[0][..], &x].concat());
        let beyond = b64([0xff; 32]);
        let (short, bytes) = (b64(&x[1..]), |name, bytes| Err(Unusable::Coordinate { name, bytes }));
        let text = Shown::of;
        for (what, key, expected) in [
            ("P-256", p256.jwk("k"), Ok(Algorithm::Es256)),
            ("P-384", p384.jwk("k"), Ok(Algorithm::Es384)),
            ("Ed25519", ed.jwk("k"), Ok(Algorithm::EdDsa)),
            ("alg as the curve", p256.jwk_for("k", "ES256"), Ok(Algorithm::Es256)),
            ("alg EdDSA", ed.jwk_for("k", "EdDSA"), Ok(Algorithm::EdDsa)),
            ("alg Ed25519", ed.jwk_for("k", "Ed25519"), Ok(Algorithm::EdDsa)),
            (
                "alg of another curve",
                p256.jwk_for("k", "ES384"),
                Err(Unusable::Contradiction(Algorithm::Es384)),
            ),
            ("alg of RSA", p256.jwk_for("k", "RS256"), Err(Unusable::Contradiction(Algorithm::Rs256))),
            ("alg for agreement", p256.jwk_for("k", "ECDH-ES"), Err(Unusable::Algorithm(text("ECDH-ES")))),
            ("use enc", jwk(p256, "use", "enc".into()), Err(Unusable::Use(text("enc")))),
            ("key_ops sign", jwk(ed, "key_ops", json!(["sign"])), Err(Unusable::Operations)),
            ("d", jwk(p256, "d", "AAAA".into()), Err(Unusable::PrivatePart)),
            ("d of Ed25519", jwk(ed, "d", "AAAA".into()), Err(Unusable::PrivatePart)),
            ("no crv", jwk(p256, "crv", Value::Null), Err(Unusable::Member("crv"))),
            ("P-521", jwk(p256, "crv", "P-521".into()), Err(Unusable::Curve(text("P-521")))),
            ("p-256", jwk(p256, "crv", "p-256".into()), Err(Unusable::Curve(text("p-256")))),
            ("secp256k1", jwk(p256, "crv", "secp256k1".into()), Err(Unusable::Curve(text("secp256k1")))),
            ("X25519", jwk(ed, "crv", "X25519".into()), Err(Unusable::Curve(text("X25519")))),
            ("Ed448", jwk(ed, "crv", "Ed448".into()), Err(Unusable::Curve(text("Ed448")))),
            ("EC with Ed25519", jwk(ed, "kty", "EC".into()), Err(Unusable::Curve(text("Ed25519")))),
            ("OKP with P-256", jwk(p256, "kty", "OKP".into()), Err(Unusable::Curve(text("P-256")))),
            ("no x", jwk(p256, "x", Value::Null), Err(Unusable::Member("x"))),
            ("no y", jwk(p256, "y", Value::Null), Err(Unusable::Member("y"))),
            ("y a number", jwk(p256, "y", 5.into()), Err(Unusable::Member("y"))),
            ("x with a leading zero", jwk(p256, "x", padded.into()), bytes("x", 33)),
            ("x without its first byte", jwk(p256, "x", short.clone().into()), bytes("x", 31)),
            ("Ed25519 short", jwk(ed, "x", short.into()), bytes("x", 31)),
            ("Ed25519 zero", jwk(ed, "x", b64([0; 32]).into()), Err(Unusable::SmallOrder)),
            ("P-256 called P-384", jwk(p256, "crv", "P-384".into()), bytes("x", 32)),
            (
                "x and y exchanged",
                json!({"kty":"EC","crv":"P-256","x":b64(&y),"y":b64(&x)}),
                Err(Unusable::OffCurve),
            ),
            ("y of nobody", jwk(p256, "y", b64([7; 32]).into()), Err(Unusable::OffCurve)),
            ("x beyond the field", jwk(p256, "x", beyond.into()), Err(Unusable::OffCurve)),
            (
                "the zero point",
                json!({"kty":"EC","crv":"P-256","x":b64([0;32]),"y":b64([0;32])}),
                Err(Unusable::OffCurve),
            ),
        ] {
            assert_eq!(read(&key, &Allowed::Auto).map(|key| key.algorithm()), expected, "{what}");
        }
    }

    fn read(jwk: &Value, allowed: &Allowed) -> Result<Key, Unusable> {
        let jwk = reader::read(jwk.to_string().as_bytes(), Bounds::KEY_SET).unwrap();
        Key::read(&Json::Object(jwk), allowed, allowed.of_unmarked_rsa_key(&[]))
    }

    /// RFC 8725 section 3.1: the list decides which keys are there at all.
    #[test]
    fn a_key_for_an_algorithm_that_is_not_allowed_is_set_aside() {
        use Algorithm::{EdDsa, Es256, Ps256, Rs256};
        let listed = |list: &[Algorithm]| Allowed::Listed(list.to_vec());
        for (key, allowed, expected) in [
            (TestKey::One.jwk("k"), Allowed::default(), Ok(Rs256)),
            (TestKey::One.jwk("k"), listed(&[Es256, Ps256, Rs256]), Ok(Ps256)),
            (TestKey::One.jwk_for("k", "RS256"), listed(&[Ps256, Rs256]), Ok(Rs256)),
            (TestKey::One.jwk("k"), listed(&[Es256]), Err(Unusable::NotAllowed(Rs256))),
            (TestKey::One.jwk_for("k", "PS256"), Allowed::default(), Err(Unusable::NotAllowed(Ps256))),
            (TestKey::P256.jwk("k"), Allowed::default(), Err(Unusable::NotAllowed(Es256))),
            (TestKey::Ed25519.jwk("k"), listed(&[Rs256, Es256]), Err(Unusable::NotAllowed(EdDsa))),
            (TestKey::Ed25519.jwk("k"), listed(&[EdDsa]), Ok(EdDsa)),
        ] {
            assert_eq!(read(&key, &allowed).map(|key| key.algorithm()), expected, "{key} {allowed:?}");
        }
    }

    /// RFC 7518 sections 3.3 to 3.5, RFC 8017 sections 8.1.2 and 8.2.2, RFC 8032 section 5.1.7.
    #[test]
    fn a_signature_holds_under_its_own_algorithm_key_and_message_alone() {
        let pairs: Vec<(TestKey, Algorithm)> = Algorithm::ALL
            .into_iter()
            .map(|algorithm| match algorithm {
                Algorithm::Es256 => (TestKey::P256, algorithm),
                Algorithm::Es384 => (TestKey::P384, algorithm),
                Algorithm::EdDsa => (TestKey::Ed25519, algorithm),
                _ => (TestKey::One, algorithm),
            })
            .collect();
        for (own, algorithm) in &pairs {
            let key = read(&own.jwk_for("k", algorithm.name()), &Allowed::Auto).unwrap();
            let signature = own.sign(algorithm.name(), "message");
            assert!(key.verifies(b"message", &signature), "{algorithm}");
            assert!(!key.verifies(b"messagE", &signature), "{algorithm}");
            let (all, last) = (signature.len(), signature.len() - 1);
            let mut flipped = signature.clone();
            flipped[all / 2] ^= 1;
            for (what, wrong) in [
                ("a flipped bit", flipped),
                ("cut", signature[..last].to_vec()),
                ("a zero before it", [&[0], &signature[..]].concat()),
                ("a zero behind it", [&signature[..], &[0]].concat()),
                ("nothing", Vec::new()),
                ("zeros", vec![0; all]),
                ("r and s exchanged", [&signature[all / 2..], &signature[..all / 2]].concat()),
            ] {
                assert!(!key.verifies(b"message", &wrong), "{algorithm}, {what}");
            }
            for (other, theirs) in &pairs {
                if theirs != algorithm {
                    let signature = other.sign(theirs.name(), "message");
                    assert!(!key.verifies(b"message", &signature), "{algorithm} takes {theirs}");
                }
            }
        }
        let (one, two) = (TestKey::One, TestKey::Two.sign("RS256", "message"));
        assert!(!read(&one.jwk("k"), &Allowed::Auto).unwrap().verifies(b"message", &two));
    }

    /// RFC 7518 section 3.4: r and s side by side, and not the DER that other protocols use.
    #[test]
    fn a_signature_in_der_is_none() {
        let key = read(&TestKey::P256.jwk("k"), &Allowed::Auto).unwrap();
        let raw = TestKey::P256.sign("ES256", "message");
        let integer = |part: &[u8]| [&[2, 33, 0][..], part].concat();
        let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
        let der = [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat();
        assert!(key.verifies(b"message", &raw) && !key.verifies(b"message", &der));
    }

    /// RFC 7518 section 3.5: a salt of the hash's length. The same message and key with another salt is refused.
    #[test]
    fn a_salt_of_another_length_is_refused() {
        let key = read(&TestKey::One.jwk_for("k", "PS256"), &Allowed::Auto).unwrap();
        for (salt, expected) in [(32, true), (0, false), (20, false), (31, false), (64, false), (222, false)]
        {
            let signature = TestKey::One.sign_pss_with_salt("message", salt);
            assert_eq!(key.verifies(b"message", &signature), expected, "{salt} bytes of salt");
        }
    }

    /// The examples of RFC 7515 appendix A.3 and RFC 8037 appendix A.4, and a token of each algorithm by PyJWT 2.15.1.
    #[test]
    fn signatures_that_others_made_hold() {
        let es256 = json!({"kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let mut rows = vec![
            (
                es256,
                concat!(
                    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv",
                    "bS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxf",
                    "KTUJqPP3-Kg6NU1Q"
                )
                .to_owned(),
            ),
            (
                ed,
                concat!(
                    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg",
                    "3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
                )
                .to_owned(),
            ),
        ];
        let theirs = include_str!("../../tests/spec/world/keys/pyjwt.json");
        for row in serde_json::from_str::<Vec<Value>>(theirs).unwrap() {
            rows.push((row["jwk"].clone(), row["token"].as_str().unwrap().to_owned()));
        }
        assert_eq!(rows.len(), 2 + Algorithm::ALL.len());
        for (jwk, token) in rows {
            let key = read(&jwk, &Allowed::Auto).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(key.verifies(message.as_bytes(), &signature), "{jwk}");
            assert!(!key.verifies(&message.as_bytes()[1..], &signature), "{jwk}");
        }
    }
}
