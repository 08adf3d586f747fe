//! An issuer for this module's tests: real keys, real signatures, any header and claims.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::PrivateKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// The keys of the tests, made once and worth nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TestKey {
    One,
    Two,
    Stranger,
    Short,
}

impl TestKey {
    fn private(self) -> &'static PrivateKey {
        static KEYS: [OnceLock<PrivateKey>; 4] = [const { OnceLock::new() }; 4];
        let (place, pem) = match self {
            Self::One => (0, include_str!("../../../tests/spec/world/keys/rsa2048-one.pem")),
            Self::Two => (1, include_str!("../../../tests/spec/world/keys/rsa2048-two.pem")),
            Self::Stranger => (2, include_str!("../../../tests/spec/world/keys/rsa2048-stranger.pem")),
            Self::Short => (3, include_str!("../../../tests/spec/world/keys/rsa1024.pem")),
        };
        KEYS[place].get_or_init(|| PrivateKey::from_pkcs8_pem(pem).unwrap())
    }

    pub(crate) fn modulus(self) -> Vec<u8> {
        let bytes = self.private().n().to_be_bytes();
        bytes.iter().copied().skip_while(|b| *b == 0).collect()
    }

    pub(crate) fn jwk(self, kid: &str) -> Value {
        json!({ "kty": "RSA", "kid": kid, "n": b64(self.modulus()), "e": "AQAB" })
    }

    pub(crate) fn sign(self, algorithm: &str, message: &str) -> Vec<u8> {
        let (scheme, digest) = match algorithm {
            "RS384" => (Pkcs1v15Sign::new::<Sha384>(), Sha384::digest(message).to_vec()),
            "RS512" => (Pkcs1v15Sign::new::<Sha512>(), Sha512::digest(message).to_vec()),
            _ => (Pkcs1v15Sign::new::<Sha256>(), Sha256::digest(message).to_vec()),
        };
        self.private().sign(scheme, &digest).unwrap()
    }
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these texts, signed by `key` as `algorithm`, whatever the header says.
pub(crate) fn signed(key: TestKey, algorithm: &str, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = b64(key.sign(algorithm, &message));
    format!("{message}.{signature}")
}

/// An RS256 token of [`TestKey::One`] under the name `one`.
pub(crate) fn token(claims: &Value) -> String {
    signed(TestKey::One, "RS256", r#"{"alg":"RS256","kid":"one","typ":"at+jwt"}"#, &claims.to_string())
}

/// The key set of these keys.
pub(crate) fn key_set(keys: &[(TestKey, &str)]) -> String {
    json!({ "keys": keys.iter().map(|(key, kid)| key.jwk(kid)).collect::<Vec<_>>() }).to_string()
}
