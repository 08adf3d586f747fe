//! What the one log line of a request shows.
//!
//! Nothing in here is a secret or a part of one. What a peer chose is cleaned and cut before it is kept, so that no
//! method or tool name can draw on an operator's terminal.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::auth::Principal;
use crate::limits::LOG_VALUE_CHARS_MAX;
use crate::mcp::message::{Kind, Message, known_method};
use crate::reply::{Refusal, Reply};
use crate::spare;

/// What became of a request, for its one line in the log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Audit {
    /// Where the request comes from, proxies that are trusted left out.
    pub client: Option<IpAddr>,
    /// The JSON-RPC method; of a batch the first, and how many more there are.
    pub rpc_method: Option<Cow<'static, str>>,
    /// The tool, prompt, resource or task.
    pub item: Option<SmolStr>,
    /// What was decided.
    pub decision: Decision,
    /// Why, where it was refused.
    pub reason: Option<String>,
    /// Whose token it was.
    pub principal: Option<Arc<Principal>>,
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
        let mut reason = spare::text();
        let _ = write!(reason, "{refusal}");
        self.reason = Some(reason);
        refusal.reply()
    }

    /// Notes what a message is about.
    pub(super) fn note(&mut self, message: &Message<'_>) {
        let Some(first) = message.all().first() else { return };
        let more = message.all().len() - 1;
        let method = match known_method(&first.method) {
            _ if first.kind == Kind::Response => Cow::Borrowed("(response)"),
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(clean(&first.method).into_owned()),
        };
        self.rpc_method = Some(if more > 0 { format!("{method}+{more}").into() } else { method });
        self.item = first.item().map(|item| SmolStr::new(clean(item)));
    }
}

/// A peer's text, made fit for the log where it is written.
#[derive(Clone, Copy, Debug)]
pub struct Cleaned<'a>(pub &'a str);

impl fmt::Display for Cleaned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean(self.0))
    }
}

/// A peer's text for the log: nothing that moves a cursor or turns a line around, and not too long.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.len() <= LOG_VALUE_CHARS_MAX && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return text.into();
    }
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(LOG_VALUE_CHARS_MAX).map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}
