//! A request on its way: what its answer needs to know of it, and its one line in the log.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use smol_str::SmolStr;

use crate::auth::Principal;
use crate::auth::session::SessionKey;
use crate::cors::Grant;
use crate::edge::http1::{Incoming, Method};
use crate::gate::{Audit, Cleaned, Decision};
use crate::header;
use crate::limits::LOG_VALUE_CHARS_MAX;
use crate::log::{Fact, Field, Level, Log, Value};
use crate::provider::wait::Outcome;
use crate::relay::answer::AnswerHead;
use crate::relay::exchange::Context;
use crate::relay::headers::{self, Inbound};
use crate::relay::streams::{Full, Place, Streams};
use crate::reply::{Refusal, Reply, UpstreamFault};
use crate::spare;
use crate::stdio::outlet::Caller;

/// What an exchange needs to know of its request, until its answer has begun.
pub(super) struct Ticket {
    pub(super) principal: Arc<Principal>,
    pub(super) sessions: Arc<SessionKey>,
    pub(super) grant: Grant,
    pub(super) id: Option<SmolStr>,
    pub(super) streams: Arc<Streams>,
    /// When event streams end, whatever comes on them: with the token that opened them.
    pub(super) stream_ends: Option<Instant>,
    pub(super) place: Option<Place>,
    pub(super) line: Line,
}

impl Ticket {
    /// Counts one more event stream, unless there are as many as there may be.
    pub(super) fn take_place(&mut self) -> Result<(), Full> {
        if self.place.is_none() {
            self.place = Some(self.streams.take(&self.principal)?);
        }
        Ok(())
    }

    pub(super) fn refuse_stream(&mut self, full: Full, id: Option<SmolStr>) -> Reply {
        self.refuse(&match full {
            Full::All => Refusal::Busy { id },
            Full::Each => Refusal::TooManyStreams { id },
        })
    }

    pub(super) fn refuse(&mut self, refusal: &Refusal<'_>) -> Reply {
        let reply = self.grant.dress(self.line.audit.refuse(refusal));
        self.line.write(reply.status);
        reply
    }
}

impl Caller for Ticket {
    fn begin(&mut self, reply: Reply) -> Reply {
        self.line.write(reply.status);
        self.grant.dress(reply)
    }

    fn refuse(&mut self, refusal: &Refusal<'_>) -> Reply {
        Self::refuse(self, refusal)
    }

    fn take_place(&mut self) -> Result<(), Reply> {
        Self::take_place(self).map_err(|full| {
            let id = self.id.take();
            self.refuse_stream(full, id)
        })
    }

    fn stream_ends(&self) -> Option<Instant> {
        self.stream_ends
    }

    fn ended(&mut self, why: &dyn fmt::Display) {
        Context::ended(self, why);
    }

    fn left(&mut self) {
        // The call was made all the same. 499 is what nginx writes for it.
        self.line.write(499);
    }
}

impl Context for Ticket {
    fn begin(&mut self, answer: &AnswerHead<'_>, lines: &mut Vec<u8>) -> Result<(), Box<Reply>> {
        if answer.is_event_stream() {
            if let Err(full) = self.take_place() {
                let id = self.id.take();
                return Err(Box::new(self.refuse_stream(full, id)));
            }
        } else {
            self.place = None;
        }
        let theirs =
            answer.header(header::MCP_SESSION_ID).map(|id| std::str::from_utf8(id).unwrap_or_default());
        let ours = match theirs.map(|id| self.sessions.seal(&self.principal, id)) {
            Some(None) => {
                let why = "its Mcp-Session-Id is not visible ASCII";
                return Err(self.fail(UpstreamFault::BadAnswer, &why));
            }
            Some(sealed) => sealed,
            None => None,
        };
        let grant = self.grant.headers();
        headers::answer_head(lines, answer, &Inbound { session: ours.as_deref(), grant: &grant });
        self.line.write(answer.status());
        Ok(())
    }

    fn fail(&mut self, fault: UpstreamFault, why: &dyn fmt::Display) -> Box<Reply> {
        let id = self.id.take();
        self.line.log.warn("the MCP server gave no answer", &[("fault", &fault), ("why", why)]);
        Box::new(self.refuse(&Refusal::Upstream { fault, id }))
    }

    fn broke_off(&mut self, why: &dyn fmt::Display) {
        self.line.log.warn("an answer broke off", &[("path", &self.line.path), ("why", why)]);
    }

    fn ended(&mut self, why: &dyn fmt::Display) {
        let subject = Cleaned(&self.principal.subject);
        let fields: [Field<'_>; 3] = [("path", &self.line.path), ("subject", &subject), ("why", why)];
        self.line.log.info("a stream was ended", &fields);
    }
}

/// The one line that the log gets for a request.
pub(super) struct Line {
    log: Log,
    began: Instant,
    method: Method,
    path: SmolStr,
    pub(super) audit: Audit,
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(reason) = self.audit.reason.take() {
            spare::put_bytes(reason.into_bytes());
        }
    }
}

impl Line {
    pub(super) fn new(log: &Log, request: &Incoming) -> Self {
        // Never the query: a client that does what it should not puts its token there.
        // It is visible ASCII (edge/http1.rs).
        let shown = request.path().get(..LOG_VALUE_CHARS_MAX).unwrap_or_else(|| request.path());
        let (log, method) = (log.clone(), request.method());
        Self { log, began: Instant::now(), method, path: shown.into(), audit: Audit::default() }
    }

    /// The answer to a login request.
    pub(super) fn login(&mut self, outcome: Outcome, grant: &Grant) -> Reply {
        let Outcome { reply, fault } = outcome;
        match fault {
            Some(fault) => {
                self.audit.decision = Decision::Refused;
                self.audit.reason = Some(fault.to_string());
            }
            None => self.audit.decision = Decision::Answered,
        }
        self.write(reply.status);
        grant.dress(reply)
    }

    pub(super) fn write(&self, status: u16) {
        if !self.log.wants(Level::Info) {
            return;
        }
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let audit = &self.audit;
        let subject = audit.principal.as_ref().map(|principal| Cleaned(&principal.subject));
        // Every request has this line, so its facts stand on the stack: those that are known, and the time behind them.
        let mut facts: [Fact<'_>; 10] = [("us", Value::Number(micros)); 10];
        let mut known = 0;
        let mut tell = |key, value| {
            if let Some(place) = facts.get_mut(known) {
                *place = (key, value);
                known += 1;
            }
        };
        tell("method", Value::Word(self.method.as_str()));
        tell("path", Value::Text(&self.path));
        tell("status", Value::Number(status.into()));
        tell("decision", Value::Word(audit.decision.as_str()));
        if let Some(client) = audit.client {
            tell("client", Value::Address(client));
        }
        if let Some(method) = audit.rpc_method.as_deref() {
            tell("rpc", Value::Text(method));
        }
        if let Some(item) = audit.item.as_deref() {
            tell("item", Value::Text(item));
        }
        if let Some(subject) = &subject {
            tell("subject", Value::Any(subject));
        }
        if let Some(reason) = audit.reason.as_deref() {
            tell("reason", Value::Text(reason));
        }
        let facts = facts.get(..=known).unwrap_or_default();
        self.log.facts(Level::Info, "request", facts);
    }
}
