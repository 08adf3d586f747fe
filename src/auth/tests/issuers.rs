//! Several issuers and every algorithm: each token is judged by the issuer it names, by that issuer's list, keys and
//! words, and by nobody else's.

use std::sync::Arc;

use ring::hmac;
use serde_json::{Value, json};

use super::issuer::{AUDIENCE, ISSUER, NOW, TestKey, b64, bearing, config, signed, trusted, with};
use crate::auth::fault::{Near, Shown, TokenFault};
use crate::auth::jwks::KeySet;
use crate::auth::key::Unusable;
use crate::auth::keys::KeyStore;
use crate::auth::{AuthError, Authenticator, Denied, Principal};
use crate::clock::Clock;
use crate::config::{Algorithm, Allowed, ClaimNames, Issuer, Shape};
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

/// What the documentation of each provider says that its access tokens look like, and other tokens of its that must not
/// pass for one. RFC 9068 section 2.2, RFC 8725 section 3.12.
#[test]
fn each_provider_is_understood_in_its_own_words() {
    type Said<'a> = Result<(&'a str, Option<&'a str>, &'a str), TokenFault>;
    let shaped = |issuer: &str, provider: &str, audiences: &[&str]| {
        let shape = Shape::of(provider).unwrap();
        Issuer {
            claims: shape.names(),
            required_claims: shape.required_claims(),
            audiences: audiences.iter().map(|audience| (*audience).into()).collect(),
            ..trusted(issuer)
        }
    };
    let rsa = || vec![TestKey::One.jwk("one")];
    const POOL: &str = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Example";
    const OKTA: &str = "https://dev-1.okta.com/oauth2/default";
    const V1: &str = "https://sts.windows.net/72f988bf-0000-0000-0000-2d7cd011db47/";
    const V2: &str = "https://login.microsoftonline.com/72f988bf-0000-0000-0000-2d7cd011db47/v2.0";
    const OTHER_TENANT: &str = "https://login.microsoftonline.com/11111111-0000-0000-0000-2d7cd011db47/v2.0";
    const KEYCLOAK: &str = "https://sso.example/realms/a";
    const AUTH0: &str = "https://tenant.eu.auth0.com/";
    let custom = Issuer {
        claims: ClaimNames { subject: "email".into(), scopes: vec!["roles".into()], ..ClaimNames::default() },
        required_claims: vec![("tenant".into(), vec!["acme".into(), "umbrella".into()])],
        ..trusted(ISSUER)
    };
    let auth = authenticator(vec![
        (shaped(POOL, "cognito", &["client-1", "https://mcp.example/mcp"]), rsa()),
        (shaped(OKTA, "okta", &["api://default"]), rsa()),
        (shaped(V1, "entra", &["api://mcp"]), rsa()),
        (shaped(V2, "entra", &["4a5b"]), rsa()),
        (shaped(KEYCLOAK, "keycloak", &["mcp"]), rsa()),
        (shaped(AUTH0, "auth0", &["https://mcp.example/mcp"]), rsa()),
        (custom, rsa()),
    ]);
    let aud = |claim: &str, found: &str, accepted: &[&str]| {
        Err(TokenFault::Audience {
            claim: claim.into(),
            found: Shown::of(found),
            accepted: Shown::list(accepted.iter().copied()),
            near: None,
            at: "audience".into(),
        })
    };
    let missing = |claim: &str| Err(TokenFault::ClaimMissing { claim: claim.into() });
    let other = |claim| Err(TokenFault::NotAnAccessToken { claim });
    let lacks = |claim: &str, found: Option<&str>, accepted: &[&str]| {
        Err(TokenFault::RequiredClaim {
            claim: Shown::of(claim),
            found: found.map(Shown::of),
            accepted: Shown::list(accepted.iter().copied()),
        })
    };
    let rows: Vec<(&str, Value, Said<'_>)> = vec![
        (
            "Cognito",
            json!({"iss": POOL, "sub": "u", "client_id": "client-1", "token_use": "access", "scope": "mcp/a mcp/b"}),
            Ok(("u", Some("client-1"), "mcp/a mcp/b")),
        ),
        (
            "Cognito, another client",
            json!({"iss": POOL, "sub": "u", "client_id": "client-2", "token_use": "access", "scope": "a"}),
            aud("client_id", "client-2", &["client-1", "https://mcp.example/mcp"]),
        ),
        (
            "Cognito, for a resource that was asked for",
            json!({"iss": POOL, "sub": "u", "client_id": "app", "aud": "https://mcp.example/mcp", "token_use": "access"}),
            Ok(("u", Some("app"), "")),
        ),
        (
            "Cognito, for another resource, by our client",
            json!({"iss": POOL, "sub": "u", "client_id": "client-1", "aud": "https://evil", "token_use": "access"}),
            aud("aud", "https://evil", &["client-1", "https://mcp.example/mcp"]),
        ),
        (
            "Cognito, an ID token",
            json!({"iss": POOL, "sub": "u", "aud": "client-1", "token_use": "id", "email": "u@example"}),
            other("token_use"),
        ),
        (
            "Cognito, nothing that says which token it is",
            json!({"iss": POOL, "sub": "u", "client_id": "client-1"}),
            lacks("token_use", None, &["access"]),
        ),
        (
            "Okta",
            json!({"iss": OKTA, "sub": "u@example", "aud": "api://default", "cid": "app", "uid": "1", "scp": ["a", "b"]}),
            Ok(("u@example", Some("app"), "a b")),
        ),
        (
            "Entra v2, a user",
            json!({"iss": V2, "sub": "pairwise", "aud": "4a5b", "azp": "app", "scp": "Mcp.Echo Mcp.Read", "ver": "2.0"}),
            Ok(("pairwise", Some("app"), "Mcp.Echo Mcp.Read")),
        ),
        (
            "Entra v1, a client for itself",
            json!({"iss": V1, "sub": "robot", "aud": "api://mcp", "appid": "app", "roles": ["Mcp.Admin"], "ver": "1.0"}),
            Ok(("robot", Some("app"), "Mcp.Admin")),
        ),
        (
            "Entra, a tenant that is not on the list",
            json!({"iss": OTHER_TENANT, "sub": "u", "aud": "4a5b", "scp": "Mcp.Echo"}),
            Err(TokenFault::Issuer {
                found: Shown::of(OTHER_TENANT),
                accepted: Shown::list([POOL, OKTA, V1, V2, KEYCLOAK, AUTH0, ISSUER]),
                near: Some(Near::Path),
                at: "issuer".into(),
            }),
        ),
        (
            "Entra, the audience of the other version's entry",
            json!({"iss": V2, "sub": "u", "aud": "api://mcp"}),
            aud("aud", "api://mcp", &["4a5b"]),
        ),
        (
            "Keycloak",
            json!({"iss": KEYCLOAK, "sub": "u", "aud": ["mcp", "account"], "typ": "Bearer", "azp": "app", "scope": "a"}),
            Ok(("u", Some("app"), "a")),
        ),
        (
            "Keycloak, a refresh token",
            json!({"iss": KEYCLOAK, "sub": "u", "aud": "mcp", "typ": "Refresh", "azp": "app", "scope": "a"}),
            other("typ"),
        ),
        (
            "Auth0",
            json!({"iss": AUTH0, "sub": "auth0|1", "aud": ["https://mcp.example/mcp", "https://t/userinfo"], "azp": "app",
                "scope": "openid a", "permissions": ["b"]}),
            Ok(("auth0|1", Some("app"), "a openid")),
        ),
        (
            "people known by their address",
            json!({"iss": ISSUER, "sub": "1", "email": "u@example", "aud": AUDIENCE, "roles": "a", "scope": "b",
                "tenant": "acme"}),
            Ok(("u@example", None, "a")),
        ),
        (
            "nobody known by an address",
            json!({"iss": ISSUER, "sub": "1", "client_id": "app", "aud": AUDIENCE, "tenant": "acme"}),
            missing("email"),
        ),
        (
            "another tenant",
            json!({"iss": ISSUER, "email": "u@example", "aud": AUDIENCE, "tenant": "evil"}),
            lacks("tenant", Some("evil"), &["acme", "umbrella"]),
        ),
    ];
    for (what, mut claims, expected) in rows {
        claims["exp"] = (NOW.0 + 60).into();
        let token =
            signed(TestKey::One, "RS256", r#"{"alg":"RS256","kid":"one","typ":"JWT"}"#, &claims.to_string());
        let found = verdict(&auth, &token);
        let said = found.as_ref().map(|principal| {
            (&*principal.subject, principal.client_id.as_deref(), principal.scopes.to_string())
        });
        let said = said.map_err(Clone::clone);
        let expected = expected.map(|(subject, client, scopes)| (subject, client, scopes.to_owned()));
        assert_eq!(said, expected, "{what}");
    }
}
