//! The MCP server that every bridge gets to start: one tool, both eras, as little work as can be.
//!
//! This program starts itself as it, with [`AS_SERVER`] as the only argument, so that it is there wherever the rig is.

use std::io::{BufRead as _, Write as _};

use serde_json::{Value, json};

/// The first argument by which this program knows that it is to be the server.
pub const AS_SERVER: &str = "--as-echo-server";

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// Serves standard input until it ends.
pub fn serve() {
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) else { continue };
        let answer = answer(id, method, &message["params"]);
        if output.write_all(format!("{answer}\n").as_bytes()).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

fn answer(id: &Value, method: &str, params: &Value) -> Value {
    let mut result = match method {
        "initialize" => {
            json!({"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo", "version": "1.0.0"}})
        }
        "server/discover" => json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "echo", "version": "1.0.0"}}}),
        "ping" => json!({}),
        "tools/list" => json!({"tools": [{"name": "echo", "description": "repeats its text",
            "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}]}),
        "tools/call" => json!({"content": [{"type": "text", "text": params["arguments"]["text"]}]}),
        _ => {
            let error = json!({"code": -32601, "message": "no such method"});
            return json!({"jsonrpc": "2.0", "id": id, "error": error});
        }
    };
    if params["_meta"].get(VERSION).is_some() {
        result["resultType"] = json!("complete");
        if method != "tools/call" {
            result["ttlMs"] = json!(60_000);
            result["cacheScope"] = json!("public");
        }
    }
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}
