//! The authorization server metadata that we serve (RFC 8414 section 2), and the description that it is made from. Pure.
//!
//! The served `issuer` is the URL at which the document is found (decision D2; RFC 8414 section 3.3): a client that is
//! careful refuses anything else. Members that would be untrue about an authorization server that is reached through us
//! are left out, and nothing is promised that the provider does not do.

use serde_json::{Map, Value};

use crate::auth::discovery::Place;
use crate::config::PublicUrl;

/// RFC 8414 section 3.
pub const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// OpenID Connect Discovery 1.0 section 4.
pub const OPENID: &str = "/.well-known/openid-configuration";

/// Where clients authorize, at our origin (MCP 2025-03-26: the same paths where there is no metadata).
pub const AUTHORIZE: &str = "/authorize";
/// Where they get tokens.
pub const TOKEN: &str = "/token";
/// Where they register.
pub const REGISTER: &str = "/register";

/// Members of the provider's metadata that do not hold for us.
///
/// `signed_metadata` has another issuer and would take precedence; the aliases lead past us; proofs of possession name
/// the URL of the endpoint, which is ours to the client and another to the provider (RFC 9449 section 4.2); and `iss` in
/// an authorization response would be the provider's (RFC 9207).
const UNTRUE: [&str; 5] = [
    "signed_metadata",
    "mtls_endpoint_aliases",
    "dpop_signing_alg_values_supported",
    "tls_client_certificate_bound_access_tokens",
    "authorization_response_iss_parameter_supported",
];
/// Ways to authenticate that bind the URL of the endpoint or the connection to it.
const BOUND: [&str; 4] =
    ["private_key_jwt", "client_secret_jwt", "tls_client_auth", "self_signed_tls_client_auth"];

/// What is known of an authorization server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// Members of its metadata, as it or the configuration says them.
    pub members: Map<String, Value>,
    /// Where a browser is sent.
    pub authorize: String,
    /// Where codes and refresh tokens are exchanged.
    pub token: Place,
    /// Where clients register, if they can.
    pub register: Option<Registration>,
    /// Endpoints that the configuration tells clients to use directly.
    pub direct: Direct,
}

/// How clients register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Registration {
    /// At this endpoint of the provider.
    At(Place),
    /// By us, through the provider's management interface.
    Ours,
}

/// Which endpoints are not served by us, though we could.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Direct {
    /// The authorization endpoint.
    pub authorize: bool,
    /// The token endpoint.
    pub token: bool,
    /// The registration endpoint.
    pub register: bool,
}

impl Description {
    /// Whether the provider says its own `iss` in authorization responses (RFC 9207 section 3).
    #[must_use]
    pub fn names_itself(&self) -> bool {
        self.members.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true))
    }

    /// The document of `issuer`, with endpoints below `public`.
    #[must_use]
    pub fn document(&self, issuer: &str, public: &PublicUrl) -> Vec<u8> {
        let mut members = self.members.clone();
        for name in UNTRUE {
            members.remove(name);
        }
        let mut set = |name: &str, value: String| members.insert(name.to_owned(), value.into());
        set("issuer", issuer.to_owned());
        let place = |direct: bool, theirs: &str, ours: &str| {
            if direct { theirs.to_owned() } else { public.join(ours) }
        };
        set("authorization_endpoint", place(self.direct.authorize, &self.authorize, AUTHORIZE));
        set("token_endpoint", place(self.direct.token, &self.token.url, TOKEN));
        match &self.register {
            Some(Registration::At(found)) => {
                set("registration_endpoint", place(self.direct.register, &found.url, REGISTER));
            }
            Some(Registration::Ours) => {
                set("registration_endpoint", public.join(REGISTER));
            }
            None => {
                members.remove("registration_endpoint");
            }
        }
        // REQUIRED in RFC 8414 section 2.
        if !members.contains_key("response_types_supported") {
            members.insert("response_types_supported".to_owned(), Value::from(vec!["code"]));
        }
        if !self.direct.token
            && let Some(Value::Array(methods)) = members.get_mut("token_endpoint_auth_methods_supported")
        {
            methods.retain(|method| !method.as_str().is_some_and(|method| BOUND.contains(&method)));
        }
        members.retain(|_, value| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty));
        Value::Object(members).to_string().into_bytes()
    }
}

/// Where documents are served, and the issuer that each is about: the one whose URL leads there, by RFC 8414 section
/// 3.1, by its OpenID variant, or by appending. `endpoints` are the paths of MCP, whose clients look there too.
#[must_use]
pub fn places(public: &PublicUrl, endpoints: &[&str]) -> Vec<(String, String)> {
    let mut places: Vec<(String, String)> = Vec::new();
    let mut add = |path: String, issuer: String| {
        if !places.iter().any(|(known, _)| *known == path) {
            places.push((path, issuer));
        }
    };
    for known in [OAUTH, OPENID] {
        add(known.to_owned(), public.origin());
    }
    let prefix = public.prefix.as_str();
    let below = endpoints.iter().map(|path| format!("{prefix}{}", path.trim_end_matches('/')));
    for path in std::iter::once(prefix.to_owned()).chain(below).filter(|path| !path.is_empty()) {
        let issuer = format!("{}{path}", public.origin());
        for known in [OAUTH, OPENID] {
            add(format!("{known}{path}"), issuer.clone());
        }
        // Appended, it comes to us without the prefix, which whoever stands in front takes off.
        let path = path.strip_prefix(prefix).unwrap_or(&path);
        if !path.is_empty() {
            add(format!("{path}{OPENID}"), issuer);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn public(prefix: &str) -> PublicUrl {
        PublicUrl { scheme: "https".into(), authority: "h.example".into(), prefix: prefix.into() }
    }

    fn described(members: Value) -> Description {
        let Value::Object(members) = members else { panic!("no object") };
        Description {
            members,
            authorize: "https://idp.example/auth".into(),
            token: Place::named("https://idp.example/token"),
            register: Some(Registration::At(Place::named("https://idp.example/reg"))),
            direct: Direct::default(),
        }
    }

    fn served(description: &Description) -> Value {
        serde_json::from_slice(&description.document("https://h.example/mcp", &public(""))).unwrap()
    }

    /// ASR-01, ASR-03: RFC 8414 inserts, OpenID appends as well; each document is about the issuer that leads to it.
    #[test]
    fn a_document_is_found_wherever_clients_look() {
        let at = |public: &PublicUrl, path: &str| {
            let found = places(public, &["/mcp", "/sse"]).into_iter().find(|(known, _)| known == path);
            found.map(|(_, issuer)| issuer)
        };
        for (prefix, path, issuer) in [
            ("", OAUTH, Some("https://h.example")),
            ("", OPENID, Some("https://h.example")),
            ("", "/.well-known/oauth-authorization-server/mcp", Some("https://h.example/mcp")),
            ("", "/.well-known/openid-configuration/sse", Some("https://h.example/sse")),
            ("", "/mcp/.well-known/openid-configuration", Some("https://h.example/mcp")),
            ("", "/mcp/.well-known/oauth-authorization-server", None),
            ("/p", "/.well-known/oauth-authorization-server/p", Some("https://h.example/p")),
            ("/p", "/.well-known/oauth-authorization-server/p/mcp", Some("https://h.example/p/mcp")),
            ("/p", "/mcp/.well-known/openid-configuration", Some("https://h.example/p/mcp")),
        ] {
            assert_eq!(at(&public(prefix), path).as_deref(), issuer, "{prefix} {path}");
        }
    }

    /// D2, ASR-04, ASR-07.
    #[test]
    fn the_document_is_true_of_us() {
        let found = served(&described(json!({
            "issuer": "https://idp.example",
            "authorization_endpoint": "https://idp.example/auth",
            "jwks_uri": "https://idp.example/jwks",
            "client_id_metadata_document_supported": true,
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt", "client_secret_basic"],
            "scopes_supported": [],
            "signed_metadata": "x.y.z",
            "mtls_endpoint_aliases": { "token_endpoint": "https://mtls.idp.example/token" },
            "dpop_signing_alg_values_supported": ["ES256"],
            "authorization_response_iss_parameter_supported": true,
        })));
        assert_eq!(
            found,
            json!({
                "issuer": "https://h.example/mcp",
                "authorization_endpoint": "https://h.example/authorize",
                "token_endpoint": "https://h.example/token",
                "registration_endpoint": "https://h.example/register",
                "jwks_uri": "https://idp.example/jwks",
                "client_id_metadata_document_supported": true,
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
                "response_types_supported": ["code"],
            })
        );
    }

    #[test]
    fn registration_is_promised_only_where_it_works_and_direct_endpoints_stay() {
        let mut description = described(json!({ "registration_endpoint": "https://idp.example/reg" }));
        description.register = None;
        description.direct = Direct { authorize: true, token: true, register: true };
        let found = served(&description);
        assert_eq!(found.get("registration_endpoint"), None);
        assert_eq!(found["authorization_endpoint"], "https://idp.example/auth");
        assert_eq!(found["token_endpoint"], "https://idp.example/token");
        description.register = Some(Registration::Ours);
        assert_eq!(served(&description)["registration_endpoint"], "https://h.example/register");
    }
}
