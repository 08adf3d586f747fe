//! The login relay in front of a provider that speaks OAuth by itself (4.1, 4.3, 5.4 and 5.5).

use std::thread;
use std::time::Duration;

use open_mcp_auth_proxy::config::Overrides;
use serde_json::json;

use crate::world::World;
use crate::world::idp::{self, Idp, Told};
use crate::world::raw::RawAnswer;
use crate::world::server::Call;
use crate::world::{call_of, wait_until};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// A provider's metadata and its endpoints, each answering with what it was asked.
fn provider(call: &Call) -> Told {
    let host = format!("http://{}", call.header("host").unwrap_or_default());
    match call.target().split('?').next().unwrap_or_default() {
        OAUTH => (
            200,
            "",
            json!({
                "issuer": host,
                "authorization_endpoint": format!("{host}/auth"),
                "token_endpoint": format!("{host}/token"),
                "registration_endpoint": format!("{host}/reg"),
                "jwks_uri": format!("{host}/jwks"),
                "code_challenge_methods_supported": ["S256"],
                "client_id_metadata_document_supported": true,
                "authorization_response_iss_parameter_supported": true,
                "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            })
            .to_string(),
        ),
        "/token" => (
            200,
            "Cache-Control: no-store\r\nSet-Cookie: a=b\r\n",
            r#"{"access_token":"tok-SECRET" , "token_type":"Bearer"}"#.into(),
        ),
        "/reg" => (201, "", r#"{"client_id":"c1","client_secret":"reg-SECRET"}"#.into()),
        _ => (404, "", r#"{"error":"nothing here"}"#.into()),
    }
}

/// The relay in front of a provider that is found by its issuer, besides the issuer of the tokens.
fn discovered(idp: &Idp, rest: &str) -> World {
    let keys = "jwks_uri: \"${issuer}/jwks\"";
    let yaml = format!("issuers: [{{ issuer: \"{}\", {keys} }}]\nlogin_relay: on\n{rest}", idp.url);
    idp::world(&yaml, &Overrides::default())
}

fn get(world: &World, target: &str) -> RawAnswer {
    world.ask("GET", target, &[], "")
}

fn post_form(world: &World, target: &str, body: &str) -> RawAnswer {
    world.ask("POST", target, &[FORM], body)
}

/// Nothing of a login may reach the MCP server, and nothing secret the log.
fn nothing_leaked(world: &World, given: &str) {
    assert_eq!(world.server.take_calls().len(), 0, "{given}: the MCP server was asked");
    let log = world.log.text();
    assert!(!log.contains("SECRET"), "{given}: {log}");
}

/// ASR-01, ASR-03, ASR-04, ASR-06, ASR-07, D2: found wherever clients look, true of us, and without a token.
#[test]
fn metadata_is_served_where_its_issuer_leads() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "");
    for (path, issuer) in [
        (OAUTH, "https://proxy.example"),
        ("/.well-known/openid-configuration", "https://proxy.example"),
        ("/.well-known/oauth-authorization-server/mcp", "https://proxy.example/mcp"),
        ("/.well-known/oauth-authorization-server/sse", "https://proxy.example/sse"),
        ("/.well-known/openid-configuration/mcp", "https://proxy.example/mcp"),
        ("/mcp/.well-known/openid-configuration", "https://proxy.example/mcp"),
    ] {
        let answer = world.ask("GET", path, &[("Origin", "https://any.example")], "");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{path}");
        let document = idp::json(&answer.body);
        assert_eq!(document["issuer"], issuer, "{path}");
        assert_eq!(document["authorization_endpoint"], "https://proxy.example/authorize");
        assert_eq!(document["token_endpoint"], "https://proxy.example/token");
        assert_eq!(document["registration_endpoint"], "https://proxy.example/register");
        assert_eq!(document["jwks_uri"], format!("{}/jwks", idp.url));
        assert_eq!(document["client_id_metadata_document_supported"], true);
        assert_eq!(document["token_endpoint_auth_methods_supported"], json!(["none"]));
        assert_eq!(document.get("authorization_response_iss_parameter_supported"), None);
    }
    assert_eq!(get(&world, "/.well-known/oauth-authorization-server/other").status, 404);
    assert_eq!(world.ask("POST", OAUTH, &[], "{}").status, 405);
    let head = world.raw().send(crate::world::request("HEAD", OAUTH, &[], "")).head().unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    // The provider itself is what the resource metadata names (D2).
    let resource = idp::json(&get(&world, "/.well-known/oauth-protected-resource/mcp").body);
    assert_eq!(resource["authorization_servers"], json!([idp.url]));
    let fetched = idp.asked();
    assert_eq!(fetched.iter().filter(|line| line.contains(OAUTH)).count(), 1, "asked once: {fetched:?}");
    nothing_leaked(&world, "metadata");
}

/// ASR-08, ASR-13, 4.8: a browser goes on with what it brought, and nothing is asked or followed by us.
#[test]
fn authorize_sends_a_browser_on() {
    let idp = Idp::start(provider);
    let added = "default: { path: { /authorize: { addQueryParams: [{ name: audience, value: \"https://a?b&c\" }, { name: scope, value: mcp }] } } }\n";
    let world = discovered(&idp, added);
    get(&world, OAUTH);
    idp.asked();
    let answer = get(
        &world,
        "/authorize?response_type=code&client_id=c%201&scope=a+b&audience=theirs&resource=https%3a%2f%2fx&state=%C3%A9",
    );
    assert_eq!(answer.status, 302, "{}", answer.text());
    let location = answer.header("location").unwrap();
    let expected = format!(
        "{}/auth?response_type=code&client_id=c%201&resource=https%3a%2f%2fx&state=%C3%A9&audience=https%3A%2F%2Fa%3Fb%26c&scope=a%20b%20mcp",
        idp.url
    );
    assert_eq!(location, expected);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    for (target, why) in [
        ("/authorize?client_id=a&client_id=b", "more than once"),
        ("/authorize?state=%zz", "not application"),
        ("/authorize?state=%0d%0aX-Evil:%201", ""),
    ] {
        let answer = get(&world, target);
        assert_eq!(answer.status, if why.is_empty() { 302 } else { 400 }, "{target}");
        assert!(
            answer.text().contains(why) && answer.header("x-evil").is_none(),
            "{target}: {}",
            answer.text()
        );
    }
    assert_eq!(world.ask("POST", "/authorize", &[FORM], "a=b").status, 405);
    assert_eq!(idp.asked(), Vec::<String>::new(), "a browser asks, not we");
    nothing_leaked(&world, "authorize");
    assert!(!world.log.text().contains("state"), "no query in the log");
}

/// ASR-12, ASR-13: status and body as they came, a short list of headers both ways, and no credential of MCP's.
#[test]
fn a_token_request_crosses_and_little_else_does() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "");
    let headers = [
        FORM,
        ("Authorization", "Basic YTpzZWNyZXQ="),
        ("Cookie", "session=1"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("Origin", "https://page.example"),
    ];
    let body = "grant_type=authorization_code&code=code-SECRET&resource=https%3A%2F%2Fproxy.example%2Fmcp";
    let answer = world.ask("POST", "/token", &headers, body);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, r#"{"access_token":"tok-SECRET" , "token_type":"Bearer"}"#)
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://page.example"));
    let calls: Vec<Call> =
        idp.server.take_calls().into_iter().filter(|call| call.method() == "POST").collect();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].text(), body);
    assert_eq!(calls[0].header("authorization"), Some("Basic YTpzZWNyZXQ="));
    for gone in ["cookie", "x-forwarded-for", "origin", "referer"] {
        assert_eq!(calls[0].header(gone), None, "{gone}");
    }
    // A token for the MCP server is none of the provider's business.
    let bearer = [FORM, ("Authorization", "Bearer mcp-SECRET")];
    assert_eq!(world.ask("POST", "/token", &bearer, "grant_type=x").status, 200);
    assert_eq!(idp.server.take_calls()[0].header("authorization"), None);
    nothing_leaked(&world, "token");
}

/// What the provider says of a client's mistake is for the client; what is no OAuth stays here (502).
#[test]
fn answers_pass_unchanged_or_become_one_clear_failure() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "");
    get(&world, OAUTH);
    let json_error = r#"{"error":"invalid_grant","error_description":"no"}"#;
    for (given, told, status, body) in [
        ("an OAuth error", (400, "", json_error.to_owned()), 400, json_error),
        (
            "a failed client",
            (401, "WWW-Authenticate: Basic realm=\"x\"\r\n", json_error.to_owned()),
            401,
            json_error,
        ),
        ("a limit", (429, "Retry-After: 7\r\n", json_error.to_owned()), 429, json_error),
        ("a failure in JSON", (503, "", json_error.to_owned()), 503, json_error),
        (
            "a page",
            (200, "Content-Type: text/html\r\n", "<script>alert(1)</script>".to_owned()),
            502,
            "server_error",
        ),
        (
            "a failing page",
            (500, "Content-Type: text/html\r\n", "<h1>SECRET</h1>".to_owned()),
            502,
            "server_error",
        ),
        (
            "a redirect",
            (302, "Location: http://127.0.0.1:1/x?code=SECRET\r\n", String::new()),
            502,
            "server_error",
        ),
        ("too much", (200, "", format!("\"{}\"", "x".repeat(300 * 1024))), 502, "server_error"),
    ] {
        idp.answer(move |_| told.clone());
        let answer = post_form(&world, "/token", "grant_type=authorization_code&code=x");
        assert_eq!(answer.status, status, "{given}: {}", answer.text());
        assert!(answer.text().contains(body), "{given}: {}", answer.text());
        assert!(!answer.text().contains("<script"), "{given}");
        assert_eq!(answer.header("retry-after").is_some(), status == 429, "{given}");
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{given}");
        assert_eq!(
            idp.server.take_calls().iter().filter(|call| call.method() == "POST").count(),
            1,
            "{given}"
        );
    }
    let log = world.log.text();
    assert!(log.contains("/token' answered 302, pointing to 'http://127.0.0.1:1/x'"), "{log}");
    nothing_leaked(&world, "failures");
}

/// `addBodyParams` in forms and in JSON; the client's own value does not stand against the operator's.
#[test]
fn parameters_are_added_to_forms_and_to_json() {
    let idp = Idp::start(provider);
    let world = idp::world(
        &format!(
            "issuer: ${{issuer}}\ndefault:\n  base_url: {}\n  path:\n    {OAUTH}: {{ response: {{ issuer: x }} }}\n    \
             /token:\n      addBodyParams: [{{ name: audience, value: \"https://a/\" }}]\n      \
             addQueryParams: [{{ name: tenant, value: t1 }}]\n    \
             /register:\n      addBodyParams: [{{ name: application_type, value: native }}]\n\
             path_mapping: {{ /register: /reg, /revoke: /token }}\n",
            idp.url
        ),
        &Overrides::default(),
    );
    let json_type = ("Content-Type", "application/json");
    for (target, kind, sent, line, arrived) in [
        (
            "/token",
            FORM,
            "grant_type=x&audience=theirs&code=c",
            "POST /token?tenant=t1",
            "grant_type=x&code=c&audience=https%3A%2F%2Fa%2F",
        ),
        (
            "/token",
            json_type,
            r#"{"grant_type":"x","audience":"theirs"}"#,
            "POST /token?tenant=t1",
            r#"{"audience":"https://a/","grant_type":"x"}"#,
        ),
        (
            "/register",
            json_type,
            r#"{"redirect_uris":["http://127.0.0.1/"],"x_own":{"a":1}}"#,
            "POST /reg",
            r#"{"application_type":"native","redirect_uris":["http://127.0.0.1/"],"x_own":{"a":1}}"#,
        ),
        ("/revoke", FORM, "token=t", "POST /token", "token=t"),
    ] {
        let answer = world.ask("POST", target, &[kind], sent);
        assert!((200..300).contains(&answer.status), "{target}: {}", answer.text());
        let call = idp.server.take_calls().pop().unwrap();
        assert_eq!(format!("{} {}", call.method(), call.target()), line);
        assert_eq!(call.header("content-type"), Some(kind.1));
        assert_eq!(call.text(), arrived, "{target}");
    }
    nothing_leaked(&world, "added parameters");
}

/// RFC 7591; ASR-11, ASR-12: every byte of a registration, both ways. Where clients cannot register, nothing says so.
#[test]
fn registration_is_relayed_or_not_offered() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "");
    let body =
        "{ \"redirect_uris\" : [\"http://127.0.0.1:1/\"], \"application_type\":\"native\", \"x\":1.50 }";
    let answer = world.ask("POST", "/register", &[("Authorization", "Bearer initial-SECRET")], body);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (201, r#"{"client_id":"c1","client_secret":"reg-SECRET"}"#)
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let call = idp.server.take_calls().pop().unwrap();
    assert_eq!((call.target(), call.text().as_str()), ("/reg", body));
    assert_eq!(call.header("authorization"), Some("Bearer initial-SECRET"));
    for (given, kind, body, status, error) in [
        ("no object", "application/json", "[]", 400, "invalid_client_metadata"),
        ("no JSON", "application/json", "{", 400, "invalid_client_metadata"),
        ("a form", FORM.1, "a=b", 415, "invalid_request"),
        ("another charset", "application/json; charset=utf-16", "{}", 415, "invalid_request"),
    ] {
        let answer = world.ask("POST", "/register", &[("Content-Type", kind)], body);
        assert_eq!(
            (answer.status, idp::json(&answer.body)["error"].as_str()),
            (status, Some(error)),
            "{given}"
        );
    }
    assert_eq!(idp.asked(), Vec::<String>::new());
    nothing_leaked(&world, "registration");

    for preset in ["okta", "entra", "google", "cognito", "authentik", "zitadel", "logto"] {
        let idp = Idp::start(provider);
        let world = discovered(&idp, &format!("provider: {preset}\n"));
        let document = idp::json(&get(&world, OAUTH).body);
        assert_eq!(document.get("registration_endpoint"), None, "{preset}");
        let answer = world.ask("POST", "/register", &[], "{}");
        assert_eq!(
            (answer.status, idp::json(&answer.body)["error"].as_str()),
            (404, Some("invalid_request"))
        );
        assert!(idp.asked().iter().all(|line| !line.starts_with("POST")), "{preset}");
    }
}

/// ASR-08: passed on, translated or dropped by preset; what is not ours is never lost in silence.
#[test]
fn resource_is_handled_by_preset() {
    let ours = "resource=https%3A%2F%2Fproxy.example%2Fmcp";
    for (preset, query, expected) in [
        ("generic", ours, Some(ours)),
        ("auth0", ours, Some("audience=api%3A%2F%2Fmcp")),
        ("auth0", "", Some("audience=api%3A%2F%2Fmcp")),
        ("entra", ours, Some("")),
        ("google", ours, Some("")),
        ("entra", "resource=https%3A%2F%2Felsewhere.example", None),
        ("auth0", "resource=https%3A%2F%2Felsewhere.example", None),
    ] {
        let idp = Idp::start(provider);
        let world = discovered(
            &idp,
            &format!("provider: {preset}\nprotected_resource_metadata: {{ audience: \"api://mcp\" }}\n"),
        );
        let answer = get(&world, &format!("/authorize?state=1&{query}"));
        let body = post_form(&world, "/token", &format!("grant_type=x&{query}"));
        match expected {
            Some(rest) => {
                let join = if rest.is_empty() { "" } else { "&" };
                assert_eq!(
                    answer.header("location"),
                    Some(&*format!("{}/auth?state=1{join}{rest}", idp.url)),
                    "{preset}"
                );
                assert_eq!(body.status, 200);
                let token = idp.server.take_calls().pop().unwrap();
                let kept = preset == "generic";
                assert_eq!(token.text().contains("resource"), kept, "{preset}: {}", token.text());
            }
            None => {
                for answer in [answer, body] {
                    assert_eq!(
                        (answer.status, idp::json(&answer.body)["error"].as_str()),
                        (400, Some("invalid_target")),
                        "{preset}"
                    );
                }
                assert!(idp.asked().iter().all(|line| !line.starts_with("POST")), "{preset}");
            }
        }
    }
}

/// A refresh token may be good once: who asks again gets what the first asked for, and the provider hears it once.
#[test]
fn a_late_duplicate_gets_the_first_answer() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "");
    get(&world, OAUTH);
    let count = std::sync::atomic::AtomicUsize::new(0);
    idp.answer(move |call| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        // Long enough for the others to come while this one is under way.
        thread::sleep(Duration::from_millis(300));
        let told = json!({ "n": n, "asked": call.target() }).to_string();
        (if call.target() == "/reg" { 201 } else { 200 }, "", told)
    });
    let addr = world.addr();
    let ask = move |target: &'static str, kind: &'static str, body: &'static str| {
        let text = crate::world::request("POST", target, &[("Content-Type", kind)], body);
        let answer = crate::world::raw::Raw::connect(addr).send(text).answer().unwrap();
        (answer.status, answer.text())
    };
    let refresh = "grant_type=refresh_token&refresh_token=r1&client_id=c";
    for (target, kind, body) in [
        ("/token", FORM.1, refresh),
        ("/register", "application/json", r#"{"redirect_uris":["http://127.0.0.1:1/"]}"#),
    ] {
        idp.asked();
        let mut answers = idp::at_once(4, move |_| ask(target, kind, body));
        answers.push(ask(target, kind, body));
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(idp.asked().len(), 1, "{target}");
    }
    // Another refresh token, another client's credentials and a code are each asked for themselves.
    for body in [
        "grant_type=refresh_token&refresh_token=r2&client_id=c",
        "grant_type=authorization_code&code=1",
        "grant_type=authorization_code&code=1",
    ] {
        post_form(&world, "/token", body);
    }
    world.ask("POST", "/token", &[FORM, ("Authorization", "Basic YTpi")], refresh);
    assert_eq!(idp.asked().len(), 4);
    // What failed is asked again.
    idp.answer(|_| (400, "", r#"{"error":"invalid_grant"}"#.to_owned()));
    for _ in 0..2 {
        assert_eq!(post_form(&world, "/token", "grant_type=refresh_token&refresh_token=r3").status, 400);
    }
    assert_eq!(idp.asked().len(), 2);
    nothing_leaked(&world, "duplicates");
}

/// Size, type, origin, host, method: nothing that is refused reaches anybody.
#[test]
fn what_is_no_login_request_goes_nowhere() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "");
    get(&world, OAUTH);
    idp.asked();
    let large = format!("grant_type=x&a={}", "x".repeat(70 * 1024));
    for (given, method, target, headers, body, status) in [
        ("a large body", "POST", "/token", vec![FORM], large.as_str(), 413),
        ("a large registration", "POST", "/register", vec![], large.as_str(), 413),
        ("an unknown type", "POST", "/token", vec![("Content-Type", "text/plain")], "a=b", 415),
        ("an encoding", "POST", "/token", vec![FORM, ("Content-Encoding", "gzip")], "a=b", 400),
        (
            "two credentials",
            "POST",
            "/token",
            vec![FORM, ("Authorization", "Basic a"), ("Authorization", "Basic b")],
            "a=b",
            400,
        ),
        ("a repeated parameter", "POST", "/token", vec![FORM], "grant_type=x&grant_type=y", 400),
        ("a foreign page", "POST", "/token", vec![FORM, ("Origin", "https://evil.example")], "a=b", 403),
        (
            "a foreign page's registration",
            "POST",
            "/register",
            vec![("Origin", "https://evil.example")],
            "{}",
            403,
        ),
        ("a foreign host", "POST", "/token", vec![FORM, ("Host", "evil.example")], "a=b", 403),
        ("a foreign host's metadata", "GET", OAUTH, vec![("Host", "evil.example")], "", 403),
        ("another method", "GET", "/token", vec![], "", 405),
        ("another method", "GET", "/register", vec![], "", 405),
        ("another path", "POST", "/token/", vec![FORM], "a=b", 404),
        ("another spelling", "POST", "/%74oken", vec![FORM], "a=b", 404),
        ("a path that nobody mapped", "POST", "/introspect", vec![FORM], "a=b", 404),
    ] {
        let answer = world.ask(method, target, &headers, body);
        assert_eq!(answer.status, status, "{given}: {}", answer.text());
        let granted = answer.header("access-control-allow-origin");
        assert!(granted.is_none_or(|origin| origin == "*"), "{given}");
    }
    let chunked = "POST /token HTTP/1.1\r\nHost: proxy.example\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n";
    assert_eq!(world.raw().send(chunked).answer().unwrap().status, 411);
    assert_eq!(idp.asked(), Vec::<String>::new());
    nothing_leaked(&world, "refusals");
    // PRM-08: a page may ask beforehand, everywhere.
    for (path, methods) in [
        ("/token", "POST, OPTIONS"),
        ("/register", "POST, OPTIONS"),
        (OAUTH, "GET, HEAD, OPTIONS"),
        ("/authorize", "GET, OPTIONS"),
    ] {
        let headers = [
            ("Origin", "https://page.example"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type, authorization, mcp-protocol-version"),
        ];
        let answer = world.ask("OPTIONS", path, &headers, "");
        assert_eq!(
            (answer.status, answer.header("access-control-allow-methods")),
            (204, Some(methods)),
            "{path}"
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("content-type, authorization, mcp-protocol-version")
        );
    }
}

/// A provider that hangs or fails holds up nobody else: MCP goes on, and logins get an answer.
#[test]
fn a_slow_provider_holds_no_worker() {
    let idp = Idp::start(provider);
    let world = idp::world(
        &format!(
            "issuer: ${{issuer}}\nprotected_resource_metadata: {{ jwks_uri: ${{issuer}}/jwks }}\nlogin_relay: on\n\
             default: {{ base_url: {}, path: {{ {OAUTH}: {{ response: {{ issuer: x }} }} }} }}\n",
            idp.url
        ),
        &Overrides::default(),
    );
    let (hold, release) = std::sync::mpsc::channel::<()>();
    let release = std::sync::Mutex::new(release);
    idp.answer(move |call| {
        if call.target() == "/token" {
            let _ = release.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        (200, "", "{}".to_owned())
    });
    // More than there are workers; each different, so that none is a duplicate.
    let mut waiting: Vec<_> = (0..100)
        .map(|n| {
            let mut raw = world.raw();
            let body = format!("grant_type=authorization_code&code={n}");
            raw.send(crate::world::request("POST", "/token", &[FORM], &body));
            raw
        })
        .collect();
    wait_until("the provider is asked", || !idp.server.take_calls().is_empty());
    let token = world.token();
    for _ in 0..5 {
        assert_eq!(world.post(Some(&token), &call_of("plain")).status, 200, "{}", world.log.text());
    }
    assert_eq!(get(&world, "/.well-known/oauth-protected-resource/mcp").status, 200);
    // Those beyond the queue were told to come again.
    let mut statuses = Vec::new();
    drop(hold);
    for raw in &mut waiting {
        statuses.push(raw.answer().expect("an answer").status);
    }
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
}

/// However slow the provider is, one stranger does not take all the room.
#[test]
fn one_client_does_not_fill_the_queue() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "trusted_proxies: [127.0.0.0/8]");
    assert_eq!(get(&world, OAUTH).status, 200); // the metadata is known
    let (hold, release) = std::sync::mpsc::channel::<()>();
    let release = std::sync::Mutex::new(release);
    idp.answer(move |_| {
        let _ = release.lock().unwrap().recv_timeout(Duration::from_secs(20));
        (200, "", "{}".to_owned())
    });
    let send = |client: &str, n: usize| {
        let mut raw = world.raw();
        let body = format!("grant_type=authorization_code&code={n}");
        raw.send(crate::world::request("POST", "/token", &[FORM, ("X-Forwarded-For", client)], &body));
        raw
    };
    let mut many: Vec<_> = (0..100).map(|n| send("203.0.113.1", n)).collect();
    // Each of those that are too many is answered at once, which is how it is known that all have come.
    let mut refused = 0;
    wait_until("the flood is refused", || {
        refused = world.log.text().matches("status=429").count();
        refused >= 100 - 16
    });
    assert_eq!(refused, 100 - 16);
    let mut other = send("203.0.113.2", 0);
    drop(hold);
    assert_eq!(other.answer().expect("an answer").status, 200, "{}", world.log.text());
    for raw in &mut many {
        assert!([200, 429].contains(&raw.answer().expect("an answer").status));
    }
}

/// RFC 8414 section 3.3; D9's rule for logins: another issuer's metadata is not used, an outage is survived.
#[test]
fn metadata_that_cannot_be_had_is_told_once() {
    let idp = Idp::start(provider);
    idp.answer(|call| {
        let host = format!("http://{}", call.header("host").unwrap());
        (
            200,
            "",
            json!({ "issuer": format!("{host}/"), "authorization_endpoint": "x", "token_endpoint": "x" })
                .to_string(),
        )
    });
    let world = discovered(&idp, "");
    for _ in 0..3 {
        for target in [OAUTH, "/authorize?a=b"] {
            let answer = get(&world, target);
            assert_eq!(
                (answer.status, idp::json(&answer.body)["error"].as_str()),
                (502, Some("server_error"))
            );
        }
    }
    let log = world.log.text();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") || line.contains("warn")).collect();
    let told = lines.iter().filter(|line| line.contains("no good answer")).count();
    assert_eq!(told, 1, "{log}");
    assert!(log.contains(&format!("is the metadata of '{}/', not of '{}'", idp.url, idp.url)), "{log}");
    nothing_leaked(&world, "bad metadata");
}

/// Behind a reverse proxy one client's flood is not everybody's, and neither is its registration.
#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let idp = Idp::start(provider);
    let world = discovered(&idp, "trusted_proxies: [127.0.0.0/8]");
    let register = |client: &str, n: usize| {
        let headers = [("Content-Type", "application/json"), ("X-Forwarded-For", client)];
        let body = format!(r#"{{"redirect_uris":["https://app.example/{n}"]}}"#);
        world.ask("POST", "/register", &headers, &body).status
    };
    let asked = || idp.asked().iter().filter(|line| line.contains("/reg")).count();
    let (one, other) = ("203.0.113.1", "203.0.113.2");
    assert_eq!((register(one, 0), register(other, 0)), (201, 201));
    assert_eq!(asked(), 2, "the same words of another client are another registration");
    let refused = (1..1000).find(|n| register(one, *n) == 429);
    assert!(refused.is_some(), "nothing stops a flood");
    assert_eq!(register(other, 1), 201, "a stranger's flood is everybody's");
    let log = world.log.text();
    assert!(log.contains(&format!("client={one}")) && log.contains(&format!("client={other}")), "{log}");
    nothing_leaked(&world, "registrations");
}
