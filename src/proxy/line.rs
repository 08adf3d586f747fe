//! The one line that the log gets for a request, whatever became of it.

use std::fmt;
use std::time::Instant;

use crate::cors::Grant;
use crate::edge::http1::{Incoming, Method};
use crate::gate::{Audit, Decision};
use crate::limits::LOG_VALUE_CHARS_MAX;
use crate::log::{Field, Level, Log};
use crate::provider::wait::Outcome;
use crate::reply::Reply;

/// The one line that the log gets for a request.
pub(super) struct Line {
    pub(super) log: Log,
    began: Instant,
    method: Method,
    pub(super) path: Box<str>,
    pub(super) audit: Audit,
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
        let (method, decision) = (self.method.as_str(), self.audit.decision.as_str());
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut fields: Vec<Field<'_>> = Vec::with_capacity(10);
        fields.extend([("method", &method as &dyn fmt::Display), ("path", &self.path), ("status", &status)]);
        let audit = &self.audit;
        let told = [
            ("rpc", &audit.rpc_method),
            ("item", &audit.item),
            ("subject", &audit.subject),
            ("reason", &audit.reason),
        ];
        fields.push(("decision", &decision));
        if let Some(client) = &audit.client {
            fields.push(("client", client));
        }
        for (name, value) in &told {
            if let Some(value) = value {
                fields.push((name, value));
            }
        }
        fields.push(("us", &micros));
        self.log.info("request", &fields);
    }
}
