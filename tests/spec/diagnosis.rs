//! `--check --online` and `--check --explain`: what the operator reads when the identity provider's side is set up
//! wrongly, from the real program.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use open_mcp_auth_proxy::clock::Clock;
use serde_json::json;

use crate::world::issuer::{Issuer, Key, Token};

/// Exit code and standard output of `--check` with a configuration of this name, and `input` on standard input.
fn check(name: &str, config: &str, flags: &[&str], input: &str) -> (Option<i32>, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.yaml", std::process::id()));
    fs::write(&path, config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_openmcpauthproxy"))
        .args(["--check", "--config", path.to_str().unwrap()])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    fs::remove_file(&path).unwrap();
    let told =
        format!("{}{}", String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    (output.status.code(), told)
}

fn config(issuers: &str) -> String {
    format!("proxy_base_url: https://mcp.example.com\nbase_url: http://localhost:8000\nissuers:\n{issuers}")
}

/// Each thing that can be wrong at an issuer, and the words that say what to change. Nothing listens, and the exit code
/// tells a script.
#[test]
fn every_issuer_is_asked_and_told() {
    let issuer = Issuer::start();
    let url = &issuer.url;
    let curve = json!({ "keys": [Key::P256.jwk_for(""), { "kty": "oct", "k": "AAAA", "kid": "secret" }] });
    issuer.serve("/curve", 200, &curve);
    issuer.serve("/introspect", 200, &json!({ "active": false }));
    issuer.serve("/yes", 200, &json!({ "active": true, "sub": "anybody" }));
    issuer.serve("/no", 401, &json!({ "error": "invalid_client" }));
    let metadata = |name: &str, says: &str| {
        let body = json!({ "issuer": says, "jwks_uri": format!("{url}/jwks"), "introspection_endpoint": format!("{url}/introspect") });
        issuer.serve(&format!("/.well-known/openid-configuration/{name}"), 200, &body);
    };
    metadata("good", &format!("{url}/good"));
    metadata("slash", &format!("{url}/slash/"));
    let asking = |rest: &str| format!("introspection: {{ client_id: proxy, client_secret: hunter2{rest} }}");
    for (what, entry, code, told) in [
        (
            "good",
            format!("issuer: {url}/good"),
            0,
            vec![format!("ok    {url}/good"), "RS256 'one'".into(), "openid-configuration/good".into()],
        ),
        (
            "a slash",
            format!("issuer: {url}/slash"),
            1,
            vec![
                format!("FAIL  {url}/slash"),
                "they differ by a trailing slash alone".into(),
                "character for character".into(),
            ],
        ),
        (
            "nowhere",
            format!("issuer: {url}/none"),
            1,
            vec!["correct issuer, or write metadata_url or jwks_uri".into(), "answered 404".into()],
        ),
        (
            "no keys there",
            format!("issuer: {url}\n    jwks_uri: {url}/none"),
            1,
            vec!["answered 404; check jwks_uri".into()],
        ),
        (
            "a curve, which is not allowed",
            format!("issuer: {url}\n    jwks_uri: {url}/curve"),
            1,
            vec!["it is for ES256, which is not in algorithms of its issuer".into()],
        ),
        (
            "a curve, which is",
            format!("issuer: {url}\n    jwks_uri: {url}/curve\n    algorithms: auto"),
            0,
            vec!["ES256 'p256'".into(), "left out".into(), "its kty is 'oct'".into()],
        ),
        (
            "introspection",
            format!("issuer: {url}/good\n    {}", asking("")),
            0,
            vec!["introspection answers proxy".into()],
        ),
        (
            "a wrong secret",
            format!("issuer: {url}/good\n    {}", asking(&format!(", endpoint: '{url}/no'"))),
            1,
            vec!["check client_id, client_secret".into()],
        ),
        (
            "says yes to everything",
            format!("issuer: {url}/good\n    {}", asking(&format!(", endpoint: '{url}/yes'"))),
            1,
            vec!["active that nobody issued".into()],
        ),
        ("nobody there", "issuer: http://127.0.0.1:1".into(), 1, vec!["cannot be reached".into()]),
    ] {
        let (found, text) = check("online", &config(&format!("  - {entry}\n")), &["--online"], "");
        assert_eq!(found, Some(code), "{what}: {text}");
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for told in told {
            let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(&told), "{what}: {told:?} is not in {text}");
        }
        assert!(!text.contains("hunter2"), "{what}: {text}");
    }
    let (code, told) = check("offline", &config(&format!("  - issuer: {url}/none\n")), &[], "");
    assert!(code == Some(0) && !told.contains("as they are now"), "without --online nobody is asked: {told}");
}

/// A token from standard input: what it is worth, and the line to change where it is refused.
#[test]
fn a_token_is_explained() {
    let issuer = Issuer::start();
    let url = &issuer.url;
    let now = Clock::system().now().0;
    let token = || Token::new(url, "mcp", now).scope("a b");
    let file =
        config(&format!("  - issuer: {url}\n    jwks_uri: {}\n    audience: [mcp]\n", issuer.jwks_uri()));
    for (what, given, code, told) in [
        ("good", token().compact(), 0, "the token is good: issuer http://127.0.0.1:"),
        ("good, whose", token().compact(), 0, "subject alice, client client, scopes a b, for "),
        ("with its scheme", format!("Bearer {}\n", token().compact()), 0, "the token is good"),
        (
            "another audience",
            token().audience("mcp/").compact(),
            1,
            "write it into issuers[0].audience (line 6)",
        ),
        (
            "another issuer",
            token().claim("iss", format!("{url}/")).compact(),
            1,
            "into issuers[0].issuer (line 4)",
        ),
        (
            "another algorithm",
            token().signed_with("ES256").compact(),
            1,
            "add ES256 to algorithms of that issuer",
        ),
        ("over", token().claim("exp", 1000).compact(), 1, "the token is refused: the token expired"),
        ("forged", token().signed_by(Key::Stranger).compact(), 1, "the token is refused"),
        ("opaque", "2YotnFZFEjr1zCsicMWpAA".into(), 1, "write introspection for it"),
        ("nothing", String::new(), 1, "the token is refused"),
    ] {
        let (found, text) = check("explain", &file, &["--explain"], &given);
        assert_eq!(found, Some(code), "{what}: {text}");
        assert!(text.contains(told), "{what}: {told:?} is not in {text}");
        assert!(given.is_empty() || !text.contains(given.trim()), "{what}: {text}");
    }
    issuer.set_down(true);
    let (code, told) = check("explain-down", &file, &["--explain"], &token().compact());
    assert!(code == Some(1) && told.contains("no verdict") && told.contains("answered 500"), "{told}");
}
