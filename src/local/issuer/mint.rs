//! The key of the demonstration's authorization server, and the tokens it signs.

use std::io;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::clock::Timestamp;

/// A key that lives as long as the program does. It is on P-256, and so there at once: the primes of an RSA key are
/// searched for, which takes seconds on a small board.
pub(super) struct Minter {
    key: EcdsaKeyPair,
    kid: String,
    issuer: String,
}

/// What an access token says (RFC 9068 section 2.2).
pub(super) struct Claims<'a> {
    pub(super) subject: &'a str,
    pub(super) client_id: &'a str,
    pub(super) audience: &'a str,
    pub(super) scope: &'a str,
    pub(super) seconds: i64,
}

impl Minter {
    /// A fresh key for `issuer`.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(super) fn new(issuer: &str) -> io::Result<Self> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let made = made.map_err(|_| no_random())?;
        // It reads what was just written, so all that can be missing is random numbers, of which it takes more.
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        Ok(Self { key: key.map_err(|_| no_random())?, kid: random_name()?, issuer: issuer.to_owned() })
    }

    /// The key set (RFC 7517 section 5).
    pub(super) fn jwks(&self) -> Value {
        // An octet for "uncompressed", then x and y, each with its leading zeros, as RFC 7518 section 6.2.1.2 wants it.
        let point = self.key.public_key().as_ref();
        let number = |at: Range<usize>| URL_SAFE_NO_PAD.encode(point.get(at).unwrap_or_default());
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": number(1..33), "y": number(33..65),
        }] })
    }

    /// A signed access token.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(super) fn token(&self, claims: &Claims<'_>, now: Timestamp) -> io::Result<String> {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "ES256", "typ": "at+jwt", "kid": self.kid }));
        let body = part(json!({
            "iss": self.issuer, "sub": claims.subject, "aud": claims.audience, "client_id": claims.client_id,
            "scope": claims.scope, "iat": now.0, "exp": now.plus(claims.seconds).0, "jti": random_name()?,
        }));
        let message = format!("{header}.{body}");
        // The two numbers side by side, each of 32 octets (RFC 7518 section 3.4).
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).map_err(|_| no_random())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// 192 random bits as text: an identifier that nobody guesses.
///
/// # Errors
/// Where the system has no random numbers.
pub(super) fn random_name() -> io::Result<String> {
    let mut bytes = [0_u8; 24];
    SystemRandom::new().fill(&mut bytes).map_err(|_| no_random())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn no_random() -> io::Error {
    io::Error::other("the system has no random numbers")
}
