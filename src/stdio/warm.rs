//! One child of the modern era for many requests (section 3.4): found out about, kept warm, begun again.
//!
//! ```text
//!            take ┌────────┐ answer: 2026-07-28 ┌───────┐
//!  cold ────────▶ │ probed │ ─────────────────▶ │ ready │ ◀─┐ requests and answers
//!                 └────────┘                    └───────┘ ──┘
//!                  │  │ any other answer            │ it dies: all who wait get an error
//!          it dies │  ▼                             ▼
//!                  │ legacy, for good            ┌──────┐ a pause that doubles, up to a cap
//!                  └───────────────────────────▶ │ down │ ──▶ probed
//!                                                └──────┘
//! ```
//!
//! The first request makes us ask `server/discover`. Whatever is understood as modern pins the era, for this child and
//! for the configuration: a child that was opened in one era runs the other's requests with the wrong rules, so the two
//! never meet. While the answer is out, and nothing is known yet, calls that have waited long enough go to sessions
//! (`era.rs`); this child stays, in case that it answers. One lock around the state of a child, held for the length of a
//! table look-up and a write that cannot block; lines from the child come in on the thread `children`, requests on
//! workers, time on `stdio-timer`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Setting;
use super::cut::too_large;
use super::era::{Era, Known};
use super::ladder;
use super::line::Line;
use super::modern::{Call, Failure, Who, has_room, who};
use super::outlet::{Outlet, event_stream};
use super::params::{self, Tools};
use super::process::{Child, End, NotSent, Sink};
use super::remap::{Answer, Ledger, Lost, Routed, cancellation};
use super::upgrade::Upgrade;
use crate::limits::{
    STDIO_BACKOFF_TIME_MAX, STDIO_BACKOFF_TIME_MIN, STDIO_KEEP_ALIVE, STDIO_PENDING_MAX,
    STDIO_SCHEMA_PAGES_MAX, STDIO_SCHEMA_TIME_MAX, STDIO_SHARED_PENDING_MAX, STDIO_STEADY_TIME,
    STDIO_WAIT_TIME_MAX,
};
use crate::reply;

/// What the children of one configuration have in common.
pub(super) struct Home {
    pub(super) setting: Arc<Setting>,
    /// Serves what a child without the modern era cannot.
    pub(super) legacy: Arc<Upgrade>,
    pub(super) known: Arc<Known>,
}

/// A child that many share.
pub(super) struct Warm {
    home: Arc<Home>,
    me: Weak<Self>,
    state: Mutex<State>,
}

struct State {
    child: Option<Child>,
    /// Which start of the child this is: what an earlier one still says is not heard.
    run: u64,
    phase: Phase,
    began: Instant,
    failures: u32,
    ledger: Ledger<Asker>,
    /// The number of each client's request and whose it is, by the key of its call.
    numbers: HashMap<u64, (u64, Who)>,
    /// How many requests of each caller are under way.
    callers: HashMap<Who, usize>,
    used: Instant,
    /// Requests that wait for the probe, for a schema, or for the next start.
    parked: VecDeque<Call>,
    tools: Tools,
    /// When the schemas were asked for, and whether the answer is there.
    tools_asked: Option<(Instant, bool)>,
    pages: usize,
    protocol_errors: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Cold,
    Probing,
    Ready,
    Down(Instant),
}

/// Who waits for an answer of the child.
enum Asker {
    Client(Pending),
    /// `server/discover` of ours.
    Probe,
    /// `tools/list` of ours.
    Schemas,
}

/// A client that waits.
struct Pending {
    key: u64,
    outlet: Outlet,
    deadline: Option<Instant>,
    /// When a comment is due, on the stream of a subscription.
    keep_alive: Option<Instant>,
}

impl State {
    /// A request is over: gives its number.
    fn forget(&mut self, key: u64) -> Option<u64> {
        let (number, who) = self.numbers.remove(&key)?;
        if let Some(count) = self.callers.get_mut(&who) {
            *count -= 1;
            if *count == 0 {
                self.callers.remove(&who);
            }
        }
        Some(number)
    }
}

impl Pending {
    /// Ends an answer that will not come. The stream of a subscription just ends, and its client subscribes again.
    fn give_up(&self, id: &str, why: Failure) {
        if self.keep_alive.is_some() && self.outlet.has_begun() {
            self.outlet.end();
        } else {
            give_up(&self.outlet, id, why);
        }
    }
}

/// The way back from one start of the child.
struct Run {
    warm: Weak<Warm>,
    number: u64,
}

impl Sink for Run {
    fn line(&self, line: &[u8]) -> bool {
        self.warm.upgrade().is_none_or(|warm| warm.line(self.number, line))
    }

    fn too_long(&self) {
        let Some(warm) = self.warm.upgrade() else { return };
        let only = warm.lock().ledger.only();
        if let Some(number) = only {
            warm.line(self.number, too_large(&number.to_string()).as_bytes());
        }
    }

    fn ended(&self, end: &End) {
        if let Some(warm) = self.warm.upgrade() {
            warm.ended(self.number, end);
        }
    }
}

impl Warm {
    pub(super) fn new(home: &Arc<Home>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            home: Arc::clone(home),
            me: Weak::clone(me),
            state: Mutex::new(State {
                child: None,
                run: 0,
                phase: Phase::Cold,
                began: Instant::now(),
                failures: 0,
                ledger: Ledger::default(),
                numbers: HashMap::new(),
                callers: HashMap::new(),
                used: Instant::now(),
                parked: VecDeque::new(),
                tools: Tools::default(),
                tools_asked: None,
                pages: 0,
                protocol_errors: 0,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request. What it answers goes to the call's outlet.
    pub(super) fn take(&self, call: Call, now: Instant) {
        let mut state = self.lock();
        state.used = now;
        match state.phase {
            Phase::Ready => self.lead(&mut state, call, now),
            Phase::Down(until) if until > now + STDIO_WAIT_TIME_MAX => call.fail(Failure::Died),
            _ if !has_room(&state.parked) => call.refuse_busy(),
            phase => {
                state.parked.push_back(call);
                if phase == Phase::Cold {
                    self.start(&mut state, now);
                }
            }
        }
    }

    /// Starts the child and asks what it speaks.
    fn start(&self, state: &mut State, now: Instant) {
        state.run += 1;
        let run = Arc::new(Run { warm: Weak::clone(&self.me), number: state.run });
        state.began = now;
        state.tools_asked = None;
        self.home.known.start_anew();
        match self.home.setting.children.spawn(&self.home.setting.launch, run) {
            Ok(child) => {
                let (_, line) = state
                    .ledger
                    .open_own(Asker::Probe, |number| ladder::own_request(number, "server/discover", None));
                let _ = child.send(line.as_bytes()); // where it cannot be written, its end is on the way
                state.child = Some(child);
                state.phase = Phase::Probing;
            }
            Err(_) => {
                state.phase = Phase::Down(now + STDIO_BACKOFF_TIME_MIN);
                state.parked.drain(..).for_each(|call| call.refuse_busy());
            }
        }
    }

    /// Judges a request by what is known of the server, and writes it.
    fn lead(&self, state: &mut State, call: Call, now: Instant) {
        if call.outlet.is_gone() {
            return;
        }
        let supported = match self.home.known.era() {
            Some(Era::Modern(supported)) => supported,
            _ => Arc::default(),
        };
        let Ok(line) = Line::read(&call.body) else { return call.fail(Failure::Unreadable) };
        if let Err(fault) = ladder::version(&line, &supported) {
            return call.outlet.answer(fault);
        }
        if line.method == "tools/call" {
            match self.check_params(state, &line, &call, now) {
                Params::Hold => {}
                Params::Refused(fault) => return call.outlet.answer(ladder::mismatch(&line, &fault)),
                Params::Unknown if !has_room(&state.parked) => return call.refuse_busy(),
                Params::Unknown => return state.parked.push_back(call),
            }
        }
        let who = who(&call.principal);
        let theirs = state.callers.get(&who).copied().unwrap_or(0);
        if theirs >= STDIO_PENDING_MAX || state.ledger.len() >= STDIO_SHARED_PENDING_MAX {
            return call.refuse_busy();
        }
        let listens = line.method == ladder::LISTEN;
        let pending = Pending {
            key: call.key,
            outlet: call.outlet.clone(),
            deadline: (!listens).then_some(call.deadline),
            keep_alive: listens.then(|| now + STDIO_KEEP_ALIVE),
        };
        let Some((number, text)) = state.ledger.open(&line, Asker::Client(pending)) else {
            return call.fail(Failure::Unreadable);
        };
        state.callers.insert(who.clone(), theirs + 1);
        state.numbers.insert(call.key, (number, who));
        let sent = state.child.as_ref().map_or(Err(NotSent::Gone), |child| child.send(text.as_bytes()));
        if let Err(why) = sent {
            state.ledger.close(number);
            state.forget(call.key);
            match why {
                NotSent::Full => call.refuse_busy(),
                NotSent::Gone => call.fail(Failure::Died),
            }
        }
    }

    /// M-09. Schemas that are not known, or no longer sure enough to refuse a call for, are asked for first.
    fn check_params(&self, state: &mut State, line: &Line<'_>, call: &Call, now: Instant) -> Params {
        let name = call.item.as_deref().unwrap_or_default();
        let asked = state.tools_asked;
        let fresh = asked.is_some_and(|(when, there)| there && now < when + STDIO_SCHEMA_TIME_MAX);
        let waits = asked.is_some_and(|(_, there)| !there);
        let Some(declared) = state.tools.of(name) else {
            if fresh {
                return Params::Hold; // no such tool: the server says so
            }
            if !waits {
                self.ask_schemas(state, None, now);
            }
            return Params::Unknown;
        };
        if !fresh && !waits {
            self.ask_schemas(state, None, now);
        }
        let verdict =
            params::check(&declared, line.arguments.map(|piece| piece.raw), |name| call.header(name));
        match verdict {
            Ok(()) => Params::Hold,
            Err(_) if !fresh => Params::Unknown,
            Err(fault) => Params::Refused(fault),
        }
    }

    fn ask_schemas(&self, state: &mut State, cursor: Option<&str>, now: Instant) {
        if cursor.is_none() {
            state.pages = 0;
            state.tools_asked = Some((now, false));
        }
        let (_, line) =
            state.ledger.open_own(Asker::Schemas, |number| ladder::own_request(number, "tools/list", cursor));
        if let Some(child) = &state.child {
            let _ = child.send(line.as_bytes());
        }
    }

    fn line(&self, run: u64, line: &[u8]) -> bool {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        if run != state.run {
            return true;
        }
        let mut elsewhere = Vec::new();
        match state.ledger.route(line) {
            Routed::Answer(answer) => match answer.entry.asker {
                Asker::Client(pending) => {
                    state.forget(pending.key);
                    finish(&pending.outlet, answer.text, answer.code);
                }
                Asker::Probe => elsewhere = self.probed(state, &answer.text, answer.code, now),
                Asker::Schemas => self.learn(state, &answer, now),
            },
            Routed::Event { number, text, tools_changed } => {
                if tools_changed {
                    state.tools_asked = None;
                }
                if let Some(Asker::Client(pending)) =
                    state.ledger.entry_mut(number).map(|entry| &mut entry.asker)
                {
                    pending.deadline = pending.deadline.map(|_| now + self.home.setting.stdio.request_time);
                    event(&pending.outlet, &text);
                }
            }
            Routed::Ended(entry) => {
                if let Asker::Client(pending) = &entry.asker {
                    state.forget(pending.key);
                    pending.give_up(entry.id(), Failure::Died);
                }
            }
            Routed::Nobody(Lost::Garbage) => return false,
            Routed::Nobody(Lost::Request) => {
                // Section 3.4: a protocol error. Nothing is answered.
                state.protocol_errors += 1;
                if state.protocol_errors.is_power_of_two() {
                    let fields: [crate::log::Field<'_>; 1] = [("so_far", &state.protocol_errors)];
                    self.home
                        .setting
                        .log
                        .warn("the MCP server sent a request, which its protocol version has not", &fields);
                }
            }
            Routed::Nobody(Lost::Stranger | Lost::Untied) => {}
        }
        drop(guard);
        elsewhere.into_iter().for_each(|call| self.home.legacy.take(call, now));
        true
    }

    /// The answer to `server/discover` decides the era.
    fn probed(&self, state: &mut State, text: &str, code: Option<i64>, now: Instant) -> Vec<Call> {
        let Some(supported) = ladder::supported(text, code) else { return self.is_legacy(state) };
        self.home.known.pin(Era::Modern(supported.into()));
        state.phase = Phase::Ready;
        for call in std::mem::take(&mut state.parked) {
            self.lead(state, call, now);
        }
        Vec::new()
    }

    fn is_legacy(&self, state: &mut State) -> Vec<Call> {
        if !self.home.known.is_legacy() {
            let log = &self.home.setting.log;
            log.info("the MCP server speaks sessions only; modern requests are translated", &[]);
        }
        self.home.known.pin(Era::Legacy);
        state.phase = Phase::Cold;
        state.run += 1;
        if let Some(child) = state.child.take() {
            child.stop();
        }
        drop(state.ledger.drain());
        state.parked.drain(..).collect()
    }

    fn learn(&self, state: &mut State, answer: &Answer<Asker>, now: Instant) {
        let message: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        state.pages += 1;
        let next = message.get("result").and_then(|result| state.tools.learn(result));
        if let Some(next) = next.filter(|_| state.pages < STDIO_SCHEMA_PAGES_MAX) {
            return self.ask_schemas(state, Some(&next), now);
        }
        state.tools_asked = state.tools_asked.map(|_| (now, true));
        for call in std::mem::take(&mut state.parked) {
            self.lead(state, call, now);
        }
    }

    /// The client of a call has left: closing the stream cancels (M-14).
    pub(super) fn left(&self, key: u64) {
        let mut state = self.lock();
        state.parked.retain(|call| call.key != key);
        let Some(number) = state.forget(key) else { return };
        state.ledger.close(number);
        if let Some(child) = &state.child {
            let _ = child.send(cancellation(number, "the client closed the request").as_bytes());
        }
    }

    fn ended(&self, run: u64, end: &End) {
        let now = Instant::now();
        let mut state = self.lock();
        if run != state.run {
            return;
        }
        state.child = None;
        state.numbers.clear();
        state.callers.clear();
        for (_, entry) in state.ledger.drain() {
            if let Asker::Client(pending) = &entry.asker {
                pending.give_up(entry.id(), Failure::Died);
            }
        }
        if end.asked {
            state.parked.drain(..).for_each(|call| call.fail(Failure::Died));
            state.phase = Phase::Cold;
            return;
        }
        state.failures = if now >= state.began + STDIO_STEADY_TIME { 1 } else { state.failures + 1 };
        let known = &self.home.known;
        if state.phase == Phase::Probing && state.failures > 1 && known.opens_sessions() && !known.is_modern()
        {
            let calls = self.is_legacy(&mut state);
            drop(state);
            return calls.into_iter().for_each(|call| self.home.legacy.take(call, now));
        }
        let elsewhere = if state.phase == Phase::Probing { self.be_silent(&mut state) } else { Vec::new() };
        state.parked.drain(..).for_each(|call| call.fail(Failure::Died));
        let pause = backoff(state.failures);
        let fields: [crate::log::Field<'_>; 2] = [("in_ms", &pause.as_millis()), ("deaths", &state.failures)];
        self.home.setting.log.warn("the MCP server is started again", &fields);
        if pause.is_zero() {
            self.start(&mut state, now);
        } else {
            state.phase = Phase::Down(now + pause);
        }
        drop(state);
        elsewhere.into_iter().for_each(|call| self.home.legacy.take(call, now));
    }

    /// The question what the server speaks is not answered: gives the calls that sessions are tried for.
    fn be_silent(&self, state: &mut State) -> Vec<Call> {
        if self.home.known.be_silent() {
            let log = &self.home.setting.log;
            log.warn(
                "the MCP server has not answered server/discover yet; sessions are tried meanwhile",
                &[],
            );
        }
        if !self.home.known.is_served_by_sessions() {
            return Vec::new();
        }
        let (kept, gone): (VecDeque<Call>, VecDeque<Call>) =
            state.parked.drain(..).partition(|call| call.tried);
        state.parked = kept;
        gone.into()
    }

    /// What is due by now: deadlines, comments on silent streams, the next start; `true` while something will be.
    pub(super) fn tick(&self, now: Instant) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut elsewhere = Vec::new();
        let is_overdue = |state: &State| now >= state.began + self.home.setting.stdio.probe_time;
        match state.phase {
            Phase::Down(until) if now >= until => self.start(state, now),
            Phase::Probing if self.home.known.is_legacy() => {
                elsewhere = self.is_legacy(state); // another child has answered
            }
            Phase::Probing if is_overdue(state) => elsewhere = self.be_silent(state),
            _ => {}
        }
        let mut late = Vec::new();
        for (number, entry) in state.ledger.iter_mut() {
            let Asker::Client(pending) = &mut entry.asker else { continue };
            if pending.keep_alive.is_some_and(|due| now >= due) {
                pending.keep_alive = Some(now + STDIO_KEEP_ALIVE);
                let _ = pending.outlet.send(b":\n\n".to_vec());
            }
            if pending.deadline.is_some_and(|deadline| now >= deadline) {
                late.push(number);
            }
        }
        for number in late {
            let Some(entry) = state.ledger.close(number) else { continue };
            let Asker::Client(pending) = &entry.asker else { continue };
            state.forget(pending.key);
            if let Some(child) = &state.child {
                let _ = child.send(cancellation(number, "it took too long").as_bytes());
            }
            pending.give_up(entry.id(), Failure::TimedOut);
        }
        let (kept, overdue) =
            std::mem::take(&mut state.parked).into_iter().partition(|call| now < call.deadline);
        state.parked = kept;
        let busy = match state.phase {
            // An answer that is out for long is not waited for at every tick.
            Phase::Probing => !is_overdue(state) || !state.parked.is_empty(),
            Phase::Down(_) => true,
            Phase::Cold | Phase::Ready => !state.ledger.is_empty() || !state.parked.is_empty(),
        };
        drop(guard);
        let overdue: VecDeque<Call> = overdue;
        overdue.into_iter().for_each(|call| call.fail(Failure::TimedOut));
        elsewhere.into_iter().for_each(|call| self.home.legacy.take(call, now));
        busy
    }

    /// Since when nobody uses it; `None` while somebody does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.ledger.is_empty() && state.parked.is_empty()).then_some(state.used)
    }

    /// Ends the subscriptions as a server does that is closing: with their result (section 7, number 1).
    pub(super) fn close(&self) {
        let mut guard = self.lock();
        for (_, entry) in guard.ledger.iter_mut() {
            let Asker::Client(pending) = &entry.asker else { continue };
            if pending.keep_alive.is_some() {
                finish(&pending.outlet, ladder::listen_result(entry.id()), None);
            }
        }
    }
}

enum Params {
    Hold,
    Refused(params::ParamFault),
    /// To be judged when the schemas are there.
    Unknown,
}

/// How long a child that died is left alone.
fn backoff(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(doubled) => {
            STDIO_BACKOFF_TIME_MIN.saturating_mul(1 << doubled.min(16)).min(STDIO_BACKOFF_TIME_MAX)
        }
    }
}

/// Gives an answer: as the end of a stream that has begun, or alone with the status that its error has.
pub(super) fn finish(outlet: &Outlet, text: String, code: Option<i64>) {
    if outlet.has_begun() {
        event(outlet, &text);
        outlet.end();
    } else {
        outlet.answer(reply::modern(text.into_bytes(), code));
    }
}

/// Sends a message on the stream of an answer, which begins with it.
pub(super) fn event(outlet: &Outlet, text: &str) {
    outlet.begin(event_stream());
    let _ = outlet.send(format!("event: message\ndata: {text}\n\n").into_bytes());
}

/// Ends an answer that will not come.
pub(super) fn give_up(outlet: &Outlet, id: &str, why: Failure) {
    let reply = why.reply(id);
    if outlet.has_begun() {
        event(outlet, &String::from_utf8_lossy(&reply.body));
        outlet.end();
    } else {
        outlet.answer(reply);
    }
}
