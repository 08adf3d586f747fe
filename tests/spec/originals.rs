//! Files in the original's form, as its guides have them, running: only the addresses in them are changed.

use std::fs;
use std::path::Path;

use open_mcp_auth_proxy::config::{Config, Outside, Overrides};
use serde_json::{Value, json};

use crate::world::World;
use crate::world::idp::{self, Idp, Told};
use crate::world::issuer::{Issuer, Token};
use crate::world::server::{Call, McpServer};
use crate::world::{NOW, call_of};

const OAUTH: &str = "/.well-known/oauth-authorization-server";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn provider(call: &Call) -> Told {
    match call.target().rsplit('/').next().unwrap_or_default() {
        "token" => (200, "", json!({ "access_token": "t", "token_type": "Bearer" }).to_string()),
        "openid-connect" | "register" | "applications" => (201, "", json!({ "client_id": "c" }).to_string()),
        _ => (404, "", "{}".to_owned()),
    }
}

/// `tests/config/valid/NAME.yaml` with `theirs` in place of the provider's address; its keys are those of the world.
fn world(name: &str, provider: &str, idp: &Idp, more: &[(&str, String)], overrides: &Overrides) -> World {
    let (issuer, server) = (Issuer::start(), McpServer::start());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/config/valid/{name}.yaml"));
    let mut text = fs::read_to_string(path).unwrap();
    for (from, to) in more {
        assert!(text.contains(from), "{from} in {name}");
        text = text.replace(from, to);
    }
    if !text.contains("proxy_base_url:") {
        text.push_str("\nproxy_base_url: https://proxy.example\n");
    }
    text = text
        .replace("http://localhost:8080", "https://proxy.example")
        .replace("http://localhost:8000", &format!("http://{}", server.addr))
        .replace(provider, &idp.url);
    let read = Config::from_yaml(&text, overrides, &Outside::nothing());
    let (mut config, _) = read.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    config.listen.set_port(0);
    for issuer_ in &mut config.issuers {
        issuer_.jwks_uri = Some(issuer.jwks_uri());
    }
    World::built(issuer, server, |into| *into = config)
}

/// A token of the file's provider is let in, and the login's requests arrive where the file says.
fn walk(
    world: &World,
    idp: &Idp,
    issuer: &str,
    audience: &str,
    scope: &str,
    asked: &[(&str, &str)],
) -> Value {
    let token = Token::new(issuer, audience, NOW.0).scope(scope);
    assert_eq!(world.post(Some(&token), &call_of("any")).status, 200, "{}", world.log.text());
    assert_eq!(world.post(None, &call_of("any")).status, 401);
    assert_eq!(world.server.take_calls().len(), 1);
    let document = world.ask("GET", OAUTH, &[], "");
    assert_eq!(document.status, 200, "{}", document.text());
    let redirects = r#"{"redirect_uris":["http://127.0.0.1:1/cb"]}"#;
    assert_eq!(world.ask("POST", "/token", &[FORM], "grant_type=authorization_code&code=1").status, 200);
    assert_eq!(world.ask("POST", "/register", &[], redirects).status, 201, "{}", world.log.text());
    let calls = idp.server.take_calls();
    let found: Vec<(String, String)> =
        calls.iter().map(|call| (call.target().to_owned(), call.text())).collect();
    for (target, body) in asked {
        let there = found.iter().any(|(asked, sent)| asked == target && sent.contains(body));
        assert!(there, "{target} with {body}: {found:?}");
    }
    assert_eq!(world.server.take_calls().len(), 0, "a login reached the MCP server");
    idp::json(&document.body)
}

fn location(world: &World) -> String {
    let answer = world.ask("GET", "/authorize?client_id=c", &[], "");
    answer.header("location").unwrap().to_owned()
}

#[test]
fn the_file_for_keycloak_runs() {
    let idp = Idp::start(provider);
    let world = world("keycloak", "http://localhost:8081", &idp, &[], &Overrides::default());
    let realm = format!("{}/realms/mcp", idp.url);
    let asked = [
        ("/realms/mcp/protocol/openid-connect/token", "grant_type=authorization_code&code=1"),
        ("/realms/mcp/clients-registrations/openid-connect", "redirect_uris"),
    ];
    let document = walk(&world, &idp, &realm, "account", "mcp_tools", &asked);
    // Where nothing is added, the file's endpoints stand; where it maps a path, ours do.
    assert_eq!(document["issuer"], "https://proxy.example");
    assert_eq!(document["authorization_endpoint"], format!("{realm}/protocol/openid-connect/auth"));
    assert_eq!(document["token_endpoint"], "https://proxy.example/token");
    assert_eq!(document["registration_endpoint"], "https://proxy.example/register");
    assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(location(&world), format!("{realm}/protocol/openid-connect/auth?client_id=c"));
}

#[test]
fn the_file_for_auth0_runs() {
    let idp = Idp::start(provider);
    let world = world("auth0", "https://example.eu.auth0.com", &idp, &[], &Overrides::default());
    let issuer = format!("{}/", idp.url);
    let asked =
        [("/oauth/token", "audience=https%3A%2F%2Fmcp.example.com%2F"), ("/oidc/register", "redirect_uris")];
    let document = walk(&world, &idp, &issuer, "https://mcp.example.com/", "", &asked);
    // What is added on the way needs clients to come to us.
    assert_eq!(document["authorization_endpoint"], "https://proxy.example/authorize");
    assert_eq!(document["token_endpoint"], "https://proxy.example/token");
    assert_eq!(document["registration_endpoint"], format!("{}/oidc/register", idp.url));
    let audience = "audience=https%3A%2F%2Fmcp.example.com%2F";
    assert_eq!(location(&world), format!("{}/authorize?client_id=c&{audience}", idp.url));
}

/// `--asgardeo` and `--demo` take the section of their name, whatever `mode` says.
#[test]
fn the_files_for_asgardeo_run() {
    for (name, section, flags) in [
        ("asgardeo", "my-org", Overrides { asgardeo: true, ..Overrides::default() }),
        ("asgardeo", "demo-org", Overrides { demo: true, ..Overrides::default() }),
        ("asgardeo-demo", "demo-org", Overrides::default()),
    ] {
        let idp = Idp::start(provider);
        let base = format!("{}/t/{section}", idp.url);
        let line = format!("  org_name: \"{section}\"");
        let below = format!("{line}\n  base_url: \"{base}\"");
        let world = world(name, "https://api.asgardeo.io", &idp, &[(&*line, below)], &flags);
        let asked = [
            (&*format!("/t/{section}/oauth2/token"), "grant_type=client_credentials"),
            (&*format!("/t/{section}/api/server/v1/applications"), "http://127.0.0.1:1/cb"),
        ];
        // The file for the flag --demo names the other organisation as who issues tokens.
        let named = if name == "asgardeo" { "my-org" } else { section };
        let issuer = format!("{}/t/{named}/oauth2/token", idp.url);
        let (issuer, audience) = match (name, section) {
            ("asgardeo", "demo-org") => (format!("{}/t/my-org", idp.url), "my-client"),
            ("asgardeo", _) => (issuer, "my-client"),
            _ => (issuer, "https://proxy.example/mcp"),
        };
        let document = walk(&world, &idp, &issuer, audience, "mcp_greet", &asked);
        assert_eq!(document["registration_endpoint"], "https://proxy.example/register", "{name} {section}");
        assert_eq!(location(&world), format!("{base}/oauth2/authorize?client_id=c"));
    }
}
