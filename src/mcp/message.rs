//! What stands in a message: the few JSON-RPC fields that a decision rests on, borrowed from the body.
//!
//! The text is read once and judged whole, as every parser behind us might see it. Whatever two of them could read
//! differently is refused rather than interpreted: a name twice, a name that differs only in case from one we decide on
//! (Go's parser takes `METHOD` for `method`), a text in another encoding. What is left has one meaning, so the bytes can
//! go on as they came. What a method does with its parameters is none of our business beyond the names below.

use std::borrow::Cow;

use super::json::{JsonFault, Kind as Json, Reader, Text};
use super::{MessageFault, Reason};
use crate::limits::BATCH_MESSAGES_MAX;

/// The member of `params._meta` by which a modern request says its protocol version (MCP 2026-07-28).
pub const VERSION_MEMBER: &str = "io.modelcontextprotocol/protocolVersion";

/// The body of one POST.
#[derive(Debug)]
pub enum Message<'a> {
    /// One message.
    One(Rpc<'a>),
    /// A batch (2025-03-26 and JSON-RPC itself), never empty.
    Batch(Vec<Rpc<'a>>),
}

/// One JSON-RPC message.
#[derive(Debug)]
pub struct Rpc<'a> {
    /// Which of the three.
    pub kind: Kind,
    /// Empty for a response, and for nothing else.
    pub method: Cow<'a, str>,
    /// As it was written: a JSON string or number. Absent for a notification, and where a response has none.
    pub id: Option<&'a str>,
    /// `params.name`
    pub name: Value<'a>,
    /// `params.uri`
    pub uri: Value<'a>,
    /// `params.taskId`
    pub task: Value<'a>,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`
    pub claim: Value<'a>,
}

/// Which of the three a message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `method` and `id`
    Request,
    /// `method` alone
    Notification,
    /// `result` or `error`
    Response,
}

/// A member that should be a string.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Value<'a> {
    /// Not there.
    #[default]
    Absent,
    /// A string.
    Text(Cow<'a, str>),
    /// There, but no string or none that can be decoded.
    Unreadable,
}

impl Value<'_> {
    /// The string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

impl<'a> Message<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// The reason, with the `id` where one could be read.
    pub fn read(body: &'a [u8]) -> Result<Self, MessageFault> {
        let broken = |fault| MessageFault { reason: Reason::NotJson(fault), id: None };
        let mut reader = Reader::new(body).map_err(broken)?;
        let drafts = Drafts::read(&mut reader).map_err(broken)?;
        let ambiguous = reader.ambiguous();
        match drafts {
            Drafts::One(draft) => {
                let id = draft.readable_id();
                let read = if ambiguous { Err(Reason::NameRepeated) } else { draft.finish() };
                read.map(Self::One).map_err(|reason| MessageFault { reason, id: id.map(Into::into) })
            }
            Drafts::Batch(drafts, fault) => {
                let fault = if ambiguous { fault.or(Some(Reason::NameRepeated)) } else { fault };
                let read = match fault {
                    Some(reason) => Err(reason),
                    None => drafts.into_iter().map(Draft::finish).collect(),
                };
                read.map(Self::Batch).map_err(|reason| MessageFault { reason, id: None })
            }
            Drafts::Neither => Err(MessageFault { reason: Reason::NotAMessage, id: None }),
        }
    }

    /// The message, or the messages of the batch.
    #[must_use]
    pub fn all(&self) -> &[Rpc<'a>] {
        match self {
            Self::One(rpc) => std::slice::from_ref(rpc),
            Self::Batch(all) => all,
        }
    }

    /// The id that an error about the whole body carries: that of a single request.
    #[must_use]
    pub fn id(&self) -> Option<&'a str> {
        match self {
            Self::One(rpc) if rpc.kind == Kind::Request => rpc.id,
            Self::One(_) | Self::Batch(_) => None,
        }
    }
}

/// The methods of requests and notifications to a server, of all revisions.
const METHODS: [&str; 27] = [
    "tools/call",
    "tools/list",
    "initialize",
    "notifications/initialized",
    "ping",
    "server/discover",
    "subscriptions/listen",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/elicitation/complete",
    "tasks/get",
    "tasks/result",
    "tasks/list",
    "tasks/cancel",
    "tasks/update",
    "notifications/tasks/status",
    "notifications/message",
];

/// The method as a text that needs no copy, where the specification has it.
#[must_use]
pub fn known_method(method: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method)
}

/// The member of `params` that names what a method is about, which is what rules and headers look at.
#[must_use]
pub fn item_member(method: &str) -> Option<&'static str> {
    match method.split('/').next() {
        Some("tools" | "prompts") => Some("name"),
        Some("resources") => Some("uri"),
        Some("tasks") => Some("taskId"),
        _ => None,
    }
}

impl Rpc<'_> {
    /// What the method is about, where it says so: the tool, prompt, resource or task.
    #[must_use]
    pub fn item(&self) -> Option<&str> {
        match item_member(&self.method) {
            Some("name") => self.name.text(),
            Some("uri") => self.uri.text(),
            Some("taskId") => self.task.text(),
            _ => None,
        }
    }
}

/// A body whose text has been read and whose meaning has not been judged.
enum Drafts<'a> {
    One(Draft<'a>),
    Batch(Vec<Draft<'a>>, Option<Reason>),
    Neither,
}

impl<'a> Drafts<'a> {
    /// Reads the text to its end, so that a fault of grammar behind a fault of meaning is still seen.
    fn read(reader: &mut Reader<'a>) -> Result<Self, JsonFault> {
        let drafts = match reader.kind()? {
            Json::Object => Self::One(Draft::read(reader)?),
            Json::Array => {
                let (mut all, mut fault) = (Vec::new(), None);
                reader.array(|reader| {
                    if reader.kind()? != Json::Object {
                        fault = fault.or(Some(Reason::NotAMessage));
                    } else if all.len() == BATCH_MESSAGES_MAX {
                        fault = fault.or(Some(Reason::BatchTooLong));
                    } else {
                        all.push(Draft::read(reader)?);
                        return Ok(());
                    }
                    reader.skip().map(drop)
                })?;
                let empty = all.is_empty().then_some(Reason::BatchEmpty);
                Self::Batch(all, fault.or(empty))
            }
            _ => {
                reader.skip()?;
                Self::Neither
            }
        };
        reader.end()?;
        Ok(drafts)
    }
}

/// A member as it was met.
#[derive(Clone, Copy, Default)]
enum Field<'a> {
    #[default]
    Absent,
    Text(Text<'a>),
    Other,
}

impl<'a> Field<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, JsonFault> {
        if reader.kind()? == Json::String {
            return reader.string().map(Self::Text);
        }
        reader.skip().map(|_| Self::Other)
    }

    fn value(self) -> Value<'a> {
        match self {
            Self::Absent => Value::Absent,
            Self::Text(text) => text.decode().map_or(Value::Unreadable, Value::Text),
            Self::Other => Value::Unreadable,
        }
    }
}

/// The members that a parser which ignores case could take for one of ours, in the order of [`LOOKALIKES`].
const LOOKALIKES: [&str; 3] = ["name", "uri", "taskId"];

#[derive(Default)]
struct Draft<'a> {
    jsonrpc: Field<'a>,
    method: Field<'a>,
    id: Option<(Json, &'a str)>,
    id_again: bool,
    params: Option<Json>,
    result: bool,
    error: bool,
    name: Field<'a>,
    uri: Field<'a>,
    task: Field<'a>,
    claim: Field<'a>,
    /// A lookalike of a member that decides whatever the method is.
    lookalike: Option<&'static str>,
    /// Lookalikes of members that decide for some methods alone.
    item_lookalikes: [bool; LOOKALIKES.len()],
}

impl<'a> Draft<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, JsonFault> {
        let mut draft = Self::default();
        reader.object(|reader, name| {
            match name {
                "jsonrpc" => draft.jsonrpc = Field::read(reader)?,
                "method" => draft.method = Field::read(reader)?,
                "id" => draft.id_again |= draft.id.replace(reader.raw()?).is_some(),
                "params" => draft.params = Some(draft.read_params(reader)?),
                "result" => {
                    draft.result = true;
                    reader.skip()?;
                }
                "error" => {
                    draft.error = true;
                    reader.skip()?;
                }
                _ => {
                    const OURS: [&str; 6] = ["jsonrpc", "method", "id", "params", "result", "error"];
                    let alike = OURS.into_iter().find(|ours| looks_like(name, ours));
                    draft.lookalike = draft.lookalike.or(alike);
                    reader.skip()?;
                }
            }
            Ok(())
        })?;
        Ok(draft)
    }

    fn read_params(&mut self, reader: &mut Reader<'a>) -> Result<Json, JsonFault> {
        if reader.kind()? != Json::Object {
            return reader.skip();
        }
        reader.object(|reader, name| {
            match name {
                "name" => self.name = Field::read(reader)?,
                "uri" => self.uri = Field::read(reader)?,
                "taskId" => self.task = Field::read(reader)?,
                "_meta" => self.read_meta(reader)?,
                _ => {
                    for (met, ours) in self.item_lookalikes.iter_mut().zip(LOOKALIKES) {
                        *met |= looks_like(name, ours);
                    }
                    if looks_like(name, "_meta") {
                        self.lookalike = Some("_meta");
                    }
                    reader.skip()?;
                }
            }
            Ok(())
        })?;
        Ok(Json::Object)
    }

    fn read_meta(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonFault> {
        if reader.kind()? != Json::Object {
            return reader.skip().map(drop);
        }
        reader.object(|reader, name| {
            if name == VERSION_MEMBER {
                self.claim = Field::read(reader)?;
                return Ok(());
            }
            if looks_like(name, VERSION_MEMBER) {
                self.lookalike = Some(VERSION_MEMBER);
            }
            reader.skip().map(drop)
        })
    }

    /// The id that an error may carry.
    fn readable_id(&self) -> Option<&'a str> {
        match self.id {
            Some((Json::String | Json::Number, raw)) if !self.id_again => Some(raw),
            _ => None,
        }
    }

    /// Judges what was read.
    fn finish(self) -> Result<Rpc<'a>, Reason> {
        if let Some(ours) = self.lookalike {
            return Err(Reason::NameLookalike(ours));
        }
        if self.jsonrpc.value().text() != Some("2.0") {
            return Err(Reason::NotJsonRpc);
        }
        let method = match self.method.value() {
            Value::Absent => Cow::Borrowed(""),
            Value::Text(text) if !text.is_empty() => text,
            Value::Text(_) | Value::Unreadable => return Err(Reason::BadMethod),
        };
        let kind = match (method.is_empty(), self.result, self.error) {
            (false, false, false) if self.id.is_some() => Kind::Request,
            (false, false, false) => Kind::Notification,
            (true, true, false) | (true, false, true) => Kind::Response,
            _ => return Err(Reason::BadKind),
        };
        let id = match self.id {
            Some((Json::String | Json::Number, raw)) => Some(raw),
            // JSON-RPC 2.0 section 5: an error about a request whose id could not be read.
            None | Some((Json::Null, _)) if self.error => None,
            None if kind == Kind::Notification => None,
            None | Some(_) => return Err(Reason::BadId),
        };
        let rpc = Rpc {
            kind,
            method,
            id,
            name: self.name.value(),
            uri: self.uri.value(),
            task: self.task.value(),
            claim: self.claim.value(),
        };
        self.check_params(&rpc.method)?;
        Ok(rpc)
    }

    /// `params` must be what a decision about this method can rest on.
    fn check_params(&self, method: &str) -> Result<(), Reason> {
        if matches!(self.params, Some(Json::String | Json::Number | Json::Boolean)) {
            return Err(Reason::BadParams);
        }
        let Some(member) = item_member(method) else { return Ok(()) };
        // Not for the others: an array is JSON-RPC's other form of parameters, and null is what careless clients write
        // for none.
        let needs_object = matches!(method, "tools/call" | "prompts/get" | "resources/read");
        if needs_object && !matches!(self.params, None | Some(Json::Object)) {
            return Err(Reason::ParamsNotObject);
        }
        let (field, alike) = match member {
            "name" => (self.name, self.item_lookalikes[0]),
            "uri" => (self.uri, self.item_lookalikes[1]),
            _ => (self.task, self.item_lookalikes[2]),
        };
        match field {
            _ if alike => Err(Reason::NameLookalike(member)),
            Field::Text(text) if text.decode().is_none() => Err(Reason::ItemUnreadable(member)),
            _ => Ok(()),
        }
    }
}

/// Whether a parser that ignores case could take `name` for `ours`, which it is not. Beyond ASCII, four letters fold
/// into it: Go's `encoding/json` reads `ſ` as `s` and the Kelvin sign as `k`, Java's comparison `ı` and `İ` as `i`.
fn looks_like(name: &str, ours: &str) -> bool {
    if name.len() < ours.len() || name.len() > 3 * ours.len() {
        return false;
    }
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        'ı' | 'İ' => 'i',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).eq(ours.chars().map(|c| c.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(body: &str) -> (i32, Option<String>) {
        let fault = Message::read(body.as_bytes()).expect_err(body);
        (fault.reason.code(), fault.id.map(String::from))
    }

    #[test]
    fn the_fields_that_decide_are_found_wherever_they_stand() {
        let body = r#" {"params":{"arguments":{"name":"inner","_meta":{}},"uri":"u:1","name":"ec\u0068o","taskId":"t",
            "_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}},
            "id" : "a\"b" , "extra":[1,{"method":"inner"}],"method":"tools/call","jsonrpc":"2.0"} "#;
        let Message::One(rpc) = Message::read(body.as_bytes()).unwrap() else { panic!("one") };
        assert_eq!((rpc.kind, &*rpc.method, rpc.id), (Kind::Request, "tools/call", Some(r#""a\"b""#)));
        assert_eq!(
            (rpc.name.text(), rpc.uri.text(), rpc.task.text()),
            (Some("echo"), Some("u:1"), Some("t"))
        );
        assert_eq!((rpc.claim.text(), rpc.item()), (Some("2026-07-28"), Some("echo")));
        assert!(matches!(rpc.method, Cow::Borrowed(_)) && matches!(rpc.name, Value::Text(Cow::Owned(_))));
    }

    /// T-07, and JSON-RPC 2.0 sections 4 to 6. The id is kept as it was written.
    #[test]
    fn requests_notifications_and_responses() {
        for (body, kind, id) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#, Kind::Request, Some("1")),
            (r#"{"jsonrpc":"2.0","id":-0.10E2,"method":"m"}"#, Kind::Request, Some("-0.10E2")),
            (
                r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"m"}"#,
                Kind::Request,
                Some("123456789012345678901234567890"),
            ),
            (r#"{"jsonrpc":"2.0","id":"","method":"m","params":[]}"#, Kind::Request, Some("\"\"")),
            (r#"{"jsonrpc":"2.0","method":"m","params":null}"#, Kind::Notification, None),
            (r#"{"jsonrpc":"2.0","id":"x","result":null}"#, Kind::Response, Some("\"x\"")),
            (r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":""}}"#, Kind::Response, Some("\"x\"")),
            (r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, Kind::Response, None),
            (r#"{"jsonrpc":"2.0","error":{}}"#, Kind::Response, None),
            (r#"{"\u006asonrpc":"2.0","i\u0064":1,"method":"m"}"#, Kind::Request, Some("1")),
        ] {
            let Message::One(rpc) = Message::read(body.as_bytes()).expect(body) else { panic!("one") };
            assert_eq!((rpc.kind, rpc.id), (kind, id), "{body}");
        }
    }

    /// T-07, D7: the code, and the id where there is one to be read, whatever stands before or behind it.
    #[test]
    fn what_is_no_message_is_refused_with_its_code_and_id() {
        let one = Some("1".to_owned());
        for (body, code, id) in [
            ("", -32700, None),
            ("{", -32700, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"} x"#, -32700, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m"}{"jsonrpc":"2.0","id":1,"method":"m"}"#, -32700, None),
            ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}", -32700, None),
            ("null", -32600, None),
            ("\"m\"", -32600, None),
            ("{}", -32600, None),
            (r#"{"id":1,"method":"m"}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, -32600, one.clone()),
            (r#"{"jsonrpc":2.0,"method":"m","id":1}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":""}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":null,"result":{}}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, -32600, None),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, -32600, None),
            (r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#, -32600, None),
            (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, -32600, None),
            (r#"{"jsonrpc":"2.0","result":{}}"#, -32600, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":5}"#, -32600, one.clone()),
            // section 4.12: a name twice, at any level
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping"}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"tools/call"}"#, -32600, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#, -32600, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[{"b":1,"b":2}]}}"#, -32600, one.clone()),
            (
                r#"{"jsonrpc":"2.0","method":"m","params":{"name":"a","name":"b"},"id":1}"#,
                -32600,
                one.clone(),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","\udc00":1}"#, -32600, one.clone()),
            // where a decision rests on params
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["a"]}"#, -32602, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":[]}"#, -32602, one.clone()),
            (r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":null}"#, -32602, one.clone()),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\ud800"}}"#,
                -32602,
                one.clone(),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"\udfff"}}"#, -32602, one),
        ] {
            assert_eq!(fault(body), (code, id), "{body}");
        }
        assert!(
            Message::read(br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"name":"\ud800"}}"#).is_ok()
        );
    }

    /// `"method":"tools/call","METHOD":"ping"` must not be authorized as either.
    #[test]
    fn a_name_that_differs_only_in_case_is_refused_where_it_decides() {
        for lookalike in [
            "METHOD",
            "Method",
            "ID",
            "Id",
            "JSONRPC",
            "JsonRpc",
            "Params",
            "PARAMS",
            "Result",
            "RESULT",
            "Error",
            "paramſ",
            "reſult",
            "ſ",
            "m\\u0045thod",
            "\\u0130d",
            "ıd",
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","{lookalike}":{{}}}}"#);
            let read = Message::read(body.as_bytes());
            let refused = matches!(read, Err(MessageFault { reason: Reason::NameLookalike(_), .. }));
            assert_eq!(refused, lookalike != "ſ", "{body}");
        }
        let meta = "IO.modelcontextprotocol/protocolversion";
        for (method, params, refused) in [
            ("tools/call", r#"{"name":"a","Name":"b"}"#, true),
            ("tools/call", r#"{"NAME":"b"}"#, true),
            ("tools/call", r#"{"name":"a","URI":"b","TaskId":"c"}"#, false),
            ("tools/call", r#"{"name":"a","arguments":{"Name":"b","METHOD":"c"}}"#, false),
            ("resources/read", r#"{"uri":"a","Uri":"b"}"#, true),
            ("resources/read", r#"{"uri":"a","Name":"b"}"#, false),
            ("tasks/get", r#"{"taskId":"a","taskid":"b"}"#, true),
            ("tasks/get", "{\"tas\u{212a}Id\":\"b\"}", true),
            ("ping", r#"{"Name":"b"}"#, false),
            ("ping", r#"{"_META":{}}"#, true),
            ("ping", &format!(r#"{{"_meta":{{"{meta}":"2026-07-28"}}}}"#), true),
            ("ping", &format!(r#"{{"_meta":{{"x":{{"{meta}":"2026-07-28"}}}}}}"#), false),
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            assert_eq!(Message::read(body.as_bytes()).is_err(), refused, "{body}");
        }
    }

    /// SH-01: a batch is whole or nothing.
    #[test]
    fn batches() {
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        let of = |count: usize| format!("[{}]", vec![ping; count].join(","));
        for (body, found) in [
            (of(1), Ok(1)),
            (of(BATCH_MESSAGES_MAX), Ok(BATCH_MESSAGES_MAX)),
            (of(BATCH_MESSAGES_MAX + 1), Err(Reason::BatchTooLong)),
            ("[]".to_owned(), Err(Reason::BatchEmpty)),
            ("[[]]".to_owned(), Err(Reason::NotAMessage)),
            (format!("[{ping},1]"), Err(Reason::NotAMessage)),
            (format!("[{ping},{{}}]"), Err(Reason::NotJsonRpc)),
            (format!("[{ping},{{\"a\":1,\"a\":1}}]"), Err(Reason::NameRepeated)),
        ] {
            let read = Message::read(body.as_bytes());
            assert_eq!(read.map(|batch| batch.all().len()).map_err(|fault| fault.reason), found, "{body}");
        }
    }

    #[test]
    fn every_truncation_of_a_message_is_an_error_and_no_panic() {
        let body = r#"{"jsonrpc":"2.0","id":"é\n","method":"tools/call","params":{"name":"\ud83d\ude00","_meta":{"a":[1.5e3,true]}}}"#;
        assert!(Message::read(body.as_bytes()).is_ok());
        for end in 0..body.len() {
            assert!(Message::read(&body.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
