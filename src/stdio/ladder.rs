//! What a modern request must be before a child sees it, and the few messages that are ours.
//!
//! The order is that of the official servers (section 2.7): the gate has judged text, era and mirrored headers; here
//! follow the envelope, the version, methods that the era no longer has, and, in `warm.rs`, `Mcp-Param-*`.

use serde_json::{Value, json};

use super::line::{CAPABILITIES_MEMBER, CLIENT_MEMBER, Line, SUBSCRIPTION_MEMBER};
use super::params::ParamFault;
use crate::mcp::json::Kind as Json;
use crate::mcp::message::VERSION_MEMBER;
use crate::mcp::{MessageFault, Reason};
use crate::reply::{self, Refusal, Reply, rpc_error};

/// The method of a subscription.
pub(super) const LISTEN: &str = "subscriptions/listen";
/// The revision that we ask in, where we ask ourselves.
pub(super) const OURS: &str = "2026-07-28";

/// Judges the envelope of a request (M-06), and whether its method is of this era at all. A shared child must not see
/// the others: `logging/setLevel` or `initialize` would change it for everybody.
///
/// # Errors
/// The answer.
pub(super) fn envelope(line: &Line<'_>) -> Result<(), Reply> {
    if line.capabilities.is_none_or(|piece| piece.kind != Json::Object) {
        let id = line.readable_id().map(Into::into);
        return Err(Refusal::Message(MessageFault { reason: Reason::CapabilitiesMissing, id }).reply());
    }
    let removed = ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
    if removed.contains(&&*line.method) {
        return Err(no_method(line));
    }
    Ok(())
}

/// `Method not found`, which is 404 in this era (M-05).
pub(super) fn no_method(line: &Line<'_>) -> Reply {
    let text = rpc_error(-32601, "this protocol version has no such method", line.readable_id());
    reply::modern(text.into(), Some(-32601))
}

/// M-04.
///
/// # Errors
/// The answer, for a version that the server does not speak.
pub(super) fn version(line: &Line<'_>, supported: &[String]) -> Result<(), Reply> {
    let asked = line.version.and_then(|piece| piece.text()).unwrap_or_default();
    if supported.iter().any(|known| **known == *asked) {
        return Ok(());
    }
    let error = json!({"code": -32022, "message": "the MCP server does not speak this protocol version",
        "data": {"supported": supported, "requested": asked}});
    let id = line.readable_id().unwrap_or("null");
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
    Err(reply::modern(text.into(), Some(-32022)))
}

/// M-09: `HeaderMismatch`.
pub(super) fn mismatch(line: &Line<'_>, fault: &ParamFault) -> Reply {
    reply::modern(rpc_error(-32020, &fault.to_string(), line.readable_id()).into(), Some(-32020))
}

/// What an answer to `server/discover` says about the revisions of a modern server; `None` where it is no modern one.
/// No single error decides (section 3.4): every error that only a modern server knows does.
pub(super) fn supported(text: &str, code: Option<i64>) -> Option<Vec<String>> {
    let message: Value = serde_json::from_str(text).ok()?;
    let list = |value: Option<&Value>| -> Option<Vec<String>> {
        let all = value?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned);
        Some(all.collect()).filter(|all: &Vec<String>| !all.is_empty())
    };
    match code {
        None => list(message.pointer("/result/supportedVersions")),
        Some(-32022) => {
            Some(list(message.pointer("/error/data/supported")).unwrap_or_else(|| vec![OURS.into()]))
        }
        Some(-32021 | -32020) => Some(vec![OURS.into()]),
        Some(_) => None,
    }
}

/// A request of ours.
pub(super) fn own_request(number: u64, method: &str, cursor: Option<&str>) -> String {
    let mut params = json!({"_meta": own_meta(&json!({}))});
    if let (Some(cursor), Some(params)) = (cursor, params.as_object_mut()) {
        params.insert("cursor".into(), cursor.into());
    }
    json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).to_string()
}

/// `_meta` of a request of ours.
pub(super) fn own_meta(capabilities: &Value) -> Value {
    json!({VERSION_MEMBER: OURS, CAPABILITIES_MEMBER: capabilities,
        CLIENT_MEMBER: {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")}})
}

/// The result that ends a subscription in good order.
pub(super) fn listen_result(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_MEMBER}":{id}}}}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, meta: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":"7","method":"{method}","params":{{"_meta":{{{meta}}}}}}}"#)
    }

    const VERSION: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    const CAPABILITIES: &str = r#""io.modelcontextprotocol/clientCapabilities""#;

    /// M-04, M-05, M-06: status, code, and the id of the request.
    #[test]
    fn a_request_climbs_the_ladder_or_is_told_why_not() {
        let whole = format!("{VERSION},{CAPABILITIES}:{{}}");
        let later = whole.replace("2026-07-28", "2027-01-01");
        for (method, meta, expected) in [
            ("tools/list", whole.as_str(), None),
            ("server/discover", &whole, None),
            ("vendor/anything", &whole, None),
            ("tools/list", VERSION, Some((400, -32602))),
            ("tools/list", &format!("{VERSION},{CAPABILITIES}:null"), Some((400, -32602))),
            ("tools/list", &format!("{VERSION},{CAPABILITIES}:[]"), Some((400, -32602))),
            ("tools/list", &later, Some((400, -32022))),
            ("initialize", &whole, Some((404, -32601))),
            ("ping", &whole, Some((404, -32601))),
            ("logging/setLevel", &whole, Some((404, -32601))),
            ("resources/subscribe", &whole, Some((404, -32601))),
        ] {
            let text = request(method, meta);
            let line = Line::read(text.as_bytes()).unwrap();
            let judged = envelope(&line).and_then(|()| version(&line, &[OURS.into()]));
            let found = judged.err().map(|reply| {
                let body: Value = serde_json::from_slice(&reply.body).unwrap();
                assert_eq!(body["id"], "7");
                (reply.status, body["error"]["code"].as_i64().unwrap())
            });
            assert_eq!(found, expected, "{method} {meta}");
        }
        let text = request("tools/list", &later);
        let reply = version(&Line::read(text.as_bytes()).unwrap(), &[OURS.into()]).unwrap_err();
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["error"]["data"], json!({"supported": ["2026-07-28"], "requested": "2027-01-01"}));
    }

    /// Section 3.4, era detection: never keyed on one error code.
    #[test]
    fn the_answer_to_the_probe_decides_the_era() {
        let ours = || Some(vec![OURS.to_owned()]);
        for (text, code, expected) in [
            (r#"{"result":{"supportedVersions":["2026-07-28"]}}"#, None, ours()),
            (r#"{"result":{"supportedVersions":[]}}"#, None, None),
            (r#"{"result":{}}"#, None, None),
            (
                r#"{"error":{"data":{"supported":["2027-01-01"]}}}"#,
                Some(-32022),
                Some(vec!["2027-01-01".into()]),
            ),
            (r#"{"error":{}}"#, Some(-32022), ours()),
            (r#"{"error":{}}"#, Some(-32021), ours()),
            (r#"{"error":{}}"#, Some(-32601), None),
            (r#"{"error":{}}"#, Some(-32602), None),
            (r#"{"error":{}}"#, Some(-32000), None),
            (r#"{"error":{}}"#, Some(0), None),
        ] {
            assert_eq!(supported(text, code), expected, "{text} {code:?}");
        }
    }

    /// M-04, M-05, M-18: what the code of an error does to the status.
    #[test]
    fn only_errors_about_the_request_change_the_status() {
        for (code, status) in [
            (None, 200),
            (Some(-32601), 404),
            (Some(-32020), 400),
            (Some(-32021), 400),
            (Some(-32022), 400),
            (Some(-32023), 200),
            (Some(-32602), 200),
            (Some(-32603), 200),
            (Some(-32700), 200),
            (Some(1), 200),
        ] {
            assert_eq!(reply::modern(Vec::new(), code).status, status, "{code:?}");
        }
    }
}
