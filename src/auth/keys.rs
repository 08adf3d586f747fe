//! The keys of every issuer: fetched when first needed, kept, and renewed (decision D9).
//!
//! ```text
//! worker ─ newer() ─▶ ┌──────────────────┐ ◀─ wanted, due ─┐
//! worker ─ newer() ─▶ │ Slot: one issuer │                 │
//! worker ─ current() ▶│ state + 2 condvars│ ─▶ fetch thread ┴─▶ metadata, key set
//! worker ◀──── keys ──└──────────────────┘ ◀─ set or fault ─┘
//! ```
//!
//! Each issuer has a thread of its own that does all of its fetching, one fetch at a time, so a slow issuer is felt by
//! its own users alone and a flood of tokens cannot become a flood of requests:
//!
//! * Tokens may ask for [`JWKS_ASKS_MAX`] fetches in a row, and then for one in [`JWKS_COOLDOWN_SECONDS`]. One that brings
//!   other keys costs nothing: only the issuer can make that happen, and it may do so as often as it likes.
//! * A fetch that failed is tried again after a wait that doubles, whether or not a token asks.
//! * A request that waits for a fetch holds a worker. So they may not all wait, of one issuer fewer where there are
//!   several, and none for long ([`KeyStore::share_workers`]). The others are answered by what is known.
//! * A failed fetch loses nothing: the last good keys stay, for [`JWKS_STALE_SECONDS_MAX`] at most.
//!
//! Stop: [`KeyStore::shutdown`] ends the requests under way, wakes everyone and joins the threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::cache::Basis;
use super::discovery::Place;
use super::fetch::{FetchFault, Fetcher, Found, Source};
use super::jwks::KeySet;
use super::roots::RootsFault;
use crate::clock::{Clock, Timestamp};
use crate::config::Issuer;
use crate::edge::while_waiting;
use crate::limits::{
    JWKS_ASKS_MAX, JWKS_COOLDOWN_SECONDS, JWKS_INTROSPECTING_PART, JWKS_LOG_SECONDS, JWKS_REFRESH_SECONDS,
    JWKS_RETRY_SECONDS, JWKS_SPARED_PART, JWKS_STALE_SECONDS_MAX, JWKS_WAIT_MAX, JWKS_WAITERS_EACH_MIN,
    STACK_BYTES, WORKERS_MIN,
};
use crate::log::Log;

/// The longest sleep of a fetch thread. A clock that is set is noticed after this long.
const NAP: Duration = Duration::from_secs(30);

/// Why there is no key store.
#[derive(Debug)]
pub enum StartFault {
    /// A file of trust roots cannot be used.
    Roots(RootsFault),
    /// The system starts no thread.
    Thread(io::Error),
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(fault) => fault.fmt(f),
            Self::Thread(_) => f.write_str("no thread could be started to fetch keys"),
        }
    }
}

impl std::error::Error for StartFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Roots(_) => None,
            Self::Thread(err) => Some(err),
        }
    }
}

/// The keys of an issuer as they are now.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The keys.
    pub set: Arc<KeySet>,
    /// Counts the changes of the set, from 1. A fetch that brings the same keys is no change.
    pub generation: u64,
}

/// What became of the wish for newer keys.
#[derive(Clone, Debug)]
pub enum Newer {
    /// There are.
    Keys(Keys),
    /// The issuer was asked, and has no others.
    Same,
    /// The issuer was asked too often a moment ago or could not be reached, and is not asked for a token before then.
    NotBefore(Timestamp),
    /// As many requests as may wait are waiting, or the wait was too long.
    Crowded,
}

/// The keys of every configured issuer.
pub struct KeyStore {
    slots: Vec<Arc<Slot>>,
    fetcher: Option<Fetcher>,
    /// For questions about tokens, where an issuer can be asked.
    asker: Option<Fetcher>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    seats: Arc<Seats>,
}

/// Where requests wait for keys.
#[derive(Debug)]
struct Seats {
    taken: AtomicUsize,
    most: AtomicUsize,
    most_each: AtomicUsize,
}

impl Seats {
    fn new() -> Self {
        let seats =
            Self { taken: AtomicUsize::new(0), most: AtomicUsize::new(0), most_each: AtomicUsize::new(0) };
        seats.share(WORKERS_MIN, false, 1);
        seats
    }

    fn share(&self, workers: usize, introspecting: bool, issuers: usize) {
        let most = if introspecting {
            workers / JWKS_INTROSPECTING_PART
        } else {
            workers - workers.div_ceil(JWKS_SPARED_PART)
        };
        let each = most / issuers.max(1);
        self.most.store(most, Ordering::Relaxed);
        self.most_each.store(each.max(JWKS_WAITERS_EACH_MIN).min(most), Ordering::Relaxed);
    }

    /// Takes one for an issuer whose requests have so many.
    fn take(&self, theirs: usize) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let one_more = |taken| (taken < most).then_some(taken + 1);
        theirs < self.most_each.load(Ordering::Relaxed)
            && self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

impl KeyStore {
    /// A store for these issuers. Nothing is fetched yet.
    ///
    /// # Errors
    /// Where a file of trust roots cannot be used, or no thread can be started.
    pub fn start(
        issuers: &[Issuer],
        ca_file: Option<&Path>,
        clock: &Clock,
        log: &Log,
    ) -> Result<Self, StartFault> {
        let fetcher = Fetcher::new(ca_file).map_err(StartFault::Roots)?;
        let asker = match issuers.iter().any(|issuer| issuer.introspection.is_some()) {
            true => Some(Fetcher::for_introspection(ca_file).map_err(StartFault::Roots)?),
            false => None,
        };
        let seats = Arc::new(Seats::new());
        let mut store = Self {
            slots: Vec::new(),
            fetcher: Some(fetcher.clone()),
            asker,
            threads: Mutex::default(),
            seats: Arc::clone(&seats),
        };
        for issuer in issuers {
            let source = Source::of(issuer);
            let slot = Arc::new(Slot::new(source, clock.clone(), log.clone(), Arc::clone(&seats)));
            store.slots.push(Arc::clone(&slot));
            let fetcher = fetcher.clone();
            let thread = thread::Builder::new()
                .name("keys".into())
                .stack_size(STACK_BYTES)
                .spawn(move || slot.fetch_for_ever(&fetcher))
                .map_err(StartFault::Thread)?;
            lock(&store.threads).push(thread);
        }
        Ok(store)
    }

    /// A store that holds these keys and never fetches, for tests and measurements.
    #[must_use]
    pub fn of_sets(sets: Vec<(String, KeySet)>, clock: &Clock, log: &Log) -> Self {
        let seats = Arc::new(Seats::new());
        let slot = |(issuer, set): (String, KeySet)| {
            let source = Source { issuer, ..Source::default() };
            let slot = Slot::new(source, clock.clone(), log.clone(), Arc::clone(&seats));
            let mut state = lock(&slot.state);
            slot.accept(&mut state, set, clock.now());
            state.asks_full_at = Timestamp(i64::MAX);
            drop(state);
            Arc::new(slot)
        };
        Self {
            slots: sets.into_iter().map(slot).collect(),
            fetcher: None,
            asker: None,
            threads: Mutex::default(),
            seats,
        }
    }

    /// Says how many threads serve requests, and whether some of them also wait for answers about opaque tokens. As many
    /// of them may wait for keys that some are left, whatever the issuers do.
    pub fn share_workers(&self, workers: usize, introspecting: bool) {
        self.seats.share(workers, introspecting, self.slots.len());
    }

    /// The place of an issuer, compared exactly.
    #[must_use]
    pub fn find(&self, issuer: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.source.issuer == issuer)
    }

    /// The keys of the issuer at `place`, without waiting.
    #[must_use]
    pub fn current(&self, place: usize) -> Option<Keys> {
        self.slots.get(place)?.current()
    }

    /// Whether a verdict rests on keys that are still in use.
    #[must_use]
    pub fn is_current(&self, basis: Basis) -> bool {
        self.slots.get(basis.issuer).is_some_and(|slot| {
            slot.generation.load(Ordering::Acquire) == basis.generation
                && slot.clock.now().0 < slot.stale_at.load(Ordering::Relaxed)
        })
    }

    /// Asks for other keys than those of generation `seen`, and waits for them within bounds.
    #[must_use]
    pub fn newer(&self, place: usize, seen: Option<u64>) -> Newer {
        self.slots.get(place).map_or(Newer::Same, |slot| slot.newer(seen))
    }

    /// Who asks issuers about tokens, where one can be asked.
    #[must_use]
    pub fn asker(&self) -> Option<&Fetcher> {
        self.asker.as_ref()
    }

    /// Where the issuer at `place` is asked about tokens, or why nobody knows, once that was looked for.
    #[must_use]
    pub fn introspection_endpoint(&self, place: usize) -> Option<Result<Place, FetchFault>> {
        lock(&self.slots.get(place)?.state).introspection_endpoint.clone()
    }

    /// Has the keys of every issuer fetched, without waiting for them.
    pub fn prefetch(&self) {
        self.slots.iter().for_each(|slot| slot.want(&mut lock(&slot.state)));
    }

    /// Stops all fetching and joins the threads. Keys that are there stay usable.
    pub fn shutdown(&self) {
        for slot in &self.slots {
            lock(&slot.state).stopped = true;
            slot.wake.notify_all();
            slot.done.notify_all();
        }
        self.fetcher.iter().chain(&self.asker).for_each(Fetcher::shutdown);
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // A fetch thread catches its own panics; there is nothing to learn from one that got through.
            let _ = thread.join();
        }
    }
}

impl Drop for KeyStore {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// One issuer.
struct Slot {
    source: Source,
    clock: Clock,
    log: Log,
    seats: Arc<Seats>,
    /// Beside the state, so that the memory of tokens can be asked without its lock. 0 where there are no keys.
    generation: AtomicU64,
    /// From then on the keys are used no more.
    stale_at: AtomicI64,
    state: Mutex<State>,
    /// Wakes the fetch thread.
    wake: Condvar,
    /// Wakes the requests that wait for a fetch.
    done: Condvar,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    introspection_endpoint: Option<Result<Place, FetchFault>>,
    /// A request or a prefetch asks for a fetch.
    wanted: bool,
    fetching: bool,
    /// Fetches that have ended.
    rounds: u64,
    waiters: usize,
    /// From this moment on tokens may again ask for as many fetches as ever; each takes a cooldown off before it.
    asks_full_at: Timestamp,
    /// When the fetch thread acts by itself; never before keys were first needed.
    due: Option<Timestamp>,
    failures: u32,
    last_told: Option<Timestamp>,
    stopped: bool,
}

impl State {
    /// When the next token may ask for a fetch; not later than `now` where one may now.
    fn next_ask(&self, now: Timestamp) -> Timestamp {
        self.asks_full_at.max(now).plus(JWKS_COOLDOWN_SECONDS - JWKS_ASKS_MAX * JWKS_COOLDOWN_SECONDS)
    }

    /// Counts a fetch that a token asks for.
    ///
    /// # Errors
    /// The moment before which it may not.
    fn ask(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let next = self.next_ask(now);
        if next > now {
            return Err(next);
        }
        self.asks_full_at = self.asks_full_at.max(now).plus(JWKS_COOLDOWN_SECONDS);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn new(source: Source, clock: Clock, log: Log, seats: Arc<Seats>) -> Self {
        Self {
            source,
            clock,
            log,
            seats,
            generation: AtomicU64::new(0),
            stale_at: AtomicI64::new(i64::MIN),
            state: Mutex::default(),
            wake: Condvar::new(),
            done: Condvar::new(),
        }
    }

    fn current(&self) -> Option<Keys> {
        self.keys_of(&lock(&self.state))
    }

    fn keys_of(&self, state: &State) -> Option<Keys> {
        let set =
            state.keys.as_ref().filter(|_| self.clock.now().0 < self.stale_at.load(Ordering::Relaxed))?;
        Some(Keys { set: Arc::clone(set), generation: self.generation.load(Ordering::Acquire) })
    }

    fn want(&self, state: &mut State) {
        state.wanted = true;
        self.wake.notify_one();
    }

    fn newer(&self, seen: Option<u64>) -> Newer {
        let newer = |state: &State| self.keys_of(state).filter(|keys| Some(keys.generation) != seen);
        let mut state = lock(&self.state);
        if let Some(keys) = newer(&state) {
            return Newer::Keys(keys); // somebody else asked in the meantime
        }
        if state.stopped {
            return Newer::Crowded;
        }
        if !state.fetching && !state.wanted {
            if let Err(not_before) = state.ask(self.clock.now()) {
                return Newer::NotBefore(not_before);
            }
            self.want(&mut state);
        }
        if !self.seats.take(state.waiters) {
            return Newer::Crowded;
        }
        let (round, deadline) = (state.rounds, Instant::now() + JWKS_WAIT_MAX);
        state.waiters += 1;
        state = while_waiting(move || {
            while state.rounds == round && !state.stopped {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let waited = self.done.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            state
        });
        state.waiters -= 1;
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
        match newer(&state) {
            Some(keys) => Newer::Keys(keys),
            None if state.rounds == round => Newer::Crowded,
            None if state.failures > 0 => Newer::NotBefore(state.next_ask(self.clock.now())),
            None => Newer::Same,
        }
    }

    /// The fetch thread.
    fn fetch_for_ever(&self, fetcher: &Fetcher) {
        let mut found: Option<(Found, Timestamp)> = None;
        while self.wait_for_work() {
            let fetched = catch_unwind(AssertUnwindSafe(|| self.fetch(fetcher, &mut found)));
            let fetched = fetched.unwrap_or(Err(FetchFault::Broken));
            let mut state = lock(&self.state);
            state.fetching = false;
            state.rounds += 1;
            let now = self.clock.now();
            match fetched {
                Ok(set) => self.accept(&mut state, set, now),
                Err(fault) if !state.stopped => {
                    found = None; // the keys may have moved
                    self.keep(&mut state, &fault, now);
                }
                Err(_) => {}
            }
            drop(state);
            self.done.notify_all();
        }
    }

    /// Sleeps until a fetch is asked for or due; false when the program stops.
    fn wait_for_work(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            let now = self.clock.now();
            if state.stopped {
                return false;
            }
            if state.wanted || state.due.is_some_and(|due| due <= now) {
                (state.wanted, state.fetching) = (false, true);
                return true;
            }
            let nap = match state.due {
                Some(due) => Duration::from_secs(due.0.abs_diff(now.0)).min(NAP),
                None => Duration::MAX,
            };
            state = self.wake.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One fetch. Where the keys are is found out again at each regular renewal, as an issuer may move them.
    fn fetch(&self, fetcher: &Fetcher, found: &mut Option<(Found, Timestamp)>) -> Result<KeySet, FetchFault> {
        let now = self.clock.now();
        let whole = |places: &Found| !matches!(places.introspection_endpoint, Some(Err(_)));
        let known =
            found.take().filter(|(places, since)| now < since.plus(JWKS_REFRESH_SECONDS) && whole(places));
        let (places, since) = match known {
            Some(known) => known,
            None => (fetcher.discover(&self.source)?, now),
        };
        lock(&self.state).introspection_endpoint.clone_from(&places.introspection_endpoint);
        let set = fetcher.keys(&places, &self.source)?;
        *found = Some((places, since));
        Ok(set)
    }

    fn accept(&self, state: &mut State, set: KeySet, now: Timestamp) {
        self.stale_at.store(now.plus(JWKS_STALE_SECONDS_MAX).0, Ordering::Relaxed);
        state.due = Some(now.plus(JWKS_REFRESH_SECONDS));
        let failures = std::mem::take(&mut state.failures);
        state.last_told = None;
        let changed = state.keys.as_ref().is_none_or(|old| !old.same_keys(&set));
        let issuer = &self.source.issuer;
        if failures > 0 {
            self.log.info("keys can be fetched again", &[("issuer", issuer), ("failures", &failures)]);
        }
        if !changed {
            return;
        }
        self.log.info("keys loaded", &[("issuer", issuer), ("usable", &set.len())]);
        for skipped in set.skipped() {
            // Keys for encryption or of other types stand in many sets; a token that names one is refused with the reason.
            self.log.info("a key is left out", &[("issuer", issuer), ("key", skipped)]);
        }
        state.keys = Some(Arc::new(set));
        state.asks_full_at = now;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A failed fetch: the keys stay, and it is told once and then now and again.
    fn keep(&self, state: &mut State, fault: &FetchFault, now: Timestamp) {
        let wait = JWKS_RETRY_SECONDS.checked_shl(state.failures.min(16)).unwrap_or(JWKS_COOLDOWN_SECONDS);
        state.due = Some(now.plus(wait.min(JWKS_COOLDOWN_SECONDS)));
        state.failures = state.failures.saturating_add(1);
        if state.last_told.is_some_and(|told| now < told.plus(JWKS_LOG_SECONDS)) {
            return;
        }
        state.last_told = Some(now);
        let issuer = &self.source.issuer;
        let consequence = match self.keys_of(state) {
            Some(_) => "the keys of the last fetch stay in use",
            None => "its tokens are answered 503 until this succeeds",
        };
        self.log.warn(
            "keys cannot be fetched",
            &[
                ("issuer", issuer),
                ("reason", fault),
                ("failures", &state.failures),
                ("consequence", &consequence),
            ],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the issuers do, some workers are left; and where there is one issuer, many may wait for it.
    #[test]
    fn waiting_requests_never_take_every_worker() {
        for (workers, introspecting, issuers, all, each) in [
            (16, false, 1, 12, 12),
            (16, false, 3, 12, 4),
            (16, false, 40, 12, 2),
            (32, false, 1, 24, 24),
            (4, false, 1, 3, 3),
            (1, false, 1, 0, 0),
            (32, true, 1, 4, 4),
            (32, true, 4, 4, 2),
            (4, true, 1, 0, 0),
        ] {
            let seats = Seats::new();
            seats.share(workers, introspecting, issuers);
            let one = (0..workers).filter(|theirs| seats.take(*theirs)).count();
            assert_eq!(one, each, "{workers} workers, {issuers} issuers");
            let rest = (0..workers).filter(|_| seats.take(0)).count();
            assert_eq!(one + rest, all, "{workers} workers, {issuers} issuers");
        }
    }
}
