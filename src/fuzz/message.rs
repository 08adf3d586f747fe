//! `message`: the JSON-RPC reader, against serde_json.

use serde::de::IgnoredAny;
use serde_json::{Map, Value as Json};

use super::{assert_tellable, shown};
use crate::auth::json::{self, Bounds};
use crate::mcp::json::JsonFault;
use crate::mcp::message::{Kind, Message, Rpc, VERSION_MEMBER, Value, item_member};
use crate::mcp::{MessageFault, Reason};

/// Bodies of a POST to the MCP endpoint.
///
/// Our reader and serde_json call the same texts JSON. What ours accepts holds no name twice, and serde_json finds the
/// same method, id, item and protocol version in it, also if it were to ignore the case of names. Accepted or not, white
/// space around the text changes nothing, and a text that is cut short or goes on is refused.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn message(input: &[u8]) -> bool {
    let read = Message::read(input);
    let text = std::str::from_utf8(input).ok();
    let grammatical = text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let message = match read {
        Ok(message) => message,
        Err(MessageFault { reason, id }) => {
            let known = match reason {
                Reason::NotJson(JsonFault::TooDeep) => true, // not asked of serde_json when it builds nothing
                Reason::NotJson(JsonFault::NotUtf8) => text.is_none(),
                Reason::NotJson(_) => !grammatical,
                _ => grammatical,
            };
            assert!(known, "{reason} is not what serde_json says of {}", shown(input));
            assert!(id.is_none_or(|id| is_id(&id)), "the id of {}", shown(input));
            assert_tellable(&reason.to_string(), input);
            return false;
        }
    };
    assert!(grammatical, "serde_json does not take {} for JSON", shown(input));
    let text = text.unwrap_or_default();
    assert_whole(text);
    assert_no_name_twice(text);
    // Only where it can build the value: it has no numbers beyond f64 and no lone surrogates.
    match serde_json::from_str(text) {
        Ok(Json::Array(all)) => {
            assert!(matches!(message, Message::Batch(_)) && message.all().len() == all.len(), "{text}");
            message.all().iter().zip(&all).for_each(|(rpc, json)| assert_same(rpc, json, text));
        }
        Ok(json) => {
            let Message::One(rpc) = &message else { panic!("{text} is no batch") };
            assert_same(rpc, &json, text);
        }
        Err(_) => {}
    }
    true
}

/// An accepted text ends where it ends.
fn assert_whole(text: &str) {
    let spaced = format!(" \r\n\t{text}\n ");
    assert!(Message::read(spaced.as_bytes()).is_ok(), "white space around {text}");
    for behind in ["x", "{}", "\0", "\u{a0}", ","] {
        assert!(Message::read(format!("{text}{behind}").as_bytes()).is_err(), "{behind:?} behind {text}");
    }
    let mut short = text.trim_ascii_end().as_bytes();
    for _ in 0..4 {
        let (_, before) = short.split_last().unwrap_or((&0, b""));
        assert!(Message::read(before).is_err(), "{text} is whole after {} bytes", before.len());
        short = before;
    }
}

/// By the reader of tokens and key sets, which stands on serde_json.
fn assert_no_name_twice(text: &str) {
    let bounds = Bounds { depth: usize::MAX, values: usize::MAX, mark_repeated: false };
    let wrapped = format!("{{\"message\":{text}}}");
    let found = json::read(wrapped.as_bytes(), bounds);
    assert!(!matches!(found, Err(json::Fault::Repeated(_))), "{text} has a name twice");
}

/// What serde_json finds in a message is what we found.
fn assert_same(rpc: &Rpc<'_>, json: &Json, text: &str) {
    let none = Map::new();
    let Json::Object(message) = json else { panic!("{text} holds a message that is no object") };
    let params = message.get("params").and_then(Json::as_object).unwrap_or(&none);
    let meta = params.get("_meta").and_then(Json::as_object).unwrap_or(&none);

    assert_eq!(message.get("jsonrpc").and_then(Json::as_str), Some("2.0"), "{text}");
    assert_eq!(rpc.method, message.get("method").map_or("", |m| m.as_str().unwrap_or("?")), "{text}");
    let id = rpc.id.map(|id| serde_json::from_str::<Json>(id).unwrap_or_default());
    assert_eq!(id.as_ref(), message.get("id").filter(|id| !id.is_null()), "the id in {text}");
    assert!(rpc.id.is_none_or(is_id), "the id in {text}");
    for (ours, theirs) in [
        (&rpc.name, params.get("name")),
        (&rpc.uri, params.get("uri")),
        (&rpc.task, params.get("taskId")),
        (&rpc.claim, meta.get(VERSION_MEMBER)),
    ] {
        match (ours, theirs) {
            (Value::Absent, None) => {}
            (Value::Text(ours), Some(Json::String(theirs))) => assert_eq!(ours, theirs, "{text}"),
            (Value::Unreadable, Some(Json::String(_))) | (_, None) | (Value::Absent | Value::Text(_), _) => {
                panic!("{ours:?} is not {theirs:?} in {text}")
            }
            (Value::Unreadable, Some(_)) => {}
        }
    }
    let answer = ["result", "error"].into_iter().filter(|name| message.contains_key(*name)).count();
    let kind = match (message.contains_key("method"), message.contains_key("id"), answer) {
        (true, true, 0) => Kind::Request,
        (true, false, 0) => Kind::Notification,
        (false, _, 1) => Kind::Response,
        parts => panic!("{parts:?} is no message, but {text} is accepted"),
    };
    assert_eq!(rpc.kind, kind, "{text}");

    assert_no_lookalike(message, &["jsonrpc", "method", "id", "params", "result", "error"], text);
    assert_no_lookalike(params, item_member(&rpc.method).as_slice(), text);
    assert_no_lookalike(params, &["_meta"], text);
    assert_no_lookalike(meta, &[VERSION_MEMBER], text);
}

/// No name that a parser which ignores case would take for one of `ours`.
fn assert_no_lookalike(object: &Map<String, Json>, ours: &[&str], text: &str) {
    for name in object.keys() {
        for ours in ours.iter().filter(|ours| name != *ours) {
            let alike =
                name.to_lowercase() == ours.to_lowercase() || name.to_uppercase() == ours.to_uppercase();
            assert!(!alike, "{name:?} could be {ours:?} in {text}");
        }
    }
}

/// A JSON string or number, alone, as it can stand in an answer.
fn is_id(raw: &str) -> bool {
    let first = raw.bytes().next().unwrap_or_default();
    let kind = first == b'"' || first == b'-' || first.is_ascii_digit();
    kind && raw.trim_ascii() == raw && serde_json::from_str::<IgnoredAny>(raw).is_ok()
}
