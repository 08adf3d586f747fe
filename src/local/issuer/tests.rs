//! The whole dance with the authorization server, without a socket.

use std::net::{IpAddr, Ipv4Addr};

use super::form::Form;
use super::*;
use crate::auth::jwks::KeySet;
use crate::clock::Timestamp;
use crate::config::{Algorithm, Allowed};
use crate::log::Level;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const URL: &str = "http://127.0.0.1:9000";
const CALLBACK: &str = "http://localhost:6274/oauth/callback";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-rfc-7636-to-take";

struct Desk {
    issuer: Issuer,
    clock: Clock,
}

impl Desk {
    fn new() -> Self {
        let clock = Clock::fixed(Timestamp(1_000_000));
        let resources = ["http://127.0.0.1:8080/mcp", "http://127.0.0.1:8080"].map(str::to_owned).to_vec();
        let scopes =
            ["mcp:read", "mcp:echo", "mcp:admin"].map(|s| (s.to_owned(), format!("do {s}"))).to_vec();
        let log = Log::to_memory(Level::Info);
        let issuer = Issuer::new(URL.to_owned(), resources, scopes, clock.clone(), log).unwrap();
        Self { issuer, clock }
    }

    fn ask(&self, method: &str, target: &str, headers: &str, body: &str) -> Reply {
        let text = format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        let (request, _) =
            Incoming::parse(text.as_bytes(), IpAddr::V4(Ipv4Addr::LOCALHOST), 65536).unwrap().unwrap();
        match self.issuer.admit(&request) {
            Err(reply) => reply,
            Ok(place) => match self.issuer.serve(place, &request) {
                Answer::Reply(reply) => reply,
                _ => panic!("only whole answers"),
            },
        }
    }

    fn register(&self) -> String {
        let reply = self.ask("POST", "/register", "", &json!({ "redirect_uris": [CALLBACK] }).to_string());
        assert_eq!(reply.status, 201);
        body(&reply)["client_id"].as_str().unwrap().to_owned()
    }

    fn authorize(&self, client: &str, change: (&str, Option<&str>)) -> Reply {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", CALLBACK),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("state", "st&te"),
            ("scope", "mcp:echo"),
            ("resource", "http://127.0.0.1:8080/mcp"),
        ];
        parameters.retain(|(name, _)| *name != change.0);
        parameters.extend(change.1.map(|value| (change.0, value)));
        self.ask("GET", &form::with_query("/authorize", &parameters), "", "")
    }

    fn decide(&self, page: &Reply, decision: &str, headers: &str) -> Reply {
        let html = String::from_utf8(page.body.clone()).unwrap();
        let request = html.split("name=\"request\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        self.ask("POST", "/authorize/decision", headers, &format!("request={request}&decision={decision}"))
    }

    fn code(&self, client: &str) -> String {
        let reply = self.decide(&self.authorize(client, ("", None)), "approve", "");
        assert_eq!(reply.status, 303);
        parameter(&reply, "code").unwrap()
    }

    fn token(&self, form: &[(&str, &str)]) -> Reply {
        let body = form::with_query("", form);
        self.ask(
            "POST",
            "/token",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            body.trim_start_matches('?'),
        )
    }

    fn redeem(&self, client: &str, code: &str) -> Reply {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code),
            ("code_verifier", VERIFIER),
            ("redirect_uri", CALLBACK),
        ])
    }

    fn refresh(&self, client: &str, token: &str) -> Reply {
        self.token(&[("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token)])
    }
}

fn body(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    reply.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
}

fn parameter(reply: &Reply, name: &'static str) -> Option<String> {
    let (address, query) = header(reply, header::LOCATION).unwrap().split_once('?').unwrap();
    assert_eq!(address, CALLBACK);
    Form::read(query.as_bytes()).unwrap().one(name).unwrap().map(str::to_owned)
}

/// RFC 6749 section 4.1, RFC 7636 section 4.6, RFC 8707 section 2.2, RFC 9068 section 2.2, RFC 9207 section 2.
#[test]
fn a_login_ends_in_a_token_for_the_resource() {
    let desk = Desk::new();
    let client = desk.register();
    let page = desk.authorize(&client, ("", None));
    assert_eq!((page.status, header(&page, header::X_FRAME_OPTIONS)), (200, Some("DENY")));
    let back = desk.decide(&page, "approve", "Origin: http://127.0.0.1:9000\r\n");
    assert_eq!(parameter(&back, "state").as_deref(), Some("st&te"));
    assert_eq!(parameter(&back, "iss").as_deref(), Some(URL));
    let reply = desk.redeem(&client, &parameter(&back, "code").unwrap());
    assert_eq!((reply.status, header(&reply, header::CACHE_CONTROL)), (200, Some("no-store")));
    assert_eq!(header(&reply, header::ACCESS_CONTROL_ALLOW_ORIGIN), Some("*"));
    let answer = body(&reply);
    assert_eq!((&answer["token_type"], &answer["scope"]), (&json!("Bearer"), &json!("mcp:echo")));
    let segments: Vec<Value> = answer["access_token"]
        .as_str()
        .unwrap()
        .split('.')
        .take(2)
        .map(|segment| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap())
        .collect();
    assert_eq!((&segments[0]["typ"], &segments[0]["alg"]), (&json!("at+jwt"), &json!("ES256")));
    assert_eq!(segments[0]["kid"], desk.issuer.minter.jwks()["keys"][0]["kid"]);
    for (claim, value) in [
        ("iss", json!(URL)),
        ("aud", json!("http://127.0.0.1:8080/mcp")),
        ("client_id", json!(client)),
        ("exp", json!(1_000_600)),
        ("scope", json!("mcp:echo")),
    ] {
        assert_eq!(segments[1][claim], value, "{claim}");
    }
}

/// RFC 7518 sections 3.4 and 6.2.1: what one server signs holds under the key that it publishes, and under no other's.
#[test]
fn a_token_holds_under_the_published_key() {
    let (desk, stranger) = (Desk::new(), Desk::new());
    let token = desk.issuer.mint("http://127.0.0.1:8080/mcp", "mcp:echo", 60).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for (server, holds) in [(&desk, true), (&stranger, false)] {
        let metadata = body(&server.ask("GET", "/.well-known/openid-configuration", "", ""));
        assert_eq!(metadata["id_token_signing_alg_values_supported"], json!(["ES256"]));
        let text = server.ask("GET", "/jwks", "", "").body;
        let set = KeySet::parse_for(&text, &Allowed::Listed(vec![Algorithm::Es256]), &[]).unwrap();
        let [key] = set.keys() else { panic!("{:?}, without {:?}", set.keys(), set.skipped()) };
        assert!(key.is_marked() && key.kid().is_some());
        assert_eq!(key.verifies(message.as_bytes(), &signature), holds);
    }
}

/// RFC 6749 section 4.1.2.1: nothing is sent to an address that was not registered, and everything else is.
#[test]
fn a_request_that_asks_wrongly_is_told_so_in_the_right_place() {
    let desk = Desk::new();
    let client = desk.register();
    for (change, error) in [
        (("client_id", Some("stranger")), None),
        (("client_id", None), None),
        (("redirect_uri", Some("http://localhost:6274/other")), None),
        (("redirect_uri", Some("https://evil.example/")), None),
        (("response_type", Some("token")), Some("unsupported_response_type")),
        (("response_type", None), Some("invalid_request")),
        (("code_challenge", None), Some("invalid_request")),
        (("code_challenge", Some("short")), Some("invalid_request")),
        (("code_challenge_method", Some("plain")), Some("invalid_request")),
        (("code_challenge_method", None), Some("invalid_request")),
        (("resource", Some("https://elsewhere.example")), Some("invalid_target")),
        (("scope", Some("unheard-of")), Some("invalid_scope")),
    ] {
        let reply = desk.authorize(&client, change);
        match error {
            None => assert_eq!((reply.status, header(&reply, header::LOCATION)), (400, None), "{change:?}"),
            Some(error) => {
                assert_eq!(parameter(&reply, "error").as_deref(), Some(error), "{change:?}");
                assert_eq!(parameter(&reply, "state").as_deref(), Some("st&te"), "{change:?}");
            }
        }
    }
    for change in [
        ("redirect_uri", None),
        ("resource", None),
        ("scope", None),
        ("redirect_uri", Some("http://localhost:1/oauth/callback")),
    ] {
        assert_eq!(desk.authorize(&client, change).status, 200, "{change:?}");
    }
}

#[test]
fn a_decision_counts_once_and_from_its_own_page() {
    let desk = Desk::new();
    let client = desk.register();
    let page = desk.authorize(&client, ("", None));
    assert_eq!(desk.decide(&page, "approve", "Origin: http://evil.example\r\n").status, 400);
    assert_eq!(desk.decide(&page, "approve", "Origin: null\r\n").status, 400);
    let denied = desk.decide(&page, "deny", "");
    assert_eq!(parameter(&denied, "error").as_deref(), Some("access_denied"));
    assert_eq!(desk.decide(&page, "approve", "").status, 400);
    let late = desk.authorize(&client, ("", None));
    desk.clock.set(Timestamp(1_000_600));
    assert_eq!(desk.decide(&late, "approve", "").status, 400);
}

/// OAuth 2.1 section 4.1.3.
#[test]
fn a_code_is_good_once_for_its_client_and_verifier() {
    let desk = Desk::new();
    let (client, other) = (desk.register(), desk.register());
    let code = desk.code(&client);
    let good = [
        ("grant_type", "authorization_code"),
        ("client_id", client.as_str()),
        ("code", code.as_str()),
        ("code_verifier", VERIFIER),
    ];
    for (name, value, error) in [
        ("client_id", other.as_str(), "invalid_grant"),
        ("code_verifier", "another-verifier-that-is-long-enough-to-be-one", "invalid_grant"),
        ("code_verifier", "short", "invalid_grant"),
        ("code", "unknown", "invalid_grant"),
        ("redirect_uri", "http://localhost:1/oauth/callback", "invalid_grant"),
        ("resource", "http://127.0.0.1:8080", "invalid_target"),
        ("client_secret", "x", "invalid_client"),
        ("grant_type", "password", "unsupported_grant_type"),
    ] {
        let mut form = good.to_vec();
        form.retain(|(n, _)| *n != name);
        form.push((name, value));
        let reply = desk.token(&form);
        assert_eq!((reply.status, &body(&reply)["error"]), (400, &json!(error)), "{name}={value}");
    }
    let first = body(&desk.token(&good));
    assert_eq!(body(&desk.token(&good))["error"], "invalid_grant");
    // The second use took the first one's refresh token with it.
    assert_eq!(
        body(&desk.refresh(&client, first["refresh_token"].as_str().unwrap()))["error"],
        "invalid_grant"
    );
    let late = desk.code(&client);
    desk.clock.set(Timestamp(1_000_060));
    assert_eq!(body(&desk.redeem(&client, &late))["error"], "invalid_grant");
}

/// OAuth 2.1 section 4.3.1.
#[test]
fn refresh_tokens_are_replaced_at_each_use() {
    let desk = Desk::new();
    let client = desk.register();
    let first =
        body(&desk.redeem(&client, &desk.code(&client)))["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(body(&desk.refresh("stranger", &first))["error"], "invalid_grant");
    let second = body(&desk.refresh(&client, &first));
    assert_eq!(second["scope"], "mcp:echo");
    let second = second["refresh_token"].as_str().unwrap().to_owned();
    let wider = desk.token(&[
        ("grant_type", "refresh_token"),
        ("client_id", &client),
        ("refresh_token", &second),
        ("scope", "mcp:echo mcp:admin"),
    ]);
    assert_eq!(body(&wider)["error"], "invalid_scope");
    // The first one again: a thief or the client, and nobody knows which.
    assert_eq!(body(&desk.refresh(&client, &first))["error"], "invalid_grant");
    assert_eq!(body(&desk.refresh(&client, &second))["error"], "invalid_grant");
}

#[test]
fn only_our_name_our_paths_and_our_methods_are_served() {
    let desk = Desk::new();
    for (method, target, host, status) in [
        ("GET", "/.well-known/oauth-authorization-server", "127.0.0.1:9000", 200),
        ("GET", "/.well-known/openid-configuration", "localhost:9000", 200),
        ("GET", "/jwks", "127.0.0.1:9000", 200),
        ("GET", "/jwks", "evil.example:9000", 403),
        ("GET", "/jwks", "localhost:9001", 403),
        ("GET", "/", "127.0.0.1:9000", 404),
        ("POST", "/jwks", "127.0.0.1:9000", 405),
        ("GET", "/token", "127.0.0.1:9000", 405),
        ("OPTIONS", "/token", "127.0.0.1:9000", 204),
        ("OPTIONS", "/authorize", "127.0.0.1:9000", 405),
    ] {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let (request, _) =
            Incoming::parse(text.as_bytes(), IpAddr::V4(Ipv4Addr::LOCALHOST), 9).unwrap().unwrap();
        let found = match desk.issuer.admit(&request) {
            Err(reply) => reply.status,
            Ok(place) => match desk.issuer.serve(place, &request) {
                Answer::Reply(reply) => reply.status,
                _ => 0,
            },
        };
        assert_eq!(found, status, "{method} {target} {host}");
    }
}
