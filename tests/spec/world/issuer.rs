//! An issuer with real keys, whose key set can be changed, counted and taken away.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

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
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256, Sha512};

/// The keys of the tests, made once and worth nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    One,
    Two,
    Stranger,
    P256,
    P384,
    Ed25519,
}

impl Key {
    fn rsa(self) -> &'static PrivateKey {
        static KEYS: [OnceLock<PrivateKey>; 3] = [const { OnceLock::new() }; 3];
        let (place, pem) = match self {
            Self::One => (0, include_str!("keys/rsa2048-one.pem")),
            Self::Two => (1, include_str!("keys/rsa2048-two.pem")),
            Self::Stranger => (2, include_str!("keys/rsa2048-stranger.pem")),
            Self::P256 | Self::P384 | Self::Ed25519 => panic!("{self:?} is no RSA key"),
        };
        KEYS[place].get_or_init(|| PrivateKey::from_pkcs8_pem(pem).unwrap())
    }

    pub fn kid(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Stranger => "stranger",
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
        }
    }

    fn ecdsa(self) -> &'static EcdsaKeyPair {
        static KEYS: [OnceLock<EcdsaKeyPair>; 2] = [const { OnceLock::new() }; 2];
        let (place, algorithm) = match self {
            Self::P256 => (0, &ECDSA_P256_SHA256_FIXED_SIGNING),
            _ => (1, &ECDSA_P384_SHA384_FIXED_SIGNING),
        };
        KEYS[place].get_or_init(|| {
            let made = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &SystemRandom::new()).unwrap()
        })
    }

    fn ed25519() -> &'static Ed25519KeyPair {
        static KEY: OnceLock<Ed25519KeyPair> = OnceLock::new();
        KEY.get_or_init(|| {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()
        })
    }

    fn sign(self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let (scheme, digest) = match (self, algorithm) {
            (Self::P256 | Self::P384, _) => {
                return self.ecdsa().sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
            }
            (Self::Ed25519, _) => return Self::ed25519().sign(message).as_ref().to_vec(),
            (_, "PS256") => return self.rsa().pss_sign::<Sha256>(message).unwrap(),
            (_, "RS512") => (Pkcs1v15Sign::new::<Sha512>(), Sha512::digest(message).to_vec()),
            _ => (Pkcs1v15Sign::new::<Sha256>(), Sha256::digest(message).to_vec()),
        };
        self.rsa().sign(scheme, &digest).unwrap()
    }

    /// As an issuer publishes it: RSA keys for this algorithm, the others for that of their curve.
    pub fn jwk_for(self, algorithm: &str) -> Value {
        match self {
            Self::P256 | Self::P384 => {
                let point = &self.ecdsa().public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if self == Self::P256 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "use": "sig", "crv": curve, "kid": self.kid(), "x": b64(x), "y": b64(y) })
            }
            Self::Ed25519 => {
                let x = b64(Self::ed25519().public_key().as_ref());
                json!({ "kty": "OKP", "use": "sig", "crv": "Ed25519", "kid": self.kid(), "x": x })
            }
            _ => {
                let mut jwk = self.jwk(algorithm);
                jwk["alg"] = algorithm.into();
                jwk
            }
        }
    }

    fn jwk(self, kid: &str) -> Value {
        let bytes = self.rsa().n().to_be_bytes();
        let modulus: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
        json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": b64(modulus), "e": "AQAB" })
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token in the making: good unless told otherwise.
#[derive(Clone, Debug)]
pub struct Token {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    key: Key,
}

impl Token {
    pub fn new(issuer: &str, audience: &str, now: i64) -> Self {
        let header = json!({ "alg": "RS256", "typ": "at+jwt", "kid": Key::One.kid() });
        let claims = json!({
            "iss": issuer, "aud": audience, "sub": "alice", "client_id": "client",
            "iat": now, "exp": now + 300, "jti": "1", "scope": "",
        });
        let object = |value: Value| value.as_object().unwrap().clone();
        Self { header: object(header), claims: object(claims), key: Key::One }
    }

    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    pub fn head(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    pub fn subject(self, subject: &str) -> Self {
        self.claim("sub", subject)
    }

    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    pub fn kid(self, kid: &str) -> Self {
        self.head("kid", kid)
    }

    /// Signed by another key than the issuer's, under whatever `kid` the header says.
    pub fn signed_by(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// Signed by an algorithm, with the key that goes with it, under the name of that key.
    pub fn signed_with(self, algorithm: &str) -> Self {
        let key = match algorithm {
            "ES256" => Key::P256,
            "ES384" => Key::P384,
            "EdDSA" => Key::Ed25519,
            _ => return self.head("alg", algorithm).kid(algorithm),
        };
        self.head("alg", algorithm).kid(key.kid()).signed_by(key)
    }

    /// The compact form.
    pub fn compact(&self) -> String {
        let part = |map: &Map<String, Value>| b64(serde_json::to_vec(map).unwrap());
        let message = format!("{}.{}", part(&self.header), part(&self.claims));
        let algorithm = self.header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let signature = self.key.sign(algorithm, message.as_bytes());
        format!("{message}.{}", b64(signature))
    }
}

/// A running issuer.
pub struct Issuer {
    pub url: String,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Each with the `kid` under which it is published.
    keys: Mutex<Vec<(Key, &'static str)>>,
    /// What is answered to other paths: status and body.
    documents: Mutex<HashMap<String, (u16, String)>>,
    asked: Mutex<Vec<String>>,
    fetches: AtomicUsize,
    down: AtomicBool,
    slow: Mutex<Duration>,
    stopped: AtomicBool,
}

impl Issuer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { keys: Mutex::new(vec![(Key::One, Key::One.kid())]), ..Shared::default() });
        let serving = Arc::clone(&shared);
        thread::Builder::new()
            .spawn(move || {
                for stream in listener.incoming() {
                    if serving.stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    serving.answer(stream.unwrap());
                }
            })
            .unwrap();
        Self { url: format!("http://{addr}"), addr, shared }
    }

    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.url)
    }

    pub fn set_keys(&self, keys: &[Key]) {
        *self.shared.keys.lock().unwrap() = keys.iter().map(|key| (*key, key.kid())).collect();
    }

    /// Publishes one key, under a `kid` that may have been another's.
    pub fn set_key_as(&self, key: Key, kid: &'static str) {
        *self.shared.keys.lock().unwrap() = vec![(key, kid)];
    }

    /// Answers requests for `path` with this.
    pub fn serve(&self, path: &str, status: u16, body: &Value) {
        self.shared.documents.lock().unwrap().insert(path.into(), (status, body.to_string()));
    }

    /// The paths that were asked for since the last time, but for the key set.
    pub fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// While it is down, every request is answered 500.
    pub fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::SeqCst);
    }

    /// Answers take that long.
    pub fn set_slow(&self, slow: Duration) {
        *self.shared.slow.lock().unwrap() = slow;
    }

    /// How often the key set was asked for.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap().take(64 * 1024));
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line.trim_end() != "" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
        }
        let slow = *self.slow.lock().unwrap();
        thread::sleep(slow);
        let (status, body) = if self.down.load(Ordering::SeqCst) {
            (500, "down".to_owned())
        } else if path == "/jwks" {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            let keys: Vec<_> = self.keys.lock().unwrap().iter().map(|(key, kid)| key.jwk(kid)).collect();
            (200, json!({ "keys": keys }).to_string())
        } else {
            let found = self.documents.lock().unwrap().get(&path).cloned();
            self.asked.lock().unwrap().push(path);
            found.unwrap_or((404, String::new()))
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}
