//! From one era's words to the other's (section 3.4, last point). Pure.
//!
//! What both eras have in common stays byte for byte as it was written; what differs is cut out or put in. Each function
//! says which member it is about.

use serde_json::{Map, Value, json};

use super::ladder::OURS;
use super::line::{
    CAPABILITIES_MEMBER, CLIENT_MEMBER, LOG_LEVEL_MEMBER, Line, SERVER_MEMBER, SUBSCRIPTION_MEMBER, Shape,
};
use super::splice::Splice;
use crate::mcp::json::{Kind, Reader};
use crate::mcp::message::VERSION_MEMBER;

/// The newest revision with a handshake, which is the one that we offer.
pub(super) const NEWEST_LEGACY: &str = "2025-11-25";
/// What follows the answer to `initialize`.
pub(super) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// What we say that we can do, where we open a session for whatever client comes: what that really can is only known, and
/// checked, when the server asks for it.
pub(super) fn everything() -> Value {
    json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}})
}

/// `initialize`, by which we open a session of ours.
pub(super) fn initialize(number: u64, capabilities: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": number, "method": "initialize", "params": {
        "protocolVersion": NEWEST_LEGACY, "capabilities": capabilities,
        "clientInfo": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")}}})
    .to_string()
}

/// The answer to `server/discover`, from the result of `initialize`.
pub(super) fn discovered(id: &str, initialized: &Value) -> String {
    let mut result = json!({
        "resultType": "complete", "supportedVersions": [OURS],
        "capabilities": modern_capabilities(initialized), "ttlMs": 0, "cacheScope": "private",
        "_meta": {SERVER_MEMBER: initialized.get("serverInfo").cloned().unwrap_or_default()}});
    if let (Some(told), Some(result)) = (initialized.get("instructions"), result.as_object_mut()) {
        result.insert("instructions".into(), told.clone());
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// The capabilities of a legacy server that the modern era has too; tasks left the core (section 1.3 number 14).
fn modern_capabilities(initialized: &Value) -> Value {
    let mut capabilities = initialized.get("capabilities").cloned().unwrap_or_else(|| json!({}));
    if let Some(all) = capabilities.as_object_mut() {
        all.remove("tasks");
    }
    capabilities
}

/// A modern request as one of the legacy era: without the members of `_meta` that describe it, for which a server that
/// was opened by `initialize` may refuse it. `None` for what needs no change, or cannot be read.
pub(super) fn undressed(line: &Line<'_>) -> Option<String> {
    let meta = line.meta.filter(|meta| meta.kind == Kind::Object)?;
    let mut reader = Reader::new(meta.raw.as_bytes()).ok()?;
    let (mut kept, mut dropped) = (Vec::new(), false);
    let read = reader.object(|reader, name| {
        let (_, raw) = reader.raw()?;
        let describes =
            [VERSION_MEMBER, CAPABILITIES_MEMBER, CLIENT_MEMBER, LOG_LEVEL_MEMBER].contains(&name);
        dropped |= describes;
        if !describes {
            kept.push(format!("{}:{raw}", Value::from(name)));
        }
        Ok(())
    });
    read.ok().filter(|()| dropped)?;
    let mut splice = Splice::new(line.text);
    splice.replace(meta.range(), format!("{{{}}}", kept.join(",")));
    Some(splice.line())
}

/// A legacy server's answer as one of the modern era: `resultType`, and `ttlMs` with `cacheScope` where the era asks for
/// them (section 1.3 numbers 10 and 11). An error code that the era has given up becomes its successor (number 6).
/// `None` for what needs no change.
pub(super) fn dressed(line: &Line<'_>, method: &str) -> Option<String> {
    let mut splice = Splice::new(line.text);
    if line.shape == Shape::Error {
        let code = line.code.filter(|code| code.raw == "-32002")?;
        splice.replace(code.range(), "-32602");
        return Some(splice.line());
    }
    let result = line.result().filter(|_| line.result_type.is_none())?;
    let hints = match method {
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" | "resources/read" => {
            r#","ttlMs":0,"cacheScope":"private""#
        }
        _ => "",
    };
    let rest = result.raw.get(1..).unwrap_or_default();
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    splice.replace(result.at + 1..result.at + 1, format!(r#""resultType":"complete"{hints}{comma}"#));
    Some(splice.line())
}

/// What a client must be able to do for a request of a legacy server.
pub(super) fn capability(method: &str) -> Option<&'static str> {
    match method {
        "sampling/createMessage" => Some("sampling"),
        "elicitation/create" => Some("elicitation"),
        "roots/list" => Some("roots"),
        _ => None,
    }
}

/// `MissingRequiredClientCapability`.
pub(super) fn missing(id: &str, capability: &str) -> String {
    let error = json!({"code": -32021, "message": format!("the MCP server needs the client's {capability}"),
        "data": {"requiredCapabilities": {capability: {}}}});
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// The result that asks the client for something: the server's requests, each under its key (section 1.3 number 9).
pub(super) fn input_required(id: &str, asks: &[(String, Ask)], state: &str) -> String {
    let one = |(key, ask): &(String, Ask)| {
        let (key, method) = (Value::from(&**key), Value::from(&*ask.method));
        let params = ask.params.as_deref().map(|params| format!(r#","params":{params}"#)).unwrap_or_default();
        format!(r#"{key}:{{"method":{method}{params}}}"#)
    };
    let (asks, state) = (asks.iter().map(one).collect::<Vec<_>>().join(","), Value::from(state));
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{{asks}}},"requestState":{state}}}}}"#
    )
}

/// A request of a server to its client.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// As the server wrote it.
    pub(super) id: Box<str>,
    pub(super) method: Box<str>,
    pub(super) params: Option<Box<str>>,
}

impl Ask {
    pub(super) fn read(line: &Line<'_>) -> Option<Self> {
        let params = line.params().map(|params| super::splice::one_line(params.raw).into());
        Some(Self { id: line.readable_id()?.into(), method: line.method.as_ref().into(), params })
    }
}

/// What a subscription is about.
#[derive(Debug, Default)]
pub(super) struct Filter {
    lists: Vec<&'static str>,
    pub(super) uris: Vec<String>,
}

/// The flags of a filter, each with the capability that it needs and the notification that it stands for.
const LISTS: [(&str, &str, &str); 3] = [
    ("toolsListChanged", "/tools/listChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "/prompts/listChanged", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "/resources/listChanged", "notifications/resources/list_changed"),
];

impl Filter {
    /// What of a request's filter a server with these capabilities can honour.
    pub(super) fn honoured(params: Option<&str>, capabilities: &Value) -> Self {
        let params: Value = params.and_then(|params| serde_json::from_str(params).ok()).unwrap_or_default();
        let asked = params.get("notifications").cloned().unwrap_or_default();
        let can = |pointer: &str| capabilities.pointer(pointer) == Some(&Value::Bool(true));
        let lists = LISTS
            .iter()
            .filter(|(flag, needs, _)| asked.get(flag) == Some(&Value::Bool(true)) && can(needs))
            .map(|(_, _, method)| *method);
        let uris = asked.get("resourceSubscriptions").and_then(Value::as_array).into_iter().flatten();
        let uris = uris.filter_map(Value::as_str).map(str::to_owned);
        Self {
            lists: lists.collect(),
            uris: if can("/resources/subscribe") { uris.collect() } else { Vec::new() },
        }
    }

    /// As JSON, for the acknowledgement or for a request of ours.
    pub(super) fn json(&self) -> Value {
        let mut filter = Map::new();
        for (flag, _, method) in LISTS {
            if self.lists.contains(&method) {
                filter.insert(flag.into(), true.into());
            }
        }
        if !self.uris.is_empty() {
            filter.insert("resourceSubscriptions".into(), self.uris.clone().into());
        }
        filter.into()
    }

    /// Whether a notification of a legacy server is for this subscription.
    pub(super) fn wants(&self, method: &str, params: &Value) -> bool {
        if method == "notifications/resources/updated" {
            let uri = params.get("uri").and_then(Value::as_str).unwrap_or_default();
            return self.uris.iter().any(|wanted| wanted == uri);
        }
        self.lists.contains(&method)
    }
}

/// The first message of a subscription.
pub(super) fn acknowledged(id: &str, filter: &Filter) -> String {
    tagged("notifications/subscriptions/acknowledged", &json!({"notifications": filter.json()}), id)
}

/// A notification that belongs to the subscription with this id.
pub(super) fn tagged(method: &str, params: &Value, id: &str) -> String {
    let mut params = params.as_object().cloned().unwrap_or_default();
    let mut meta = params.remove("_meta").and_then(|meta| meta.as_object().cloned()).unwrap_or_default();
    meta.remove(SUBSCRIPTION_MEMBER);
    let comma = |map: &Map<String, Value>| if map.is_empty() { "" } else { "," };
    let (meta_text, params_text) =
        (Value::from(meta.clone()).to_string(), Value::from(params.clone()).to_string());
    // The id goes in as it was written, which a JSON value might not keep.
    let inner = |text: &str| text.get(1..).unwrap_or_default().to_owned();
    format!(
        r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{{"{SUBSCRIPTION_MEMBER}":{id}{}{}{}{}}}"#,
        comma(&meta),
        inner(&meta_text),
        comma(&params),
        inner(&params_text),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dress(text: &str, method: &str) -> String {
        let line = Line::read(text.as_bytes()).unwrap();
        dressed(&line, method).unwrap_or_else(|| text.to_owned())
    }

    /// Section 1.3 number 3: what describes a request stays here, and whatever else is said goes on as it was written.
    #[test]
    fn a_modern_request_loses_what_describes_it() {
        let describes = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},
            "io.modelcontextprotocol/clientInfo":{"name":"x"},"io.modelcontextprotocol/logLevel":"info""#;
        let request = |meta: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"n":1.0,"_meta":{meta},"z":[]}}}}"#)
        };
        let undress = |text: &str| undressed(&Line::read(text.as_bytes()).unwrap());
        for (meta, left) in [
            (format!("{{{describes}}}"), "{}"),
            (format!("{{\"progressToken\": 7,{describes}}}"), r#"{"progressToken":7}"#),
            (
                format!("{{{describes},\"a\\\"/\u{e9}\":{{\"b\":[1.50]}}}}"),
                "{\"a\\\"/\u{e9}\":{\"b\":[1.50]}}",
            ),
        ] {
            assert_eq!(undress(&request(&meta)), Some(request(left)), "{meta}");
        }
        for text in
            [request("{}"), request(r#"{"a":1}"#), request("7"), r#"{"jsonrpc":"2.0","method":"a"}"#.into()]
        {
            assert_eq!(undress(&text), None, "{text}");
        }
    }

    /// Section 1.3 numbers 6, 10 and 11.
    #[test]
    fn a_legacy_answer_gets_what_the_modern_era_asks_for() {
        for (text, method, expected) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
                "ping",
                r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete"}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"a":1.0}}"#,
                "tools/call",
                r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","a":1.0}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{ "tools":[]}}"#,
                "tools/list",
                r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","ttlMs":0,"cacheScope":"private", "tools":[]}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":{"message":"x","code":-32002}}"#,
                "resources/read",
                r#"{"jsonrpc":"2.0","id":1,"error":{"message":"x","code":-32602}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":""}}"#,
                "x",
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":""}}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task"}}"#,
                "x",
                r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task"}}"#,
            ),
        ] {
            assert_eq!(dress(text, method), expected);
        }
    }

    /// Section 1.3 number 7.
    #[test]
    fn discovery_is_told_from_the_handshake() {
        let initialized = json!({"protocolVersion": "2025-11-25", "instructions": "be kind",
            "capabilities": {"tools": {}, "tasks": {}}, "serverInfo": {"name": "n", "version": "1"}});
        let text = discovered("\"a\"", &initialized);
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            found["result"],
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private", "instructions": "be kind",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "n", "version": "1"}}})
        );
        assert_eq!(found["id"], "a");
    }

    /// Section 1.3 number 8: only what the server can tell is acknowledged, and everything is tagged.
    #[test]
    fn a_subscription_hears_what_it_asked_for_and_can_be_told() {
        let capabilities =
            json!({"tools": {"listChanged": true}, "prompts": {}, "resources": {"subscribe": true}});
        let asked = r#"{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["a:b"]}}"#;
        let filter = Filter::honoured(Some(asked), &capabilities);
        assert_eq!(filter.json(), json!({"toolsListChanged": true, "resourceSubscriptions": ["a:b"]}));
        for (method, params, wanted) in [
            ("notifications/tools/list_changed", json!(null), true),
            ("notifications/prompts/list_changed", json!(null), false),
            ("notifications/resources/updated", json!({"uri": "a:b"}), true),
            ("notifications/resources/updated", json!({"uri": "a:c"}), false),
            ("notifications/message", json!({}), false),
        ] {
            assert_eq!(filter.wants(method, &params), wanted, "{method} {params}");
        }
        let line = acknowledged("1.50", &filter);
        assert!(line.contains("subscriptionId\":1.50}"), "the id is as it was written: {line}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["params"]["notifications"], filter.json());
        let line = tagged("m", &json!({"uri": "u", "_meta": {"x": 1}}), "\"s\"");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["params"], json!({"uri": "u", "_meta": {"x": 1, SUBSCRIPTION_MEMBER: "s"}}));
        assert_eq!(
            serde_json::from_str::<Value>(&tagged("m", &Value::Null, "2")).unwrap()["params"],
            json!({"_meta": {SUBSCRIPTION_MEMBER: 2}})
        );
        assert!(Filter::honoured(None, &capabilities).json().as_object().unwrap().is_empty());
    }

    /// Section 1.3 number 9.
    #[test]
    fn a_request_of_the_server_becomes_a_result() {
        let line = r#"{"jsonrpc":"2.0","id":"x","method":"elicitation/create","params":{"n":1.0}}"#;
        let ask = Ask::read(&Line::read(line.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            input_required("7", &[("k".into(), ask)], "s.t"),
            r#"{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{"n":1.0}}},"requestState":"s.t"}}"#
        );
        let refused: Value = serde_json::from_str(&missing("7", "sampling")).unwrap();
        assert_eq!(refused["error"]["data"], json!({"requiredCapabilities": {"sampling": {}}}));
    }
}
