//! A JWT access token, taken apart by hand (RFC 7515 section 7.1, RFC 7519 section 7.2, RFC 8725).
//!
//! ```text
//! text ──parse──▶ Unverified ──signed_by──▶ Claims ──judge (claims.rs)──▶ Verified
//! ```
//!
//! Each step can only be reached through the one before it. What an [`Unverified`] says serves to choose the issuer
//! whose keys are tried, and the operator's log; nothing else. Of the header only `alg`, `kid` and `typ` are read:
//! `jku`, `x5u`, `jwk` and `x5c` would let a token bring its own keys (RFC 8725 section 3.10), and are never looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use smol_str::SmolStr;

use super::claims::Claims;
use super::fault::{Part, Shown, TokenFault};
use super::json::{self, Bounds, Json, Object};
use super::jwks::KeySet;
use crate::config::{Algorithm, Allowed, TokenTypePolicy};
use crate::limits::{RSA_BITS_MAX, TOKEN_BYTES_MAX, TOKEN_HEADER_BYTES_MAX};
use crate::spare;

/// What `typ` says, as far as such tokens are accepted at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenType {
    /// `at+jwt` (RFC 9068 section 2.1).
    AccessToken,
    /// `JWT` (RFC 7519 section 5.1).
    Jwt,
    /// Nothing.
    Absent,
}

/// A compact JWS, taken apart. Nothing in it has been proven.
#[derive(Clone, Debug)]
pub struct Unverified<'t> {
    algorithm: Algorithm,
    kid: Option<SmolStr>,
    typ: TokenType,
    claims: Object,
    signed: &'t str,
    signature: Vec<u8>,
}

impl<'t> Unverified<'t> {
    /// Takes `token` apart.
    ///
    /// # Errors
    /// Everything that is wrong with a token by itself, whoever issued it.
    pub fn parse(token: &'t str) -> Result<Self, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong { bytes: token.len() });
        }
        let mut segments = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(match token.split('.').count() {
                5 => TokenFault::Encrypted,
                segments => TokenFault::NotAJwt { segments },
            });
        };
        if header.len() > TOKEN_HEADER_BYTES_MAX {
            return Err(TokenFault::PartTooLong { part: Part::Header });
        }
        if signature.len() > (RSA_BITS_MAX / 8).div_ceil(3) * 4 {
            return Err(TokenFault::PartTooLong { part: Part::Signature });
        }
        let header = object(Part::Header, header)?;
        // In the order of what they could do to us: first whether this is a signature at all.
        let algorithm = algorithm(&header)?;
        for name in ["crit", "b64"] {
            if header.get(name).is_some() {
                return Err(TokenFault::Extension { name });
            }
        }
        let typ = token_type(&header)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Json::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(TokenFault::HeaderParameter { name: "kid" }),
        };
        let signed = token.get(..token.len() - signature.len() - 1).unwrap_or_default();
        Ok(Self {
            algorithm,
            kid,
            typ,
            claims: object(Part::Claims, claims)?,
            signature: decoded(Part::Signature, signature)?,
            signed,
        })
    }

    /// Who it says issued it: whose keys must be tried, and no others.
    ///
    /// # Errors
    /// Where `iss` is missing or no string.
    pub fn issuer(&self) -> Result<&str, TokenFault> {
        match self.claims.get("iss") {
            None => Err(TokenFault::ClaimMissing { claim: "iss".into() }),
            Some(Json::String(issuer)) => Ok(issuer),
            Some(_) => Err(TokenFault::ClaimMalformed { claim: "iss".into(), wanted: "a string" }),
        }
    }

    /// Holds the header to what `issuer` may use and to the policy on `typ`.
    ///
    /// # Errors
    /// [`TokenFault::AlgorithmNotAllowed`] and [`TokenFault::TokenType`].
    pub fn require(
        &self,
        algorithms: &Allowed,
        policy: TokenTypePolicy,
        issuer: &str,
    ) -> Result<(), TokenFault> {
        if !algorithms.permits(self.algorithm) {
            let issuer = Shown::of(issuer);
            return Err(TokenFault::AlgorithmNotAllowed { found: self.algorithm, issuer });
        }
        match (policy, self.typ) {
            (TokenTypePolicy::Compatible, _) | (_, TokenType::AccessToken) => Ok(()),
            (TokenTypePolicy::Strict, TokenType::Jwt) => {
                Err(TokenFault::TokenType { found: Some(Shown::of("JWT")), by_policy: true })
            }
            (TokenTypePolicy::Strict, TokenType::Absent) => {
                Err(TokenFault::TokenType { found: None, by_policy: true })
            }
        }
    }

    /// The claims, where one of `keys` made the signature. `issuer` is whose keys they are, for the log.
    ///
    /// # Errors
    /// Where no key would do, or none of those that would made it.
    pub fn signed_by(&self, keys: &KeySet, issuer: &str) -> Result<Claims<'_>, TokenFault> {
        let kid = self.kid.as_deref();
        let mut candidates = keys.candidates(kid, self.algorithm, issuer)?;
        if candidates.any(|key| key.verifies(self.signed.as_bytes(), &self.signature)) {
            return Ok(Claims::of(&self.claims, self.typ));
        }
        Err(TokenFault::Signature { issuer: Shown::of(issuer), kid: kid.map(Shown::of) })
    }
}

/// Base64url without padding and without stray bits at its end (RFC 7515 section 2): one spelling for each token, so
/// that a token cannot be varied without becoming another.
fn decoded(part: Part, segment: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenFault::Base64 { part })
}

fn object(part: Part, segment: &str) -> Result<Object, TokenFault> {
    let mut text = spare::bytes();
    let decoded = URL_SAFE_NO_PAD.decode_vec(segment, &mut text).map_err(|_| TokenFault::Base64 { part });
    let read =
        decoded.and_then(|()| json::read(&text, Bounds::TOKEN).map_err(|why| TokenFault::Json { part, why }));
    spare::put_bytes(text);
    read
}

/// RFC 8725 sections 3.1 and 3.2. There is no list of bad names: what is not known is not accepted, `none` and `HS256`
/// in every spelling among them.
fn algorithm(header: &Object) -> Result<Algorithm, TokenFault> {
    match header.get("alg") {
        Some(Json::String(name)) => {
            Algorithm::named(name).ok_or_else(|| TokenFault::Algorithm { found: Shown::of(name) })
        }
        _ => Err(TokenFault::HeaderParameter { name: "alg" }),
    }
}

/// RFC 7515 section 4.1.9: a media type, compared without case, whose `application/` may be left out.
fn token_type(header: &Object) -> Result<TokenType, TokenFault> {
    let given = match header.get("typ") {
        None => return Ok(TokenType::Absent),
        Some(Json::String(given)) => given,
        Some(_) => return Err(TokenFault::HeaderParameter { name: "typ" }),
    };
    const MEDIA: &str = "application/";
    let (media, rest) = given.split_at_checked(MEDIA.len()).unwrap_or_default();
    let name = if media.eq_ignore_ascii_case(MEDIA) { rest } else { given };
    if name.eq_ignore_ascii_case("at+jwt") {
        Ok(TokenType::AccessToken)
    } else if name.eq_ignore_ascii_case("jwt") {
        Ok(TokenType::Jwt)
    } else {
        Err(TokenFault::TokenType { found: Some(Shown::of(given)), by_policy: false })
    }
}
