//! Which files switch the login relay on, what they make of it, and what they may not ask for.

use open_mcp_auth_proxy::config::{Config, Outside, Overrides};

/// D2: off unless the file asks for it, in one of its ways.
#[test]
fn the_relay_is_on_only_where_it_is_asked_for() {
    let load = |text: &str| {
        let text = format!("proxy_base_url: https://proxy.example\nbase_url: http://localhost:3000\n{text}");
        Config::from_yaml(&text, &Overrides::default(), &Outside::nothing())
    };
    let issuer = "issuer: https://idp.example\n";
    for (yaml, on, advertised) in [
        ("", false, false),
        ("login_relay: off\npath_mapping: { /token: /t }\n", false, false),
        ("login_relay: on\n", true, false),
        ("login_relay: advertised\n", true, true),
        ("path_mapping: { /token: /t }\n", true, false),
        ("default: { base_url: https://idp.example }\n", true, false),
        ("protected_resource_metadata: { authorization_servers: [https://proxy.example/] }\n", true, true),
        ("mode: demo\ndemo: { org_name: o, client_id: c, client_secret: s }\n", true, true),
        ("asgardeo: { org_name: o, client_id: c, client_secret: s }\n", false, false),
    ] {
        let (config, _) =
            load(&format!("{issuer}{yaml}")).unwrap_or_else(|problems| panic!("{yaml}: {problems:?}"));
        let found = config.login.as_ref().map(|login| login.advertised);
        assert_eq!((found.is_some(), found.unwrap_or_default()), (on, advertised), "{yaml}");
        let servers = &config.resource.authorization_servers;
        let expected = if advertised { "https://proxy.example" } else { "https://idp.example" };
        assert_eq!(servers[0], expected, "{yaml}");
    }
    // Nobody to log in at: a mode without an organisation, and credentials that are empty ones.
    let (config, notes) =
        load(&format!("{issuer}mode: demo\ndemo: {{ org_name: o, client_id: \"\", client_secret: \"\" }}\n"))
            .unwrap();
    assert!(config.login.is_some() && notes.iter().any(|note| note.text.contains("clients cannot register")));
    // Requirements 4.1: one client for all is refused at start, and so is a relay without anyone behind it.
    for (yaml, key) in [
        (
            "default: { base_url: https://i.example, path: { /token: { addBodyParams: [{ name: client_id, value: x }] } } }\n",
            "client_id is the client's own",
        ),
        (
            "default: { base_url: https://i.example, path: { /token: { addBodyParams: [{ name: client_secret, value: x }] } } }\n",
            "client_secret is the client's own",
        ),
        ("default: { base_url: http://i.example }\n", "is http, on another machine"),
        ("path_mapping: { /mcp: /x }\n", "is where MCP is spoken"),
        ("path_mapping: { /a/../b: /x }\n", "has an empty segment"),
        ("mode: demo\n", "missing, while the mode asks for it"),
        ("provider: auth1\n", "auth1"),
        (
            "login_relay: off\nprotected_resource_metadata: { authorization_servers: [https://proxy.example] }\n",
            "this is the proxy itself",
        ),
        ("mode: asgardeo\nasgardeo: { org_name: o, client_id: c }\n", "missing, while client_id is given"),
        (
            "mode: asgardeo\nprovider: okta\nasgardeo: { org_name: o, client_id: c, client_secret: s }\n",
            "mode says that Asgardeo",
        ),
    ] {
        let problems = load(&format!("{issuer}{yaml}")).map(|_| ()).expect_err(yaml);
        assert!(problems.iter().any(|problem| problem.found.contains(key)), "{yaml}: {problems:?}");
    }
    let only_us = "protected_resource_metadata: { authorization_servers: [https://proxy.example] }\n";
    let problems = load(only_us).map(|_| ()).expect_err("nobody signs tokens");
    assert!(problems[0].found.contains("nothing says who signs tokens"), "{problems:?}");
}

/// One line names the provider for both halves: its logins here, its tokens in `auth`. An entry of `issuers` may differ.
#[test]
fn a_provider_is_named_once() {
    let load = |yaml: &str| {
        let text = format!("proxy_base_url: https://proxy.example\nbase_url: http://localhost:1\n{yaml}");
        Config::from_yaml(&text, &Overrides::default(), &Outside::nothing()).unwrap().0
    };
    let entry =
        "issuers: [{ issuer: \"https://a.example\" }, { issuer: \"https://b.example\", provider: entra }]\n";
    for (yaml, login, scopes) in [
        ("issuer: https://a.example\n".to_owned(), "generic", vec![vec!["scope", "scp"]]),
        ("issuer: https://a.example\nprovider: okta\n".to_owned(), "okta", vec![vec!["scp"]]),
        (format!("{entry}provider: okta\n"), "okta", vec![vec!["scp"], vec!["scp", "roles"]]),
        (
            "issuers: [{ issuer: \"https://a.example\", provider: okta }]\n".to_owned(),
            "okta",
            vec![vec!["scp"]],
        ),
    ] {
        let config = load(&format!("login_relay: on\n{yaml}"));
        assert_eq!(config.login.unwrap().preset.name, login, "{yaml}");
        let found: Vec<_> = config.issuers.iter().map(|issuer| issuer.claims.scopes.clone()).collect();
        assert_eq!(found, scopes, "{yaml}");
    }
    let config = load("issuer: https://a.example\nprovider: cognito\n");
    assert_eq!(config.issuers[0].required_claims, [("token_use".to_owned(), vec!["access".to_owned()])]);
}
