//! One session that was opened for modern clients of one principal: a child of the legacy era.
//!
//! It opens by `initialize`, `notifications/initialized` and `tools/list`, whose schemas are needed for `Mcp-Param-*`;
//! calls wait meanwhile. Of the calls that a server may ask back during, it works on one at a time; everything else runs
//! beside it. All of this is called under the lock of `upgrade.rs`, and waits for nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::era::Known;
use super::ladder;
use super::line::{Line, Shape};
use super::modern::{Call, Failure};
use super::outlet::Outlet;
use super::params::{self, Tools};
use super::process::Child;
use super::remap::{Ledger, Routed, cancellation};
use super::translate::{self, Ask, Filter};
use super::upgrade::{Happened, Listen, Upgrade, refuse_state};
use super::warm;
use crate::limits::{STDIO_ASK_TIME_MAX, STDIO_CANCEL_TIME_MAX, STDIO_QUEUED_MAX, STDIO_SCHEMA_PAGES_MAX};
use crate::log::Log;
use crate::mcp::json::{Kind as Json, Reader};
use crate::reply::rpc_error;

/// What a session gets from outside.
pub(super) struct Env<'a> {
    pub(super) now: Instant,
    pub(super) request_time: Duration,
    pub(super) log: &'a Log,
    pub(super) seal: &'a Upgrade,
    pub(super) known: &'a Known,
}

/// A session.
pub(super) struct Old {
    pub(super) run: u64,
    child: Child,
    began: Instant,
    used: Instant,
    broken: bool,
    /// The result of `initialize`.
    opened: Option<Value>,
    /// The schemas are there.
    ready: bool,
    waiting: Vec<(Call, String)>,
    ledger: Ledger<Asker>,
    /// The one call that may be asked back, and what it asks now.
    alone: Option<Alone>,
    level: Option<String>,
    tools: Tools,
    pages: usize,
}

/// The call that a session works on alone.
#[derive(Default)]
struct Alone {
    number: u64,
    /// What the server asked for and was not told yet, in order, each with its key in `inputRequests`.
    asks: Vec<(String, Ask)>,
    /// How many it has asked for.
    asked: u64,
    /// It has just asked; a server that asks for more at once is given the time to.
    gathers: bool,
    /// No client waits: until then somebody may come back with an answer.
    parked: Option<Instant>,
    /// It was given up; the session is free again from then on, or when the child has answered.
    given_up: Option<Instant>,
}

enum Asker {
    Client(Box<Pending>),
    /// A request of ours.
    Opening,
    Schemas,
    /// A request of ours whose answer tells nothing.
    Ignored,
}

struct Pending {
    key: u64,
    outlet: Outlet,
    method: String,
    item: Option<String>,
    capabilities: Value,
    principal: std::sync::Arc<crate::auth::Principal>,
    deadline: Instant,
}

impl Old {
    /// Whether a server may ask back while it works on this method (section 1.3 number 9).
    pub(super) fn is_exclusive(method: &str) -> bool {
        matches!(method, "tools/call" | "prompts/get" | "resources/read")
    }

    /// Begins to open a session.
    pub(super) fn open(run: u64, child: Child, now: Instant) -> Self {
        let mut ledger = Ledger::default();
        let capabilities = translate::everything();
        let (_, line) =
            ledger.open_own(Asker::Opening, |number| translate::initialize(number, &capabilities));
        let _ = child.send(line.as_bytes()); // where it cannot be written, its end is on the way
        Self {
            run,
            child,
            began: now,
            used: now,
            broken: false,
            opened: None,
            ready: false,
            waiting: Vec::new(),
            ledger,
            alone: None,
            level: None,
            tools: Tools::default(),
            pages: 0,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.alone.is_none() && !self.waiting.iter().any(|(_, method)| Self::is_exclusive(method))
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether its client may be told the tools, and calls go through.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether `initialize` was answered with a result.
    pub(super) fn has_opened(&self) -> bool {
        self.opened.is_some()
    }

    /// The calls that wait for it to open.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = Call> {
        std::mem::take(&mut self.waiting).into_iter().map(|(call, _)| call)
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_quiet(&self) -> bool {
        self.ledger.is_empty() && self.waiting.is_empty() && self.alone.is_none()
    }

    /// The request that the child works on, where it is one and no more.
    pub(super) fn only(&self) -> Option<u64> {
        self.ledger.only()
    }

    pub(super) fn is_idle(&self, now: Instant, most: Duration) -> bool {
        self.is_quiet() && now >= self.used + most
    }

    pub(super) fn has_parked(&self, number: u64) -> bool {
        self.alone.as_ref().is_some_and(|alone| alone.number == number && alone.parked.is_some())
    }

    fn capabilities(&self) -> Value {
        let opened = self.opened.as_ref();
        opened.and_then(|opened| opened.get("capabilities")).cloned().unwrap_or_default()
    }

    /// Takes a call; [`Old::is_free`] was asked before, where it matters.
    pub(super) fn take(&mut self, call: Call, method: &str, env: &Env<'_>, happened: &mut Happened) {
        self.used = env.now;
        if !self.ready {
            if self.waiting.len() < STDIO_QUEUED_MAX {
                self.waiting.push((call, method.to_owned()));
            } else {
                happened.over.push(call.key);
                call.refuse_busy();
            }
            return;
        }
        let Ok(line) = Line::read(&call.body) else { return call.fail(Failure::Unreadable) };
        match method {
            "server/discover" => {
                let opened = self.opened.clone().unwrap_or_default();
                warm::finish(&call.outlet, translate::discovered(call.id(), &opened), None);
                happened.over.push(call.key);
            }
            ladder::LISTEN => {
                let filter = Filter::honoured(line.params().map(|params| params.raw), &self.capabilities());
                for uri in &filter.uris {
                    self.tell("resources/subscribe", &json!({"uri": uri}));
                }
                warm::event(&call.outlet, &translate::acknowledged(call.id(), &filter));
                happened.listens.push(Listen::new(&call, filter, env.now));
            }
            _ => self.ask(&line, &call, happened),
        }
    }

    /// Writes a client's request.
    fn ask(&mut self, line: &Line<'_>, call: &Call, happened: &mut Happened) {
        if line.method == "tools/call" {
            let declared = self.tools.of(call.item.as_deref().unwrap_or_default()).unwrap_or_default();
            let arguments = line.arguments.map(|piece| piece.raw);
            if let Err(fault) = params::check(&declared, arguments, |name| call.header(name)) {
                happened.over.push(call.key);
                return call.outlet.answer(ladder::mismatch(line, &fault));
            }
        }
        // Log messages go to the one call that the session works on alone; others leave the level as that one set it.
        if Self::is_exclusive(&line.method)
            && let Some(level) = line.log_level.and_then(|piece| piece.text())
            && self.level.as_deref() != Some(&*level)
            && self.capabilities().get("logging").is_some()
        {
            self.level = Some(level.to_string());
            self.tell("logging/setLevel", &json!({"level": level}));
        }
        let read = |raw: &str| serde_json::from_str(raw).unwrap_or_default();
        let pending = Pending {
            key: call.key,
            outlet: call.outlet.clone(),
            method: line.method.to_string(),
            item: call.item.clone(),
            capabilities: line.capabilities.map(|piece| read(piece.raw)).unwrap_or_default(),
            principal: std::sync::Arc::clone(&call.principal),
            deadline: call.deadline,
        };
        let Some((number, text)) = self.ledger.open(line, Asker::Client(Box::new(pending))) else {
            happened.over.push(call.key);
            return refuse_state(call);
        };
        let undressed = Line::read(text.as_bytes()).ok().and_then(|line| translate::undressed(&line));
        let text = undressed.unwrap_or(text);
        if Self::is_exclusive(&line.method) {
            self.alone = Some(Alone { number, ..Alone::default() });
        }
        if self.child.send(text.as_bytes()).is_err() {
            self.finish(number, happened, |outlet, id| {
                warm::give_up(outlet, id, Failure::Died);
            });
        }
    }

    /// Sends a request of ours whose answer is nobody's business.
    fn tell(&mut self, method: &str, params: &Value) {
        let (_, line) = self.ledger.open_own(Asker::Ignored, |number| {
            json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).to_string()
        });
        let _ = self.child.send(line.as_bytes());
    }

    pub(super) fn unsubscribe(&mut self, uris: &[String]) {
        for uri in uris {
            self.tell("resources/unsubscribe", &json!({"uri": uri}));
        }
    }

    /// A request of a client is over: its answer is given by `answer`.
    fn finish(&mut self, number: u64, happened: &mut Happened, answer: impl FnOnce(&Outlet, &str)) {
        let Some(entry) = self.ledger.close(number) else { return };
        if self.alone.as_ref().is_some_and(|alone| alone.number == number) {
            self.alone = None;
        }
        if let Asker::Client(pending) = &entry.asker {
            happened.over.push(pending.key);
            answer(&pending.outlet, entry.id());
        }
    }

    /// Takes a line of the child.
    pub(super) fn line(&mut self, text: &[u8], env: &Env<'_>, happened: &mut Happened) -> bool {
        let Ok(line) = Line::read(text) else { return false };
        if line.ambiguous && line.shape != Shape::Result {
            return false;
        }
        match line.shape {
            Shape::Request => self.asked(&line, env, happened),
            Shape::Notification => self.told(&line, env, happened),
            Shape::Result | Shape::Error => self.answered(&line, env, happened),
        }
        true
    }

    fn answered(&mut self, line: &Line<'_>, env: &Env<'_>, happened: &mut Happened) {
        let Some(number) = line.id.and_then(|id| id.number()) else { return };
        let method = match self.ledger.entry(number).map(|entry| &entry.asker) {
            Some(Asker::Client(pending)) => pending.method.clone(),
            _ => String::new(),
        };
        let dressed = translate::dressed(line, &method);
        let text = dressed.as_deref().unwrap_or(line.text);
        let Routed::Answer(answer) = self.ledger.route(text.as_bytes()) else {
            // An answer to what was given up: the session is free now.
            if self.alone.as_ref().is_some_and(|alone| alone.number == number) {
                self.alone = None;
            }
            return;
        };
        if self.alone.as_ref().is_some_and(|alone| alone.number == number) {
            self.alone = None;
        }
        let result = || {
            let message: Value = serde_json::from_str(&answer.text).unwrap_or_default();
            message.get("result").cloned()
        };
        match answer.entry.asker {
            Asker::Client(pending) => {
                happened.over.push(pending.key);
                warm::finish(&pending.outlet, answer.text, answer.code);
            }
            Asker::Opening => {
                let Some(opened) = result() else {
                    env.log.warn("the MCP server answered neither server/discover nor initialize", &[]);
                    self.broken = true;
                    env.known.tried(false);
                    return;
                };
                env.known.tried(true);
                let _ = self.child.send(translate::INITIALIZED.as_bytes());
                let has_tools = opened.pointer("/capabilities/tools").is_some();
                self.opened = Some(opened);
                if has_tools { self.ask_schemas(None) } else { self.be_ready(env, happened) }
            }
            Asker::Schemas => {
                self.pages += 1;
                let next = result().and_then(|result| self.tools.learn(&result));
                match next.filter(|_| self.pages < STDIO_SCHEMA_PAGES_MAX) {
                    Some(next) => self.ask_schemas(Some(&next)),
                    None if !self.ready => self.be_ready(env, happened),
                    None => {}
                }
            }
            Asker::Ignored => {}
        }
    }

    fn ask_schemas(&mut self, cursor: Option<&str>) {
        if cursor.is_none() {
            self.pages = 0;
        }
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        let (_, line) = self.ledger.open_own(Asker::Schemas, |number| {
            json!({"jsonrpc": "2.0", "id": number, "method": "tools/list", "params": params}).to_string()
        });
        let _ = self.child.send(line.as_bytes());
    }

    fn be_ready(&mut self, env: &Env<'_>, happened: &mut Happened) {
        self.ready = true;
        for (call, method) in std::mem::take(&mut self.waiting) {
            self.take(call, &method, env, happened);
        }
    }

    fn told(&mut self, line: &Line<'_>, env: &Env<'_>, happened: &mut Happened) {
        match &*line.method {
            "notifications/progress" => {
                if let Routed::Event { number, text, .. } = self.ledger.route(line.text.as_bytes()) {
                    self.pass_on(number, &text, env);
                }
            }
            "notifications/message" => {
                let wanted =
                    |alone: &&Alone| self.ledger.entry(alone.number).is_some_and(|entry| entry.wants_logs());
                if let Some(alone) = self.alone.as_ref().filter(wanted) {
                    self.pass_on(alone.number, &super::splice::one_line(line.text), env);
                }
            }
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/resources/updated" => {
                if line.method == "notifications/tools/list_changed" && self.ready {
                    self.ask_schemas(None);
                }
                let params = line.params().and_then(|params| serde_json::from_str(params.raw).ok());
                happened.changes.push((line.method.to_string(), params.unwrap_or_default()));
            }
            _ => {}
        }
    }

    fn pass_on(&mut self, number: u64, text: &str, env: &Env<'_>) {
        let Some(Asker::Client(pending)) = self.ledger.entry_mut(number).map(|entry| &mut entry.asker) else {
            return;
        };
        pending.deadline = env.now + env.request_time;
        if !self.alone.as_ref().is_some_and(|alone| alone.number == number && alone.parked.is_some()) {
            warm::event(&pending.outlet, text);
        }
    }

    /// The server asks back.
    fn asked(&mut self, line: &Line<'_>, env: &Env<'_>, happened: &mut Happened) {
        let Some(ask) = Ask::read(line) else { return };
        if line.method == "ping" {
            return self.answer_child(&ask.id, "{}");
        }
        let capability = translate::capability(&line.method);
        let open = self.alone.as_ref().filter(|alone| alone.given_up.is_none()).map(|alone| alone.number);
        let (Some(capability), Some(number)) = (capability, open) else {
            return self.refuse_child(&ask.id, "no client can be asked for this now");
        };
        let Some(Asker::Client(pending)) = self.ledger.entry(number).map(|entry| &entry.asker) else {
            return self.refuse_child(&ask.id, "no client can be asked for this now");
        };
        if pending.capabilities.get(capability).is_none() {
            self.refuse_child(&ask.id, "the client cannot do this");
            let capability = capability.to_owned();
            self.give_up(number, env, "the client cannot do what it needs", happened, |outlet, id| {
                warm::finish(outlet, translate::missing(id, &capability), Some(-32021));
            });
            return;
        }
        if let Some(alone) = &mut self.alone {
            alone.asked += 1;
            alone.gathers = true;
            alone.asks.push((format!("request-{}", alone.asked), ask));
        }
    }

    /// Tells the client what the server asks for, unless it was told and has not come back yet.
    fn park(&mut self, env: &Env<'_>, happened: &mut Happened) {
        let waits = |alone: &&mut Alone| alone.parked.is_none() && !alone.asks.is_empty();
        let Some(alone) = self.alone.as_mut().filter(waits) else { return };
        alone.gathers = false;
        let Some(entry) = self.ledger.entry(alone.number) else { return };
        let Asker::Client(pending) = &entry.asker else { return };
        let (name, sealed) = env.seal.seal(&pending.principal);
        alone.parked = Some(env.now + STDIO_ASK_TIME_MAX);
        warm::finish(&pending.outlet, translate::input_required(entry.id(), &alone.asks, &sealed), None);
        happened.over.push(pending.key);
        happened.parked.push((name, alone.number));
    }

    /// A client came back to a parked call. `false` where this is not the call that was parked, or nothing was answered;
    /// its client has been told then.
    pub(super) fn resume(&mut self, number: u64, call: Call, env: &Env<'_>, happened: &mut Happened) -> bool {
        self.used = env.now;
        let Ok(line) = Line::read(&call.body) else { return false };
        let parked = self.alone.as_mut().filter(|alone| alone.number == number && alone.parked.is_some());
        let (Some(alone), Some(entry)) = (parked, self.ledger.entry_mut(number)) else {
            refuse_state(&call);
            return false;
        };
        let Asker::Client(pending) = &mut entry.asker else { return false };
        if pending.method != line.method || pending.item != call.item {
            refuse_state(&call);
            return false;
        }
        pending.key = call.key;
        pending.outlet = call.outlet.clone();
        pending.deadline = call.deadline;
        self.ledger.rename(number, &line);
        alone.parked = None;
        // What was not answered is asked again.
        let answers = members(line.responses.map(|piece| piece.raw));
        let (answered, open) =
            std::mem::take(&mut alone.asks).into_iter().partition(|(key, _)| answers.contains_key(key));
        alone.asks = open;
        let answered: Vec<(String, Ask)> = answered;
        for (key, ask) in answered {
            self.answer_child(&ask.id, answers.get(&key).map_or("{}", String::as_str));
        }
        self.park(env, happened);
        true
    }

    fn answer_child(&self, id: &str, result: &str) {
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let _ = self.child.send(super::splice::one_line(&line).as_bytes());
    }

    fn refuse_child(&self, id: &str, why: &str) {
        let _ = self.child.send(rpc_error(-32601, why, Some(id)).as_bytes());
    }

    /// Ends a call that the child still works on. For a while nothing that it asks is taken for another call's.
    fn give_up(
        &mut self,
        number: u64,
        env: &Env<'_>,
        why: &str,
        happened: &mut Happened,
        answer: impl FnOnce(&Outlet, &str),
    ) {
        let alone = self.alone.take_if(|alone| alone.number == number);
        for (_, ask) in alone.iter().flat_map(|alone| &alone.asks) {
            self.refuse_child(&ask.id, why);
        }
        // A call that was refused what it asked for comes to an end by itself, and we see it: it is not cancelled.
        if alone.as_ref().is_none_or(|alone| alone.asks.is_empty()) {
            let _ = self.child.send(cancellation(number, why).as_bytes());
        }
        self.finish(number, happened, answer);
        if alone.is_some() {
            let given_up = Some(env.now + STDIO_CANCEL_TIME_MAX);
            self.alone = Some(Alone { number, given_up, ..Alone::default() });
        }
    }

    /// Since when a call is parked here, in a form that can be compared.
    pub(super) fn parked_until(&self) -> Option<Instant> {
        self.alone.as_ref().and_then(|alone| alone.parked)
    }

    /// Gives up the call that is parked, for others that wait.
    pub(super) fn evict(&mut self, env: &Env<'_>, happened: &mut Happened) {
        if let Some(number) =
            self.alone.as_ref().filter(|alone| alone.parked.is_some()).map(|alone| alone.number)
        {
            self.give_up(number, env, "others wait", happened, |_, _| {});
        }
    }

    /// The client of a call has left (M-14).
    pub(super) fn left(&mut self, key: u64, env: &Env<'_>) {
        self.waiting.retain(|(call, _)| call.key != key);
        let number = self.ledger.iter_mut().find_map(|(number, entry)| {
            matches!(&entry.asker, Asker::Client(pending) if pending.key == key).then_some(number)
        });
        let Some(number) = number.filter(|number| !self.has_parked(*number)) else { return };
        self.give_up(number, env, "the client closed the request", &mut Happened::default(), |_, _| {});
    }

    /// What is due by now.
    pub(super) fn tick(&mut self, env: &Env<'_>, happened: &mut Happened) {
        // A program that a package runner fetches first opens when it has it.
        self.broken |= !self.ready && env.now >= self.began + env.request_time;
        let (kept, late) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(call, _)| !self.broken && env.now < call.deadline);
        self.waiting = kept;
        let late: Vec<(Call, String)> = late;
        for (call, _) in late {
            happened.over.push(call.key);
            call.fail(Failure::TimedOut);
        }
        if self.alone.as_ref().is_some_and(|alone| alone.gathers) {
            self.park(env, happened);
        }
        if let Some(alone) = &self.alone {
            let (number, parked, given_up) = (alone.number, alone.parked, alone.given_up);
            if given_up.is_some_and(|until| env.now >= until) {
                self.alone = None;
            } else if parked.is_some_and(|until| env.now >= until) {
                self.give_up(number, env, "nobody answered in time", happened, |_, _| {});
            }
        }
        let parked = self.alone.as_ref().filter(|alone| alone.parked.is_some()).map(|alone| alone.number);
        let late: Vec<u64> = self
            .ledger
            .iter_mut()
            .filter(|(number, entry)| {
                matches!(&entry.asker, Asker::Client(pending) if env.now >= pending.deadline)
                    && Some(*number) != parked
            })
            .map(|(number, _)| number)
            .collect();
        for number in late {
            self.give_up(number, env, "it took too long", happened, |outlet, id| {
                warm::give_up(outlet, id, Failure::TimedOut);
            });
        }
    }

    /// The session is over.
    pub(super) fn close(mut self, why: Failure, happened: &mut Happened) {
        let parked = self.alone.as_ref().filter(|alone| alone.parked.is_some()).map(|alone| alone.number);
        for (number, entry) in self.ledger.drain() {
            let Asker::Client(pending) = &entry.asker else { continue };
            happened.over.push(pending.key);
            if Some(number) != parked {
                warm::give_up(&pending.outlet, entry.id(), why);
            }
        }
        for (call, _) in self.waiting {
            happened.over.push(call.key);
            call.fail(why);
        }
    }
}

/// The members of an object that are objects, each as it was written.
fn members(object: Option<&str>) -> HashMap<String, String> {
    let mut all = HashMap::new();
    let Some(mut reader) = object.and_then(|object| Reader::new(object.as_bytes()).ok()) else { return all };
    let read = reader.object(|reader, name| {
        if let (Json::Object, raw) = reader.raw()? {
            all.insert(name.to_owned(), raw.to_owned());
        }
        Ok(())
    });
    if read.is_err() {
        all.clear();
    }
    all
}
