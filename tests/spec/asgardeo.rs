//! `--asgardeo`: registration through the application management API, against a fake of its documented endpoints.

use open_mcp_auth_proxy::config::Overrides;
use serde_json::{Value, json};

use crate::world::World;
use crate::world::idp::{self, Idp, Told};
use crate::world::server::Call;

const APPLICATIONS: &str = "/t/org/api/server/v1/applications";
const TOKEN: &str = "/t/org/oauth2/token";

/// The documented endpoints of an organisation.
fn organisation(call: &Call) -> Told {
    match (call.method(), call.target()) {
        ("POST", TOKEN) if call.text().contains("client_credentials") => (
            200,
            "",
            json!({ "access_token": "m2m-SECRET", "token_type": "Bearer", "expires_in": 3600 }).to_string(),
        ),
        ("POST", TOKEN) => {
            (200, "", json!({ "access_token": "user-SECRET", "token_type": "Bearer" }).to_string())
        }
        ("POST", APPLICATIONS) => (201, "Location: /api/server/v1/applications/1\r\n", "Created".to_owned()),
        _ => (404, "", "{}".to_owned()),
    }
}

fn world(idp: &Idp, rest: &str) -> World {
    let yaml = format!(
        "asgardeo:\n  base_url: {}/t/org/\n  org_name: org\n  client_id: operator\n  client_secret: op-SECRET/+\n\
         protected_resource_metadata: {{ jwks_uri: \"${{issuer}}/jwks\" }}\n{rest}",
        idp.url
    );
    idp::world(&yaml, &Overrides { asgardeo: true, ..Overrides::default() })
}

fn register(world: &World, body: &Value) -> (u16, Value) {
    let answer = world.ask("POST", "/register", &[], &body.to_string());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    (answer.status, idp::json(&answer.body))
}

fn two_uris() -> Value {
    json!({
        "client_name": "MCP Inspector (web)",
        "redirect_uris": ["http://localhost:6274/oauth/callback", "http://127.0.0.1:6274/cb?a=1"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    })
}

/// RFC 7591 section 3.2.1; the documented payload; the token by client credentials, once.
#[test]
fn a_client_becomes_an_application_of_its_own() {
    let idp = Idp::start(organisation);
    let world = world(&idp, "");
    let (status, public) = register(&world, &two_uris());
    assert_eq!(status, 201, "{public}");
    assert_eq!(public["redirect_uris"], two_uris()["redirect_uris"]);
    assert_eq!(public["grant_types"], json!(["authorization_code", "refresh_token"]));
    assert_eq!(
        (&public["token_endpoint_auth_method"], &public["response_types"]),
        (&json!("none"), &json!(["code"]))
    );
    assert!(public.get("client_secret").is_none() && public.get("client_secret_expires_at").is_none());

    let calls = idp.server.take_calls();
    assert_eq!(calls.iter().map(Call::target).collect::<Vec<_>>(), [TOKEN, APPLICATIONS]);
    // RFC 6749 section 2.3.1: operator:op-SECRET%2F%2B in base64.
    assert_eq!(calls[0].header("authorization"), Some("Basic b3BlcmF0b3I6b3AtU0VDUkVUJTJGJTJC"));
    assert_eq!(calls[0].text(), "grant_type=client_credentials&scope=internal_application_mgt_create");
    assert_eq!(calls[1].header("authorization"), Some("Bearer m2m-SECRET"));
    let application = idp::json(&calls[1].body);
    let oidc = &application["inboundProtocolConfiguration"]["oidc"];
    assert!(application["name"].as_str().unwrap().starts_with("MCP Inspector web-"), "{application}");
    assert_eq!(oidc["clientId"], public["client_id"]);
    assert_eq!(
        oidc["callbackURLs"],
        json!([r"regexp=(http://localhost:6274/oauth/callback|http://127\.0\.0\.1:6274/cb\?a=1)"])
    );
    assert_eq!(oidc["pkce"], json!({ "mandatory": true, "supportPlainTransformAlgorithm": false }));
    assert_eq!((&oidc["publicClient"], &oidc["accessToken"]["type"]), (&json!(true), &json!("JWT")));
    assert_eq!(
        oidc["idToken"]["audience"],
        json!(["https://proxy.example/mcp", "https://proxy.example/sse"])
    );
    assert_eq!(application["advancedConfigurations"]["skipLoginConsent"], false);

    // The token is kept; a client that asks for a secret gets one from the random source; each its own.
    let mut confidential = two_uris();
    confidential["token_endpoint_auth_method"] = json!("client_secret_basic");
    confidential["redirect_uris"] = json!(["https://app.example/cb"]);
    let (status, found) = register(&world, &confidential);
    assert_eq!((status, &found["client_secret_expires_at"]), (201, &json!(0)), "{found}");
    assert!(
        found["client_secret"].as_str().unwrap().len() == 64 && found["client_id"] != public["client_id"]
    );
    let calls = idp.server.take_calls();
    assert_eq!(calls.iter().map(Call::target).collect::<Vec<_>>(), [APPLICATIONS]);
    let application = idp::json(&calls[0].body);
    let oidc = &application["inboundProtocolConfiguration"]["oidc"];
    assert_eq!(
        (&oidc["clientSecret"], &oidc["callbackURLs"]),
        (&found["client_secret"], &json!(["https://app.example/cb"]))
    );
    let log = world.log.text();
    for secret in ["SECRET", found["client_secret"].as_str().unwrap(), "op-", "b3BlcmF0b3I"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    assert_eq!(world.server.take_calls().len(), 0);
}

/// The rest of the login: metadata of our own, the browser, the token.
#[test]
fn the_login_goes_through_us() {
    let idp = Idp::start(organisation);
    let world = world(&idp, "");
    let resource = idp::json(&world.ask("GET", "/.well-known/oauth-protected-resource/mcp", &[], "").body);
    assert_eq!(resource["authorization_servers"], json!(["https://proxy.example"]));
    let found = idp::json(&world.ask("GET", "/.well-known/oauth-authorization-server", &[], "").body);
    assert_eq!(found["issuer"], "https://proxy.example");
    assert_eq!(found["registration_endpoint"], "https://proxy.example/register");
    assert_eq!(found["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(idp.asked(), Vec::<String>::new(), "its endpoints are known");
    let answer = world.ask("GET", "/authorize?client_id=c&code_challenge_method=S256", &[], "");
    let location = format!("{}/t/org/oauth2/authorize?client_id=c&code_challenge_method=S256", idp.url);
    assert_eq!((answer.status, answer.header("location")), (302, Some(&*location)));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = world.ask("POST", "/token", &form, "grant_type=authorization_code&code=1&client_id=c");
    assert_eq!((answer.status, &idp::json(&answer.body)["access_token"]), (200, &json!("user-SECRET")));
    assert!(!world.log.text().contains("SECRET"));
}

/// RFC 7591 section 3.2.2: what is the client's mistake is told to the client, and nobody else is asked.
#[test]
fn a_registration_that_cannot_be_is_refused_here() {
    let idp = Idp::start(organisation);
    let world = world(&idp, "");
    for (given, member, value, error) in [
        ("no URI", "redirect_uris", json!([]), "invalid_redirect_uri"),
        ("http elsewhere", "redirect_uris", json!(["http://app.example/cb"]), "invalid_redirect_uri"),
        ("script", "redirect_uris", json!(["javascript:alert(1)"]), "invalid_redirect_uri"),
        ("an expression", "redirect_uris", json!(["regexp=(.*)"]), "invalid_redirect_uri"),
        ("a fragment", "redirect_uris", json!(["https://a.example/#x"]), "invalid_redirect_uri"),
        ("no code", "grant_types", json!(["client_credentials"]), "invalid_client_metadata"),
        ("implicit", "response_types", json!(["token"]), "invalid_client_metadata"),
        ("a key", "token_endpoint_auth_method", json!("private_key_jwt"), "invalid_client_metadata"),
    ] {
        let mut body = two_uris();
        body[member] = value;
        let (status, found) = register(&world, &body);
        assert_eq!((status, found["error"].as_str()), (400, Some(error)), "{given}");
    }
    assert_eq!(idp.asked(), Vec::<String>::new());
}

/// Each failure of the API is one answer, 502, and one clear line; no secret is in either.
#[test]
fn each_failure_is_one_answer_and_one_line() {
    let error =
        |code: &str| json!({ "code": code, "message": "op-SECRET", "description": "m2m-SECRET" }).to_string();
    let page = || "<h1>op-SECRET</h1>".to_owned();
    for (given, token, application, line) in [
        (
            "wrong credentials",
            Some((401, "", json!({ "error": "invalid_client" }).to_string())),
            None,
            "/t/org/oauth2/token' answered 401 'invalid_client'; check client_id",
        ),
        (
            "a page for a token",
            Some((200, "", page())),
            None,
            "/t/org/oauth2/token' answered 200 with something that is no JSON",
        ),
        ("no token", Some((200, "", "{}".to_owned())), None, "it holds no access_token"),
        (
            "a redirect",
            Some((302, "Location: http://127.0.0.1:1/login?s=op-SECRET\r\n", String::new())),
            None,
            "/t/org/oauth2/token' answered 302, pointing to 'http://127.0.0.1:1/login'",
        ),
        (
            "no permission",
            None,
            Some((403, "", error("APP-403"))),
            "/api/server/v1/applications' answered 403 'APP-403'; authorize the application",
        ),
        (
            "a withdrawn token",
            None,
            Some((401, "", error("APP-401"))),
            "/api/server/v1/applications' answered 401 'APP-401'; authorize",
        ),
        (
            "a name that is taken",
            None,
            Some((409, "", error("APP-60008"))),
            "answered 409 'APP-60008'; an application of that name",
        ),
        (
            "a bad request",
            None,
            Some((400, "", error("APP-60001"))),
            "answered 400 'APP-60001'; see the code",
        ),
        ("a failure", None, Some((500, "", error("APP-65001"))), "answered 500 'APP-65001'"),
        ("a failing page", None, Some((503, "", page())), "answered 503 with something that is no JSON"),
        ("a success that is none", None, Some((200, "", "{}".to_owned())), "answered 200; see the code"),
    ] {
        let idp = Idp::start(organisation);
        let world = world(&idp, "");
        idp.answer(move |call| {
            let told = if call.target() == TOKEN { &token } else { &application };
            told.clone().unwrap_or_else(|| organisation(call))
        });
        let (status, found) = register(&world, &two_uris());
        assert_eq!((status, found["error"].as_str()), (502, Some("server_error")), "{given}");
        assert!(
            found.get("client_id").is_none() && !found.to_string().contains("SECRET"),
            "{given}: {found}"
        );
        let log = world.log.text();
        let told: Vec<&str> =
            log.lines().filter(|line| line.contains("no good answer") && line.contains("why=")).collect();
        assert!(told.len() == 1 && told[0].contains(line), "{given}: {log}");
        assert!(!log.contains("SECRET"), "{given}: {log}");
        assert_eq!(world.server.take_calls().len(), 0, "{given}");
    }
    // Nobody there at all.
    let idp = Idp::start(organisation);
    let world = world(&Idp { url: "http://127.0.0.1:1".into(), server: idp.server }, "");
    assert_eq!(register(&world, &two_uris()).0, 502);
    assert!(world.log.text().contains("cannot be reached"), "{}", world.log.text());
}

/// A token that ends before its time, or was withdrawn, is replaced once.
#[test]
fn the_management_token_is_renewed() {
    let idp = Idp::start(organisation);
    let world = world(&idp, "");
    assert_eq!(register(&world, &two_uris()).0, 201);
    let mut another = two_uris();
    another["client_name"] = json!("two");
    world.clock.set(world.clock.now().plus(3600));
    assert_eq!(register(&world, &another).0, 201);
    let lines = idp.asked();
    assert_eq!(lines.iter().filter(|line| line.ends_with(TOKEN)).count(), 2, "{lines:?}");
    let refuse_once = std::sync::atomic::AtomicBool::new(true);
    idp.answer(move |call| {
        if call.target() == APPLICATIONS && refuse_once.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return (401, "", "{}".to_owned());
        }
        organisation(call)
    });
    another["client_name"] = json!("three");
    assert_eq!(register(&world, &another).0, 201);
    let ends: Vec<String> =
        idp.asked().iter().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(ends, ["applications", "token", "applications"]);
}
