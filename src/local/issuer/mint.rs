//! The key of the demonstration's authorization server, and the tokens it signs.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use rsa::PrivateKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;
use crate::limits::RSA_BITS_MIN;

/// An RSA key that lives as long as the program does.
pub(super) struct Minter {
    key: PrivateKey,
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
        let key = PrivateKey::new(&mut System, RSA_BITS_MIN).map_err(|_| no_random())?;
        Ok(Self { key, kid: random_name()?, issuer: issuer.to_owned() })
    }

    /// The key set (RFC 7517 section 5).
    pub(super) fn jwks(&self) -> Value {
        let number = |bytes: &[u8]| {
            let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
            URL_SAFE_NO_PAD.encode(bytes.get(first..).unwrap_or_default())
        };
        json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
            "n": number(&self.key.n().to_be_bytes()), "e": number(&self.key.e().to_be_bytes()),
        }] })
    }

    /// A signed access token.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(super) fn token(&self, claims: &Claims<'_>, now: Timestamp) -> io::Result<String> {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({ "alg": "RS256", "typ": "at+jwt", "kid": self.kid }));
        let body = part(json!({
            "iss": self.issuer, "sub": claims.subject, "aud": claims.audience, "client_id": claims.client_id,
            "scope": claims.scope, "iat": now.0, "exp": now.plus(claims.seconds).0, "jti": random_name()?,
        }));
        let message = format!("{header}.{body}");
        let digest = Sha256::digest(&message);
        let signature = self.key.sign(Pkcs1v15Sign::new::<Sha256>(), &digest);
        let signature = signature.map_err(|_| io::Error::other("the token could not be signed"))?;
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

/// The system's random source in the form that `rsa` asks for.
struct System;

impl TryRng for System {
    type Error = io::Error;

    fn try_next_u32(&mut self) -> Result<u32, io::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, io::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), io::Error> {
        SystemRandom::new().fill(bytes).map_err(|_| no_random())
    }
}

impl TryCryptoRng for System {}
