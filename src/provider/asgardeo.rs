//! Asgardeo, or a WSO2 Identity Server: its endpoints are known, and clients are registered for it by us.
//!
//! Its own registration endpoint asks for credentials that an MCP client does not have. So we register applications in
//! the operator's name, through the application management API, with a token that the operator's own client gets by
//! client credentials. Each MCP client becomes an application of its own, with its own id and its own consent, so
//! nobody acts under somebody else's name. Whatever goes wrong there is one answer to the client,
//! 502, and one line in the log that never shows a secret.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};
use ureq::http::Uri;

use super::document::{Description, Direct, Registration};
use super::form::encode;
use super::idp::{Ask, FORM, Idp, IdpFault, JSON, Told};
use super::{NewClient, Provider, Trouble};
use crate::auth::discovery::Place;
use crate::auth::fault::Shown;
use crate::auth::reach::Reach;
use crate::clock::Timestamp;
use crate::config::login::Asgardeo as Settings;
use crate::limits::{
    LOGIN_NAME_CHARS_MAX, LOGIN_REDIRECTS_MAX, LOGIN_TOKEN_MARGIN_SECONDS, LOGIN_URI_BYTES_MAX,
};
use crate::reply::LoginFault;
use crate::secret::Secret;

/// The one permission that registering needs.
const MANAGE: &str = "internal_application_mgt_create";
/// Grants that an MCP client may have.
const GRANTS: [&str; 2] = ["authorization_code", "refresh_token"];
/// Ways in which it may authenticate.
const METHODS: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];
/// Schemes behind which a browser runs code or opens files.
const NOT_FOR_REDIRECTS: [&str; 7] =
    ["javascript", "data", "vbscript", "file", "blob", "about", "view-source"];

/// An organisation.
#[derive(Debug)]
pub struct Asgardeo {
    settings: Settings,
    /// Our own token for the management API, and when it is used no longer.
    token: Mutex<Option<(Secret, Timestamp)>>,
}

/// What a client asked to be.
#[derive(Debug)]
struct Client {
    name: String,
    redirects: Vec<String>,
    grants: Vec<String>,
    method: String,
}

impl Asgardeo {
    /// From the configuration.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, token: Mutex::default() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.settings.base)
    }

    /// Our token for the management API. No lock is held while it is asked for: two who need one at the same time get
    /// one each.
    fn management_token(&self, idp: &Idp, now: Timestamp) -> Result<Secret, IdpFault> {
        if let Some((token, until)) = self.kept().as_ref()
            && *until > now
        {
            return Ok(token.clone());
        }
        let url = self.settings.token.clone();
        let Some((id, secret)) = &self.settings.credentials else {
            return Err(IdpFault::Member(
                Shown::of(&url),
                "client_id and client_secret in the configuration",
            ));
        };
        // RFC 6749 section 2.3.1.
        let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret.expose())));
        let authorization = Secret::new(format!("Basic {pair}"));
        let body = format!("grant_type=client_credentials&scope={MANAGE}");
        let ask = Ask {
            url: &url,
            reach: Reach::Named,
            body: Some((FORM, body.as_bytes())),
            authorization: Some(&authorization),
        };
        let told = idp.ask(&ask)?;
        let refused =
            |hint| IdpFault::Refused { url: Shown::of(&url), status: told.status, code: told.code(), hint };
        if told.status != 200 {
            let hint =
                "check client_id and client_secret, and that this application may use client credentials";
            return Err(refused(hint));
        }
        let answer: Value = serde_json::from_slice(&told.body).unwrap_or_default();
        let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        if token.is_empty() || !token.bytes().all(fits) {
            return Err(refused("it holds no access_token"));
        }
        let seconds = answer.get("expires_in").and_then(Value::as_i64).unwrap_or_default();
        let token = Secret::new(format!("Bearer {token}"));
        *self.kept() = Some((token.clone(), now.plus(seconds.saturating_sub(LOGIN_TOKEN_MARGIN_SECONDS))));
        Ok(token)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<(Secret, Timestamp)>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the application. A token that was withdrawn before its time is replaced once.
    fn create(&self, idp: &Idp, body: &[u8], now: Timestamp) -> Result<(), IdpFault> {
        let url = self.url("/api/server/v1/applications");
        let mut again = true;
        loop {
            let token = self.management_token(idp, now)?;
            let ask =
                Ask { url: &url, reach: Reach::Named, body: Some((JSON, body)), authorization: Some(&token) };
            let asked = idp.ask(&ask);
            let told = match asked {
                // The status says all; whatever is written beside it goes nowhere.
                Err(IdpFault::NotJson(_, 201)) => return Ok(()),
                asked => asked?,
            };
            if told.status == 401 && again {
                again = false;
                *self.kept() = None;
                continue;
            }
            if told.status == 201 {
                return Ok(());
            }
            let hint = match told.status {
                401 | 403 => {
                    "authorize the application of client_id for the Application Management API, with \
                     internal_application_mgt_create"
                }
                409 => "an application of that name or client id is there already",
                429 => "its limit of requests is reached",
                _ => "see the code in its documentation",
            };
            return Err(IdpFault::Refused {
                url: Shown::of(&url),
                status: told.status,
                code: told.code(),
                hint,
            });
        }
    }

    /// The documented body of `POST /api/server/v1/applications`.
    fn application(&self, client: &Client, id: &str, secret: &str, suffix: &str) -> Value {
        json!({
            "name": format!("{}-{suffix}", client.name),
            "description": "Registered through Open MCP Auth Proxy",
            "templateId": "custom-application-oidc",
            "inboundProtocolConfiguration": { "oidc": {
                "clientId": id,
                "clientSecret": secret,
                "grantTypes": client.grants,
                "callbackURLs": [callback(&client.redirects)],
                "allowedOrigins": [],
                "publicClient": client.method == "none",
                "pkce": { "mandatory": true, "supportPlainTransformAlgorithm": false },
                "accessToken": {
                    "type": "JWT",
                    "userAccessTokenExpiryInSeconds": 3600,
                    "applicationAccessTokenExpiryInSeconds": 3600,
                    "bindingType": "None",
                    "revokeTokensWhenIDPSessionTerminated": false,
                    "validateTokenBinding": false
                },
                "refreshToken": { "expiryInSeconds": 86400, "renewRefreshToken": true },
                // Values of `aud` besides the client's own id: without them no token would be meant for us.
                "idToken": { "expiryInSeconds": 3600, "audience": self.settings.audiences }
            } },
            "advancedConfigurations": { "skipLoginConsent": false, "skipLogoutConsent": true }
        })
    }
}

impl Provider for Asgardeo {
    fn describe(&self, _idp: &Idp) -> Result<Description, IdpFault> {
        let members = json!({
            "jwks_uri": self.url("/oauth2/jwks"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": GRANTS,
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": METHODS,
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let Value::Object(members) = members else { return Err(IdpFault::Undiscovered(Vec::new())) };
        Ok(Description {
            members,
            authorize: self.settings.authorize.clone(),
            token: Place::named(&self.settings.token),
            register: self.settings.credentials.is_some().then_some(Registration::Ours),
            direct: Direct::default(),
        })
    }

    fn register(&self, idp: &Idp, known: &Description, client: &NewClient<'_>) -> Result<Told, Trouble> {
        if known.register.is_none() {
            return Err(Trouble::Client(LoginFault::NoRegistration));
        }
        let asked = Client::read(client.body).map_err(Trouble::Client)?;
        let random = |bytes: usize| random(bytes).map_err(Trouble::Client);
        let (id, secret, suffix) = (random(15)?, random(32)?, random(4)?);
        let application = self.application(&asked, &id, &secret, &suffix).to_string();
        self.create(idp, application.as_bytes(), client.now).map_err(Trouble::Provider)?;
        let mut answer = json!({
            "client_id": id,
            "client_id_issued_at": client.now.0,
            "client_name": asked.name,
            "redirect_uris": asked.redirects,
            "grant_types": asked.grants,
            "response_types": ["code"],
            "token_endpoint_auth_method": asked.method,
        });
        if asked.method != "none"
            && let Some(members) = answer.as_object_mut()
        {
            members.insert("client_secret".to_owned(), secret.into());
            members.insert("client_secret_expires_at".to_owned(), 0.into());
        }
        Ok(Told { status: 201, body: answer.to_string().into_bytes(), retry_after: None, challenge: None })
    }
}

impl Client {
    /// RFC 7591 section 2, as far as an application has it.
    fn read(body: &[u8]) -> Result<Self, LoginFault> {
        let Ok(Value::Object(asked)) = serde_json::from_slice::<Value>(body) else {
            return Err(LoginFault::ClientMetadata("the body is no JSON object"));
        };
        let redirects =
            texts(&asked, "redirect_uris", LoginFault::RedirectUri("redirect_uris is no list of URIs"))?;
        let redirects = redirects.unwrap_or_default();
        if redirects.is_empty() || redirects.len() > LOGIN_REDIRECTS_MAX {
            return Err(LoginFault::RedirectUri("redirect_uris needs one URI, and not too many"));
        }
        if !redirects.iter().all(|uri| is_redirect(uri)) {
            return Err(LoginFault::RedirectUri(
                "a redirect URI must be https, of loopback, or of an app's own scheme",
            ));
        }
        let wrong = |words| LoginFault::ClientMetadata(words);
        let grants = texts(&asked, "grant_types", wrong("grant_types is no list"))?;
        let mut grants = grants.unwrap_or_else(|| vec!["authorization_code".to_owned()]);
        grants.retain(|grant| GRANTS.contains(&grant.as_str()));
        if !grants.iter().any(|grant| grant == "authorization_code") {
            return Err(wrong("grant_types must hold authorization_code"));
        }
        grants.dedup();
        let responses = texts(&asked, "response_types", wrong("response_types is no list"))?;
        if responses.is_some_and(|responses| !responses.iter().any(|response| response == "code")) {
            return Err(wrong("response_types must hold code"));
        }
        let method = match asked.get("token_endpoint_auth_method") {
            None => "client_secret_basic", // RFC 7591 section 2
            Some(Value::String(method)) if METHODS.contains(&method.as_str()) => method,
            Some(_) => {
                return Err(wrong(
                    "token_endpoint_auth_method must be none, client_secret_basic or client_secret_post",
                ));
            }
        };
        let name = asked.get("client_name").and_then(Value::as_str).unwrap_or_default();
        Ok(Self { name: proper_name(name), redirects, grants, method: method.to_owned() })
    }
}

fn texts(
    asked: &Map<String, Value>,
    name: &str,
    fault: LoginFault,
) -> Result<Option<Vec<String>>, LoginFault> {
    match asked.get(name) {
        None => Ok(None),
        Some(Value::Array(values)) => {
            let texts: Option<Vec<_>> =
                values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
            texts.map(Some).ok_or(fault)
        }
        Some(_) => Err(fault),
    }
}

/// Letters, digits and a few marks: what an application's name may hold.
fn proper_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let words: String = name.chars().map(|c| if fits(c) { c } else { ' ' }).collect();
    let words: Vec<&str> = words.split_whitespace().collect();
    let name: String = words.join(" ").chars().take(LOGIN_NAME_CHARS_MAX).collect();
    if name.is_empty() { "MCP client".to_owned() } else { name.trim_end().to_owned() }
}

/// ASR-09: https, http on loopback, or a scheme of an app (RFC 8252 section 7.1). No fragment (RFC 6749 section 3.1.2),
/// and nothing that would begin a regular expression of Asgardeo's.
fn is_redirect(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else { return false };
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b);
    if uri.len() > LOGIN_URI_BYTES_MAX || !rest.bytes().all(plain) || rest.is_empty() {
        return false;
    }
    let of_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(of_scheme) {
        return false;
    }
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" && scheme != "http" {
        return !NOT_FOR_REDIRECTS.contains(&scheme.as_str());
    }
    let Ok(parsed) = uri.parse::<Uri>() else { return false };
    let host = parsed.host().unwrap_or_default();
    let user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if host.is_empty() || user || !rest.starts_with("//") {
        return false;
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let loopback = bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    scheme == "https" || loopback
}

/// Asgardeo takes one callback URL, or one regular expression. A client's URIs are literal, so in an expression each
/// character that could mean something is escaped.
fn callback(redirects: &[String]) -> String {
    if let [one] = redirects {
        return one.clone();
    }
    let escaped: Vec<String> = redirects
        .iter()
        .map(|uri| {
            let mut out = String::with_capacity(uri.len() + 8);
            for c in uri.chars() {
                if !c.is_ascii_alphanumeric() && !"/:_-%&=@~".contains(c) {
                    out.push('\\');
                }
                out.push(c);
            }
            out
        })
        .collect();
    format!("regexp=({})", escaped.join("|"))
}

/// So many bytes of the system's random source, in hexadecimal digits, which every rule about client ids allows.
fn random(bytes: usize) -> Result<String, LoginFault> {
    let mut random = vec![0_u8; bytes];
    SystemRandom::new().fill(&mut random).map_err(|_| LoginFault::Busy)?;
    let mut text = String::with_capacity(bytes * 2);
    for b in random {
        let _ = write!(text, "{b:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ASR-09.
    #[test]
    fn redirect_uris_are_https_loopback_or_an_apps_own() {
        for (uri, good) in [
            ("https://app.example/callback?x=1", true),
            ("http://127.0.0.1:33418/", true),
            ("http://localhost/callback", true),
            ("http://[::1]:8080/cb", true),
            ("cursor://anysphere.cursor-retrieval/oauth/callback", true),
            ("com.example.app:/oauth", true),
            ("http://app.example/callback", false),
            ("http://localhost.evil.example/", false),
            ("http://localhost@evil.example/", false),
            ("https://a:b@app.example/", false),
            ("https:///x", false),
            ("https:app.example", false),
            ("https://app.example/#x", false),
            ("https://app.example/a b", false),
            ("javascript:alert(1)", false),
            ("DATA:text/html,x", false),
            ("regexp=(https://evil.example/.*)", false),
            ("regexp=.*", false),
            ("/callback", false),
            ("", false),
        ] {
            assert_eq!(is_redirect(uri), good, "{uri}");
        }
        assert!(!is_redirect(&format!("https://a/{}", "x".repeat(LOGIN_URI_BYTES_MAX))));
    }

    /// A dot is a dot, and a bar between two URIs is the only one.
    #[test]
    fn several_redirect_uris_become_an_expression_of_literals() {
        let uris = ["https://a.example/cb?x=(1)+*", "app.x:/cb$"].map(str::to_owned);
        assert_eq!(callback(&uris), r"regexp=(https://a\.example/cb\?x=\(1\)\+\*|app\.x:/cb\$)");
        assert_eq!(callback(&uris[..1]), uris[0]);
    }

    #[test]
    fn a_registration_is_read_as_rfc_7591_has_it() {
        let uris = r#""redirect_uris":["http://127.0.0.1:1/cb"]"#;
        let uri = |words: &LoginFault| matches!(words, LoginFault::RedirectUri(_));
        let metadata = |words: &LoginFault| matches!(words, LoginFault::ClientMetadata(_));
        for body in ["{}", r#"{"redirect_uris":[]}"#, r#"{"redirect_uris":"x"}"#, r#"{"redirect_uris":[1]}"#]
        {
            assert!(uri(&Client::read(body.as_bytes()).unwrap_err()), "{body}");
        }
        for rest in [
            r#""grant_types":["client_credentials"]"#,
            r#""grant_types":"authorization_code""#,
            r#""response_types":["token"]"#,
            r#""token_endpoint_auth_method":"private_key_jwt""#,
            r#""token_endpoint_auth_method":1"#,
        ] {
            let body = format!("{{{uris},{rest}}}");
            assert!(metadata(&Client::read(body.as_bytes()).unwrap_err()), "{body}");
        }
        assert!(metadata(&Client::read(b"[]").unwrap_err()));
        let body = format!(
            r#"{{{uris},"client_name":"<b>M\u0000y</b>  cl\u00efent","grant_types":["authorization_code","refresh_token","urn:x"]}}"#
        );
        let client = Client::read(body.as_bytes()).unwrap();
        assert_eq!(client.name, "b M y b cl ent");
        assert_eq!((client.grants.len(), client.method.as_str()), (2, "client_secret_basic"));
    }

    /// Not from a clock or a counter, and never twice.
    #[test]
    fn secrets_differ() {
        let (one, two) = (random(32).unwrap(), random(32).unwrap());
        assert!(one != two && one.len() == 64 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
