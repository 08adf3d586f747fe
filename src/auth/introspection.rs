//! Opaque tokens: the issuer is asked what it thinks of one (RFC 7662), as a client that has a secret of its own.
//!
//! ```text
//! worker ─ token ─▶ remembered? ─▶ under way? ─ yes ─▶ wait for that answer
//!                       │              └─ no ─▶ ask the issuer ─▶ judge ─▶ remember, tell those who wait
//!                       ▼
//!                    verdict
//! ```
//!
//! An opaque token names no issuer, so one issuer of a configuration may have this and no other ever sees the token. What
//! it answers is judged by the same rules as the claims of a JWT, and remembered for a minute at most and never beyond
//! `exp`. Each question holds a worker: few may be asked at a time, none for long, and after one that failed there is
//! a pause in which nobody waits. Where there is no answer there is no verdict (decision D8): 503, never 401.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::AuthError;
use super::cache::{Basis, Refusals, TokenHash, Tokens};
use super::claims::{Claims, Rules, Verified};
use super::discovery::Place;
use super::fault::{Near, Shown, TokenFault};
use super::fetch::{FetchFault, Fetcher};
use super::json::{self, Bounds, Json, Object};
use super::keys::KeyStore;
use crate::clock::Timestamp;
use crate::config::{ClientAuth, Introspection};
use crate::edge::while_waiting;
use crate::header;
use crate::limits::{
    INTROSPECTION_BYTES_MAX, INTROSPECTION_RETRY_WITHIN, INTROSPECTION_SECONDS_MAX, INTROSPECTION_TIME_MAX,
    INTROSPECTION_WAITERS_MAX, JWKS_COOLDOWN_SECONDS, JWKS_LOG_SECONDS, JWKS_RETRY_SECONDS,
};
use crate::log::Log;

/// Asks one issuer.
pub struct Introspector {
    issuer: String,
    /// The issuer's place among the keys, which know its metadata.
    place: usize,
    settings: Introspection,
    keys: Arc<KeyStore>,
    fetcher: Fetcher,
    tokens: Tokens,
    refusals: Refusals,
    waiters_max: usize,
    board: Mutex<Board>,
    log: Log,
}

/// What is going on.
#[derive(Default)]
struct Board {
    flights: HashMap<TokenHash, Arc<Flight>>,
    /// Requests that wait, for an answer of their own or for somebody else's.
    waiting: usize,
    /// Nothing is asked before then, since it failed a moment ago.
    not_before: Timestamp,
    failures: u32,
    last_told: Option<Timestamp>,
}

type Verdict = Result<Verified, AuthError>;

/// One question under way.
#[derive(Default)]
struct Flight {
    verdict: Mutex<Option<Verdict>>,
    landed: Condvar,
}

/// A place among those who wait. Whatever happens to its holder, it is given back, and nobody waits for nothing.
struct Seat<'a> {
    introspector: &'a Introspector,
    flight: Arc<Flight>,
    leads: Option<TokenHash>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut board = lock(&self.introspector.board);
        board.waiting = board.waiting.saturating_sub(1);
        if let Some(hash) = self.leads {
            board.flights.remove(&hash);
            drop(board);
            self.flight.land(Err(AuthError::IntrospectionUnavailable));
        }
    }
}

impl Flight {
    /// The first verdict counts.
    fn land(&self, verdict: Verdict) {
        lock(&self.verdict).get_or_insert(verdict);
        self.landed.notify_all();
    }

    fn wait(&self) -> Verdict {
        let deadline = Instant::now() + INTROSPECTION_TIME_MAX;
        let mut verdict = lock(&self.verdict);
        loop {
            if let Some(verdict) = &*verdict {
                return verdict.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AuthError::IntrospectionUnavailable);
            }
            verdict = self.landed.wait_timeout(verdict, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Introspector {
    /// For the issuer of this name, whose metadata `keys` know. `workers` is how many threads serve requests.
    #[must_use]
    pub fn new(
        issuer: &str,
        settings: Introspection,
        keys: Arc<KeyStore>,
        workers: usize,
        log: Log,
    ) -> Option<Self> {
        let (place, fetcher) = (keys.find(issuer)?, keys.asker()?.clone());
        Some(Self {
            issuer: issuer.to_owned(),
            place,
            settings,
            keys,
            fetcher,
            tokens: Tokens::default(),
            refusals: Refusals::default(),
            // A quarter of the workers goes on with everything else, whatever the issuer does.
            waiters_max: (workers * 3 / 4).clamp(1, INTROSPECTION_WAITERS_MAX),
            board: Mutex::default(),
            log,
        })
    }

    /// The issuer that is asked.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.board).waiting
    }

    /// Whether the token was good a moment ago, so that nobody has to be asked.
    #[must_use]
    pub fn remembers(&self, hash: TokenHash, now: Timestamp) -> bool {
        self.tokens.get(&hash, now, |_| true).is_some()
    }

    /// What the token is worth. May wait for the issuer, by [`INTROSPECTION_TIME_MAX`] or a little more.
    ///
    /// # Errors
    /// Where it is worth nothing, or nobody can tell.
    pub fn verify(&self, token: &str, hash: TokenHash, rules: &Rules, now: Timestamp) -> Verdict {
        let current = |_: Basis| true;
        if let Some(verified) = self.tokens.get(&hash, now, current) {
            return Ok(verified);
        }
        if let Some(fault) = self.refusals.get(&hash, now, current) {
            return Err(fault.into());
        }
        let seat = self.board(hash, now).ok_or(AuthError::IntrospectionUnavailable)?;
        if seat.leads.is_none() {
            return while_waiting(|| seat.flight.wait());
        }
        let judged = match while_waiting(|| self.ask(token)) {
            Ok(answer) => {
                self.succeeded();
                Ok(self.judge(&answer, rules, now))
            }
            Err(fault) => {
                self.failed(&fault, now);
                Err(AuthError::IntrospectionUnavailable)
            }
        };
        let verdict = judged.and_then(|judged| {
            self.remember(hash, &judged, rules, now);
            judged.map_err(AuthError::from)
        });
        seat.flight.land(verdict.clone());
        verdict
    }

    /// Asks about a token that nobody issued, and says whether the issuer calls it active.
    pub(super) fn probe(&self) -> Result<bool, AskFault> {
        self.ask("openmcpauthproxy-check").map(|answer| matches!(answer, Answer::Active(_)))
    }

    /// A seat, beside others who ask about the same token or as the first one; none where too many wait.
    fn board(&self, hash: TokenHash, now: Timestamp) -> Option<Seat<'_>> {
        let mut board = lock(&self.board);
        if now < board.not_before || board.waiting >= self.waiters_max {
            return None;
        }
        board.waiting += 1;
        let (flight, leads) = match board.flights.get(&hash) {
            Some(flight) => (Arc::clone(flight), None),
            None => (Arc::clone(board.flights.entry(hash).or_default()), Some(hash)),
        };
        drop(board);
        Some(Seat { introspector: self, flight, leads })
    }

    /// A minute at most, and not beyond `exp`; a token that is too early, until its time has come.
    fn remember(
        &self,
        hash: TokenHash,
        judged: &Result<Verified, TokenFault>,
        rules: &Rules,
        now: Timestamp,
    ) {
        let mut until = now.plus(self.settings.cache_seconds);
        if let Err(TokenFault::NotYet { ahead, .. }) = judged {
            until = until.min(now.plus(ahead - rules.leeway_seconds));
        }
        let basis = Basis { issuer: self.place, generation: 0 };
        match judged {
            Ok(verified) if verified.until > now => self.tokens.put(hash, verified.clone(), basis, now),
            Err(fault) if until > now => self.refusals.put(hash, fault.clone(), until, basis, now),
            _ => {}
        }
    }

    /// RFC 7662 section 2.2. What is said is judged as the claims of a token would be.
    fn judge(&self, answer: &Answer, rules: &Rules, now: Timestamp) -> Result<Verified, TokenFault> {
        let Answer::Active(said) = answer else {
            return Err(TokenFault::Inactive { issuer: Shown::of(&self.issuer) });
        };
        match said.get("iss") {
            None => {}
            Some(Json::String(issuer)) if *issuer == self.issuer => {}
            Some(Json::String(issuer)) => {
                return Err(TokenFault::Issuer {
                    found: Shown::of(issuer),
                    accepted: Shown::of(&self.issuer),
                    near: Near::between(issuer, &self.issuer),
                    at: rules.issuer_at.clone(),
                });
            }
            Some(_) => return Err(TokenFault::ClaimMalformed { claim: "iss".into(), wanted: "a string" }),
        }
        match said.get("token_type") {
            None => {}
            Some(Json::String(kind)) if kind.eq_ignore_ascii_case("bearer") => {}
            // RFC 9449 section 6.2.
            Some(Json::String(kind)) if kind.eq_ignore_ascii_case("dpop") => {
                return Err(TokenFault::SenderConstrained);
            }
            Some(_) => return Err(TokenFault::NotAnAccessToken { claim: "token_type" }),
        }
        let latest = now.plus(INTROSPECTION_SECONDS_MAX);
        let mut verified = Claims::of_answer(said, latest).judge(&self.issuer, rules, now)?;
        verified.until = verified.principal.expires.min(now.plus(self.settings.cache_seconds));
        Ok(verified)
    }

    fn ask(&self, token: &str) -> Result<Answer, AskFault> {
        let place = self.endpoint()?;
        let (authorization, body) = self.credentials(token);
        let began = Instant::now();
        let mut asked = self.post(&place, authorization.as_deref(), &body);
        // A connection that was kept may have been closed at its other end; asking twice does no harm.
        if matches!(asked, Err(FetchFault::Unreachable(..))) && began.elapsed() < INTROSPECTION_RETRY_WITHIN {
            asked = self.post(&place, authorization.as_deref(), &body);
        }
        let (status, text) = asked.map_err(AskFault::Fetch)?;
        let url = Shown::of(&place.url);
        if status != 200 {
            return Err(AskFault::Status(url, status));
        }
        let mut answer = json::read(&text, Bounds::TOKEN).map_err(|why| AskFault::Json(url.clone(), why))?;
        match answer.get("active") {
            Some(Json::Bool(false)) => Ok(Answer::Inactive),
            Some(Json::Bool(true)) => Ok(Answer::Active(std::mem::take(&mut answer))),
            _ => Err(AskFault::NoVerdict(url)),
        }
    }

    /// Where the issuer is asked: as configured, or as its metadata says, which may have to be fetched first.
    fn endpoint(&self) -> Result<Place, AskFault> {
        if let Some(url) = &self.settings.endpoint {
            return Ok(Place::named(url));
        }
        if let Some(Ok(place)) = self.keys.introspection_endpoint(self.place) {
            return Ok(place);
        }
        // A new look for the keys is a new look for this as well.
        let seen = self.keys.current(self.place).map(|keys| keys.generation);
        let _ = self.keys.newer(self.place, seen);
        match self.keys.introspection_endpoint(self.place) {
            Some(found) => found.map_err(AskFault::Fetch),
            None => Err(AskFault::NoMetadata),
        }
    }

    fn post(
        &self,
        place: &Place,
        authorization: Option<&str>,
        body: &str,
    ) -> Result<(u16, Vec<u8>), FetchFault> {
        let mut answer = self.fetcher.ask(place, |agent, url| {
            let mut request =
                agent.post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            request.send(body)
        })?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(INTROSPECTION_BYTES_MAX).read_to_vec();
        match text {
            Ok(text) => Ok((status, text)),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(FetchFault::TooLong(Shown::of(&place.url))),
            Err(other) => Err(FetchFault::Unreachable(Shown::of(&place.url), other.to_string())),
        }
    }

    /// RFC 6749 section 2.3.1: the `Authorization` field, if any, and the form with the token.
    fn credentials(&self, token: &str) -> (Option<String>, String) {
        let Introspection { client_id, client_secret, method, .. } = &self.settings;
        let (id, secret) = (encoded(client_id), encoded(client_secret.expose()));
        let form = format!("token={}&token_type_hint=access_token", encoded(token));
        match method {
            ClientAuth::Basic => (Some(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))), form),
            ClientAuth::Post => (None, format!("{form}&client_id={id}&client_secret={secret}")),
        }
    }

    fn succeeded(&self) {
        let mut board = lock(&self.board);
        let failures = std::mem::take(&mut board.failures);
        (board.not_before, board.last_told) = (Timestamp(0), None);
        drop(board);
        if failures > 0 {
            self.log.info("the issuer answers again", &[("issuer", &self.issuer), ("failures", &failures)]);
        }
    }

    /// Told once and then now and again, and for a moment nobody asks.
    fn failed(&self, fault: &AskFault, now: Timestamp) {
        let mut board = lock(&self.board);
        let wait = JWKS_RETRY_SECONDS.checked_shl(board.failures.min(16)).unwrap_or(JWKS_COOLDOWN_SECONDS);
        board.not_before = now.plus(wait.min(JWKS_COOLDOWN_SECONDS));
        board.failures = board.failures.saturating_add(1);
        if board.last_told.is_some_and(|told| now < told.plus(JWKS_LOG_SECONDS)) {
            return;
        }
        board.last_told = Some(now);
        let failures = board.failures;
        drop(board);
        let consequence = "opaque tokens that are not remembered are answered 503 until this succeeds";
        self.log.warn(
            "the issuer cannot be asked about a token",
            &[
                ("issuer", &self.issuer),
                ("reason", fault),
                ("failures", &failures),
                ("consequence", &consequence),
            ],
        );
    }
}

/// What the issuer says.
enum Answer {
    /// The token is good for nothing, and no more is said.
    Inactive,
    /// The token is good, and this is what it says.
    Active(Object),
}

/// Why there is no answer. Never the token's fault.
#[derive(Debug)]
pub(super) enum AskFault {
    NoMetadata,
    Fetch(FetchFault),
    Status(Shown, u16),
    Json(Shown, json::Fault),
    NoVerdict(Shown),
}

impl fmt::Display for AskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMetadata => f.write_str(
                "its metadata, which would say where, is not there, and an earlier line says why; or write \
                 introspection.endpoint",
            ),
            Self::Fetch(fault) => fault.fmt(f),
            Self::Status(url, status @ (400 | 401 | 403)) => write!(
                f,
                "{url} answered {status}; check client_id, client_secret and auth_method of introspection, and that \
                 this client may introspect tokens"
            ),
            Self::Status(url, status) => {
                write!(f, "{url} answered {status} and not 200; check introspection.endpoint")
            }
            Self::Json(url, why) => {
                write!(
                    f,
                    "{url} answered something that is no introspection: {why}; check introspection.endpoint"
                )
            }
            Self::NoVerdict(url) => write!(
                f,
                "{url} answered without active, true or false (RFC 7662 section 2.2); check introspection.endpoint"
            ),
        }
    }
}

/// A value of a form (RFC 6749 appendix B), with everything escaped that is not a letter, a digit or one of four signs.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

const _: () = assert!(
    INTROSPECTION_RETRY_WITHIN.as_millis() < Duration::as_millis(&INTROSPECTION_TIME_MAX),
    "a second question is asked only where the first one took no time"
);

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6749 section 2.3.1 and appendix B.
    #[test]
    fn secrets_are_escaped_before_they_are_joined() {
        for (value, text) in [
            ("a-Z.0_~", "a-Z.0_~"),
            ("a b", "a%20b"),
            ("p:a&s=s%+/", "p%3Aa%26s%3Ds%25%2B%2F"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(encoded(value), text);
        }
    }
}
