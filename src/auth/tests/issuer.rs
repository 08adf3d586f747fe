//! An issuer for this module's tests: real keys, real signatures, any header and claims; and the configuration and
//! requests that go with it.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::PrivateKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::auth::scope::ScopeSet;
use crate::clock::Timestamp;
use crate::config::{
    Algorithm, BaseUrl, Config, Cors, Issuer, Limits, Mcp20250326, Paths, PublicUrl, Resource, ScopeRules,
    TokenTypePolicy, Upstream,
};
use crate::edge::http1::Incoming;
use crate::log::Level;

/// The keys of the tests, made once and worth nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TestKey {
    One,
    Two,
    Stranger,
    Short,
}

impl TestKey {
    fn private(self) -> &'static PrivateKey {
        static KEYS: [OnceLock<PrivateKey>; 4] = [const { OnceLock::new() }; 4];
        let (place, pem) = match self {
            Self::One => (0, include_str!("../../../tests/spec/world/keys/rsa2048-one.pem")),
            Self::Two => (1, include_str!("../../../tests/spec/world/keys/rsa2048-two.pem")),
            Self::Stranger => (2, include_str!("../../../tests/spec/world/keys/rsa2048-stranger.pem")),
            Self::Short => (3, include_str!("../../../tests/spec/world/keys/rsa1024.pem")),
        };
        KEYS[place].get_or_init(|| PrivateKey::from_pkcs8_pem(pem).unwrap())
    }

    pub(crate) fn modulus(self) -> Vec<u8> {
        let bytes = self.private().n().to_be_bytes();
        bytes.iter().copied().skip_while(|b| *b == 0).collect()
    }

    pub(crate) fn jwk(self, kid: &str) -> Value {
        json!({ "kty": "RSA", "kid": kid, "n": b64(self.modulus()), "e": "AQAB" })
    }

    pub(crate) fn sign(self, algorithm: &str, message: &str) -> Vec<u8> {
        let (scheme, digest) = match algorithm {
            "RS384" => (Pkcs1v15Sign::new::<Sha384>(), Sha384::digest(message).to_vec()),
            "RS512" => (Pkcs1v15Sign::new::<Sha512>(), Sha512::digest(message).to_vec()),
            _ => (Pkcs1v15Sign::new::<Sha256>(), Sha256::digest(message).to_vec()),
        };
        self.private().sign(scheme, &digest).unwrap()
    }
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these texts, signed by `key` as `algorithm`, whatever the header says.
pub(crate) fn signed(key: TestKey, algorithm: &str, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = b64(key.sign(algorithm, &message));
    format!("{message}.{signature}")
}

/// An RS256 token of [`TestKey::One`] under the name `one`.
pub(crate) fn token(claims: &Value) -> String {
    signed(TestKey::One, "RS256", r#"{"alg":"RS256","kid":"one","typ":"at+jwt"}"#, &claims.to_string())
}

/// The key set of these keys.
pub(crate) fn key_set(keys: &[(TestKey, &str)]) -> String {
    json!({ "keys": keys.iter().map(|(key, kid)| key.jwk(kid)).collect::<Vec<_>>() }).to_string()
}

pub(in crate::auth) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(in crate::auth) const ISSUER: &str = "https://idp.example/realms/a";
pub(in crate::auth) const AUDIENCE: &str = "https://mcp.example/mcp";

pub(in crate::auth) fn config(issuers: Vec<Issuer>) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        public: PublicUrl { scheme: "https".into(), authority: "mcp.example".into(), prefix: String::new() },
        paths: Paths { streamable_http: "/mcp".into(), sse: "/sse".into(), messages: "/messages/".into() },
        upstream: Upstream::Http {
            base: BaseUrl { tls: false, host: "127.0.0.1".into(), port: 1, prefix: String::new() },
            first_byte_timeout: std::time::Duration::from_secs(1),
            authorization: None,
        },
        resource: Resource {
            identifier: AUDIENCE.into(),
            authorization_servers: vec![ISSUER.into()],
            scopes_supported: ScopeSet::default(),
            bearer_methods_supported: vec!["header".into()],
            jwks_uri: None,
            extra: Vec::new(),
        },
        issuers,
        login: None,
        scopes: ScopeRules::default(),
        cors: Cors::default(),
        allowed_hosts: Vec::new(),
        leeway_seconds: 60,
        token_type: TokenTypePolicy::Compatible,
        required_claims: Vec::new(),
        mcp_2025_03_26: Mcp20250326::Strict,
        identity_headers: false,
        session_key: None,
        ca_file: None,
        limits: Limits::default(),
        log_level: Level::Debug,
        log_format: crate::log::Format::Text,
    }
}

pub(in crate::auth) fn trusted(issuer: &str) -> Issuer {
    Issuer {
        issuer: issuer.into(),
        jwks_uri: None,
        audiences: vec![AUDIENCE.into(), "Client-1".into()],
        algorithms: vec![Algorithm::Rs256, Algorithm::Rs384],
    }
}

pub(in crate::auth) fn request(fields: &str) -> Incoming {
    let head = format!("GET /mcp HTTP/1.1\r\nHost: mcp.example\r\n{fields}\r\n");
    Incoming::parse(head.as_bytes(), [127, 0, 0, 1].into(), 0).unwrap().unwrap().0
}

pub(in crate::auth) fn bearing(token: &str) -> Incoming {
    request(&format!("Authorization: Bearer {token}\r\n"))
}

pub(in crate::auth) fn good() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "scope": "a b",
        "iat": NOW.0 - 10, "exp": NOW.0 + 300, "jti": "1"
    })
}

/// The good claims with one more, or another; `Value::Null` takes it away.
pub(in crate::auth) fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = good();
    match value.into() {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}
