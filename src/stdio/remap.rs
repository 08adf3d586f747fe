//! Many askers, one child: ids and progress tokens on their way in and back (sections 3.3 and 3.4).
//!
//! Every request gets a fresh integer at the child, which is its progress token too, so two clients that both count from
//! one never meet. The ledger knows whose number is whose and puts back exactly the text that the asker wrote: `"1"`,
//! `1` and `1.0` are three ids. What a child says of a number that is nobody's goes to nobody.
//!
//! Pure: the one who owns the child gives lines in and carries lines out.

use std::collections::HashMap;

use super::line::{Line, NoMessage, Piece, Shape};
use super::splice::Splice;
use crate::reply::rpc_error;

/// The requests that one child has not answered yet; `A` is what leads back to the asker.
#[derive(Debug)]
pub struct Ledger<A> {
    next: u64,
    open: HashMap<u64, Entry<A>>,
}

/// One request under way.
#[derive(Debug)]
pub struct Entry<A> {
    /// Who gets what comes back.
    pub asker: A,
    id: Box<str>,
    token: Option<Box<str>>,
    logs: bool,
}

impl<A> Entry<A> {
    /// The id as its asker wrote it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it asked for log messages.
    #[must_use]
    pub fn wants_logs(&self) -> bool {
        self.logs
    }
}

/// Where a line of a child leads.
#[derive(Debug)]
pub enum Routed<A> {
    /// The answer to a request, which is over now.
    Answer(Answer<A>),
    /// The request with this number is told something.
    Event {
        /// Its number at the child.
        number: u64,
        /// The notification, as its asker is to see it.
        text: String,
        /// Whether it says that the list of tools is another one now.
        tools_changed: bool,
    },
    /// The child ends a subscription without a result (section 7, number 1).
    Ended(Entry<A>),
    /// To nobody.
    Nobody(Lost),
}

/// An answer, as its asker is to see it.
#[derive(Debug)]
pub struct Answer<A> {
    /// The asker.
    pub entry: Entry<A>,
    /// The message.
    pub text: String,
    /// Its `error.code`, where it is an error.
    pub code: Option<i64>,
}

/// Why a line goes to nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// No JSON, or no message.
    Garbage,
    /// A request, which a server of this era must not write.
    Request,
    /// An answer or a notification about a number that is not open: an answer that comes late, twice or by mistake.
    Stranger,
    /// A notification that nothing ties to one request: delivering it could tell one caller of another.
    Untied,
}

impl<A> Default for Ledger<A> {
    fn default() -> Self {
        Self { next: 1, open: HashMap::new() }
    }
}

impl<A> Ledger<A> {
    /// How many requests are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The request that is open, where it is one and no more.
    #[must_use]
    pub fn only(&self) -> Option<u64> {
        let mut open = self.open.keys();
        open.next().filter(|_| open.len() == 0).copied()
    }

    /// Opens a request and gives its number, and the line that goes to the child. `None` for what is no request with an
    /// id that can be given back, or could be read in two ways.
    pub fn open(&mut self, request: &Line<'_>, asker: A) -> Option<(u64, String)> {
        let id = request.readable_id().filter(|_| request.shape == Shape::Request && !request.ambiguous)?;
        let number = self.next;
        self.next += 1;
        let mut splice = Splice::new(request.text);
        splice.replace(request.id?.range(), number.to_string());
        if let Some(token) = request.token {
            splice.replace(token.range(), number.to_string());
        }
        let raw = |piece: Piece<'_>| Box::from(piece.raw);
        let entry =
            Entry { asker, id: id.into(), token: request.token.map(raw), logs: request.log_level.is_some() };
        self.open.insert(number, entry);
        Some((number, splice.line()))
    }

    /// Opens a request of our own, whose text `write` makes for its number.
    pub fn open_own(&mut self, asker: A, write: impl FnOnce(u64) -> String) -> (u64, String) {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Entry { asker, id: number.to_string().into(), token: None, logs: false });
        (number, write(number))
    }

    /// From now on this request is known to its asker by the id and token of `request`.
    pub fn rename(&mut self, number: u64, request: &Line<'_>) {
        let (Some(entry), Some(id)) = (self.open.get_mut(&number), request.readable_id()) else { return };
        entry.id = id.into();
        // A request that asked for no progress at first cannot do so later: the child was not told.
        if entry.token.is_some() {
            entry.token = request.token.map(|token| token.raw.into());
        }
        entry.logs = request.log_level.is_some();
    }

    /// Whose number it is.
    #[must_use]
    pub fn entry(&self, number: u64) -> Option<&Entry<A>> {
        self.open.get(&number)
    }

    /// As [`Ledger::entry`], to change its asker.
    pub fn entry_mut(&mut self, number: u64) -> Option<&mut Entry<A>> {
        self.open.get_mut(&number)
    }

    /// All of them, to change their askers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Entry<A>)> {
        self.open.iter_mut().map(|(number, entry)| (*number, entry))
    }

    /// Forgets a request: its answer, should it come, is a stranger's.
    pub fn close(&mut self, number: u64) -> Option<Entry<A>> {
        self.open.remove(&number)
    }

    /// Everyone who waits, when the child is gone.
    pub fn drain(&mut self) -> Vec<(u64, Entry<A>)> {
        let mut all: Vec<_> = self.open.drain().collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }

    /// Finds out whose a line of the child is.
    pub fn route(&mut self, line: &[u8]) -> Routed<A> {
        let line = match Line::read(line) {
            Ok(line) => line,
            Err(NoMessage::Json(_) | NoMessage::Shape) => return Routed::Nobody(Lost::Garbage),
        };
        match line.shape {
            Shape::Request => Routed::Nobody(Lost::Request),
            Shape::Result | Shape::Error => self.answer(&line),
            Shape::Notification => self.notification(&line),
        }
    }

    fn answer(&mut self, line: &Line<'_>) -> Routed<A> {
        let number = line.id.and_then(|id| id.number());
        let Some((number, entry)) = number.and_then(|number| self.open.remove_entry(&number)) else {
            return Routed::Nobody(Lost::Stranger);
        };
        if line.ambiguous {
            let text =
                rpc_error(-32603, "the MCP server's answer has one member name twice", Some(&entry.id));
            return Routed::Answer(Answer { entry, text, code: Some(-32603) });
        }
        let mut splice = Splice::new(line.text);
        if let Some(id) = line.id {
            splice.replace(id.range(), &*entry.id);
        }
        if let Some(subscription) = line.subscription.filter(|piece| piece.number() == Some(number)) {
            splice.replace(subscription.range(), &*entry.id);
        }
        let text = splice.line();
        Routed::Answer(Answer { entry, text, code: line.error_code() })
    }

    fn notification(&mut self, line: &Line<'_>) -> Routed<A> {
        if line.ambiguous {
            return Routed::Nobody(Lost::Garbage);
        }
        let mut splice = Splice::new(line.text);
        let number = match (&*line.method, line.subscription, line.progress, line.cancelled) {
            ("notifications/cancelled", _, _, Some(cancelled)) => {
                let entry = cancelled.number().and_then(|number| self.open.remove(&number));
                return entry.map_or(Routed::Nobody(Lost::Stranger), Routed::Ended);
            }
            (_, Some(subscription), ..) => {
                let Some((number, entry)) = self.known(subscription) else {
                    return Routed::Nobody(Lost::Stranger);
                };
                splice.replace(subscription.range(), entry.id.to_string());
                number
            }
            ("notifications/progress", None, Some(progress), _) => {
                let known = self.known(progress);
                let Some((number, token)) = known.and_then(|(n, e)| Some((n, e.token.as_ref()?))) else {
                    return Routed::Nobody(Lost::Stranger);
                };
                splice.replace(progress.range(), token.to_string());
                number
            }
            ("notifications/message", ..) => {
                let mut wanting = self.open.iter().filter(|(_, entry)| entry.logs);
                match (wanting.next(), wanting.next()) {
                    (Some((number, _)), None) => *number,
                    _ => return Routed::Nobody(Lost::Untied),
                }
            }
            _ => return Routed::Nobody(Lost::Untied),
        };
        Routed::Event {
            number,
            text: splice.line(),
            tools_changed: line.method == "notifications/tools/list_changed",
        }
    }

    fn known(&self, piece: Piece<'_>) -> Option<(u64, &Entry<A>)> {
        let number = piece.number()?;
        self.open.get(&number).map(|entry| (number, entry))
    }
}

/// The line that tells a child to give up on a request.
#[must_use]
pub fn cancellation(number: u64, reason: &str) -> String {
    let reason = serde_json::Value::from(reason);
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{number},"reason":{reason}}}}}"#
    )
}

/// What holds for whatever two clients send and whatever a child answers; for tables and fuzzing.
///
/// Both ask with the same bytes. A child that answers each number once, with `noise` in between, gives each asker one
/// answer under the very id it wrote, and no number of ours reaches either.
///
/// # Panics
/// Where it does not hold.
#[expect(clippy::expect_used, reason = "a property: a panic is its verdict")]
pub fn check(body: &[u8], noise: &[u8]) {
    let Ok(request) = Line::read(body) else { return };
    let mut ledger = Ledger::default();
    let Some((first, line)) = ledger.open(&request, 'a') else { return };
    let Some((second, other)) = ledger.open(&request, 'b') else { return };
    assert_ne!(first, second, "two requests, two numbers");
    for (number, line) in [(first, &line), (second, &other)] {
        assert!(!line.contains(['\n', '\r']), "a message is one line");
        let seen = Line::read(line.as_bytes()).expect("a message stays one");
        assert_eq!(seen.id.and_then(|id| id.number()), Some(number));
        assert_eq!(seen.token.map(|token| token.raw), request.token.map(|_| seen.id.map_or("", |id| id.raw)));
        assert_eq!((&seen.method, seen.arguments.is_some()), (&request.method, request.arguments.is_some()));
    }
    let before = ledger.len();
    match ledger.route(noise) {
        Routed::Answer(Answer { entry, text, .. }) => {
            assert_eq!(
                Line::read(text.as_bytes()).ok().and_then(|line| line.readable_id()),
                Some(entry.id())
            );
            assert_eq!(ledger.len(), before - 1);
        }
        Routed::Ended(_) => assert_eq!(ledger.len(), before - 1),
        Routed::Event { number, text, .. } => {
            assert!(number == first || number == second);
            assert!(!text.contains(['\n', '\r']));
            assert_eq!(ledger.len(), before);
        }
        Routed::Nobody(_) => assert_eq!(ledger.len(), before),
    }
    for (number, asker) in [(second, 'b'), (first, 'a')] {
        if ledger.entry(number).is_none() {
            continue; // the noise was its answer
        }
        let progress = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{number}}}}}"#
        );
        match (ledger.route(progress.as_bytes()), request.token) {
            (Routed::Event { number: whose, text, .. }, Some(token)) => {
                assert_eq!(whose, number);
                let told = Line::read(text.as_bytes()).expect("a message stays one");
                assert_eq!(told.progress.map(|piece| piece.raw), Some(token.raw));
            }
            (Routed::Nobody(Lost::Stranger), None) => {}
            (routed, token) => panic!("progress of {token:?} led to {routed:?}"),
        }
        let answer = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"result":{{"n":{number},"_meta":{{"io.modelcontextprotocol/subscriptionId":{number}}}}}}}"#
        );
        let Routed::Answer(answer) = ledger.route(answer.as_bytes()) else { panic!("an answer is one") };
        assert_eq!((answer.entry.asker, Some(answer.entry.id())), (asker, request.readable_id()));
        let told = Line::read(answer.text.as_bytes()).expect("a message stays one");
        assert_eq!(told.readable_id(), request.readable_id());
        assert_eq!(told.subscription.map(|piece| piece.raw), request.readable_id());
        assert!(answer.text.contains(&format!("\"n\":{number},")), "nothing else changed");
    }
    assert!(ledger.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"echo",
        "arguments":{"id":7,"n":1.50,"big":12345678901234567890,"progressToken":3},"_meta":{"progressToken":"t\u0031",
        "io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;

    fn open(ledger: &mut Ledger<char>, body: &str, asker: char) -> (u64, String) {
        ledger.open(&Line::read(body.as_bytes()).unwrap(), asker).unwrap()
    }

    /// Section 3.3 numbers 1 and 2: the id and the token change, and nothing else does.
    #[test]
    fn a_request_gets_a_number_and_keeps_the_rest() {
        let mut ledger = Ledger::default();
        assert_eq!(open(&mut ledger, &CALL.replace("\"1\"", "1.0"), 'a').0, 1);
        let (number, line) = open(&mut ledger, CALL, 'b');
        assert_eq!(number, 2);
        assert_eq!(
            line,
            r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"id":7,"n":1.50,"big":12345678901234567890,"progressToken":3},"_meta":{"progressToken":2,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#
        );
    }

    /// T-07, section 3.3 number 1: `"1"` is not `1`, and no id is written anew.
    #[test]
    fn every_id_comes_back_as_it_was_written() {
        for id in
            ["1", "\"1\"", "1.0", "1e0", "-0", "12345678901234567890123", "\"\\u0031\"", "\"\"", "\"a\\\"b\""]
        {
            let mut ledger = Ledger::default();
            let (number, _) = open(&mut ledger, &CALL.replace("\"1\"", id), 'a');
            let line =
                format!("{{\"id\":{number},\"result\":{{\"id\":{number},\"x\":1.0}},\"jsonrpc\":\"2.0\"}}\r");
            let Routed::Answer(answer) = ledger.route(line.as_bytes()) else { panic!("{id}") };
            assert_eq!(
                answer.text,
                format!(r#"{{"id":{id},"result":{{"id":{number},"x":1.0}},"jsonrpc":"2.0"}}"#)
            );
            assert_eq!((answer.entry.asker, answer.code), ('a', None));
            let again = ledger.route(line.as_bytes());
            assert!(matches!(again, Routed::Nobody(Lost::Stranger)), "an answer comes once: {again:?}");
        }
    }

    /// Sections 3.3 and 3.4: where each line of a child leads, with two requests open, one of which wants logs.
    #[test]
    fn each_line_goes_to_its_own_asker_or_to_nobody() {
        const SUB: &str = r#""_meta":{"io.modelcontextprotocol/subscriptionId":"#;
        let listen = r#"{"jsonrpc":"2.0","id":"s","method":"subscriptions/listen","params":{"_meta":{"io.modelcontextprotocol/logLevel":"info"}}}"#;
        for (line, expected) in [
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":0.50}}"#.to_owned(),
             r#"event 1 {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t\u0031","progress":0.50}}"#.to_owned()),
            // A subscription did not ask for progress, and has no token to be told under.
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"1"}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1.0}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#.into(), "Untied".into()),
            (format!(r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{{SUB}2}}}}}}"#),
             format!(r#"event 2 {{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{{SUB}"s"}}}}}}"#)),
            (format!(r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{{SUB}"s"}}}}}}"#), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.into(), "Untied".into()),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}"#.into(),
             r#"event 2 {"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}"#.into()),
            (format!(r#"{{"jsonrpc":"2.0","id":2,"result":{{{SUB}2}}}}}}"#), format!(r#"answer b {{"jsonrpc":"2.0","id":"s","result":{{{SUB}"s"}}}}}}"#)),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#.into(),
             r#"answer a {"jsonrpc":"2.0","id":"1","error":{"code":-32601,"message":"no"}}"#.into()),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}"#.into(),
             r#"answer a {"jsonrpc":"2.0","id":"1","error":{"code":-32603,"message":"the MCP server's answer has one member name twice"}}"#.into()),
            (r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#.into(), "ended b".into()),
            (r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","id":"1","result":{}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","id":1.0,"result":{}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","id":3,"result":{}}"#.into(), "Stranger".into()),
            (r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#.into(), "Request".into()),
            (r#"[{"jsonrpc":"2.0","id":1,"result":{}}]"#.into(), "Garbage".into()),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}"#.into(), "Garbage".into()),
            (r#"{"jsonrpc":"2.0","id":1}"#.into(), "Garbage".into()),
            (r#"{"jsonrpc":"1.0","id":1,"result":{}}"#.into(), "Garbage".into()),
            ("listening on port 3000".into(), "Garbage".into()),
        ] {
            let mut ledger = Ledger::default();
            open(&mut ledger, CALL, 'a');
            open(&mut ledger, listen, 'b');
            let found = match ledger.route(line.as_bytes()) {
                Routed::Answer(answer) => format!("answer {} {}", answer.entry.asker, answer.text),
                Routed::Event { number, text, .. } => format!("event {number} {text}"),
                Routed::Ended(entry) => format!("ended {}", entry.asker),
                Routed::Nobody(lost) => format!("{lost:?}"),
            };
            assert_eq!(found, expected, "{line}");
        }
    }

    /// Section 3.4: with two who want log messages, nobody can be told which of them it is for.
    #[test]
    fn a_log_message_that_could_be_two_callers_goes_to_none() {
        let wants = CALL.replace(
            "\"progressToken\":\"t",
            "\"io.modelcontextprotocol/logLevel\":\"info\",\"progressToken\":\"t",
        );
        let message =
            br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}"#;
        let mut ledger = Ledger::default();
        open(&mut ledger, CALL, 'a');
        assert!(matches!(ledger.route(message), Routed::Nobody(Lost::Untied)));
        let (number, _) = open(&mut ledger, &wants, 'b');
        assert!(matches!(ledger.route(message), Routed::Event { number: n, .. } if n == number));
        open(&mut ledger, &wants, 'c');
        assert!(matches!(ledger.route(message), Routed::Nobody(Lost::Untied)));
    }

    #[test]
    fn what_cannot_be_given_back_is_not_opened() {
        for body in [
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ] {
            assert!(Ledger::default().open(&Line::read(body.as_bytes()).unwrap(), ()).is_none(), "{body}");
        }
    }

    /// The property that is fuzzed, on every cut and many changes of two real messages.
    #[test]
    fn nothing_crosses_whatever_is_sent() {
        let noises = [
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}"#,
            r#"{"jsonrpc":"2.0","id":2,"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            "x",
        ];
        for noise in noises {
            check(CALL.as_bytes(), noise.as_bytes());
            for at in 0..CALL.len() {
                for byte in b" \n\"\\{}[]:,1e-" {
                    let changed = [&CALL.as_bytes()[..at], &[*byte], &CALL.as_bytes()[at + 1..]].concat();
                    check(&changed, noise.as_bytes());
                }
            }
            for at in 0..noise.len() {
                for byte in b" \n\"\\{}[]:,1e-" {
                    let changed = [&noise.as_bytes()[..at], &[*byte], &noise.as_bytes()[at + 1..]].concat();
                    check(CALL.as_bytes(), &changed);
                }
            }
        }
    }
}
