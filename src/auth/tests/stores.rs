//! Key sets over a real socket on loopback, with a clock that is set by hand.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::issuer::{ISSUER, NOW, TestKey, b64, bearing, config, key_set, signed, token, trusted, with};
use crate::auth::fault::TokenFault;
use crate::auth::keys::{KeyStore, Newer, StartFault};
use crate::auth::{AuthError, Authenticator, Denied};
use crate::clock::{Clock, Timestamp};
use crate::config::{Algorithm, Allowed, Issuer};
use crate::limits::{
    JWKS_ASKS_MAX, JWKS_BYTES_MAX, JWKS_COOLDOWN_SECONDS, JWKS_REFRESH_SECONDS, JWKS_STALE_SECONDS_MAX,
    JWKS_WAIT_MAX,
};
use crate::log::{Level, Log};

/// What the issuer answers to a path: status, further head lines, body. `None` closes the connection.
type Answers = dyn Fn(&str) -> Option<(u16, String, String)> + Send + Sync;

/// An HTTP server that answers one request per connection and counts them.
struct Idp {
    url: String,
    hits: Arc<AtomicUsize>,
    answers: Arc<Mutex<Arc<Answers>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Idp {
    fn start(answers: impl Fn(&str) -> Option<(u16, String, String)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (hits, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let answers: Arc<Mutex<Arc<Answers>>> = Arc::new(Mutex::new(Arc::new(answers)));
        let shared = (Arc::clone(&hits), Arc::clone(&answers), Arc::clone(&stop));
        let serve = move || {
            let (hits, answers, stop) = shared;
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                hits.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&answers.lock().unwrap());
                serve_one(&mut stream.unwrap(), &*answer);
            }
        };
        let thread = thread::Builder::new().name("idp".into()).spawn(serve).unwrap();
        Self { url, hits, answers, stop, thread: Some(thread) }
    }

    fn serving(keys: &[(TestKey, &str)]) -> Self {
        let body = key_set(keys);
        Self::start(move |_| Some((200, String::new(), body.clone())))
    }

    fn answer(&self, answers: impl Fn(&str) -> Option<(u16, String, String)> + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(answers);
    }

    fn serve(&self, keys: &[(TestKey, &str)]) {
        let body = key_set(keys);
        self.answer(move |_| Some((200, String::new(), body.clone())));
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve_one(stream: &mut (impl Read + Write), answer: &Answers) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
    if let Some((status, lines, body)) = answer(&path) {
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{lines}\r\n",
            body.len()
        );
        let _ = stream.write_all((head + &body).as_bytes()).and_then(|()| stream.flush());
    }
}

struct Bench {
    store: Arc<KeyStore>,
    auth: Authenticator,
    clock: Clock,
    log: Log,
}

impl Bench {
    fn new(issuers: Vec<Issuer>, ca_file: Option<&Path>) -> Self {
        let (clock, log) = (Clock::fixed(NOW), Log::to_memory(Level::Debug));
        let store = Arc::new(KeyStore::start(&issuers, ca_file, &clock, &log).unwrap());
        let auth = Authenticator::new(&config(issuers), Arc::clone(&store), log.clone());
        Self { store, auth, clock, log }
    }

    /// With the keys at a URL that is written down.
    fn at(url: &str) -> Self {
        Self::new(vec![Issuer { jwks_uri: Some(format!("{url}/jwks")), ..trusted(ISSUER) }], None)
    }

    fn try_token(&self, token: &str) -> u16 {
        match self.auth.authenticate(&bearing(token), self.clock.now()) {
            Ok(_) => 200,
            Err(AuthError::Denied(denied)) => denied.status(),
            Err(AuthError::KeysUnavailable | AuthError::IntrospectionUnavailable) => 503,
        }
    }

    fn pass(&self, seconds: i64) {
        self.clock.set(self.clock.now().plus(seconds));
    }
}

/// A token that is good for longer than any test lets pass.
fn lasting(key: TestKey, kid: &str, sub: &str) -> String {
    let mut claims = with("exp", NOW.0 + 1_000_000);
    claims["sub"] = sub.into();
    signed(key, "RS256", &format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#), &claims.to_string())
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// D8, D9: 503 and not 401 while the keys could never be fetched; then 200 without a restart.
#[test]
fn an_issuer_that_is_down_at_start_is_asked_again() {
    let idp = Idp::start(|_| Some((500, String::new(), "oops".into())));
    let bench = Bench::at(&idp.url);
    let good = lasting(TestKey::One, "one", "alice");
    assert_eq!(idp.hits(), 0, "nothing is fetched before it is needed");
    assert_eq!(bench.try_token(&good), 503);
    idp.answer(|_| None);
    assert_eq!((bench.try_token(&good), idp.hits()), (503, 2));
    for _ in 0..10 {
        assert_eq!((bench.try_token(&good), idp.hits()), (503, 2), "JWKS_ASKS_MAX, and no more");
    }
    idp.serve(&[(TestKey::One, "one")]);
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!(bench.try_token(&good), 200);
    assert_eq!(bench.try_token("a.b.c"), 401);
    let log = bench.log.text();
    assert_eq!(log.matches("keys cannot be fetched").count(), 1, "{log}");
    assert!(
        log.contains("answered 500; check jwks_uri") && log.contains("keys can be fetched again"),
        "{log}"
    );
}

/// D9: rotation without a restart, and a failed fetch loses no keys.
#[test]
fn new_keys_are_found_and_old_ones_outlive_an_outage() {
    let idp = Idp::serving(&[(TestKey::One, "one")]);
    let bench = Bench::at(&idp.url);
    let (old, new) = (lasting(TestKey::One, "one", "alice"), lasting(TestKey::Two, "two", "alice"));
    assert_eq!(bench.try_token(&old), 200);
    idp.serve(&[(TestKey::One, "one"), (TestKey::Two, "two")]);
    assert_eq!((bench.try_token(&new), bench.try_token(&old), idp.hits()), (200, 200, 2), "at once");
    // An outage: both go on, those that are not remembered too.
    idp.answer(|_| None);
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!(bench.try_token(&lasting(TestKey::One, "three", "alice")), 401);
    assert_eq!(bench.try_token(&lasting(TestKey::Two, "two", "bob")), 200);
    // The old key is withdrawn: its tokens end with the next fetch, the remembered ones as well.
    idp.serve(&[(TestKey::Two, "two")]);
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!(bench.try_token(&lasting(TestKey::One, "four", "alice")), 401);
    assert_eq!((bench.try_token(&old), bench.try_token(&new)), (401, 200));
}

/// D9: a new key under the same `kid`, which a look at `kid`s alone never finds. The issuer may change
/// it as often as it likes, and a forgery in between keeps nobody out.
#[test]
fn a_new_key_under_an_old_name_is_found() {
    let idp = Idp::serving(&[(TestKey::One, "one")]);
    let bench = Bench::at(&idp.url);
    assert_eq!(bench.try_token(&lasting(TestKey::One, "one", "alice")), 200);
    for n in 0..6 {
        let (key, gone) =
            if n % 2 == 0 { (TestKey::Two, TestKey::One) } else { (TestKey::One, TestKey::Two) };
        idp.serve(&[(key, "one")]);
        assert_eq!(bench.try_token(&lasting(key, "one", &format!("alice {n}"))), 200);
        assert_eq!(bench.try_token(&lasting(gone, "one", &format!("bob {n}"))), 401);
    }
}

/// Where tokens have asked too often, the refusal of one that asks again is not remembered beyond the moment at which
/// the issuer may be asked.
#[test]
fn a_refusal_for_want_of_a_fetch_does_not_last() {
    let idp = Idp::serving(&[(TestKey::One, "one")]);
    let bench = Bench::at(&idp.url);
    assert_eq!(bench.try_token(&lasting(TestKey::One, "one", "alice")), 200);
    for n in 0..JWKS_ASKS_MAX {
        assert_eq!(bench.try_token(&lasting(TestKey::Stranger, "one", &format!("mallory {n}"))), 401);
    }
    idp.serve(&[(TestKey::Two, "one")]);
    let new = lasting(TestKey::Two, "one", "alice");
    assert_eq!((bench.try_token(&new), idp.hits()), (401, 3), "asked for too often");
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!((bench.try_token(&new), idp.hits()), (200, 4));
}

/// D9: unknown `kid`s and forged signatures cannot cause a flood of fetches.
#[test]
fn a_thousand_unknown_keys_cause_a_handful_of_fetches() {
    let idp = Idp::serving(&[(TestKey::One, "one")]);
    let bench = Bench::at(&idp.url);
    let real = token(&with("exp", NOW.0 + 1_000_000));
    let (_, rest) = real.split_once('.').unwrap();
    for n in 0..1000 {
        let header = b64(format!(r#"{{"alg":"RS256","kid":"k{n}"}}"#));
        assert_eq!(bench.try_token(&format!("{header}.{rest}")), 401);
        let header = b64(format!(r#"{{"alg":"RS256","kid":"one","n":{n}}}"#));
        assert_eq!(bench.try_token(&format!("{header}.{rest}")), 401);
        bench.pass(i64::from(n % 100 == 0));
    }
    assert!(idp.hits() <= 4, "{} fetches in 10 seconds", idp.hits());
    assert_eq!(bench.try_token(&real), 200);
}

/// Single-flight, [`JWKS_WAIT_MAX`] and the bound on waiting requests: an issuer that says nothing leaves some workers.
#[test]
fn a_silent_issuer_holds_some_requests_and_not_for_long() {
    let gate = Arc::new(Mutex::new(()));
    let inner = Arc::clone(&gate);
    let body = key_set(&[(TestKey::One, "one")]);
    let idp = Idp::start(move |_| {
        drop(inner.lock().unwrap());
        Some((200, String::new(), body.clone()))
    });
    let bench = Bench::at(&idp.url);
    bench.store.share_workers(8, false);
    let held = gate.lock().unwrap();
    let good = lasting(TestKey::One, "one", "alice");
    let started = Instant::now();
    let results: Vec<(u16, Duration)> = thread::scope(|scope| {
        let ask = || (bench.try_token(&good), started.elapsed());
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|(status, _)| *status == 503));
    let waited = results.iter().filter(|(_, time)| *time >= JWKS_WAIT_MAX).count();
    assert_eq!((waited, idp.hits()), (6, 1), "{results:?}");
    drop(held);
    until("the keys that arrive late count", || bench.try_token(&good) == 200);
}

/// D9: renewed in the background, without a token that asks for it; and not for ever trusted without.
#[test]
fn keys_are_renewed_and_end_when_they_cannot_be() {
    let idp = Idp::serving(&[(TestKey::One, "one")]);
    let bench = Bench::at(&idp.url);
    let good = lasting(TestKey::One, "one", "alice");
    bench.store.prefetch();
    let generation = || bench.store.current(0).map(|keys| keys.generation);
    until("the first fetch", || generation().is_some());
    let first = generation();
    // The end of a renewal that brings the same keys could not be seen from here, and the clock must not move before it.
    idp.serve(&[(TestKey::One, "one"), (TestKey::Two, "two")]);
    bench.pass(JWKS_REFRESH_SECONDS);
    bench.store.prefetch(); // wakes the thread, which would have slept by the real clock
    until("the renewal", || generation() != first);
    assert_eq!((idp.hits(), bench.try_token(&good)), (2, 200));
    idp.answer(|_| None);
    bench.pass(JWKS_STALE_SECONDS_MAX - 1);
    assert_eq!(bench.try_token(&good), 200);
    bench.pass(1);
    assert_eq!(bench.try_token(&good), 503, "remembered or not");
    idp.serve(&[(TestKey::One, "one")]);
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!(bench.try_token(&good), 200);
}

/// What comes back instead of keys is told, with what to change.
#[test]
fn every_bad_answer_is_survived_and_explained() {
    let long = "x".repeat(JWKS_BYTES_MAX + 1);
    let no_keys = || r#"{"keys":[]}"#.to_owned();
    let short = key_set(&[(TestKey::Short, "short")]);
    for (status, lines, body, told) in [
        (404, "", String::new(), "answered 404; check jwks_uri"),
        (
            301,
            "Location: https://elsewhere/\r\n",
            String::new(),
            "pointing to 'https://elsewhere/'; redirects",
        ),
        (200, "", "<html>".into(), "no key set: it is not JSON at line 1"),
        (200, "", "{}".into(), "it has no array"),
        (200, "", no_keys(), "a key set without keys"),
        (200, "", short, "its modulus has 1024 bits"),
        (200, "", long, "more than 262144 bytes"),
    ] {
        let idp = Idp::start(move |_| Some((status, lines.to_owned(), body.clone())));
        let bench = Bench::at(&idp.url);
        assert_eq!(bench.try_token(&lasting(TestKey::One, "one", "alice")), 503, "{told}");
        assert_eq!(idp.hits(), 1, "{told}");
        let log = bench.log.text();
        assert!(log.contains(told), "{told}: {log}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::at(&format!("http://{nobody}"));
    assert_eq!(bench.try_token(&lasting(TestKey::One, "one", "alice")), 503);
    assert!(bench.log.text().contains("cannot be reached"), "{}", bench.log.text());
    let bench = Bench::at("http://idp.example");
    assert_eq!(bench.try_token(&lasting(TestKey::One, "one", "alice")), 503);
    assert!(bench.log.text().contains("use https"), "{}", bench.log.text());
}

/// RFC 8414 section 3, OpenID Connect Discovery section 4.
#[test]
fn keys_are_found_by_the_issuers_metadata() {
    for (path, fetches) in [
        ("/.well-known/oauth-authorization-server/t", 2),
        ("/.well-known/openid-configuration/t", 3),
        ("/t/.well-known/openid-configuration", 4),
    ] {
        let idp = Idp::start(|_| None);
        let (issuer, body) = (format!("{}/t", idp.url), key_set(&[(TestKey::One, "one")]));
        let metadata = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{}/keys"}}"#, idp.url);
        idp.answer(move |asked| match asked {
            "/keys" => Some((200, String::new(), body.clone())),
            _ if asked == path => Some((200, String::new(), metadata.clone())),
            _ => Some((404, String::new(), String::new())),
        });
        let bench = Bench::new(vec![trusted(&issuer)], None);
        let good = token(&with("iss", issuer.as_str()));
        assert_eq!((bench.try_token(&good), idp.hits()), (200, fetches), "{path}: {}", bench.log.text());
    }
    // Somebody else's metadata leads nowhere, and all that was tried is told.
    let idp = Idp::start(|_| {
        Some((200, String::new(), r#"{"issuer":"https://evil","jwks_uri":"https://evil/"}"#.into()))
    });
    let bench = Bench::new(vec![trusted(&idp.url)], None);
    assert_eq!((bench.try_token(&token(&with("iss", idp.url.as_str()))), idp.hits()), (503, 2));
    assert_eq!(bench.log.text().matches("which is not the configured one").count(), 2);
}

/// The operator may say where the metadata is; then nothing else is asked, and its issuer must still be the right one.
#[test]
fn metadata_may_stand_elsewhere() {
    let idp = Idp::start(|_| None);
    let body = key_set(&[(TestKey::One, "one")]);
    let metadata = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{}/keys"}}"#, idp.url);
    idp.answer(move |asked| match asked {
        "/keys" => Some((200, String::new(), body.clone())),
        "/somewhere?a=b" => Some((200, String::new(), metadata.clone())),
        _ => Some((404, String::new(), String::new())),
    });
    let at = |issuer| Issuer { metadata_url: Some(format!("{}/somewhere?a=b", idp.url)), ..trusted(issuer) };
    let bench = Bench::new(vec![at(ISSUER)], None);
    assert_eq!((bench.try_token(&lasting(TestKey::One, "one", "alice")), idp.hits()), (200, 2));
    let other = Bench::new(vec![at("https://idp.example/realms/A")], None);
    assert_eq!(other.try_token(&token(&with("iss", "https://idp.example/realms/A"))), 503);
    assert!(other.log.text().contains("upper and lower case alone"), "{}", other.log.text());
}

/// Requirements section 4.3: metadata leads to its own host or into public, never to a neighbour of ours.
#[test]
fn metadata_does_not_lead_into_a_private_network() {
    for (jwks_uri, told) in [
        ("https://10.255.255.1:1/keys", "has an address that is not public"),
        ("https://169.254.169.254/latest/meta-data", "has an address that is not public"),
        ("https://[fd00::1]/keys", "has an address that is not public"),
        ("http://10.255.255.1/keys", "use https"),
        ("file:///etc/passwd", "no absolute https URL"),
    ] {
        let idp = Idp::start(|_| None);
        let metadata = format!(r#"{{"issuer":"{}","jwks_uri":"{jwks_uri}"}}"#, idp.url);
        idp.answer(move |_| Some((200, String::new(), metadata.clone())));
        let bench = Bench::new(vec![trusted(&idp.url)], None);
        let began = Instant::now();
        assert_eq!(bench.try_token(&token(&with("iss", idp.url.as_str()))), 503, "{jwks_uri}");
        assert!(bench.log.text().contains(told), "{jwks_uri}: {}", bench.log.text());
        assert!(began.elapsed() < JWKS_WAIT_MAX, "{jwks_uri} was not even tried");
    }
}

/// An issuer that moves from RSA to a curve, under the same name, in a set with broken, foreign and doubled keys.
#[test]
fn a_key_may_change_its_kind_in_a_set_that_is_not_tidy() {
    let around = |keys: &[serde_json::Value]| {
        let broken = [
            serde_json::json!({"kty": "RSA", "kid": "k", "n": "AAAA", "e": "AQAB"}),
            serde_json::json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}),
            serde_json::json!({"kty": "EC", "crv": "P-521", "kid": "k", "x": "AA", "y": "AA"}),
            serde_json::json!("k"),
        ];
        let keys = [&broken[..], keys, keys].concat();
        serde_json::json!({ "keys": keys }).to_string()
    };
    let (before, after) = (around(&[TestKey::One.jwk("k")]), around(&[TestKey::P256.jwk("k")]));
    let idp = Idp::start(move |_| Some((200, String::new(), before.clone())));
    let issuer = Issuer {
        jwks_uri: Some(format!("{}/jwks", idp.url)),
        algorithms: Allowed::Listed(vec![Algorithm::Rs256, Algorithm::Es256]),
        ..trusted(ISSUER)
    };
    let bench = Bench::new(vec![issuer], None);
    let curved =
        signed(TestKey::P256, "ES256", r#"{"alg":"ES256","kid":"k"}"#, &with("sub", "bob").to_string());
    let plain = lasting(TestKey::One, "k", "alice");
    assert_eq!((bench.try_token(&plain), bench.try_token(&curved)), (200, 401));
    idp.answer(move |_| Some((200, String::new(), after.clone())));
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!((bench.try_token(&curved), bench.try_token(&plain)), (200, 401), "{}", bench.log.text());
    for told in ["its modulus has 0 bits", "its kty is 'oct'", "its crv is 'P-521'", "it is no JSON object"] {
        assert!(bench.log.text().contains(told), "{told}: {}", bench.log.text());
    }
}

/// `algorithms: auto` takes from the metadata what an RSA key does not say.
#[test]
fn metadata_says_what_a_key_does_not() {
    for (says, algorithm) in [(r#"["PS256"]"#, "PS256"), (r#"["PS256","RS256"]"#, "RS256"), ("[]", "RS256")] {
        let idp = Idp::start(|_| None);
        let body = key_set(&[(TestKey::One, "one")]);
        let metadata = format!(
            r#"{{"issuer":"{}","jwks_uri":"{}/keys","id_token_signing_alg_values_supported":{says}}}"#,
            idp.url, idp.url
        );
        idp.answer(move |asked| match asked {
            "/keys" => Some((200, String::new(), body.clone())),
            _ => Some((200, String::new(), metadata.clone())),
        });
        let bench = Bench::new(vec![Issuer { algorithms: Allowed::Auto, ..trusted(&idp.url) }], None);
        for tried in ["RS256", "PS256"] {
            let header = format!(r#"{{"alg":"{tried}","kid":"one"}}"#);
            let token = signed(TestKey::One, tried, &header, &with("iss", idp.url.as_str()).to_string());
            let expected = if tried == algorithm { 200 } else { 401 };
            assert_eq!(bench.try_token(&token), expected, "{tried}, where the metadata says {says}");
        }
    }
}

/// One slow or dead issuer is felt by its own users alone.
#[test]
fn issuers_do_not_wait_for_each_other() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let idp = Idp::serving(&[(TestKey::One, "one")]);
    let at = |issuer: &str, url: String| Issuer { jwks_uri: Some(url), ..trusted(issuer) };
    let dead = at("https://dead", format!("http://{}/", silent.local_addr().unwrap()));
    let bench = Bench::new(vec![dead, at(ISSUER, format!("{}/", idp.url))], None);
    bench.store.prefetch();
    let started = Instant::now();
    assert_eq!(bench.try_token(&lasting(TestKey::One, "one", "alice")), 200);
    assert!(started.elapsed() < Duration::from_secs(2));
    bench.store.shutdown();
    assert!(started.elapsed() < Duration::from_secs(4), "a fetch under way does not hold up the end");
    assert!(matches!(bench.store.newer(0, None), Newer::Crowded), "after the end nobody waits");
}

/// `ca_file` adds a root; without it the same server is a stranger.
#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/world/keys");
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(folder.join("localhost.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("localhost.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let tls = Arc::new(tls);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let body = key_set(&[(TestKey::One, "one")]);
    let answer: Box<Answers> = Box::new(move |_| Some((200, String::new(), body.clone())));
    let (stop, address) = (Arc::new(AtomicBool::new(false)), listener.local_addr().unwrap());
    let stopping = Arc::clone(&stop);
    let serve = move || {
        for stream in listener.incoming() {
            if stopping.load(Ordering::SeqCst) {
                return;
            }
            let conn = rustls::ServerConnection::new(Arc::clone(&tls)).unwrap();
            let mut stream = rustls::StreamOwned::new(conn, stream.unwrap());
            serve_one(&mut stream, &*answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    };
    let server = thread::Builder::new().name("tls idp".into()).spawn(serve).unwrap();
    let good = lasting(TestKey::One, "one", "alice");
    let issuers = || vec![Issuer { jwks_uri: Some(format!("{url}/jwks")), ..trusted(ISSUER) }];
    let stranger = Bench::new(issuers(), None);
    assert_eq!(stranger.try_token(&good), 503);
    assert!(stranger.log.text().contains("ca_file"), "{}", stranger.log.text());
    let known = Bench::new(issuers(), Some(&folder.join("ca.pem")));
    assert_eq!(known.try_token(&good), 200, "{}", known.log.text());
    stop.store(true, Ordering::SeqCst);
    TcpStream::connect(address).unwrap();
    server.join().unwrap();

    let (clock, log) = (Clock::fixed(Timestamp(0)), Log::to_memory(Level::Error));
    let fault = KeyStore::start(&issuers(), Some(Path::new("/nowhere.pem")), &clock, &log).err().unwrap();
    assert!(matches!(fault, StartFault::Roots(_)) && fault.to_string().contains("/nowhere.pem"));
}

/// A forged token that comes again costs a hash, and no fetch beyond the first.
#[test]
fn a_repeated_forgery_is_refused_from_memory() {
    let idp = Idp::serving(&[(TestKey::One, "one")]);
    let bench = Bench::at(&idp.url);
    assert_eq!(bench.try_token(&lasting(TestKey::One, "one", "alice")), 200);
    bench.pass(JWKS_COOLDOWN_SECONDS);
    let forged = lasting(TestKey::Stranger, "one", "alice");
    for _ in 0..100 {
        assert_eq!(bench.try_token(&forged), 401);
    }
    bench.pass(JWKS_COOLDOWN_SECONDS);
    let denied = bench.auth.authenticate(&bearing(&forged), bench.clock.now());
    assert!(matches!(denied, Err(AuthError::Denied(Denied::BadToken(TokenFault::Signature { .. })))));
    assert_eq!(idp.hits(), 2, "remembered beyond the cooldown, so not asked for again");
}
