//! Several issuers and every algorithm: each token is judged by the issuer it names, by that issuer's list, keys and
//! words, and by nobody else's.

use std::sync::Arc;

use ring::hmac;
use serde_json::{Value, json};

use super::issuer::{ISSUER, NOW, TestKey, b64, bearing, config, signed, trusted, with};
use crate::auth::fault::{Shown, TokenFault};
use crate::auth::jwks::KeySet;
use crate::auth::key::Unusable;
use crate::auth::keys::KeyStore;
use crate::auth::{AuthError, Authenticator, Denied, Principal};
use crate::clock::Clock;
use crate::config::{Algorithm, Allowed, Issuer};
use crate::log::{Level, Log};

const CURVES: &str = "https://curves.example";
const AUTO: &str = "https://auto.example/";

/// An authenticator for these issuers and their keys.
fn authenticator(issuers: Vec<(Issuer, Vec<Value>)>) -> Authenticator {
    let (clock, log) = (Clock::fixed(NOW), Log::to_memory(Level::Debug));
    let sets = issuers
        .iter()
        .map(|(issuer, keys)| {
            let text = json!({ "keys": keys }).to_string();
            let set = KeySet::parse_for(text.as_bytes(), &issuer.algorithms, &[]).unwrap();
            (issuer.issuer.clone(), set)
        })
        .collect();
    let keys = Arc::new(KeyStore::of_sets(sets, &clock, &log));
    let config = config(issuers.into_iter().map(|(issuer, _)| issuer).collect());
    Authenticator::new(&config, keys, log)
}

fn verdict(auth: &Authenticator, token: &str) -> Result<Arc<Principal>, TokenFault> {
    auth.authenticate(&bearing(token), NOW).map_err(|err| match err {
        AuthError::Denied(Denied::BadToken(fault)) => fault,
        other => panic!("{other:?}"),
    })
}

/// The key with which an algorithm is signed here, and its name.
fn signer(algorithm: Algorithm) -> (TestKey, &'static str) {
    match algorithm {
        Algorithm::Es256 => (TestKey::P256, "p256"),
        Algorithm::Es384 => (TestKey::P384, "p384"),
        Algorithm::EdDsa => (TestKey::Ed25519, "ed"),
        _ => (TestKey::One, algorithm.name()),
    }
}

fn token(issuer: &str, algorithm: Algorithm) -> String {
    let (key, kid) = signer(algorithm);
    let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"at+jwt"}}"#);
    signed(key, algorithm.name(), &header, &with("iss", issuer).to_string())
}

/// A key for each algorithm.
fn all_keys() -> Vec<Value> {
    let jwk = |algorithm: Algorithm| {
        let (key, kid) = signer(algorithm);
        key.jwk_for(kid, algorithm.name())
    };
    Algorithm::ALL.into_iter().map(jwk).collect()
}

/// RFC 8725 section 3.1, RFC 7518 section 3.1, RFC 8037 section 3.1: the list of the issuer that is named decides, for
/// every algorithm against every list, although each issuer publishes a key for each algorithm.
#[test]
fn every_algorithm_is_accepted_where_it_is_listed_and_nowhere_else() {
    use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    let lists = [
        vec![Rs256],
        vec![Rs384, Rs512],
        vec![Ps256],
        vec![Ps384, Ps512],
        vec![Es256],
        vec![Es384, EdDsa],
        vec![Rs256, Ps256, Es256, EdDsa],
    ];
    let name = |n: usize| format!("https://issuer-{n}.example");
    let mut issuers: Vec<_> = lists
        .iter()
        .enumerate()
        .map(|(n, list)| {
            let algorithms = Allowed::Listed(list.clone());
            (Issuer { algorithms, ..trusted(&name(n)) }, all_keys())
        })
        .collect();
    issuers.push((Issuer { algorithms: Allowed::Auto, ..trusted(AUTO) }, all_keys()));
    let auth = authenticator(issuers);
    for algorithm in Algorithm::ALL {
        for (n, list) in lists.iter().enumerate() {
            let found = verdict(&auth, &token(&name(n), algorithm)).map(|_| ());
            let expected = if list.contains(&algorithm) {
                Ok(())
            } else {
                Err(TokenFault::AlgorithmNotAllowed { found: algorithm, issuer: Shown::of(&name(n)) })
            };
            assert_eq!(found, expected, "{algorithm} at {list:?}");
        }
        assert!(verdict(&auth, &token(AUTO, algorithm)).is_ok(), "{algorithm} at auto");
    }
}

/// The same `kid` at two issuers, keys of one used for the other, an RSA key used as a secret, a curve under another's
/// name: nothing crosses over (RFC 8725 sections 2.1 and 3.1).
#[test]
fn nothing_crosses_from_one_issuer_or_algorithm_to_another() {
    let rsa =
        Issuer { algorithms: Allowed::Listed(vec![Algorithm::Rs256, Algorithm::Ps256]), ..trusted(ISSUER) };
    let curves =
        Issuer { algorithms: Allowed::Listed(vec![Algorithm::Es256, Algorithm::EdDsa]), ..trusted(CURVES) };
    let auto = Issuer { algorithms: Allowed::Auto, ..trusted(AUTO) };
    let auth = authenticator(vec![
        (rsa, vec![TestKey::One.jwk("k"), TestKey::P256.jwk("p256")]),
        (
            curves,
            vec![TestKey::P256.jwk("k"), TestKey::Ed25519.jwk("ed"), TestKey::Two.jwk_for("rsa", "RS256")],
        ),
        (auto, vec![TestKey::Two.jwk("k"), TestKey::P384.jwk("p384")]),
    ]);
    let made = |issuer: &str, key: TestKey, done: &str, said: &str, kid: &str| {
        let header = if kid.is_empty() { json!({ "alg": said }) } else { json!({ "alg": said, "kid": kid }) };
        signed(key, done, &header.to_string(), &with("iss", issuer).to_string())
    };
    let forged = |issuer: &str, kid: &str| {
        let kid = (!kid.is_empty()).then(|| Shown::of(kid));
        Err(TokenFault::Signature { issuer: Shown::of(issuer), kid })
    };
    let unlisted =
        |issuer: &str, found| Err(TokenFault::AlgorithmNotAllowed { found, issuer: Shown::of(issuer) });
    let for_other = |kid: &str, found, own, marked| {
        Err(TokenFault::KeyForOther { kid: Shown::of(kid), found, own, marked })
    };
    let unusable = |kid: &str, why| Err(TokenFault::KeyUnusable { kid: Shown::of(kid), why });
    use Algorithm::{EdDsa, Es256, Es384, Ps256, Rs256};
    use TestKey::{Ed25519, One, P256, P384, Two};
    for (what, token, expected) in [
        ("RSA at the RSA issuer", made(ISSUER, One, "RS256", "RS256", "k"), Ok(())),
        ("P-256 at the curves", made(CURVES, P256, "ES256", "ES256", "k"), Ok(())),
        ("P-256 without kid", made(CURVES, P256, "ES256", "ES256", ""), Ok(())),
        ("Ed25519, by its newer name", made(CURVES, Ed25519, "EdDSA", "Ed25519", "ed"), Ok(())),
        ("RSA at auto", made(AUTO, Two, "RS256", "RS256", "k"), Ok(())),
        (
            "the same kid, the key of another issuer",
            made(AUTO, One, "RS256", "RS256", "k"),
            forged(AUTO, "k"),
        ),
        ("without kid, the key of another issuer", made(AUTO, One, "RS256", "RS256", ""), forged(AUTO, "")),
        (
            "the curves' key at the RSA issuer",
            made(ISSUER, P256, "ES256", "ES256", "k"),
            unlisted(ISSUER, Es256),
        ),
        (
            "said RS256, done ES256, by a key that stands in the set",
            made(ISSUER, P256, "ES256", "RS256", "p256"),
            unusable("p256", Unusable::NotAllowed(Es256)),
        ),
        (
            "an RSA key in the set of an issuer of curves",
            made(CURVES, Two, "RS256", "RS256", "rsa"),
            unlisted(CURVES, Rs256),
        ),
        (
            "said ES256, done RS256",
            made(CURVES, Two, "RS256", "ES256", "rsa"),
            unusable("rsa", Unusable::NotAllowed(Rs256)),
        ),
        (
            "said EdDSA, done ES256",
            made(CURVES, P256, "ES256", "EdDSA", "k"),
            for_other("k", EdDsa, Es256, true),
        ),
        (
            "said ES256, done EdDSA",
            made(CURVES, Ed25519, "EdDSA", "ES256", "ed"),
            for_other("ed", Es256, EdDsa, true),
        ),
        (
            "said ES256 without kid, done EdDSA",
            made(CURVES, Ed25519, "EdDSA", "ES256", ""),
            forged(CURVES, ""),
        ),
        (
            "PS256 by an RSA key that says nothing, RS256 first",
            made(ISSUER, One, "PS256", "PS256", "k"),
            for_other("k", Ps256, Rs256, false),
        ),
        ("said RS256, done PS256", made(ISSUER, One, "PS256", "RS256", "k"), forged(ISSUER, "k")),
        (
            "PS256 at auto, where nothing says PS256",
            made(AUTO, Two, "PS256", "PS256", "k"),
            for_other("k", Ps256, Rs256, false),
        ),
        (
            "ES256 by a key on P-384",
            made(AUTO, P384, "ES384", "ES256", "p384"),
            for_other("p384", Es256, Es384, true),
        ),
    ] {
        let found = verdict(&auth, &token).map(|_| ());
        assert_eq!(found, expected, "{what}");
    }
    // RFC 8725 section 2.1: the public key as an HMAC secret, in the forms in which it is lying around.
    let public = [TestKey::One.modulus(), TestKey::One.jwk("k").to_string().into_bytes()];
    for secret in public {
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            for issuer in [ISSUER, AUTO] {
                let header = json!({ "alg": name, "kid": "k" }).to_string();
                let message = format!("{}.{}", b64(header), b64(with("iss", issuer).to_string()));
                let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), message.as_bytes());
                let token = format!("{message}.{}", b64(tag));
                let expected = Err(TokenFault::Algorithm { found: Shown::of(name) });
                assert_eq!(verdict(&auth, &token).map(|_| ()), expected, "{name} at {issuer}");
            }
        }
    }
}
