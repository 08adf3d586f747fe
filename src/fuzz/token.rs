//! `token` and `jwks`: what decides whether a signature holds, against serde_json and a second look at the encoding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value as Json;

use super::{assert_tellable, shown};
use crate::auth::fault::TokenFault;
use crate::auth::jwks::KeySet;
use crate::auth::key::Unusable;
use crate::auth::token::Unverified;
use crate::config::{Algorithm, Allowed, TokenTypePolicy};
use crate::limits::{JWKS_KEYS_MAX, KEYS_TRIED_MAX};

/// Bearer tokens.
///
/// A token has one spelling: each segment is what its bytes encode to. serde_json finds the same `alg` and `iss` in it.
/// Without a key no token holds. What is told of a refused one is a short line without the token.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn token(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let token = match Unverified::parse(text) {
        Ok(token) => token,
        Err(fault) => {
            assert_fault(&fault, text);
            return false;
        }
    };
    let segments: Vec<&str> = text.split('.').collect();
    let [header, claims, signature] = segments.as_slice() else { panic!("{text} is no compact JWS") };
    let (header, claims) = (spelled_once(header), spelled_once(claims));
    spelled_once(signature);
    let (header, claims): (Json, Json) =
        match (serde_json::from_slice(&header), serde_json::from_slice(&claims)) {
            (Ok(header @ Json::Object(_)), Ok(claims @ Json::Object(_))) => (header, claims),
            other => panic!("serde_json reads {text} as {other:?}"),
        };

    let named = header.get("alg").and_then(Json::as_str);
    for algorithm in Algorithm::ALL {
        let alone = Allowed::Listed(vec![algorithm]);
        let allowed = token.require(&alone, TokenTypePolicy::Compatible, "issuer").is_ok();
        assert_eq!(allowed, named == Some(algorithm.name()), "{text}");
    }
    assert!(header.get("crit").is_none() && header.get("b64").is_none(), "{text}");
    assert!(header.get("kid").is_none_or(Json::is_string), "{text}");
    let strict = token.require(&Allowed::Auto, TokenTypePolicy::Strict, "issuer").is_ok();
    let typ = header.get("typ").and_then(Json::as_str).map(str::to_ascii_lowercase);
    assert_eq!(strict, matches!(typ.as_deref(), Some("at+jwt" | "application/at+jwt")), "{text}");
    assert_eq!(token.issuer().ok(), claims.get("iss").and_then(Json::as_str), "{text}");

    match token.signed_by(&KeySet::default(), "issuer") {
        Ok(claims) => panic!("{claims:?} without a key"),
        Err(fault) => assert_fault(&fault, text),
    }
    for other in [format!("{text}="), format!("{text}."), format!(" {text}"), format!("{text}\n")] {
        assert!(Unverified::parse(&other).is_err(), "{other:?} is a second spelling");
    }
    true
}

/// The bytes of a segment that is exactly what they encode to.
fn spelled_once(segment: &str) -> Vec<u8> {
    let bytes = URL_SAFE_NO_PAD.decode(segment).unwrap_or_default();
    assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), segment, "a second spelling");
    bytes
}

fn assert_fault(fault: &TokenFault, text: &str) {
    let told = fault.to_string();
    assert_tellable(&told, text.as_bytes());
    // No message of ours has a word this long; but a header may quote a part of its own token, and is quoted itself.
    let word = |part: &&str| part.len() > 32 && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let header = text.split('.').next().map(|header| URL_SAFE_NO_PAD.decode(header).unwrap_or_default());
    let header = String::from_utf8_lossy(header.as_deref().unwrap_or_default()).into_owned();
    for part in text.split('.').filter(word).filter(|part| !header.contains(part)) {
        assert!(!told.contains(part), "{told} tells the token");
    }
}

/// Key sets.
///
/// Whitespace and the order of members mean nothing; a set never has more keys than are looked at, nor tries more than
/// it may; no key takes an empty or trivial signature; what is set aside is told in a short line.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn jwks(input: &[u8]) -> bool {
    let set = match KeySet::parse(input) {
        Ok(set) => set,
        Err(fault) => {
            assert_tellable(&fault.to_string(), input);
            return false;
        }
    };
    let skipped = set.skipped();
    assert!(set.len() <= JWKS_KEYS_MAX && skipped.len() <= JWKS_KEYS_MAX + 1, "{} keys", set.len());
    skipped.iter().for_each(|skipped| assert_tellable(&skipped.to_string(), input));

    let json: Json = match serde_json::from_slice(input) {
        Ok(json) => json,
        Err(err) => panic!("serde_json does not read {}: {err}", shown(input)),
    };
    let keys = json.get("keys").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    assert_eq!(set.len() + skipped.len(), keys.len().min(JWKS_KEYS_MAX + 1), "{}", shown(input));
    for (position, key) in keys.iter().enumerate().take(JWKS_KEYS_MAX) {
        let used = skipped.iter().all(|skipped| skipped.position != position);
        let kty = key.get("kty").and_then(Json::as_str);
        let public = matches!(kty, Some("RSA" | "EC" | "OKP")) && key.get("d").is_none();
        let to_verify = key.get("use").is_none_or(|used| used == "sig");
        assert!(!used || public && to_verify, "key {position} of {}", shown(input));
    }
    // A repeated member is gone once serde_json has read it.
    if !skipped.iter().any(|skipped| matches!(skipped.why, Unusable::Repeated(_))) {
        let again = KeySet::parse(json.to_string().as_bytes());
        let same = again.is_ok_and(|again| again.same_keys(&set) && again.skipped() == skipped);
        assert!(same, "{} changes with its white space", shown(input));
    }

    for algorithm in Algorithm::ALL {
        let kid = keys.first().and_then(|key| key.get("kid")).and_then(Json::as_str);
        match set.candidates(kid, algorithm, "issuer") {
            Ok(candidates) => {
                let candidates: Vec<_> = candidates.collect();
                assert!((1..=KEYS_TRIED_MAX).contains(&candidates.len()), "{}", shown(input));
                // On Ed25519 the neutral element and nothing: the signature that holds under a key of order 1.
                let mut neutral = [0; 64];
                neutral[0] = 1;
                for signature in [&[][..], &neutral, &[0; 64], &[0; 96], &[0; 256]] {
                    let taken = candidates.iter().take(1).any(|key| key.verifies(b"message", signature));
                    assert!(!taken, "{}", shown(input));
                }
            }
            Err(fault) => assert_tellable(&fault.to_string(), input),
        }
    }
    true
}
