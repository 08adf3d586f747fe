//! The login relay: what of the identity provider is served under our own origin.
//!
//! ```text
//! worker ─ begin() ─▶ known already? ──────────────────────────────▶ 302, document
//!                │ Job, bounded   ┌───────────────┐
//!                └──────────────▶ │ login threads │ ─ idp.rs ─HTTPS─▶ identity provider
//!  stream thread ◀─ Slot, waker ─ └───────────────┘
//! ```
//!
//! No worker waits for the identity provider: a request that needs it becomes a [`Job`] for one of a few threads, and
//! its connection waits with a stream thread. More jobs than may wait are answered 503 at once. What crosses is made
//! anew from a short list, no redirect is followed, and of bodies nothing is logged.
//!
//! Stop: [`LoginRelay::stop`] ends the requests under way, closes the queue and joins the threads; jobs that are left
//! are answered 503.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use super::asgardeo::Asgardeo;
use super::default::Default as ByItself;
use super::document::{self, Description};
use super::form::{Form, with_query};
use super::idp::{Ask, Idp, IdpFault, Told};
use super::rate::Rate;
use super::recent::{Key, Recent, Seen};
use super::request::{Body, Prepared, Work, prepare};
use super::share::{Share, Shares};
use super::wait::{Finish, Outcome, Pending, Slot};
use super::{NewClient, Provider, Trouble};
use crate::auth::reach::Reach;
use crate::auth::roots::RootsFault;
use crate::client::Client;
use crate::clock::Clock;
use crate::config::login::{Login, Source};
use crate::config::{Config, PublicUrl};
use crate::edge::Answer;
use crate::edge::http1::Incoming;
use crate::header;
use crate::limits::{
    BUSY_RETRY_SECONDS, LOGIN_LOG_TIME, LOGIN_METADATA_TIME, LOGIN_QUEUE_MAX, LOGIN_REGISTRATIONS,
    LOGIN_REPEAT_TIME, LOGIN_RETRY_TIME, LOGIN_SHARE_MAX, LOGIN_STALE_TIME_MAX, LOGIN_THREADS,
    LOGIN_TIME_MAX, LOGIN_TOKENS, STACK_BYTES,
};
use crate::log::Log;
use crate::reply::{HeaderValue, LoginFault, Reply};
use crate::route::{self, Endpoint};

/// Why there is no login relay.
#[derive(Debug)]
pub enum RelayFault {
    /// A file of trust roots cannot be used.
    Roots(RootsFault),
    /// The system starts no thread.
    Thread(io::Error),
}

/// The relay, running.
pub struct LoginRelay {
    core: Arc<Core>,
    jobs: Mutex<Option<Sender<Box<Job>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
struct Core {
    login: Login,
    provider: Box<dyn Provider>,
    idp: Idp,
    public: PublicUrl,
    /// The issuer of each document, by its number.
    issuers: Vec<String>,
    known: Mutex<Known>,
    told: Mutex<Report>,
    recent: Recent,
    shares: Arc<Shares>,
    registrations: Rate,
    tokens: Rate,
    clock: Clock,
    log: Log,
}

/// What is known of the provider.
#[derive(Default)]
struct Known {
    description: Option<(Arc<Description>, Instant)>,
    failed: Option<Instant>,
    /// Whether one thread asks for it again, while the others go on with what is old.
    renewing: bool,
    warned: bool,
}

/// What the operator was told of faults.
#[derive(Default)]
struct Report {
    at: Option<Instant>,
    since: usize,
}

/// One request that the provider is needed for. It is answered even if it is dropped.
struct Job {
    work: Work,
    key: Option<Key>,
    slot: Arc<Slot>,
    core: Arc<Core>,
    done: bool,
    /// What it takes of its client's share, until it is dropped.
    _share: Option<Share>,
}

impl Job {
    fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.done, true) {
            if let Some(key) = self.key {
                self.core.recent.done(key, &outcome, Instant::now());
            }
            self.slot.fill(outcome);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.end(LoginFault::Busy.into());
    }
}

impl LoginRelay {
    /// Starts the threads, where the configuration has a login relay. The provider is not asked yet.
    ///
    /// # Errors
    /// [`RelayFault`]
    pub fn start(config: &Config, clock: &Clock, log: &Log) -> Result<Option<Self>, RelayFault> {
        let Some(login) = config.login.clone() else { return Ok(None) };
        let provider: Box<dyn Provider> = match login.source.clone() {
            Source::Described(described) => Box::new(ByItself::new(described, login.preset)),
            Source::Asgardeo(settings) => Box::new(Asgardeo::new(settings)),
        };
        let endpoints = Endpoint::ALL.map(|endpoint| endpoint.path(config));
        let issuers = document::places(&config.public, &endpoints).into_iter().map(|(_, issuer)| issuer);
        let core = Arc::new(Core {
            login,
            provider,
            idp: Idp::new(config.ca_file.as_deref()).map_err(RelayFault::Roots)?,
            public: config.public.clone(),
            issuers: issuers.collect(),
            known: Mutex::default(),
            told: Mutex::default(),
            recent: Recent::default(),
            shares: Shares::new(LOGIN_SHARE_MAX),
            registrations: Rate::new(LOGIN_REGISTRATIONS.0, LOGIN_REGISTRATIONS.1),
            tokens: Rate::new(LOGIN_TOKENS.0, LOGIN_TOKENS.1),
            clock: clock.clone(),
            log: log.clone(),
        });
        let (sender, receiver) = bounded::<Box<Job>>(LOGIN_QUEUE_MAX);
        let mut threads = Vec::new();
        for n in 0..LOGIN_THREADS {
            let (core, receiver) = (Arc::clone(&core), receiver.clone());
            let thread = thread::Builder::new()
                .name(format!("login-{n}"))
                .stack_size(STACK_BYTES)
                .spawn(move || core.work(&receiver));
            threads.push(thread.map_err(RelayFault::Thread)?);
        }
        Ok(Some(Self { core, jobs: Mutex::new(Some(sender)), threads: Mutex::new(threads) }))
    }

    /// Begins to answer a request of `client` whose body is whole. Never waits.
    pub fn begin(&self, place: route::Login, request: &Incoming, client: Client, finish: Finish) -> Answer {
        let now = Instant::now();
        let Prepared { work, same } = match prepare(place, request, client.address, &self.core.login) {
            Ok(prepared) => prepared,
            Err(fault) => return Answer::Reply(finish(fault.into())),
        };
        if let Some(outcome) = self.core.at_once(&work, now) {
            return Answer::Reply(finish(outcome));
        }
        let slot = Arc::new(Slot::default());
        let mut key = None;
        if let Some(same) = same {
            match self.core.recent.look(same, &slot, now) {
                Seen::Answered(outcome) => return Answer::Reply(finish(outcome)),
                Seen::UnderWay => return pending(slot, finish, now),
                Seen::First => key = Some(same),
                Seen::Alone => {}
            }
        }
        let core = Arc::clone(&self.core);
        // An address that may be everybody's has no share: it would be theirs together.
        let share = client.is_one.then(|| core.shares.take(client.address));
        let crowded = share.as_ref().is_some_and(Option::is_none);
        let _share = share.flatten();
        let mut job = Box::new(Job { work, key, slot: Arc::clone(&slot), core, done: false, _share });
        let rate = match place {
            route::Login::Register => Some(&self.core.registrations),
            route::Login::Token | route::Login::Passed(_) => Some(&self.core.tokens),
            route::Login::Document(_) | route::Login::Authorize => None,
        };
        if crowded {
            job.end(LoginFault::TooMany(BUSY_RETRY_SECONDS).into());
        } else if let Some(wait) = rate.and_then(|rate| rate.take(client.address, now).err()) {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            job.end(LoginFault::TooMany(seconds).into());
        } else {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            match jobs.as_ref().map(|jobs| jobs.try_send(job)) {
                Some(Ok(())) => {}
                // Dropped, which answers it.
                Some(Err(TrySendError::Full(job) | TrySendError::Disconnected(job))) => drop(job),
                None => {}
            }
        }
        pending(slot, finish, now)
    }

    /// Stops: nothing is asked any more, and every thread is joined.
    pub fn stop(&self) {
        self.core.idp.shutdown();
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn pending(slot: Arc<Slot>, finish: Finish, now: Instant) -> Answer {
    Answer::Relay(Box::new(Pending::new(slot, finish, now + LOGIN_TIME_MAX)))
}

impl Core {
    /// A login thread.
    fn work(&self, jobs: &Receiver<Box<Job>>) {
        let mut kept = false;
        loop {
            let next = if kept {
                jobs.recv_timeout(LOGIN_REPEAT_TIME)
            } else {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match next {
                Ok(mut job) => {
                    let outcome = catch_unwind(AssertUnwindSafe(|| self.outcome(&job.work)));
                    job.end(outcome.unwrap_or_else(|_| {
                        self.log.error("a login request made the program panic and was answered 502", &[]);
                        LoginFault::Provider.into()
                    }));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            kept = self.recent.sweep(Instant::now());
        }
    }

    /// The answer to what needs no more than is known already.
    fn at_once(&self, work: &Work, now: Instant) -> Option<Outcome> {
        if !matches!(work, Work::Document(_) | Work::Authorize(_)) {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (description, since) = known.description.as_ref()?;
        let fresh = now.duration_since(*since) < LOGIN_METADATA_TIME;
        let description = fresh.then(|| Arc::clone(description))?;
        drop(known);
        Some(self.outcome_of(work, &description).unwrap_or_else(|trouble| self.trouble(trouble)))
    }

    fn outcome(&self, work: &Work) -> Outcome {
        let description = match self.description() {
            Ok(description) => description,
            Err(fault) => return fault.into(),
        };
        self.outcome_of(work, &description).unwrap_or_else(|trouble| self.trouble(trouble))
    }

    fn outcome_of(&self, work: &Work, known: &Description) -> Result<Outcome, Trouble> {
        let told = match work {
            Work::Document(n) => {
                let issuer = self.issuers.get(*n).map_or("", String::as_str);
                return Ok(Reply::json(200, known.document(issuer, &self.public))
                    .header(header::CACHE_CONTROL, HeaderValue::fixed("no-cache"))
                    .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::fixed("nosniff"))
                    .into());
            }
            Work::Authorize(form) => {
                return Ok(Reply::found(with_query(&known.authorize, form)).into());
            }
            Work::Token(body, authorization) => {
                let query = Form::of(&self.login.added.token_query);
                let url = with_query(&known.token.url, &query);
                let authorization = authorization.as_ref();
                let ask =
                    Ask { url: &url, reach: known.token.reach, body: Some(body.parts()), authorization };
                self.idp.ask(&ask).map_err(Trouble::Provider)?
            }
            Work::Register(body, authorization) => {
                let client = NewClient {
                    body,
                    query: &Form::of(&self.login.added.register_query),
                    authorization: authorization.as_ref(),
                    now: self.clock.now(),
                };
                self.provider.register(&self.idp, known, &client)?
            }
            Work::Passed { place, query, body, authorization } => {
                let (_, url) = self.login.passed.get(*place).ok_or(Trouble::Client(LoginFault::Provider))?;
                let url = with_query(url, query);
                let body = body.as_ref().map(Body::parts);
                let authorization = authorization.as_ref();
                let ask = Ask { url: &url, reach: Reach::Named, body, authorization };
                self.idp.ask(&ask).map_err(Trouble::Provider)?
            }
        };
        if told.status >= 500 {
            self.log.warn("the identity provider answered with a failure", &[("status", &told.status)]);
        }
        Ok(relayed(told).into())
    }

    /// What is known of the provider, asked for again when it is old. An old answer stands in for one that cannot be had.
    fn description(&self) -> Result<Arc<Description>, LoginFault> {
        let now = Instant::now();
        let age = |since: Instant| now.duration_since(since);
        let old = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let failed = known.failed.is_some_and(|at| age(at) < LOGIN_RETRY_TIME);
            let old = known.description.clone().filter(|(_, since)| age(*since) < LOGIN_STALE_TIME_MAX);
            match old {
                Some((description, since))
                    if age(since) < LOGIN_METADATA_TIME || failed || known.renewing =>
                {
                    return Ok(description);
                }
                None if failed => return Err(LoginFault::Provider),
                old => {
                    known.renewing = true;
                    old.map(|(description, _)| description)
                }
            }
        };
        // Nothing is locked while the provider is asked.
        let described = catch_unwind(AssertUnwindSafe(|| self.provider.describe(&self.idp)));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.renewing = false;
        match described {
            Ok(Ok(description)) => {
                let description = Arc::new(description);
                known.description = Some((Arc::clone(&description), now));
                known.failed = None;
                let warn = self.login.advertised && description.names_itself() && !known.warned;
                known.warned |= warn;
                drop(known);
                if warn {
                    self.log.warn(
                        "the identity provider names itself in its answers (RFC 9207), so clients of MCP 2026-07-28 \
                         refuse to log in through this proxy",
                        &[("hint", &"write login_relay: on, so that they log in there directly")],
                    );
                }
                Ok(description)
            }
            Ok(Err(fault)) => {
                known.failed = Some(now);
                drop(known);
                self.tell(&fault);
                old.ok_or(LoginFault::Provider)
            }
            Err(_) => {
                known.failed = Some(now);
                drop(known);
                self.log.error("asking for metadata made the program panic", &[]);
                old.ok_or(LoginFault::Provider)
            }
        }
    }

    fn trouble(&self, trouble: Trouble) -> Outcome {
        match trouble {
            Trouble::Client(fault) => fault.into(),
            Trouble::Provider(fault) => {
                self.tell(&fault);
                LoginFault::Provider.into()
            }
        }
    }

    /// One line for the operator; more of them within a short time are counted.
    fn tell(&self, fault: &IdpFault) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told.at.is_some_and(|at| now.duration_since(at) < LOGIN_LOG_TIME) {
            told.since += 1;
            drop(told);
            self.log.debug("the identity provider gave no good answer", &[("why", fault)]);
            return;
        }
        let before = std::mem::replace(&mut *told, Report { at: Some(now), since: 0 }).since;
        drop(told);
        self.log
            .warn("the identity provider gave no good answer", &[("why", fault), ("more_before", &before)]);
    }
}

/// ASR-12: status and body unchanged, and nobody keeps them.
fn relayed(told: Told) -> Reply {
    let reply =
        if told.body.is_empty() { Reply::new(told.status) } else { Reply::json(told.status, told.body) };
    let mut reply = reply
        .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
        .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::fixed("nosniff"));
    if let Some(challenge) = told.challenge {
        reply = reply.header(header::WWW_AUTHENTICATE, HeaderValue::cleaned(challenge));
    }
    if let Some(seconds) = told.retry_after {
        reply = reply.header(header::RETRY_AFTER, HeaderValue::cleaned(seconds.to_string()));
    }
    reply
}
