//! What the one log line of a request shows.
//!
//! Nothing in here is a secret or a part of one. What a peer chose is cleaned and cut before it is kept, so that no
//! method or tool name can draw on an operator's terminal.

use std::net::IpAddr;

use crate::limits::LOG_VALUE_CHARS_MAX;
use crate::mcp::message::{Kind, Message};
use crate::reply::{Refusal, Reply};

/// What became of a request, for its one line in the log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Audit {
    /// Where the request comes from, proxies that are trusted left out.
    pub client: Option<IpAddr>,
    /// The JSON-RPC method; of a batch the first, and how many more there are.
    pub rpc_method: Option<String>,
    /// The tool, prompt, resource or task.
    pub item: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// Why, where it was refused.
    pub reason: Option<String>,
    /// `sub` of the token.
    pub subject: Option<String>,
}

/// What was decided about a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Decision {
    /// Nothing yet.
    #[default]
    Open,
    /// It is answered here, as it should be.
    Answered,
    /// It is refused.
    Refused,
    /// It goes on to the MCP server.
    Relayed,
}

impl Decision {
    /// The word for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Relayed => "relayed",
        }
    }
}

impl Audit {
    /// Notes a refusal and makes its answer, without what [`super::Gate::dress`] adds.
    pub fn refuse(&mut self, refusal: &Refusal<'_>) -> Reply {
        self.decision = Decision::Refused;
        self.reason = Some(refusal.to_string());
        refusal.reply()
    }

    /// Notes what a message is about.
    pub(super) fn note(&mut self, message: &Message<'_>) {
        let Some(first) = message.all().first() else { return };
        let more = message.all().len() - 1;
        let method =
            if first.kind == Kind::Response { "(response)".to_owned() } else { clean(&first.method) };
        self.rpc_method = Some(if more > 0 { format!("{method}+{more}") } else { method });
        self.item = first.item().map(clean);
    }
}

/// A peer's text for the log: nothing that moves a cursor or turns a line around, and not too long.
pub(super) fn clean(text: &str) -> String {
    if text.len() <= LOG_VALUE_CHARS_MAX && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return text.to_owned();
    }
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(LOG_VALUE_CHARS_MAX).map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}
