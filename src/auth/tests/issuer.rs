//! An issuer for this module's tests: real keys, real signatures, any header and claims; and the configuration and
//! requests that go with it.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use rsa::PrivateKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::auth::scope::ScopeSet;
use crate::clock::Timestamp;
use crate::config::{
    Algorithm, Allowed, BaseUrl, Config, Cors, Issuer, Limits, Mcp20250326, Paths, PublicUrl, Resource,
    ScopeRules, TokenTypePolicy, Upstream,
};
use crate::edge::http1::Incoming;
use crate::log::Level;

/// The keys of the tests, worth nothing: RSA keys made once, and keys on curves made at each start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TestKey {
    One,
    Two,
    Stranger,
    Short,
    P256,
    P384,
    Ed25519,
}

impl TestKey {
    fn rsa(self) -> &'static PrivateKey {
        static KEYS: [OnceLock<PrivateKey>; 4] = [const { OnceLock::new() }; 4];
        let (place, pem) = match self {
            Self::One => (0, include_str!("../../../tests/spec/world/keys/rsa2048-one.pem")),
            Self::Two => (1, include_str!("../../../tests/spec/world/keys/rsa2048-two.pem")),
            Self::Stranger => (2, include_str!("../../../tests/spec/world/keys/rsa2048-stranger.pem")),
            Self::Short => (3, include_str!("../../../tests/spec/world/keys/rsa1024.pem")),
            Self::P256 | Self::P384 | Self::Ed25519 => panic!("{self:?} is no RSA key"),
        };
        KEYS[place].get_or_init(|| PrivateKey::from_pkcs8_pem(pem).unwrap())
    }

    fn ecdsa(self) -> &'static EcdsaKeyPair {
        static KEYS: [OnceLock<EcdsaKeyPair>; 2] = [const { OnceLock::new() }; 2];
        let (place, algorithm) = match self {
            Self::P256 => (0, &ECDSA_P256_SHA256_FIXED_SIGNING),
            _ => (1, &ECDSA_P384_SHA384_FIXED_SIGNING),
        };
        KEYS[place].get_or_init(|| {
            let random = SystemRandom::new();
            let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap()
        })
    }

    fn ed25519() -> &'static Ed25519KeyPair {
        static KEY: OnceLock<Ed25519KeyPair> = OnceLock::new();
        KEY.get_or_init(|| {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()
        })
    }

    pub(crate) fn modulus(self) -> Vec<u8> {
        let bytes = self.rsa().n().to_be_bytes();
        bytes.iter().copied().skip_while(|b| *b == 0).collect()
    }

    /// Without `alg`, `use` and `key_ops`.
    pub(crate) fn jwk(self, kid: &str) -> Value {
        match self {
            Self::P256 | Self::P384 => {
                let point = self.ecdsa().public_key().as_ref().split_at(1).1;
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if matches!(self, Self::P256) { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y) })
            }
            Self::Ed25519 => {
                let x = b64(Self::ed25519().public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x })
            }
            _ => json!({ "kty": "RSA", "kid": kid, "n": b64(self.modulus()), "e": "AQAB" }),
        }
    }

    /// As [`TestKey::jwk`], with `alg`.
    pub(crate) fn jwk_for(self, kid: &str, algorithm: &str) -> Value {
        let mut jwk = self.jwk(kid);
        jwk["alg"] = algorithm.into();
        jwk
    }

    /// A key on a curve signs as its curve wants, whatever the algorithm is called.
    pub(crate) fn sign(self, algorithm: &str, message: &str) -> Vec<u8> {
        match self {
            Self::P256 | Self::P384 => {
                let signature = self.ecdsa().sign(&SystemRandom::new(), message.as_bytes()).unwrap();
                return signature.as_ref().to_vec();
            }
            Self::Ed25519 => return Self::ed25519().sign(message.as_bytes()).as_ref().to_vec(),
            _ => {}
        }
        let (scheme, digest) = match algorithm {
            "PS256" => return self.rsa().pss_sign::<Sha256>(message.as_bytes()).unwrap(),
            "PS384" => return self.rsa().pss_sign::<Sha384>(message.as_bytes()).unwrap(),
            "PS512" => return self.rsa().pss_sign::<Sha512>(message.as_bytes()).unwrap(),
            "RS384" => (Pkcs1v15Sign::new::<Sha384>(), Sha384::digest(message).to_vec()),
            "RS512" => (Pkcs1v15Sign::new::<Sha512>(), Sha512::digest(message).to_vec()),
            _ => (Pkcs1v15Sign::new::<Sha256>(), Sha256::digest(message).to_vec()),
        };
        self.rsa().sign(scheme, &digest).unwrap()
    }

    /// PS256 as RFC 7518 section 3.5 does not want it, unless the salt is 32 bytes long.
    pub(crate) fn sign_pss_with_salt(self, message: &str, salt: usize) -> Vec<u8> {
        use rsa::signature::{SignatureEncoding as _, Signer as _};
        let signer = rsa::pss::SigningKey::<Sha256>::new_with_salt_len(self.rsa().clone(), salt);
        signer.sign(message.as_bytes()).to_vec()
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
            base: BaseUrl {
                tls: false,
                host: "127.0.0.1".into(),
                port: 1,
                prefix: String::new(),
                socket: None,
            },
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
        trusted_proxies: Vec::new(),
        streams_outlive_token: false,
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
        algorithms: Allowed::Listed(vec![Algorithm::Rs256, Algorithm::Rs384]),
        ..Issuer::default()
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
