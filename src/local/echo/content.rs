//! What the echo server offers: four tools, a resource and a prompt, said in the words of either era. Pure.

use serde_json::{Map, Value, json};

/// The largest number that the tool `count` counts to.
pub(super) const COUNT_MAX: u64 = 10;

/// Which protocol a request speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Era {
    /// 2024-11-05 to 2025-11-25: a handshake and a session.
    Legacy,
    /// 2026-07-28: every request stands for itself.
    Modern,
}

/// Revisions of the modern era that are spoken here.
pub(super) const MODERN: [&str; 1] = ["2026-07-28"];
/// Revisions of the legacy era that are spoken here, the newest last.
pub(super) const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RpcError {
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is answered at once.
    Done(Result<Value, RpcError>),
    /// It counts to `to`, with a notification at each number where the client gave a progress token.
    Count { to: u64, token: Option<Value> },
}

/// Answers a request of either era.
pub(super) fn answer(era: Era, method: &str, params: &Value, caller: &Value) -> Outcome {
    let result = match method {
        "initialize" if era == Era::Legacy => Ok(initialize(params)),
        "ping" if era == Era::Legacy => Ok(json!({})),
        "server/discover" if era == Era::Modern => Ok(json!({
            "supportedVersions": MODERN, "capabilities": capabilities(), "instructions": INSTRUCTIONS,
        })),
        "tools/list" => Ok(json!({ "tools": tools() })),
        "tools/call" => match call(params, caller) {
            Outcome::Done(result) => result,
            count @ Outcome::Count { .. } => return count,
        },
        "resources/list" => Ok(json!({ "resources": [{
            "uri": ABOUT, "name": "about", "description": "What this server is", "mimeType": "text/plain",
        }] })),
        "resources/templates/list" => Ok(json!({ "resourceTemplates": [] })),
        "resources/read" if params["uri"] == ABOUT => Ok(json!({ "contents": [{
            "uri": ABOUT, "mimeType": "text/plain", "text": INSTRUCTIONS,
        }] })),
        "resources/read" => {
            // The code of its own is gone in 2026-07-28 (section 1.3 of the requirements, item 6).
            let code = if era == Era::Modern { -32602 } else { -32002 };
            Err(RpcError::new(code, "there is no such resource"))
        }
        "prompts/list" => Ok(json!({ "prompts": [{
            "name": "greeting", "description": "Greets somebody",
            "arguments": [{ "name": "name", "description": "Who is greeted", "required": false }],
        }] })),
        "prompts/get" if params["name"] == "greeting" => {
            let name = params.pointer("/arguments/name").and_then(Value::as_str).unwrap_or("you");
            Ok(json!({ "description": "A greeting", "messages": [{
                "role": "user", "content": { "type": "text", "text": format!("Say hello to {name}.") },
            }] }))
        }
        "prompts/get" => Err(RpcError::new(-32602, "there is no such prompt")),
        _ => Err(RpcError::new(-32601, "there is no such method")),
    };
    Outcome::Done(result.map(|result| finish(era, method, result)))
}

/// The members that 2026-07-28 adds to a result (its sections on results and caching).
pub(super) fn finish(era: Era, method: &str, mut result: Value) -> Value {
    if let (Era::Modern, Value::Object(members)) = (era, &mut result) {
        members.insert("resultType".to_owned(), json!("complete"));
        members.insert("_meta".to_owned(), json!({ "io.modelcontextprotocol/serverInfo": server_info() }));
        if method == "server/discover" || method == "resources/read" || method.ends_with("/list") {
            members.insert("ttlMs".to_owned(), json!(60_000));
            members.insert("cacheScope".to_owned(), json!("public"));
        }
    }
    result
}

const ABOUT: &str = "echo://about";
const INSTRUCTIONS: &str = "An MCP server that answers what it is told. It stands behind Open MCP Auth Proxy and sees \
                            only requests whose token held.";

fn server_info() -> Value {
    json!({ "name": "echo", "title": "Echo, behind Open MCP Auth Proxy", "version": env!("CARGO_PKG_VERSION") })
}

fn capabilities() -> Value {
    json!({ "tools": {}, "resources": {}, "prompts": {} })
}

fn initialize(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let spoken = LEGACY.into_iter().find(|known| *known == asked).or_else(|| LEGACY.last().copied());
    json!({
        "protocolVersion": spoken, "capabilities": capabilities(), "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    })
}

fn tools() -> Value {
    let tool = |name: &str, description: &str, properties: Value, required: &[&str]| {
        json!({ "name": name, "description": description, "inputSchema": {
            "type": "object", "properties": properties, "required": required,
        } })
    };
    let message = json!({ "message": { "type": "string", "description": "What is said" } });
    json!([
        tool("echo", "Answers with the message", message.clone(), &["message"]),
        tool(
            "shout",
            "Answers with the message in capitals; needs the scope mcp:admin",
            message,
            &["message"]
        ),
        tool(
            "count",
            "Counts, and tells of its progress over an event stream",
            json!({ "to": { "type": "integer", "minimum": 1, "maximum": COUNT_MAX } }),
            &["to"]
        ),
        tool(
            "whoami",
            "Tells what this server is told of the caller, which is never the token",
            json!({}),
            &[]
        ),
    ])
}

fn call(params: &Value, caller: &Value) -> Outcome {
    let arguments = &params["arguments"];
    let message = || arguments["message"].as_str().ok_or("message must be a string");
    let said = match params["name"].as_str().unwrap_or_default() {
        "echo" => message().map(str::to_owned),
        "shout" => message().map(str::to_uppercase),
        "whoami" => Ok(caller.to_string()),
        "count" => match arguments["to"].as_u64().filter(|to| (1..=COUNT_MAX).contains(to)) {
            Some(to) => {
                let token = params.pointer("/_meta/progressToken").filter(|token| !token.is_null()).cloned();
                return Outcome::Count { to, token };
            }
            None => Err("to must be a number from 1 to 10"),
        },
        _ => return Outcome::Done(Err(RpcError::new(-32602, "there is no such tool"))),
    };
    Outcome::Done(Ok(match said {
        Ok(text) => text_result(&text),
        // What is wrong with arguments is told to the model, which may do better (MCP, "Error Handling" of tools).
        Err(fault) => json!({ "content": [{ "type": "text", "text": fault }], "isError": true }),
    }))
}

/// The result of a tool that has something to say.
pub(super) fn text_result(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": false })
}

/// A JSON-RPC response.
pub(super) fn response(id: &Value, result: Result<Value, RpcError>) -> Value {
    let mut members = Map::new();
    members.insert("jsonrpc".to_owned(), json!("2.0"));
    members.insert("id".to_owned(), id.clone());
    match result {
        Ok(result) => members.insert("result".to_owned(), result),
        Err(error) => {
            let mut told = json!({ "code": error.code, "message": error.message });
            if let (Some(data), Value::Object(told)) = (error.data, &mut told) {
                told.insert("data".to_owned(), data);
            }
            members.insert("error".to_owned(), told)
        }
    };
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(era: Era, method: &str, params: &Value) -> Result<Value, i32> {
        match answer(era, method, params, &json!({ "subject": "s" })) {
            Outcome::Done(result) => result.map_err(|error| error.code),
            Outcome::Count { to, .. } => Ok(json!(to)),
        }
    }

    #[test]
    fn both_eras_are_answered_in_their_own_words() {
        let none = json!({});
        for (era, method, params, code) in [
            (Era::Legacy, "initialize", &none, None),
            (Era::Modern, "initialize", &none, Some(-32601)),
            (Era::Modern, "ping", &none, Some(-32601)),
            (Era::Legacy, "server/discover", &none, Some(-32601)),
            (Era::Modern, "server/discover", &none, None),
            (Era::Legacy, "tools/list", &none, None),
            (Era::Legacy, "prompts/get", &json!({ "name": "greeting" }), None),
            (Era::Legacy, "prompts/get", &none, Some(-32602)),
            (Era::Legacy, "resources/read", &json!({ "uri": ABOUT }), None),
            (Era::Legacy, "resources/read", &none, Some(-32002)),
            (Era::Modern, "resources/read", &none, Some(-32602)),
            (Era::Legacy, "tools/call", &json!({ "name": "nothing" }), Some(-32602)),
            (Era::Legacy, "tools/call", &none, Some(-32602)),
        ] {
            assert_eq!(done(era, method, params).err(), code, "{era:?} {method} {params}");
        }
        for (asked, spoken) in
            [("2024-11-05", "2024-11-05"), ("2026-07-28", "2025-11-25"), ("x", "2025-11-25")]
        {
            let result = done(Era::Legacy, "initialize", &json!({ "protocolVersion": asked })).unwrap();
            assert_eq!(result["protocolVersion"], spoken);
        }
        let list = done(Era::Modern, "tools/list", &none).unwrap();
        assert_eq!((&list["resultType"], &list["cacheScope"]), (&json!("complete"), &json!("public")));
        assert_eq!(done(Era::Legacy, "tools/list", &none).unwrap().get("resultType"), None);
    }

    #[test]
    fn tools_do_what_they_say() {
        for (name, arguments, text, error) in [
            ("echo", json!({ "message": "hé" }), "hé", false),
            ("shout", json!({ "message": "hé" }), "HÉ", false),
            ("whoami", json!({}), "{\"subject\":\"s\"}", false),
            ("echo", json!({ "message": 1 }), "message must be a string", true),
            ("count", json!({ "to": 11 }), "to must be a number from 1 to 10", true),
        ] {
            let params = json!({ "name": name, "arguments": arguments });
            let result = done(Era::Legacy, "tools/call", &params).unwrap();
            let found = (result["content"][0]["text"].as_str(), &result["isError"]);
            assert_eq!(found, (Some(text), &json!(error)), "{name}");
        }
        let params = json!({ "name": "count", "arguments": { "to": 3 }, "_meta": { "progressToken": 0 } });
        let count = answer(Era::Modern, "tools/call", &params, &Value::Null);
        assert_eq!(count, Outcome::Count { to: 3, token: Some(json!(0)) });
    }
}
