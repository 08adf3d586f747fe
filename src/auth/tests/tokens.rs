//! Every rule on a token, through [`Authenticator::authenticate`], with the keys already there.

use std::sync::Arc;

use serde_json::{Value, json};

use super::issuer::{
    AUDIENCE, ISSUER, NOW, TestKey, b64, bearing, config, good, key_set, request, signed, token, trusted,
    with,
};
use crate::auth::fault::{Near, Part, Shown, TokenFault};
use crate::auth::jwks::KeySet;
use crate::auth::key::Unusable;
use crate::auth::keys::KeyStore;
use crate::auth::scope::{CallSubject, ScopeSet};
use crate::auth::{AuthError, Authenticator, Denied, Principal, json as reader};
use crate::clock::Clock;
use crate::config::{Algorithm, Config, Mcp20250326, RuleSubject, ScopeRule, ScopeRules, TokenTypePolicy};
use crate::limits::{NUMERIC_DATE_MAX, TOKEN_HEADER_BYTES_MAX};
use crate::log::{Level, Log};

const OTHER: &str = "https://other.example";

fn authenticator(change: impl FnOnce(&mut Config)) -> (Authenticator, Log) {
    let mut config = config(vec![trusted(ISSUER), trusted(OTHER)]);
    change(&mut config);
    let set = |keys: &[(TestKey, &str)]| KeySet::parse(key_set(keys).as_bytes()).unwrap();
    let log = Log::to_memory(Level::Debug);
    let keys = [
        TestKey::One.jwk("one"),
        TestKey::Two.jwk("two"),
        TestKey::Short.jwk("short"),
        TestKey::One.jwk_for("one-384", "RS384"),
    ];
    let own = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    let sets = vec![(ISSUER.to_owned(), own), (OTHER.to_owned(), set(&[(TestKey::Stranger, "one")]))];
    let keys = KeyStore::of_sets(sets, &Clock::fixed(NOW), &log);
    (Authenticator::new(&config, Arc::new(keys), log.clone()), log)
}

fn verdict(auth: &Authenticator, token: &str) -> Result<Arc<Principal>, TokenFault> {
    // Twice: what is remembered must say the same.
    let (first, second) = (auth.authenticate(&bearing(token), NOW), auth.authenticate(&bearing(token), NOW));
    assert_eq!(first, second, "the second time");
    first.map_err(|err| match err {
        AuthError::Denied(Denied::BadToken(fault)) => fault,
        other => panic!("{other:?}"),
    })
}

fn assert_verdict(auth: &Authenticator, what: &str, token: &str, expected: Result<(), TokenFault>) {
    assert_eq!(verdict(auth, token).map(|_| ()), expected, "{what}");
}

/// RFC 7515 sections 2 and 7.1, RFC 7516 section 7.1, RFC 8725 sections 3.1, 3.10 and 3.11.
#[test]
fn a_token_is_one_signed_text_and_nothing_else() {
    let (auth, _) = authenticator(|_| ());
    let claims = good().to_string();
    let headed = |header: &str| signed(TestKey::One, "RS256", header, &claims);
    let whole = token(&good());
    let (body, _) = whole.rsplit_once('.').unwrap();
    let (_, rest) = whole.split_once('.').unwrap();
    let stray = |text: &str| {
        // The last character of a segment carries two or four bits that must be zero.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let at = alphabet.find(text.chars().last().unwrap()).unwrap();
        format!("{}{}", &text[..text.len() - 1], alphabet.chars().nth(at + 1).unwrap())
    };
    let base64 = |part| Err(TokenFault::Base64 { part });
    let typ = |found: &str| Err(TokenFault::TokenType { found: Some(Shown::of(found)), by_policy: false });
    let alg = |found: &str| Err(TokenFault::Algorithm { found: Shown::of(found) });
    let unlisted = |found| Err(TokenFault::AlgorithmNotAllowed { found, issuer: Shown::of(ISSUER) });
    let for_other = |kid: &str, own| {
        Err(TokenFault::KeyForOther { kid: Shown::of(kid), found: Algorithm::Rs256, own, marked: true })
    };
    let parameter = |name| Err(TokenFault::HeaderParameter { name });
    let json = |part, why| Err(TokenFault::Json { part, why });
    let wide = format!(r#"{{"alg":"RS256","kid":"one","x5c":["{}"]}}"#, "A".repeat(TOKEN_HEADER_BYTES_MAX));
    let rows: Vec<(&str, String, Result<(), TokenFault>)> = vec![
        ("whole", whole.clone(), Ok(())),
        ("opaque", "0123456789abcdef".into(), Err(TokenFault::NotAJwt { segments: 1 })),
        ("two segments", body.into(), Err(TokenFault::NotAJwt { segments: 2 })),
        ("four segments", format!("{whole}.AA"), Err(TokenFault::NotAJwt { segments: 4 })),
        ("JWE", "eyJ.a.b.c.d".into(), Err(TokenFault::Encrypted)),
        ("padded signature", format!("{whole}=="), base64(Part::Signature)),
        ("stray bits in the signature", stray(&whole), base64(Part::Signature)),
        (
            "stray bits in the header",
            format!("{}.{rest}", stray(&b64(r#"{"alg": "RS256"}"#))),
            base64(Part::Header),
        ),
        ("base64 and not base64url", format!("{body}.+/+/"), base64(Part::Signature)),
        (
            "a huge signature",
            format!("{body}.{}", "A".repeat(1400)),
            Err(TokenFault::PartTooLong { part: Part::Signature }),
        ),
        ("a huge header", headed(&wide), Err(TokenFault::PartTooLong { part: Part::Header })),
        (
            "empty header",
            format!(".{rest}"),
            json(Part::Header, reader::Fault::Syntax { line: 1, column: 0 }),
        ),
        ("no signature", format!("{body}."), forged("one")),
        ("claims of another token", swap_claims(&whole), forged("one")),
        ("alg none", headed(r#"{"alg":"none"}"#), alg("none")),
        (
            "alg none without signature",
            format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(&claims)),
            alg("none"),
        ),
        ("alg NoNe", headed(r#"{"alg":"NoNe"}"#), alg("NoNe")),
        ("alg HS256", headed(r#"{"alg":"HS256","kid":"one"}"#), alg("HS256")),
        ("alg rs256", headed(r#"{"alg":"rs256","kid":"one"}"#), alg("rs256")),
        ("alg PS256", headed(r#"{"alg":"PS256","kid":"one"}"#), unlisted(Algorithm::Ps256)),
        ("alg ES256", headed(r#"{"alg":"ES256","kid":"one"}"#), unlisted(Algorithm::Es256)),
        ("alg Ed25519", headed(r#"{"alg":"Ed25519","kid":"one"}"#), unlisted(Algorithm::EdDsa)),
        ("alg ES512", headed(r#"{"alg":"ES512","kid":"one"}"#), alg("ES512")),
        ("alg empty", headed(r#"{"alg":"","kid":"one"}"#), alg("")),
        ("no alg", headed(r#"{"kid":"one"}"#), parameter("alg")),
        ("alg a list", headed(r#"{"alg":["RS256"],"kid":"one"}"#), parameter("alg")),
        (
            "alg twice",
            headed(r#"{"alg":"none","kid":"one","alg":"RS256"}"#),
            json(Part::Header, twice("alg")),
        ),
        (
            "RS512, which is not on the list",
            signed(TestKey::One, "RS512", r#"{"alg":"RS512","kid":"one"}"#, &claims),
            unlisted(Algorithm::Rs512),
        ),
        ("RS384", signed(TestKey::One, "RS384", r#"{"alg":"RS384","kid":"one-384"}"#, &claims), Ok(())),
        ("RS384 said, RS256 done", headed(r#"{"alg":"RS384","kid":"one-384"}"#), forged("one-384")),
        (
            "RS256 by a key for RS384",
            headed(r#"{"alg":"RS256","kid":"one-384"}"#),
            for_other("one-384", Algorithm::Rs384),
        ),
        (
            "RS384 by a key that says nothing",
            signed(TestKey::One, "RS384", r#"{"alg":"RS384","kid":"one"}"#, &claims),
            Err(TokenFault::KeyForOther {
                kid: Shown::of("one"),
                found: Algorithm::Rs384,
                own: Algorithm::Rs256,
                marked: false,
            }),
        ),
        (
            "crit",
            headed(r#"{"alg":"RS256","kid":"one","crit":["exp"]}"#),
            Err(TokenFault::Extension { name: "crit" }),
        ),
        (
            "crit empty",
            headed(r#"{"alg":"RS256","kid":"one","crit":[]}"#),
            Err(TokenFault::Extension { name: "crit" }),
        ),
        (
            "b64 false",
            headed(r#"{"alg":"RS256","kid":"one","b64":false}"#),
            Err(TokenFault::Extension { name: "b64" }),
        ),
        (
            "b64 true",
            headed(r#"{"alg":"RS256","kid":"one","b64":true}"#),
            Err(TokenFault::Extension { name: "b64" }),
        ),
        ("typ at+jwt", headed(r#"{"alg":"RS256","kid":"one","typ":"AT+JWT"}"#), Ok(())),
        ("typ in full", headed(r#"{"alg":"RS256","kid":"one","typ":"application/at+jwt"}"#), Ok(())),
        ("typ JWT", headed(r#"{"alg":"RS256","kid":"one","typ":"JWT"}"#), Ok(())),
        ("typ jwt", headed(r#"{"alg":"RS256","kid":"one","typ":"jwt"}"#), Ok(())),
        ("no typ", headed(r#"{"alg":"RS256","kid":"one"}"#), Ok(())),
        ("typ a number", headed(r#"{"alg":"RS256","kid":"one","typ":1}"#), parameter("typ")),
        ("typ empty", headed(r#"{"alg":"RS256","kid":"one","typ":""}"#), typ("")),
        (
            "an ID-JAG",
            headed(r#"{"alg":"RS256","kid":"one","typ":"oauth-id-jag+jwt"}"#),
            typ("oauth-id-jag+jwt"),
        ),
        ("a DPoP proof", headed(r#"{"alg":"RS256","kid":"one","typ":"dpop+jwt"}"#), typ("dpop+jwt")),
        ("a logout token", headed(r#"{"alg":"RS256","kid":"one","typ":"logout+jwt"}"#), typ("logout+jwt")),
        (
            "a security event",
            headed(r#"{"alg":"RS256","kid":"one","typ":"secevent+jwt"}"#),
            typ("secevent+jwt"),
        ),
        ("a refresh token", headed(r#"{"alg":"RS256","kid":"one","typ":"rt+jwt"}"#), typ("rt+jwt")),
        ("kid a number", headed(r#"{"alg":"RS256","kid":1}"#), parameter("kid")),
        (
            "header of two objects",
            headed(r#"{"alg":"RS256","kid":"one"}{}"#),
            json(Part::Header, reader::Fault::Trailing),
        ),
        ("header an array", headed(r#"["RS256"]"#), json(Part::Header, reader::Fault::NotAnObject)),
    ];
    for (what, token, expected) in rows {
        assert_verdict(&auth, what, &token, expected);
    }
}

fn twice(name: &str) -> reader::Fault {
    reader::Fault::Repeated(Shown::of(name))
}

fn forged(kid: &str) -> Result<(), TokenFault> {
    Err(TokenFault::Signature { issuer: Shown::of(ISSUER), kid: Some(Shown::of(kid)) })
}

fn swap_claims(token: &str) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[1] = b64(with("sub", "root").to_string());
    parts.join(".")
}

/// RFC 7515 section 4.1.4, RFC 8725 sections 3.1 and 3.8: keys of the issuer that is named, no others.
#[test]
fn a_signature_counts_under_the_keys_of_the_issuer_it_names() {
    let (auth, _) = authenticator(|_| ());
    let claims = good().to_string();
    let others = with("iss", OTHER).to_string();
    let kid = |kid: &str| format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
    let nameless = r#"{"alg":"RS256"}"#;
    let jwk = TestKey::Stranger.jwk("one");
    let bringing =
        format!(r#"{{"alg":"RS256","jwk":{jwk},"jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/"}}"#);
    for (what, key, header, claims, expected) in [
        ("its key", TestKey::One, kid("one"), &claims, Ok(())),
        ("its other key", TestKey::Two, kid("two"), &claims, Ok(())),
        ("no kid, first key", TestKey::One, nameless.into(), &claims, Ok(())),
        ("no kid, second key", TestKey::Two, nameless.into(), &claims, Ok(())),
        ("the wrong one of its keys", TestKey::Two, kid("one"), &claims, forged("one")),
        ("a stranger's", TestKey::Stranger, kid("one"), &claims, forged("one")),
        (
            "a stranger's without kid",
            TestKey::Stranger,
            nameless.into(),
            &claims,
            Err(TokenFault::Signature { issuer: Shown::of(ISSUER), kid: None }),
        ),
        (
            "a key that the token brings",
            TestKey::Stranger,
            bringing,
            &claims,
            Err(TokenFault::Signature { issuer: Shown::of(ISSUER), kid: None }),
        ),
        (
            "an unknown kid",
            TestKey::One,
            kid("three"),
            &claims,
            Err(TokenFault::KeyUnknown { kid: Shown::of("three"), issuer: Shown::of(ISSUER) }),
        ),
        (
            "a short key",
            TestKey::Short,
            kid("short"),
            &claims,
            Err(TokenFault::KeyUnusable { kid: Shown::of("short"), why: Unusable::Modulus { bits: 1024 } }),
        ),
        ("another issuer's token", TestKey::Stranger, kid("one"), &others, Ok(())),
        (
            "this issuer's key for another's token",
            TestKey::One,
            kid("one"),
            &others,
            Err(TokenFault::Signature { issuer: Shown::of(OTHER), kid: Some(Shown::of("one")) }),
        ),
    ] {
        assert_verdict(&auth, what, &signed(key, "RS256", &header, claims), expected);
    }
}

/// RFC 7519 section 4.1, RFC 9068 sections 2.2 and 4, RFC 8707 section 2, RFC 8725 sections 3.8, 3.9 and 3.12; RS-04,
/// RS-12, RS-15, RS-18 to 5.8.
#[test]
fn every_claim_is_held_to_its_rule() {
    let (auth, _) = authenticator(|_| ());
    let now = NOW.0;
    let missing = |claim: &str| Err(TokenFault::ClaimMissing { claim: claim.into() });
    let malformed = |claim: &str, wanted| Err(TokenFault::ClaimMalformed { claim: claim.into(), wanted });
    let date = |claim| malformed(claim, "a number of seconds between 1970 and 9999");
    let list = |claim| malformed(claim, "a string or an array of strings");
    let name = |claim| malformed(claim, "a string that is not empty and has no control characters");
    let accepted = || Shown::list([AUDIENCE, "Client-1"]);
    let aud = |found: &str, near| {
        let (claim, at) = ("aud".into(), "audience".into());
        Err(TokenFault::Audience { claim, found: Shown::of(found), accepted: accepted(), near, at })
    };
    let iss = |found: &str, near| {
        let (accepted, at) = (Shown::list([ISSUER, OTHER]), "issuer".into());
        Err(TokenFault::Issuer { found: Shown::of(found), accepted, near, at })
    };
    for (what, claims, expected) in [
        ("good", good(), Ok(())),
        // Time
        ("no exp", with("exp", Value::Null), missing("exp")),
        ("exp in its last second of leeway", with("exp", now - 59), Ok(())),
        ("exp and leeway over", with("exp", now - 60), Err(TokenFault::Expired { ago: 60 })),
        ("exp a whole float", with("exp", json!(now as f64 + 1.0)), Ok(())),
        ("exp a fraction", with("exp", json!(now as f64 - 59.5)), Err(TokenFault::Expired { ago: 60 })),
        ("exp a string", with("exp", (now + 9).to_string()), date("exp")),
        ("exp null", json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": null}), date("exp")),
        ("exp true", with("exp", true), date("exp")),
        ("exp negative", with("exp", -1), date("exp")),
        ("exp a negative fraction", with("exp", json!(-0.5)), date("exp")),
        ("exp at the end of 9999", with("exp", NUMERIC_DATE_MAX), Ok(())),
        ("exp in milliseconds", with("exp", now * 1000), date("exp")),
        ("exp beyond i64", with("exp", u64::MAX), date("exp")),
        ("exp 1e300", with("exp", json!(1e300)), date("exp")),
        ("nbf within leeway", with("nbf", now + 60), Ok(())),
        ("nbf ahead", with("nbf", now + 61), Err(TokenFault::NotYet { claim: "nbf", ahead: 61 })),
        ("nbf a string", with("nbf", "0"), date("nbf")),
        ("iat ahead", with("iat", now + 61), Err(TokenFault::NotYet { claim: "iat", ahead: 61 })),
        ("iat a fraction ahead of leeway", with("iat", json!(now as f64 + 60.9)), Ok(())),
        ("iat huge", with("iat", json!(1e18)), date("iat")),
        ("no iat, no nbf", with("iat", Value::Null), Ok(())),
        // Issuer
        ("no iss", with("iss", Value::Null), missing("iss")),
        (
            "iss a list",
            with("iss", json!([ISSUER])),
            Err(TokenFault::ClaimMalformed { claim: "iss".into(), wanted: "a string" }),
        ),
        (
            "iss with a slash",
            with("iss", format!("{ISSUER}/")),
            iss(&format!("{ISSUER}/"), Some(Near::TrailingSlash)),
        ),
        (
            "iss over http",
            with("iss", "http://other.example"),
            iss("http://other.example", Some(Near::Scheme)),
        ),
        (
            "iss in capitals",
            with("iss", "https://IDP.example/realms/a"),
            iss("https://IDP.example/realms/a", Some(Near::Case)),
        ),
        (
            "iss another realm",
            with("iss", "https://idp.example/realms/b"),
            iss("https://idp.example/realms/b", Some(Near::Path)),
        ),
        ("iss a stranger", with("iss", "https://evil"), iss("https://evil", None)),
        // Audience
        ("no aud", with("aud", Value::Null), missing("aud")),
        ("aud the other accepted one", with("aud", "Client-1"), Ok(())),
        ("aud in capitals where they do not count", with("aud", "HTTPS://MCP.Example/mcp"), Ok(())),
        (
            "aud in capitals where they do",
            with("aud", "https://mcp.example/MCP"),
            aud("https://mcp.example/MCP", Some(Near::Case)),
        ),
        ("aud a name in capitals", with("aud", "CLIENT-1"), aud("CLIENT-1", Some(Near::Case))),
        (
            "aud with a slash",
            with("aud", "https://mcp.example/mcp/"),
            aud("https://mcp.example/mcp/", Some(Near::TrailingSlash)),
        ),
        (
            "aud the origin alone",
            with("aud", "https://mcp.example"),
            aud("https://mcp.example", Some(Near::Path)),
        ),
        (
            "aud longer",
            with("aud", "https://mcp.example/mcp2"),
            aud("https://mcp.example/mcp2", Some(Near::Path)),
        ),
        (
            "aud over http",
            with("aud", "http://mcp.example/mcp"),
            aud("http://mcp.example/mcp", Some(Near::Scheme)),
        ),
        ("aud somebody else", with("aud", "https://files.example"), aud("https://files.example", None)),
        ("aud a list with us", with("aud", json!(["x", AUDIENCE])), Ok(())),
        (
            "aud an empty list",
            with("aud", json!([])),
            Err(TokenFault::Audience {
                claim: "aud".into(),
                found: Shown::list([]),
                accepted: accepted(),
                near: None,
                at: "audience".into(),
            }),
        ),
        ("aud a list with a number", with("aud", json!([1, AUDIENCE])), list("aud")),
        ("aud an object", with("aud", json!({AUDIENCE: true})), list("aud")),
        ("aud empty", with("aud", ""), aud("", None)),
        // Who
        ("no sub", with("sub", Value::Null), Ok(())),
        ("no sub and no client", json!({"iss": ISSUER, "aud": AUDIENCE, "exp": now + 9}), missing("sub")),
        ("sub empty", with("sub", ""), name("sub")),
        ("sub a number", with("sub", 7), name("sub")),
        ("sub with a line end", with("sub", "a\r\nx"), name("sub")),
        ("client_id a list", with("client_id", json!(["a"])), name("client_id")),
        (
            "azp a number",
            json!({"iss": ISSUER, "aud": AUDIENCE, "exp": now + 9, "sub": "a", "azp": 1}),
            name("azp"),
        ),
        // Scopes
        ("scope a number", with("scope", 1), list("scope")),
        ("scope a list with a number", with("scope", json!(["a", 1])), list("scope")),
        ("scp an object", with("scp", json!({})), list("scp")),
        // What kind of token
        ("cnf", with("cnf", json!({"jkt": "x"})), Err(TokenFault::SenderConstrained)),
        ("nonce under at+jwt", with("nonce", "n"), Ok(())),
    ] {
        assert_verdict(&auth, what, &token(&claims), expected);
    }
    let other_kinds = [
        ("nonce", json!("n")),
        ("at_hash", json!("h")),
        ("c_hash", json!("h")),
        ("events", json!({})),
        ("typ", json!("ID")),
        ("typ", json!("Refresh")),
    ];
    for (claim, value) in other_kinds {
        for header in [r#"{"alg":"RS256","kid":"one","typ":"JWT"}"#, r#"{"alg":"RS256","kid":"one"}"#] {
            let token = signed(TestKey::One, "RS256", header, &with(claim, value.clone()).to_string());
            assert_verdict(&auth, claim, &token, Err(TokenFault::NotAnAccessToken { claim }));
        }
    }
    let keycloak =
        signed(TestKey::One, "RS256", r#"{"alg":"RS256","kid":"one"}"#, &with("typ", "Bearer").to_string());
    assert_verdict(&auth, "Keycloak's access token", &keycloak, Ok(()));
    let header = r#"{"alg":"RS256","kid":"one"}"#;
    let doubled = format!(r#"{{"iss":"{ISSUER}","aud":"x","aud":"{AUDIENCE}","exp":{},"sub":"a"}}"#, now + 9);
    let expected = Err(TokenFault::Json { part: Part::Claims, why: twice("aud") });
    assert_verdict(&auth, "aud twice", &signed(TestKey::One, "RS256", header, &doubled), expected);
}

/// RFC 9068 section 2.2, RFC 8693 section 4.2.
#[test]
fn a_principal_says_what_the_token_says() {
    let (auth, _) = authenticator(|_| ());
    let said = |claims: Value| {
        let principal = verdict(&auth, &token(&claims)).unwrap();
        let client = principal.client_id.clone().unwrap_or_default();
        format!("{} {client} [{}] {}", principal.subject, principal.scopes, principal.expires.0 - NOW.0)
    };
    let azp = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": NOW.0 + 9, "azp": "app2"});
    for (what, claims, expected) in [
        ("all", good(), "alice app [a b] 300"),
        ("no sub: the client", with("sub", Value::Null), "app app [a b] 300"),
        ("no sub and no client_id: azp", azp, "app2 app2 [] 9"),
        ("no client", with("client_id", Value::Null), "alice  [a b] 300"),
        ("scp as well", with("scp", json!(["c", "a"])), "alice app [a b c] 300"),
        ("scp a string", with("scp", "c d"), "alice app [a b c d] 300"),
        ("scope a list", with("scope", json!(["x", "y z", ""])), "alice app [x] 300"),
        ("scope with odd characters", with("scope", "a\"b  c d\\"), "alice app [c] 300"),
    ] {
        assert_eq!(said(claims), expected, "{what}");
    }
}

/// RFC 9068 section 4.
#[test]
fn the_strict_policy_takes_access_tokens_alone() {
    let (auth, _) = authenticator(|config| config.token_type = TokenTypePolicy::Strict);
    let refused =
        |found: Option<&str>| Err(TokenFault::TokenType { found: found.map(Shown::of), by_policy: true });
    for (typ, expected) in [
        (r#","typ":"at+jwt""#, Ok(())),
        (r#","typ":"application/AT+jwt""#, Ok(())),
        (r#","typ":"JWT""#, refused(Some("JWT"))),
        ("", refused(None)),
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"one"{typ}}}"#);
        let token = signed(TestKey::One, "RS256", &header, &good().to_string());
        assert_verdict(&auth, typ, &token, expected);
    }
}

#[test]
fn claims_that_the_configuration_asks_for_must_be_there() {
    let required = vec![("org".to_owned(), vec!["a".to_owned(), "7".to_owned()])];
    let (auth, _) = authenticator(|config| config.required_claims = required);
    let refused = |found: Option<Shown>| {
        let (claim, accepted) = (Shown::of("org"), Shown::list(["a", "7"]));
        Err(TokenFault::RequiredClaim { claim, found, accepted })
    };
    for (value, expected) in [
        (json!("a"), Ok(())),
        (json!(7), Ok(())),
        (json!(["x", "a"]), Ok(())),
        (json!("A"), refused(Some(Shown::of("A")))),
        (json!({"a": "a"}), refused(Some(Shown::list([])))),
        (Value::Null, refused(None)),
    ] {
        assert_verdict(&auth, &value.to_string(), &token(&with("org", value.clone())), expected);
    }
}

/// D4: no client chooses its own checks; only the operator can, and not the issuer's.
#[test]
fn a_revision_weakens_nothing_unless_the_operator_says_so() {
    let foreign = token(&with("aud", "elsewhere"));
    let expired = token(&with("exp", NOW.0 - 100));
    let stranger = token(&with("iss", "https://evil"));
    let scope = ScopeRules { always: ScopeSet::parse("needed"), ..ScopeRules::default() };
    for (mode, version, aud_waived) in [
        (Mcp20250326::Strict, "MCP-Protocol-Version: 2025-03-26\r\n", false),
        (Mcp20250326::SignatureOnly, "MCP-Protocol-Version: 2025-03-26\r\n", true),
        (Mcp20250326::SignatureOnly, "", false),
        (Mcp20250326::SignatureOnly, "MCP-Protocol-Version: 2025-06-18\r\n", false),
        (Mcp20250326::SignatureOnly, "MCP-Protocol-Version: 2025-03-26, 2025-06-18\r\n", false),
        (
            Mcp20250326::SignatureOnly,
            "MCP-Protocol-Version: 2025-03-26\r\nMCP-Protocol-Version: 2025-06-18\r\n",
            false,
        ),
    ] {
        let (auth, log) = authenticator(|config| {
            config.mcp_2025_03_26 = mode;
            config.scopes = scope.clone();
        });
        let carrying = |token: &str| request(&format!("Authorization: Bearer {token}\r\n{version}"));
        // In both orders, so that what is remembered of one request never serves the other.
        for _ in 0..2 {
            let let_in = auth.authenticate(&carrying(&foreign), NOW);
            assert_eq!(let_in.is_ok(), aud_waived, "{mode:?} {version}");
            assert!(auth.authenticate(&bearing(&foreign), NOW).is_err(), "without the header");
            if let Ok(principal) = let_in {
                assert!(auth.permit_for(&carrying(&foreign), &principal, &[]).is_ok());
                assert!(auth.permit_for(&bearing(&foreign), &principal, &[]).is_err());
            }
        }
        assert!(auth.authenticate(&carrying(&expired), NOW).is_err());
        assert!(auth.authenticate(&carrying(&stranger), NOW).is_err());
        assert_eq!(log.text().contains("signature_only"), mode == Mcp20250326::SignatureOnly);
    }
}

/// RS-08, RS-09, D8.
#[test]
fn a_permit_needs_every_scope_of_every_call() {
    let rule = |method: &str, needed| ScopeRule {
        subject: RuleSubject::Method(method.into()),
        needed: ScopeSet::parse(needed),
    };
    let (auth, _) = authenticator(|config| {
        config.scopes.rules = vec![rule("tools/list", "a"), rule("tools/call", "c d")];
    });
    let principal = auth.authenticate(&bearing(&token(&good())), NOW).unwrap();
    let call = |method| CallSubject { method, item: None, path: "/mcp" };
    let permit = auth.permit(&principal, &[call("tools/list"), call("ping")]).unwrap();
    assert_eq!(&*permit.principal().subject, "alice");
    let denied = auth.permit(&principal, &[call("tools/list"), call("tools/call")]).unwrap_err();
    assert_eq!(denied, Denied::TooNarrow { needed: ScopeSet::parse("a c d") });
    assert_eq!(denied.status(), 403);
}

/// RS-16: a token is in no log, only the beginning of its hash.
#[test]
fn no_token_reaches_the_log() {
    let (auth, log) = authenticator(|_| ());
    let tokens =
        [token(&good()), token(&with("aud", "x")), swap_claims(&token(&good())), "opaque-secret".into()];
    for token in &tokens {
        let _ = auth.authenticate(&bearing(token), NOW);
        for part in token.split('.') {
            assert!(!log.text().contains(part), "{part}");
        }
    }
    assert_eq!(log.text().matches("token refused").count(), 3);
}

/// D10, RFC 7519 section 4.1.4: a remembered token ends when it would have ended anyway.
#[test]
fn a_remembered_token_still_expires() {
    let (auth, _) = authenticator(|_| ());
    let token = token(&good());
    for (second, holds) in [(0, true), (300, true), (359, true), (360, false), (361, false)] {
        assert_eq!(auth.authenticate(&bearing(&token), NOW.plus(second)).is_ok(), holds, "{second}");
    }
}
