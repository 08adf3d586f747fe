//! Modern clients in front of a server that knows sessions only: the bridge opens sessions of its own for them.
//!
//! ```text
//! POST ─▶ take ─▶ who asks? ─▶ a child of theirs: initialize, tools/list, then requests under numbers of ours
//!                                 │ answer ─▶ with resultType, ttlMs, cacheScope
//!                                 │ it asks back: the call is parked, its client gets input_required
//! POST with requestState ─▶ MAC ─▶ the parked call goes on
//! ```
//!
//! A principal has sessions of its own, so nothing of one caller is seen by another. What a server asks back carries no
//! mark of the call that made it ask; so each of its processes works on one such call at a time, and a second call goes
//! to another process or waits. Log messages are attributed in the same way. A parked call stays parked for
//! [`STDIO_ASK_TIME_MAX`]; its `requestState` names it under a MAC over the principal (M-20), and is worth nothing to
//! anybody else, twice, or for another tool.
//!
//! What cannot cross: a request whose client cannot do what the server asks for ends with `-32021`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;

use super::Setting;
use super::cut::too_large;
use super::era::Known;
use super::ladder;
use super::line::Line;
use super::modern::{Call, Failure, Who, has_room};
use super::old::{Env, Old};
use super::outlet::Outlet;
use super::process::{End, Sink};
use super::translate::Filter;
use super::warm;
use crate::auth::Principal;
use crate::limits::{STDIO_KEEP_ALIVE, STDIO_TRANSLATED_MAX};
use crate::reply;

/// All sessions that were opened in the place of modern clients.
pub(super) struct Upgrade {
    me: Weak<Self>,
    setting: Arc<Setting>,
    known: Arc<Known>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    users: HashMap<Who, User>,
    /// Whose child a start is.
    runs: HashMap<u64, Who>,
    next_run: u64,
    /// Whose call it is, by its key; only while an answer is due.
    calls: HashMap<u64, Who>,
    /// What a `requestState` names.
    parked: HashMap<Box<str>, Place>,
    /// Calls for which a session was tried that could not be opened.
    returned: Vec<Call>,
}

impl State {
    /// The request that a child works on, where it is one and no more.
    fn only(&self, run: u64) -> Option<u64> {
        let user = self.users.get(self.runs.get(&run)?)?;
        user.children.iter().find(|child| child.run == run)?.only()
    }
}

/// Where a parked call is.
#[derive(Clone)]
struct Place {
    who: Who,
    run: u64,
    number: u64,
}

/// One principal.
#[derive(Default)]
struct User {
    children: Vec<Old>,
    listens: Vec<Listen>,
    /// Calls that wait for a child that is free.
    queue: VecDeque<Call>,
}

/// A subscription that we serve ourselves.
pub(super) struct Listen {
    key: u64,
    id: Box<str>,
    outlet: Outlet,
    filter: Filter,
    keep_alive: Instant,
}

impl Listen {
    pub(super) fn new(call: &Call, filter: Filter, now: Instant) -> Self {
        let (id, outlet) = (call.id().into(), call.outlet.clone());
        Self { key: call.key, id, outlet, filter, keep_alive: now + STDIO_KEEP_ALIVE }
    }
}

/// What happened at a child that is not its own business alone.
#[derive(Default)]
pub(super) struct Happened {
    /// Subscriptions that were taken up.
    pub(super) listens: Vec<Listen>,
    /// Something changed: method and parameters.
    pub(super) changes: Vec<(String, Value)>,
    /// Calls that were parked: the new name and the number.
    pub(super) parked: Vec<(Box<str>, u64)>,
    /// Calls that are over, by their key.
    pub(super) over: Vec<u64>,
}

/// The way back from one child.
struct Run {
    upgrade: Weak<Upgrade>,
    number: u64,
}

impl Sink for Run {
    fn line(&self, line: &[u8]) -> bool {
        self.upgrade.upgrade().is_none_or(|upgrade| upgrade.line(self.number, line))
    }

    fn too_long(&self) {
        let Some(upgrade) = self.upgrade.upgrade() else { return };
        let only = upgrade.lock().only(self.number);
        if let Some(number) = only {
            upgrade.line(self.number, too_large(&number.to_string()).as_bytes());
        }
    }

    fn ended(&self, end: &End) {
        if let Some(upgrade) = self.upgrade.upgrade() {
            upgrade.ended(self.number, end);
        }
    }
}

impl Upgrade {
    pub(super) fn new(setting: &Arc<Setting>, known: &Arc<Known>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            setting: Arc::clone(setting),
            known: Arc::clone(known),
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request; what it answers goes to the call's outlet.
    pub(super) fn take(&self, call: Call, now: Instant) {
        if call.outlet.is_gone() {
            return;
        }
        let Ok(line) = Line::read(&call.body) else { return call.fail(Failure::Unreadable) };
        if let Err(reply) = ladder::version(&line, &[ladder::OURS.to_owned()]) {
            return call.outlet.answer(reply);
        }
        let who = super::modern::who(&call.principal);
        let state_named = line.state.and_then(|piece| piece.text()).map(String::from);
        let method = line.method.to_string();
        let mut guard = self.lock();
        guard.calls.insert(call.key, who.clone());
        if let Some(sealed) = state_named {
            self.resume(&mut guard, &who, &sealed, call, now);
        } else {
            self.lead(&mut guard, &who, call, &method, now);
        }
    }

    /// Finds a child for a call: the first one, or for a call that may be asked back the first one that is free.
    fn lead(&self, state: &mut State, who: &Who, call: Call, method: &str, now: Instant) {
        let alone = Old::is_exclusive(method);
        let all: usize = state.users.values().map(|user| user.children.len()).sum();
        let user = state.users.entry(who.clone()).or_default();
        let free = user.children.iter_mut().find(|child| !alone || child.is_free());
        let mut happened = Happened::default();
        if let Some(child) = free {
            let run = child.run;
            child.take(call, method, &self.env(now), &mut happened);
            return self.settle(state, who, run, happened, now);
        }
        if user.children.len() < STDIO_TRANSLATED_MAX && all < self.setting.stdio.sessions {
            state.next_run += 1;
            let run = state.next_run;
            let sink = Arc::new(Run { upgrade: Weak::clone(&self.me), number: run });
            if let Ok(child) = self.setting.children.spawn(&self.setting.launch, sink) {
                let mut old = Old::open(run, child, now);
                old.take(call, method, &self.env(now), &mut happened);
                user.children.push(old);
                state.runs.insert(run, who.clone());
                return self.settle(state, who, run, happened, now);
            }
        } else if has_room(&user.queue) && !user.children.is_empty() {
            user.queue.push_back(call);
            // Whoever asked longest ago and was not answered makes room.
            let parked = user.children.iter_mut().filter_map(|child| Some((child.parked_until()?, child)));
            if let Some((_, child)) = parked.min_by_key(|(until, _)| *until) {
                child.evict(&self.env(now), &mut happened);
                let run = child.run;
                self.settle(state, who, run, happened, now);
            }
            return;
        }
        state.calls.remove(&call.key);
        call.refuse_busy();
    }

    /// Goes on with a parked call, for the one whose it is.
    fn resume(&self, state: &mut State, who: &Who, sealed: &str, call: Call, now: Instant) {
        let opened = self.setting.key.open_state(&call.principal, sealed);
        let place = opened.and_then(|name| state.parked.get(name).cloned().map(|place| (name, place)));
        let child = place.as_ref().filter(|(_, place)| place.who == *who).and_then(|(_, place)| {
            let user = state.users.get_mut(who)?;
            user.children.iter_mut().find(|child| child.run == place.run)
        });
        let (Some((name, place)), Some(child)) = (place, child) else {
            state.calls.remove(&call.key);
            return refuse_state(&call);
        };
        let mut happened = Happened::default();
        let (key, run) = (call.key, child.run);
        if !child.resume(place.number, call, &self.env(now), &mut happened) {
            state.calls.remove(&key);
            return;
        }
        state.parked.remove(name);
        self.settle(state, who, run, happened, now);
    }

    /// Does what follows from what happened at a child.
    fn settle(&self, state: &mut State, who: &Who, run: u64, happened: Happened, now: Instant) {
        for key in happened.over {
            state.calls.remove(&key);
        }
        for (name, number) in happened.parked {
            state.parked.insert(name, Place { who: who.clone(), run, number });
        }
        let Some(user) = state.users.get_mut(who) else { return };
        for listen in happened.listens {
            user.listens.push(listen);
        }
        for (method, params) in happened.changes {
            for listen in user.listens.iter().filter(|listen| listen.filter.wants(&method, &params)) {
                warm::event(&listen.outlet, &super::translate::tagged(&method, &params, &listen.id));
            }
        }
        let free = user.children.iter().any(Old::is_free);
        if let Some(call) = free.then(|| user.queue.pop_front()).flatten() {
            let method = Line::read(&call.body).map(|line| line.method.to_string()).unwrap_or_default();
            self.lead(state, who, call, &method, now);
        }
    }

    fn line(&self, run: u64, line: &[u8]) -> bool {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(who) = state.runs.get(&run).cloned() else { return true };
        let user = state.users.get_mut(&who);
        let Some(child) = user.and_then(|user| user.children.iter_mut().find(|child| child.run == run))
        else {
            return true;
        };
        let mut happened = Happened::default();
        let read = child.line(line, &self.env(now), &mut happened);
        let broken = child.is_broken();
        self.settle(state, &who, run, happened, now);
        if broken {
            self.remove(state, &who, run, Failure::Unreadable, now);
        }
        read
    }

    fn ended(&self, run: u64, _end: &End) {
        let mut guard = self.lock();
        let Some(who) = guard.runs.get(&run).cloned() else { return };
        let child =
            guard.users.get(&who).and_then(|user| user.children.iter().find(|child| child.run == run));
        if child.is_some_and(|child| !child.has_opened()) {
            self.known.tried(false);
        }
        self.remove(&mut guard, &who, run, Failure::Died, Instant::now());
    }

    /// A child is no more: everyone who waits for it is told, and who waits in the queue goes on.
    fn remove(&self, state: &mut State, who: &Who, run: u64, fault: Failure, now: Instant) {
        state.runs.remove(&run);
        state.parked.retain(|_, place| place.run != run);
        let Some(user) = state.users.get_mut(who) else { return };
        let Some(at) = user.children.iter().position(|child| child.run == run) else { return };
        let mut happened = Happened::default();
        let mut child = user.children.swap_remove(at);
        let in_vain = !child.has_opened() && !self.known.is_legacy();
        if in_vain {
            state.returned.extend(child.take_waiting());
        }
        child.close(fault, &mut happened);
        if user.children.is_empty() {
            // Subscriptions lived in the sessions; their clients subscribe again.
            user.listens.drain(..).for_each(|listen| listen.outlet.end());
            let queue = std::mem::take(&mut user.queue);
            state.users.remove(who);
            if in_vain {
                return state.returned.extend(queue);
            }
            for call in queue {
                state.calls.remove(&call.key);
                call.fail(fault);
            }
        }
        self.settle(state, who, run, happened, now);
    }

    /// The calls that sessions cannot serve, or need not any more, since the server has answered that it is modern.
    pub(super) fn give_back(&self) -> Vec<Call> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if self.known.is_modern() {
            for user in state.users.values_mut() {
                // Its changes are at another child; the client subscribes again.
                user.listens.drain(..).for_each(|listen| listen.outlet.end());
                state.returned.extend(user.queue.drain(..));
                for child in user.children.extract_if(.., |child| !child.is_ready()) {
                    let mut child = child;
                    state.runs.remove(&child.run);
                    state.returned.extend(child.take_waiting());
                }
            }
        }
        state.users.retain(|_, user| !user.children.is_empty());
        let mut returned = std::mem::take(&mut state.returned);
        for call in &mut returned {
            call.tried = true;
            state.calls.remove(&call.key);
        }
        returned
    }

    /// The client of a call has left (M-14).
    pub(super) fn left(&self, key: u64) {
        let now = Instant::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        state.returned.retain(|call| call.key != key);
        let Some(who) = state.calls.remove(&key) else { return };
        let Some(user) = state.users.get_mut(&who) else { return };
        user.queue.retain(|call| call.key != key);
        if let Some(at) = user.listens.iter().position(|listen| listen.key == key) {
            let listen = user.listens.swap_remove(at);
            let others = |uri: &String| user.listens.iter().any(|other| other.filter.uris.contains(uri));
            let uris: Vec<String> = listen.filter.uris.into_iter().filter(|uri| !others(uri)).collect();
            user.children.iter_mut().for_each(|child| child.unsubscribe(&uris));
        }
        let env = self.env(now);
        user.children.iter_mut().for_each(|child| child.left(key, &env));
    }

    /// What is due by now; `true` while something will be soon.
    pub(super) fn tick(&self, now: Instant) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut over = Vec::new();
        let mut done = Vec::new();
        // Sessions that were tried at a server that is modern end with what they work on.
        let modern = self.known.is_modern();
        let most = if modern { Duration::ZERO } else { self.setting.stdio.session_idle_time };
        for (who, user) in &mut state.users {
            for listen in &mut user.listens {
                if now >= listen.keep_alive {
                    listen.keep_alive = now + STDIO_KEEP_ALIVE;
                    let _ = listen.outlet.send(b":\n\n".to_vec());
                }
            }
            let listened = !user.listens.is_empty();
            for child in &mut user.children {
                let mut happened = Happened::default();
                child.tick(&self.env(now), &mut happened);
                if child.is_broken() || child.is_idle(now, most) && !listened {
                    over.push((who.clone(), child.run));
                }
                done.push((who.clone(), child.run, happened));
            }
            let queue = std::mem::take(&mut user.queue);
            let (kept, late): (VecDeque<Call>, VecDeque<Call>) =
                queue.into_iter().partition(|call| now < call.deadline);
            user.queue = kept;
            for call in late {
                state.calls.remove(&call.key);
                call.fail(Failure::TimedOut);
            }
        }
        for (who, run, happened) in done {
            self.settle(state, &who, run, happened, now);
        }
        for (who, run) in over {
            self.remove(state, &who, run, Failure::Died, now);
        }
        // A name outlives its call by no more than a tick.
        let users = &state.users;
        state.parked.retain(|_, place| {
            users.get(&place.who).is_some_and(|user| {
                user.children.iter().any(|child| child.run == place.run && child.has_parked(place.number))
            })
        });
        modern && !users.is_empty()
            || !state.returned.is_empty()
            || users.values().any(|user| !user.queue.is_empty() || !user.children.iter().all(Old::is_quiet))
    }

    /// Ends the subscriptions in good order.
    pub(super) fn close(&self) {
        for user in self.lock().users.values() {
            for listen in &user.listens {
                warm::finish(&listen.outlet, ladder::listen_result(&listen.id), None);
            }
        }
    }

    fn env(&self, now: Instant) -> Env<'_> {
        Env {
            now,
            request_time: self.setting.stdio.request_time,
            log: &self.setting.log,
            seal: self,
            known: &self.known,
        }
    }

    /// A new name for a parked call, and the `requestState` that its client gets.
    pub(super) fn seal(&self, principal: &Principal) -> (Box<str>, String) {
        let mut bytes = [0_u8; 16];
        let filled = SystemRandom::new().fill(&mut bytes);
        assert!(filled.is_ok(), "the system has no random numbers");
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let sealed = self.setting.key.seal_state(principal, &name);
        (name.into(), sealed)
    }
}

/// `Invalid params`: a state that was not given to this caller, or is not open any more.
pub(super) fn refuse_state(call: &Call) {
    let text = reply::rpc_error(-32602, "requestState is not valid, or no longer", Some(call.id()));
    call.outlet.answer(reply::modern(text.into_bytes(), Some(-32602)));
}
