//! Makes the tokens of a run: good ones, forged ones, and some whose key nobody knows.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use open_mcp_auth_proxy::clock::system_since_epoch;
use rsa::PrivateKey;
use rsa::pkcs1v15::Pkcs1v15Sign;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// What the tokens are for.
pub const AUDIENCE: &str = "https://mcp.example.com/mcp";
/// How many are sent in rotation.
pub const MANY: usize = 1000;
const KID: &str = "one";
const SECONDS: u64 = 2 * 3600;

/// The issuer's key: that of the tests, worth nothing.
pub struct Minter {
    key: PrivateKey,
    stranger: PrivateKey,
    issuer: String,
}

/// The files that `load.lua` reads, one token a line.
pub struct Files {
    pub none: PathBuf,
    pub one: PathBuf,
    pub many: PathBuf,
    pub forged: PathBuf,
    pub unknown: PathBuf,
}

impl Files {
    /// The file of a scenario's tokens.
    pub fn named(&self, tokens: &str) -> &Path {
        match tokens {
            "1" => &self.one,
            "1000" => &self.many,
            "forged" => &self.forged,
            "unknown" => &self.unknown,
            _ => &self.none,
        }
    }
}

impl Minter {
    pub fn new(issuer: String) -> Self {
        let key = |pem| PrivateKey::from_pkcs8_pem(pem).expect("a key of the tests");
        Self {
            key: key(include_str!("../../tests/spec/world/keys/rsa2048-one.pem")),
            stranger: key(include_str!("../../tests/spec/world/keys/rsa2048-stranger.pem")),
            issuer,
        }
    }

    /// The key set (RFC 7517 section 5).
    pub fn jwks(&self) -> String {
        let modulus = self.key.n().to_be_bytes();
        let modulus: Vec<u8> = modulus.iter().copied().skip_while(|byte| *byte == 0).collect();
        let n = URL_SAFE_NO_PAD.encode(modulus);
        json!({ "keys": [{ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, "n": n, "e": "AQAB" }] })
            .to_string()
    }

    /// The public key for whoever wants it in a file.
    pub fn public_pem(&self) -> String {
        self.key.to_public_key().to_public_key_pem(LineEnding::LF).expect("a public key has a PEM form")
    }

    pub fn good(&self, subject: &str) -> String {
        self.token(&self.key, subject, KID)
    }

    fn token(&self, key: &PrivateKey, subject: &str, kid: &str) -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let now = system_since_epoch().as_secs();
        let header = part(json!({ "alg": "RS256", "typ": "at+jwt", "kid": kid }));
        let claims = part(json!({
            "iss": self.issuer, "aud": AUDIENCE, "sub": subject, "client_id": "bench", "jti": subject,
            "iat": now, "exp": now + SECONDS, "scope": "mcp_echo mcp_resources",
        }));
        let message = format!("{header}.{claims}");
        let signature = key.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(&message)).expect("signed");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Writes all token files into `dir`.
    pub fn write(&self, dir: &Path) -> Files {
        let file = |name: &str, tokens: Vec<String>| {
            let path = dir.join(name);
            fs::write(&path, tokens.join("\n")).expect("the directory can be written");
            path
        };
        let many = |token: &dyn Fn(usize) -> String| (0..MANY).map(token).collect();
        Files {
            none: file("none", Vec::new()),
            one: file("one", vec![self.good("alice")]),
            many: file("many", many(&|n| self.good(&format!("user-{n}")))),
            // Under the right key's modulus, as only such a number costs the whole verification.
            forged: file("forged", vec![spoiled(&self.good("mallory"))]),
            unknown: file(
                "unknown",
                many(&|n| self.token(&self.stranger, &format!("user-{n}"), &format!("k{n}"))),
            ),
        }
    }
}

/// The token with another signature, of which the first octets are right.
fn spoiled(token: &str) -> String {
    let (before, rest) = token.split_at(token.len() - 200);
    format!("{before}AAAAAAAA{}", &rest[8..])
}
