//! Standard output: whole lines, from any thread.

use std::io::Write as _;

use serde_json::{Value, json};

/// Writes bytes as they are. Whoever reads has gone: so does the program.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Writes one line.
pub(crate) fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Writes a notification.
pub(crate) fn notify(method: &str, params: &Value) {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
}

/// Writes a request of ours.
pub(crate) fn request(id: &str, method: &str, params: &Value) {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
}

/// The text of a response. `id` is JSON, and stays as it was written.
pub(crate) fn response(id: &str, outcome: &Result<Value, Value>) -> String {
    match outcome {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Err(error) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
    }
}

/// As [`response`], with its members in the order of the official TypeScript server.
pub(crate) fn id_last(id: &str, outcome: &Result<Value, Value>) -> String {
    match outcome {
        Ok(result) => format!(r#"{{"result":{result},"jsonrpc":"2.0","id":{id}}}"#),
        Err(error) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
    }
}

/// An error object.
pub(crate) fn error(code: i64, message: &str, data: Value) -> Value {
    let mut error = json!({"code": code, "message": message});
    if !data.is_null() {
        error["data"] = data;
    }
    error
}
