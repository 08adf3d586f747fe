//! Identity providers of every kind in front of the whole proxy: several at once, other algorithms, opaque tokens, and
//! what the operator reads where one of them is set up wrongly.

use open_mcp_auth_proxy::config::{
    Algorithm, Allowed, ClientAuth, Config, Introspection, Issuer as Trusted, Outside, Overrides, Shape,
};
use open_mcp_auth_proxy::secret::Secret;
use serde_json::json;

use crate::world::issuer::{Issuer, Key, Token};
use crate::world::raw::RawAnswer;
use crate::world::server::McpServer;
use crate::world::{NOW, RESOURCE, World, call_of};

const CALL: &str = "echo";

fn with_bearer(world: &World, token: &str) -> RawAnswer {
    let bearer = format!("Bearer {token}");
    world.ask("POST", "/mcp", &[("Authorization", &bearer), ("Accept", "application/json")], &call_of(CALL))
}

/// RFC 8725 section 3.1, RFC 7518 section 3.1: accepted where the operator allows it and refused where not, and then
/// nothing reaches the MCP server. The issuer publishes a key for each algorithm either way.
#[test]
fn an_algorithm_counts_where_it_is_allowed() {
    use Algorithm::{EdDsa, Es256, Es384, Ps256, Rs256, Rs512};
    let all = [Rs256, Rs512, Ps256, Es256, Es384, EdDsa];
    let rsa = ["RS256", "RS512", "PS256"].map(|algorithm| Key::One.jwk_for(algorithm));
    let curves = [Key::P256, Key::P384, Key::Ed25519].map(|key| key.jwk_for(""));
    let keys = [rsa, curves].concat();
    let set = json!({ "keys": keys });
    for (what, allowed) in [
        ("the default", Allowed::default()),
        ("all but RS256", Allowed::Listed(all[1..].to_vec())),
        ("curves", Allowed::Listed(vec![Es256, Es384, EdDsa])),
        ("auto", Allowed::Auto),
    ] {
        let issuer = Issuer::start();
        issuer.serve("/set", 200, &set);
        let jwks_uri = format!("{}/set", issuer.url);
        let world = World::built(issuer, McpServer::start(), |config| {
            config.issuers[0].jwks_uri = Some(jwks_uri);
            config.issuers[0].algorithms = allowed.clone();
        });
        for algorithm in all {
            let token = world.token().signed_with(algorithm.name());
            let answer = world.call_tool(CALL, Some(&token));
            let expected = if allowed.permits(algorithm) { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{algorithm}, {what}: {}", world.log.text());
            assert_eq!(world.server.take_calls().len(), usize::from(expected == 200), "{algorithm}, {what}");
        }
        let confused = world.token().signed_with("RS512").kid("p256");
        assert_eq!(world.call_tool(CALL, Some(&confused)).status, 401, "{what}");
        assert!(world.server.take_calls().is_empty());
    }
}

/// RFC 8725 section 3.8: two issuers, of which one is set up as Cognito is. Each token is judged by its own issuer.
#[test]
fn each_token_is_judged_by_the_issuer_it_names() {
    let (one, two) = (Issuer::start(), Issuer::start());
    two.set_keys(&[Key::Two]);
    let shape = Shape::of("cognito").unwrap();
    let second = Trusted {
        issuer: two.url.clone(),
        jwks_uri: Some(two.jwks_uri()),
        audiences: vec!["client-1".into()],
        claims: shape.names(),
        required_claims: vec![("token_use".into(), vec!["access".into()])],
        ..Trusted::default()
    };
    let urls = [one.url.clone(), two.url.clone()];
    let world = World::built(one, McpServer::start(), |config| config.issuers.push(second));
    let first = || world.token();
    let second = || {
        Token::new(&urls[1], RESOURCE, NOW.0)
            .without("aud")
            .claim("client_id", "client-1")
            .claim("token_use", "access")
            .signed_by(Key::Two)
            .kid("two")
    };
    for (what, token, status, told) in [
        ("the first one's", first(), 200, ""),
        ("the second one's", second(), 200, ""),
        ("the second one's with the first one's words", second().without("client_id"), 401, "client_id"),
        ("the second one's for another client", second().claim("client_id", "client-2"), 401, "'client-2'"),
        ("the second one's ID token", second().claim("token_use", "id"), 401, "'token_use' is 'id'"),
        (
            "the first one's with the second one's words",
            first().without("aud").claim("client_id", "client-1"),
            401,
            "has no aud",
        ),
        (
            "the first one's, signed by the second",
            first().signed_by(Key::Two).kid("two"),
            401,
            "names key 'two'",
        ),
        (
            "the second one's, signed by the first",
            second().signed_by(Key::One).kid("one"),
            401,
            "names key 'one'",
        ),
        (
            "the second one's name with a slash",
            second().claim("iss", format!("{}/", urls[1])),
            401,
            "they differ by a trailing slash alone",
        ),
    ] {
        let answer = world.call_tool(CALL, Some(&token));
        assert_eq!(answer.status, status, "{what}: {}", world.log.text());
        assert_eq!(world.server.take_calls().len(), usize::from(status == 200), "{what}");
        assert!(world.log.text().contains(told), "{what}: {}", world.log.text());
    }
}

/// RFC 7662; D8: an opaque token is worth what its issuer says, and nothing reaches the MCP server without its word. The
/// token goes no further than to its issuer, and neither it nor the proxy's secret is ever in the log.
#[test]
fn an_opaque_token_is_worth_what_its_issuer_says() {
    let issuer = Issuer::start();
    let url = issuer.url.clone();
    let introspection = Introspection {
        endpoint: Some(format!("{url}/introspect")),
        client_id: "proxy".into(),
        client_secret: Secret::new("a-secret-of-the-proxy".into()),
        method: ClientAuth::Basic,
        cache_seconds: 60,
    };
    let world = World::built(issuer, McpServer::start(), |config| {
        config.issuers[0].introspection = Some(introspection);
    });
    let says = |status, answer| world.issuer.serve("/introspect", status, &answer);
    let good = json!({"active": true, "aud": RESOURCE, "sub": "alice", "client_id": "app", "scope": "mcp_basic", "exp": NOW.0 + 600});
    says(200, good.clone());
    let answer = with_bearer(&world, "opaque-one");
    assert_eq!(answer.status, 200, "{}", world.log.text());
    let calls = world.server.take_calls();
    assert_eq!(calls.len(), 1);
    assert!(!calls[0].head.contains("opaque-one"), "RS-13: {}", calls[0].head);

    assert_eq!(world.issuer.take_asked(), ["/introspect"]);

    says(200, json!({"active": false}));
    assert_eq!(with_bearer(&world, "opaque-one").status, 200, "remembered");
    assert!(world.issuer.take_asked().is_empty(), "and not asked about again");
    let refused = with_bearer(&world, "opaque-two");
    let challenge = refused.header("www-authenticate").unwrap().to_owned();
    assert_eq!(refused.status, 401);
    assert!(challenge.contains("error=\"invalid_token\"") && challenge.contains("not active"), "{challenge}");
    world.clock.set(NOW.plus(60));
    assert_eq!(with_bearer(&world, "opaque-one").status, 401, "revoked a minute ago");
    world.server.take_calls();

    world.issuer.set_down(true);
    let unknown = with_bearer(&world, "opaque-three");
    assert_eq!(unknown.status, 503);
    assert!(unknown.header("www-authenticate").is_none() && unknown.header("retry-after").is_some());
    assert!(world.server.take_calls().is_empty(), "fails closed");
    // A JWT of the same issuer is judged by its keys, which are there.
    assert_eq!(world.call_tool(CALL, Some(&world.token().claim("exp", NOW.0 + 600))).status, 200);
    world.issuer.set_down(false);
    world.clock.set(NOW.plus(75));
    says(200, good);
    assert_eq!(with_bearer(&world, "opaque-three").status, 200);
    let log = world.log.text();
    assert!(
        log.contains("the issuer cannot be asked about a token") && log.contains("the issuer answers again")
    );
    for secret in ["opaque-one", "opaque-two", "opaque-three", "a-secret-of-the-proxy", "Basic "] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

/// The examples of docs/integrations, as the program understands them: `provider` at the top is for every issuer that
/// has none of its own, and whatever is written in so many words goes before it.
#[test]
fn a_provider_at_the_top_is_for_every_issuer() {
    let read = |text: &str| {
        let (config, _) = Config::from_yaml(text, &Overrides::default(), &Outside::nothing()).unwrap();
        config.issuers
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let example = |name: &str| {
        let path = format!("{}/docs/integrations/examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    for (name, algorithm, audience, client_id, scopes, required) in [
        ("okta", Algorithm::Rs256, vec!["aud"], vec!["cid"], vec!["scp"], None),
        ("logto", Algorithm::Es384, vec!["aud"], vec!["client_id", "azp"], vec!["scope", "scp"], None),
        ("entra", Algorithm::Rs256, vec!["aud"], vec!["azp", "appid"], vec!["scp", "roles"], None),
        (
            "cognito",
            Algorithm::Rs256,
            vec!["aud", "client_id"],
            vec!["client_id"],
            vec!["scope"],
            Some("token_use"),
        ),
        ("keycloak", Algorithm::Rs256, vec!["aud"], vec!["azp", "client_id"], vec!["scope"], None),
        ("auth0", Algorithm::Rs256, vec!["aud"], vec!["client_id", "azp"], vec!["scope", "scp"], None),
    ] {
        for issuer in read(&example(name)) {
            assert_eq!(issuer.algorithms, Allowed::Listed(vec![algorithm]), "{name}");
            let claims = &issuer.claims;
            assert_eq!(
                (&claims.audience[..], &claims.client_id[..]),
                (&owned(&audience)[..], &owned(&client_id)[..]),
                "{name}"
            );
            assert_eq!(claims.scopes, owned(&scopes), "{name}");
            assert_eq!(issuer.required_claims.first().map(|(claim, _)| claim.as_str()), required, "{name}");
        }
    }
    let mixed = read(
        "proxy_base_url: https://mcp.example.com\nbase_url: http://localhost:8000\nprovider: logto\nissuers:\n\
         - issuer: https://one.example.com\n- issuer: https://two.example.com\n  provider: okta\n\
         - issuer: https://three.example.com\n  algorithms: auto\n  client_id_claim: who\n",
    );
    let seen: Vec<_> =
        mixed.iter().map(|one| (one.algorithms.to_string(), one.claims.client_id.join(" "))).collect();
    let expected = [("ES384", "client_id azp"), ("RS256", "cid"), ("whatever its keys are for", "who")];
    assert_eq!(seen, expected.map(|(algorithms, client)| (algorithms.to_owned(), client.to_owned())));
}
