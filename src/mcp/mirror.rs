//! The headers that repeat the message: `Mcp-Method` and `Mcp-Name` (MCP 2026-07-28, Streamable HTTP).
//!
//! We decide on the body alone (M-12). But whoever stands behind us may route or authorize by these headers, so one
//! that contradicts the message never passes, in any era. A modern request must have them; nobody else has to.
//! `Mcp-Param-*` needs the tool's schema and is left to the MCP server (M-10).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Reason;
use super::message::{Kind, Message, Rpc, item_member};
use super::revision::Era;

const METHOD: &str = "Mcp-Method";
const NAME: &str = "Mcp-Name";

/// Holds the two headers against the message.
///
/// # Errors
/// One contradicts it, cannot be decoded, or is missing on a modern request (M-07, M-08).
pub fn check(
    method: Option<&[u8]>,
    name: Option<&[u8]>,
    era: Era,
    message: &Message<'_>,
) -> Result<(), Reason> {
    let name = name.map(|name| decode(name).ok_or(Reason::MirrorUndecodable(NAME))).transpose()?;
    for rpc in message.all() {
        if method.is_some_and(|header| header != rpc.method.as_bytes()) {
            return Err(Reason::MirrorDiffers(METHOD));
        }
        if name.as_deref().is_some_and(|header| !names(rpc, header)) {
            return Err(Reason::MirrorDiffers(NAME));
        }
        // Notifications are undefined (M-02); responses belong to the other era.
        if era == Era::Modern && rpc.kind == Kind::Request {
            if method.is_none() {
                return Err(Reason::MirrorMissing(METHOD));
            }
            if name.is_none() && is_mirrored(&rpc.method) && rpc.item().is_some() {
                return Err(Reason::MirrorMissing(NAME));
            }
        }
    }
    Ok(())
}

/// The methods whose `Mcp-Name` is required (M-08).
fn is_mirrored(method: &str) -> bool {
    matches!(
        method,
        "tools/call" | "prompts/get" | "resources/read" | "tasks/get" | "tasks/update" | "tasks/cancel"
    )
}

/// Whether the message is about `header`. A method that we do not know may be about any of the three.
fn names(rpc: &Rpc<'_>, header: &[u8]) -> bool {
    let is = |text: Option<&str>| text.is_some_and(|text| text.as_bytes() == header);
    match item_member(&rpc.method) {
        Some(_) => is(rpc.item()),
        None => is(rpc.name.text()) || is(rpc.uri.text()) || is(rpc.task.text()),
    }
}

/// Undoes `=?base64?…?=`. The markers are exact: other spellings, or one of the two alone, are the text itself. `None`
/// for what is not base64 of UTF-8 text.
pub(crate) fn decode(header: &[u8]) -> Option<Cow<'_, [u8]>> {
    let encoded = header.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?="));
    let Some(encoded) = encoded else { return Some(Cow::Borrowed(header)) };
    let decoded = STANDARD.decode(encoded).ok()?;
    std::str::from_utf8(&decoded).is_ok().then_some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(method: Option<&str>, name: Option<&str>, era: Era, body: &str) -> Result<(), Reason> {
        let message = Message::read(body.as_bytes()).unwrap();
        check(method.map(str::as_bytes), name.map(str::as_bytes), era, &message)
    }

    const DIFFERS: Result<(), Reason> = Err(Reason::MirrorDiffers(NAME));
    const UNDECODABLE: Result<(), Reason> = Err(Reason::MirrorUndecodable(NAME));

    /// M-07, M-11, M-12. The name of the header is the engine's to compare; its value is case-sensitive.
    #[test]
    fn the_method_header_agrees_with_the_body() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
        let note = r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#;
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        let pings = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]"#;
        let mixed =
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"tools/call"}]"#;
        let (differs, missing) = (Err(Reason::MirrorDiffers(METHOD)), Err(Reason::MirrorMissing(METHOD)));
        for (header, era, body, expected) in [
            (Some("tools/call"), Era::Legacy, call, Ok(())),
            (Some("tools/list"), Era::Legacy, call, differs),
            (Some("Tools/Call"), Era::Legacy, call, differs),
            (Some(""), Era::Legacy, call, differs),
            (None, Era::Legacy, call, Ok(())),
            (None, Era::Modern, call, missing),
            (None, Era::Modern, note, Ok(())),
            (Some("ping"), Era::Modern, note, differs),
            (Some("ping"), Era::Legacy, response, differs),
            (Some("ping"), Era::Legacy, pings, Ok(())),
            (Some("ping"), Era::Legacy, mixed, differs),
        ] {
            let name = (era == Era::Modern && body == call).then_some("echo");
            assert_eq!(judge(header, name, era, body), expected, "{header:?} {era:?} {body}");
        }
    }

    /// M-08: which member it is, and that it is required when modern.
    #[test]
    fn the_name_header_agrees_with_the_body() {
        for (method, params, header, expected) in [
            ("tools/call", r#"{"name":"echo"}"#, Some("echo"), Ok(())),
            ("tools/call", r#"{"name":"\u0065cho"}"#, Some("echo"), Ok(())),
            ("tools/call", r#"{"name":"echo"}"#, Some("Echo"), DIFFERS),
            ("tools/call", r#"{"name":"echo","uri":"x:y"}"#, Some("x:y"), DIFFERS),
            ("tools/call", r#"{"name":"echo"}"#, None, Err(Reason::MirrorMissing(NAME))),
            ("tools/call", r#"{"name":5}"#, Some("5"), DIFFERS),
            ("tools/call", "{}", None, Ok(())), // -32602, and the server says so
            ("prompts/get", r#"{"name":"greet"}"#, Some("greet"), Ok(())),
            ("resources/read", r#"{"uri":"file:///a"}"#, Some("file:///a"), Ok(())),
            ("resources/read", r#"{"uri":"file:///a","name":"b"}"#, Some("b"), DIFFERS),
            ("resources/subscribe", r#"{"uri":"file:///a"}"#, None, Ok(())),
            ("tasks/get", r#"{"taskId":"t1"}"#, Some("t1"), Ok(())),
            ("tasks/cancel", r#"{"taskId":"t1"}"#, Some("t2"), DIFFERS),
            ("tasks/update", r#"{"taskId":"t1"}"#, None, Err(Reason::MirrorMissing(NAME))),
            ("tools/list", "{}", None, Ok(())),
            ("tools/list", "{}", Some("echo"), DIFFERS),
            ("vendor/thing", r#"{"name":"a","uri":"b:c"}"#, Some("b:c"), Ok(())),
            ("vendor/thing", r#"{"name":"a"}"#, Some("b"), DIFFERS),
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            assert_eq!(judge(Some(method), header, Era::Modern, &body), expected, "{header:?} {body}");
        }
    }

    /// M-08: `=?base64?…?=`.
    #[test]
    fn an_encoded_name_is_decoded_before_it_is_compared() {
        for (name, header, expected) in [
            ("é", "=?base64?w6k=?=", Ok(())),
            ("é", "=?base64?w6k?=", UNDECODABLE),  // padding
            ("é", "=?base64?w6l=?=", UNDECODABLE), // bits beyond the text
            ("é", "=?base64?w6 k=?=", UNDECODABLE),
            ("?>~", "=?base64?Pz5-?=", UNDECODABLE), // the other alphabet
            ("x", "=?base64?/w==?=", UNDECODABLE),   // not UTF-8
            (" a ", "=?base64?IGEg?=", Ok(())),
            ("", "=?base64??=", Ok(())),
            ("=?base64?", "=?base64?", Ok(())),
            ("=?BASE64?w6k=?=", "=?BASE64?w6k=?=", Ok(())),
            ("w6k=?=", "w6k=?=", Ok(())),
            ("é", "=?utf-8?w6k=?=", DIFFERS),
            // A name that looks encoded must itself be sent encoded.
            ("=?base64?w6k=?=", "=?base64?w6k=?=", DIFFERS),
            ("é", "é", Ok(())),
        ] {
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#);
            assert_eq!(
                judge(Some("tools/call"), Some(header), Era::Modern, &body),
                expected,
                "{header} {name}"
            );
        }
    }
}
