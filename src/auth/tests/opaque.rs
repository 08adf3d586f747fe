//! Opaque tokens, and an issuer that is asked about them over a real socket (RFC 7662).

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::issuer::{AUDIENCE, ISSUER, NOW, TestKey, bearing, config, key_set, signed, token, trusted, with};
use crate::auth::fault::TokenFault;
use crate::auth::keys::KeyStore;
use crate::auth::{AuthError, Authenticator, Denied, Principal};
use crate::clock::Clock;
use crate::config::{ClientAuth, Config, Introspection, Issuer};
use crate::limits::{INTROSPECTION_SECONDS_MAX, INTROSPECTION_TIME_MAX, JWKS_COOLDOWN_SECONDS};
use crate::log::{Level, Log};
use crate::secret::Secret;

const TOKEN: &str = "2YotnFZFEjr1zCsicMWpAA";
const SECRET: &str = "s3cr&t:%";

/// A question as it arrived.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    authorization: Option<String>,
    body: String,
}

/// Status and body; `None` closes the connection.
type Answers = dyn Fn(&Asked) -> Option<(u16, String)> + Send + Sync;

/// An endpoint that keeps what it was asked, each connection on a thread of its own.
struct Endpoint {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<Arc<Answers>>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    fn start(answers: impl Fn(&Asked) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers: Arc<Mutex<Arc<Answers>>> = Arc::new(Mutex::new(Arc::new(answers)));
        let (asked, stop) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicBool>::default());
        let connections = Arc::<AtomicUsize>::default();
        let shared = (Arc::clone(&asked), Arc::clone(&answers), Arc::clone(&stop), Arc::clone(&connections));
        let serve = move || {
            let (asked, answers, stop, connections) = shared;
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let (asked, answers, stream) = (Arc::clone(&asked), Arc::clone(&answers), stream.unwrap());
                let one = move || while serve_one(&stream, &asked, &answers).is_some() {};
                thread::Builder::new().name("idp connection".into()).spawn(one).unwrap();
            }
        };
        let thread = thread::Builder::new().name("idp".into()).spawn(serve).unwrap();
        Self { url, asked, answers, connections, stop, thread: Some(thread) }
    }

    fn saying(answer: &Value) -> Self {
        let answer = answer.to_string();
        Self::start(move |_| Some((200, answer.clone())))
    }

    fn answer(&self, answers: impl Fn(&Asked) -> Option<(u16, String)> + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(answers);
    }

    fn hits(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve_one(stream: &TcpStream, asked: &Mutex<Vec<Asked>>, answers: &Mutex<Arc<Answers>>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut question = Asked { line: line.trim_end().to_owned(), authorization: None, body: String::new() };
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let Some((name, value)) = field.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => question.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    question.body = String::from_utf8(body).ok()?;
    asked.lock().unwrap().push(question.clone());
    let answers = Arc::clone(&answers.lock().unwrap());
    let (status, body) = answers(&question)?;
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = stream;
    stream.write_all((head + &body).as_bytes()).ok()
}

struct Bench {
    auth: Authenticator,
    clock: Clock,
    log: Log,
}

impl Bench {
    fn new(issuers: Vec<Issuer>, change: impl FnOnce(&mut Config)) -> Self {
        let (clock, log) = (Clock::fixed(NOW), Log::to_memory(Level::Debug));
        let store = Arc::new(KeyStore::start(&issuers, None, &clock, &log).unwrap());
        let mut config = config(issuers);
        change(&mut config);
        let auth = Authenticator::new(&config, store, log.clone());
        Self { auth, clock, log }
    }

    fn asking(endpoint: &Endpoint) -> Self {
        Self::new(vec![asked_at(&endpoint.url)], |_| ())
    }

    fn verdict(&self, token: &str) -> Result<Arc<Principal>, AuthError> {
        self.auth.authenticate(&bearing(token), self.clock.now())
    }

    fn status(&self, token: &str) -> u16 {
        match self.verdict(token) {
            Ok(_) => 200,
            Err(AuthError::Denied(denied)) => denied.status(),
            Err(AuthError::KeysUnavailable | AuthError::IntrospectionUnavailable) => 503,
        }
    }

    fn pass(&self, seconds: i64) {
        self.clock.set(self.clock.now().plus(seconds));
    }
}

/// The issuer, which is asked below `url`.
fn asked_at(url: &str) -> Issuer {
    let introspection = Introspection {
        endpoint: Some(format!("{url}/introspect")),
        client_id: "proxy one".into(),
        client_secret: Secret::new(SECRET.into()),
        method: ClientAuth::Basic,
        cache_seconds: INTROSPECTION_SECONDS_MAX,
    };
    Issuer { introspection: Some(introspection), ..trusted(ISSUER) }
}

fn active() -> Value {
    json!({
        "active": true, "iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "app", "scope": "b a",
        "token_type": "Bearer", "iat": NOW.0 - 10, "exp": NOW.0 + 1000
    })
}

fn but(name: &str, value: impl Into<Value>) -> Value {
    let mut answer = active();
    match value.into() {
        Value::Null => drop(answer.as_object_mut().unwrap().remove(name)),
        value => answer[name] = value,
    }
    answer
}

/// RFC 7662 section 2.2: every answer, what becomes of the request, and what the operator reads. Nothing but an issuer
/// that says in so many words that the token is good, and good for us, lets it in; and no fault of the issuer's becomes
/// a 401.
#[test]
fn every_answer_has_its_verdict_and_its_words() {
    let text = |answer: Value| (200, answer.to_string());
    for (what, (status, body), expected, told) in [
        ("good", text(active()), 200, ""),
        ("no iss", text(but("iss", Value::Null)), 200, ""),
        ("no exp", text(but("exp", Value::Null)), 200, ""),
        ("no token_type", text(but("token_type", Value::Null)), 200, ""),
        ("token_type in small letters", text(but("token_type", "bearer")), 200, ""),
        ("several audiences", text(but("aud", json!(["x", AUDIENCE]))), 200, ""),
        ("no sub", text(but("sub", Value::Null)), 200, ""),
        ("inactive", text(json!({"active": false})), 401, "the token is not active"),
        ("inactive, whatever else it says", text(but("active", false)), 401, "the token is not active"),
        ("of another issuer", text(but("iss", "https://evil")), 401, "was issued by 'https://evil'"),
        ("iss nearly", text(but("iss", format!("{ISSUER}/"))), 401, "they differ by a trailing slash alone"),
        ("iss no string", text(but("iss", 5)), 401, "the token's iss is not a string"),
        (
            "for somebody else",
            text(but("aud", "https://elsewhere")),
            401,
            "the token's aud is 'https://elsewhere'",
        ),
        ("for nobody", text(but("aud", Value::Null)), 401, "the token has no aud"),
        ("over", text(but("exp", NOW.0 - 60)), 401, "expired 60 seconds ago"),
        ("exp a string", text(but("exp", "2099")), 401, "the token's exp is not a number"),
        ("not yet", text(but("nbf", NOW.0 + 100)), 401, "nbf"),
        ("bound to a key", text(but("cnf", json!({"jkt": "x"}))), 401, "bound"),
        ("DPoP", text(but("token_type", "DPoP")), 401, "bound"),
        ("a refresh token", text(but("token_type", "refresh_token")), 401, "the claim token_type"),
        ("a refresh token of Hydra's", text(but("token_use", "refresh_token")), 401, "the claim token_use"),
        ("a refresh token of Keycloak's", text(but("typ", "Refresh")), 401, "the claim typ"),
        ("of nobody", text(json!({"active": true, "aud": AUDIENCE})), 401, "the token has no sub"),
        ("scope no text", text(but("scope", 5)), 401, "the token's scope is not"),
        ("of no tenant", text(but("tenant", Value::Null)), 200, ""),
        ("no verdict", text(json!({"sub": "alice"})), 503, "answered without active"),
        ("active a word", text(but("active", "true")), 503, "answered without active"),
        ("active twice", (200, r#"{"active":true,"active":true}"#.into()), 503, "'active' is there twice"),
        (
            "a page",
            (200, "<html>".into()),
            503,
            "answered something that is no introspection: it is not JSON",
        ),
        ("huge", (200, "x".repeat(70_000)), 503, "more than"),
        (
            "wrong secret",
            (401, r#"{"error":"invalid_client"}"#.into()),
            503,
            "check client_id, client_secret",
        ),
        ("forbidden", (403, String::new()), 503, "may introspect tokens"),
        ("an error", (500, active().to_string()), 503, "answered 500 and not 200"),
        ("elsewhere", (302, active().to_string()), 503, "answered 302 and not 200"),
        ("created", (201, active().to_string()), 503, "answered 201 and not 200"),
    ] {
        let endpoint = Endpoint::start(move |_| Some((status, body.clone())));
        let bench = Bench::asking(&endpoint);
        assert_eq!(bench.status(TOKEN), expected, "{what}: {}", bench.log.text());
        assert_eq!(endpoint.hits(), 1, "{what}");
        // What is remembered says the same, and what failed is not asked for again at once.
        assert_eq!((bench.status(TOKEN), endpoint.hits()), (expected, 1), "{what}, again");
        let log = bench.log.text();
        assert!(log.contains(told), "{what}: {log}");
        for secret in [TOKEN, SECRET, "s3cr", "cHJveHk"] {
            assert!(!log.contains(secret), "{what}: {secret} is in the log: {log}");
        }
    }
}

#[test]
fn a_principal_says_what_the_issuer_says() {
    let endpoint = Endpoint::saying(&active());
    let principal = Bench::asking(&endpoint).verdict(TOKEN).unwrap();
    assert_eq!((&*principal.issuer, &*principal.subject), (ISSUER, "alice"));
    assert_eq!((principal.client_id.as_deref(), principal.scopes.to_string()), (Some("app"), "a b".into()));
    assert_eq!(principal.expires, NOW.plus(1000));
    // The operator's further rules hold for opaque tokens too.
    let bench = Bench::new(vec![asked_at(&endpoint.url)], |config| {
        config.required_claims = vec![("tenant".into(), vec!["acme".into()])];
    });
    let denied = bench.verdict(TOKEN);
    assert!(matches!(denied, Err(AuthError::Denied(Denied::BadToken(TokenFault::RequiredClaim { .. })))));
}

/// RFC 7662 section 2.1, RFC 6749 section 2.3.1.
#[test]
fn the_issuer_is_asked_as_the_client_that_it_knows() {
    let basic = "Basic cHJveHklMjBvbmU6czNjciUyNnQlM0ElMjU="; // proxy%20one:s3cr%26t%3A%25
    let form = "token=2YotnFZFEjr1zCsicMWpAA%2B%2F%3D&token_type_hint=access_token";
    for (method, authorization, body) in [
        (ClientAuth::Basic, Some(basic), form.to_owned()),
        (ClientAuth::Post, None, format!("{form}&client_id=proxy%20one&client_secret=s3cr%26t%3A%25")),
    ] {
        let endpoint = Endpoint::saying(&active());
        let mut issuer = asked_at(&endpoint.url);
        issuer.introspection.as_mut().unwrap().method = method;
        let bench = Bench::new(vec![issuer], |_| ());
        assert_eq!(bench.status(&format!("{TOKEN}+/=")), 200);
        let asked = endpoint.asked.lock().unwrap().clone();
        let [one] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((&*one.line, &*one.body), ("POST /introspect HTTP/1.1", &*body));
        assert_eq!(one.authorization.as_deref(), authorization);
    }
}

/// For a minute at most, never beyond `exp`, and not at all where the operator says so; refusals as well.
#[test]
fn an_answer_is_remembered_for_a_minute_and_never_beyond_its_end() {
    let soon = but("exp", NOW.0 + 20);
    let inactive = json!({"active": false});
    for (what, answer, cache_seconds, first, lasts) in [
        ("a long one", active(), 60, 200, 60),
        ("one that says no end", but("exp", Value::Null), 60, 200, 60),
        ("one that ends soon", soon, 60, 200, 20),
        ("for less, if the operator wants", active(), 5, 200, 5),
        ("an inactive one", inactive.clone(), 60, 401, 60),
        ("an inactive one, for less", inactive, 5, 401, 5),
    ] {
        let endpoint = Endpoint::saying(&answer);
        let mut issuer = asked_at(&endpoint.url);
        issuer.introspection.as_mut().unwrap().cache_seconds = cache_seconds;
        let bench = Bench::new(vec![issuer], |_| ());
        assert_eq!((bench.status(TOKEN), endpoint.hits()), (first, 1), "{what}");
        bench.pass(lasts - 1);
        assert_eq!((bench.status(TOKEN), endpoint.hits()), (first, 1), "{what}, in its last second");
        // In the meantime it was revoked.
        endpoint.answer(|_| Some((200, r#"{"active":false}"#.into())));
        bench.pass(1);
        assert_eq!((bench.status(TOKEN), endpoint.hits()), (401, 2), "{what}, after its end");
    }
    let endpoint = Endpoint::saying(&active());
    let mut issuer = asked_at(&endpoint.url);
    issuer.introspection.as_mut().unwrap().cache_seconds = 0;
    let bench = Bench::new(vec![issuer], |config| config.leeway_seconds = 0);
    assert_eq!((bench.status(TOKEN), bench.status(TOKEN), endpoint.hits()), (200, 200, 2));
    assert_eq!(endpoint.connections.load(Ordering::SeqCst), 1, "the connection is kept");
    // A token that is too early is asked about again when its time has come.
    endpoint.answer(|_| Some((200, but("nbf", NOW.0 + 61).to_string())));
    let early = Bench::new(vec![asked_at(&endpoint.url)], |_| ());
    assert_eq!(early.status(TOKEN), 401);
    early.pass(1);
    assert_eq!(early.status(TOKEN), 200);
}

/// D8: an issuer that cannot be asked is our fault and not the client's; nobody waits for it twice, and what does not
/// need it goes on.
#[test]
fn an_issuer_that_is_down_is_no_verdict() {
    let endpoint = Endpoint::saying(&active());
    let other = Endpoint::start(|_| Some((200, key_set(&[(TestKey::Two, "two")]))));
    const JWT: &str = "https://jwt.example";
    let jwt = Issuer { jwks_uri: Some(format!("{}/keys", other.url)), ..trusted(JWT) };
    let bench = Bench::new(vec![asked_at(&endpoint.url), jwt], |_| ());
    assert_eq!(bench.status(TOKEN), 200);
    endpoint.answer(|_| None);
    assert_eq!(
        (bench.status("another"), endpoint.hits()),
        (503, 3),
        "asked twice, as the connection was an old one"
    );
    assert_eq!((bench.status("another"), bench.status("a-third"), endpoint.hits()), (503, 503, 3), "a pause");
    assert_eq!(bench.status(TOKEN), 200, "what is remembered goes on");
    let claims = with("iss", JWT).to_string();
    let token = signed(TestKey::Two, "RS256", r#"{"alg":"RS256","kid":"two"}"#, &claims);
    assert_eq!(bench.status(&token), 200, "another issuer's tokens go on");
    let log = bench.log.text();
    assert_eq!(log.matches("the issuer cannot be asked about a token").count(), 1, "{log}");
    assert!(log.contains("cannot be reached") && log.contains("answered 503 until"), "{log}");
    endpoint.answer(|_| Some((200, active().to_string())));
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!(bench.status("another"), 200);
    assert!(bench.log.text().contains("the issuer answers again"), "{}", bench.log.text());
}

/// Five requests with one token are one question.
#[test]
fn a_token_is_asked_about_once_however_many_wait() {
    let gate = Arc::new(Barrier::new(2));
    let opened = Arc::clone(&gate);
    let endpoint = Endpoint::start(move |_| {
        opened.wait();
        Some((200, active().to_string()))
    });
    let bench = Bench::asking(&endpoint);
    thread::scope(|scope| {
        let asking: Vec<_> = (0..5).map(|_| scope.spawn(|| bench.status(TOKEN))).collect();
        let deadline = Instant::now() + INTROSPECTION_TIME_MAX;
        while bench.auth.introspector.as_ref().unwrap().waiting() < 5 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        gate.wait();
        for thread in asking {
            assert_eq!(thread.join().unwrap(), 200);
        }
    });
    assert_eq!(bench.auth.introspector.as_ref().unwrap().waiting(), 0, "each gives its seat back");
    assert_eq!(endpoint.hits(), 1);
}

/// A silent issuer holds three quarters of the workers at most, and none of them for long.
#[test]
fn a_silent_issuer_holds_some_workers_and_not_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let bench = Bench::new(vec![asked_at(&url)], |config| config.limits.workers = Some(8));
    let began = Instant::now();
    let ask = |n: usize| {
        let began = Instant::now();
        (bench.status(&format!("token-{n}")), began.elapsed())
    };
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = &ask;
        let asking: Vec<_> = (0..20).map(|n| scope.spawn(move || ask(n))).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let waited = answers.iter().filter(|(_, time)| *time > INTROSPECTION_TIME_MAX / 2).count();
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    assert!((1..=6).contains(&waited), "{waited} of 8 workers waited");
    assert!(began.elapsed() < INTROSPECTION_TIME_MAX * 3, "{:?}", began.elapsed());
}

/// RFC 8414 section 2: the endpoint may be found, and keys need not be there.
#[test]
fn the_endpoint_is_found_by_the_issuers_metadata() {
    let endpoint = Endpoint::start(|_| None);
    let issuer = endpoint.url.clone();
    let answer = but("iss", issuer.as_str()).to_string();
    let metadata = json!({"issuer": issuer, "introspection_endpoint": format!("{issuer}/asked")}).to_string();
    endpoint.answer(move |asked| match asked.line.as_str() {
        "GET /.well-known/oauth-authorization-server HTTP/1.1" => Some((200, metadata.clone())),
        "POST /asked HTTP/1.1" => Some((200, answer.clone())),
        _ => Some((404, String::new())),
    });
    let mut trusted = Issuer { issuer: issuer.clone(), ..asked_at(&issuer) };
    trusted.introspection.as_mut().unwrap().endpoint = None;
    let bench = Bench::new(vec![trusted.clone()], |_| ());
    assert_eq!((bench.status(TOKEN), endpoint.hits()), (200, 2), "{}", bench.log.text());
    // A JWT of an issuer without keys is forged, whoever made it.
    assert_eq!(bench.status(&token(&with("iss", issuer.as_str()))), 401);

    let metadata =
        json!({"issuer": issuer, "introspection_endpoint": "https://10.255.255.1/asked"}).to_string();
    endpoint.answer(move |_| Some((200, metadata.clone())));
    let bench = Bench::new(vec![trusted], |_| ());
    assert_eq!(bench.status(TOKEN), 503);
    assert!(bench.log.text().contains("an address that is not public"), "{}", bench.log.text());
}

/// An issuer that does not say where it is asked still signs tokens, and what it lacks is told and found later.
#[test]
fn a_missing_endpoint_is_no_harm_to_signed_tokens() {
    let idp = Endpoint::start(|_| None);
    let issuer = idp.url.clone();
    let serve = |metadata: Value| {
        let (keys, answer) = (key_set(&[(TestKey::One, "one")]), but("iss", issuer.as_str()).to_string());
        idp.answer(move |asked| match asked.line.as_str() {
            "GET /keys HTTP/1.1" => Some((200, keys.clone())),
            "POST /asked HTTP/1.1" => Some((200, answer.clone())),
            _ => Some((200, metadata.to_string())),
        });
    };
    serve(json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}));
    let mut trusted = Issuer { issuer: issuer.clone(), ..asked_at(&issuer) };
    trusted.introspection.as_mut().unwrap().endpoint = None;
    let bench = Bench::new(vec![trusted], |_| ());
    let jwt = token(&with("iss", issuer.as_str()));
    assert_eq!((bench.status(&jwt), bench.status(TOKEN)), (200, 503), "{}", bench.log.text());
    let log = bench.log.text();
    assert!(log.contains("has no introspection_endpoint; write introspection.endpoint"), "{log}");
    serve(json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "introspection_endpoint": format!("{issuer}/asked"),
    }));
    bench.pass(JWKS_COOLDOWN_SECONDS);
    assert_eq!((bench.status(TOKEN), bench.status(&jwt)), (200, 200), "{}", bench.log.text());
}

/// Nobody else sees a token: a JWT is not sent anywhere, and without introspection neither is an opaque one.
#[test]
fn only_opaque_tokens_are_sent_and_only_to_the_one_issuer() {
    let endpoint = Endpoint::saying(&active());
    let keys = Endpoint::start(|_| Some((200, key_set(&[(TestKey::One, "one")]))));
    let issuer = Issuer { jwks_uri: Some(format!("{}/keys", keys.url)), ..asked_at(&endpoint.url) };
    let bench = Bench::new(vec![issuer.clone()], |_| ());
    let good = token(&with("sub", "alice"));
    let (head, _) = good.rsplit_once('.').unwrap();
    assert_eq!(bench.status(&good), 200);
    for forged in
        [format!("{head}.AAAA"), token(&with("exp", NOW.0 - 100)), token(&with("iss", "https://evil"))]
    {
        assert_eq!(bench.status(&forged), 401);
    }
    assert_eq!(endpoint.hits(), 0, "a JWT is judged here");
    for opaque in ["one", "two.parts", "th.r.ee", "eyJh.eyJi", "a.b.c.d.e", "eyJhbGciOiJkaXIifQ..a.b.c"] {
        let before = endpoint.hits();
        assert_eq!((bench.status(opaque), endpoint.hits()), (200, before + 1), "{opaque}");
    }
    let without = Bench::new(vec![Issuer { introspection: None, ..issuer }], |_| ());
    let before = endpoint.hits();
    assert_eq!((without.status(TOKEN), endpoint.hits()), (401, before));
    assert!(without.log.text().contains("write introspection for it"), "{}", without.log.text());
}
