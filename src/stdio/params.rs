//! `Mcp-Param-*`: arguments of a tool that its schema says are repeated in headers (M-09).
//!
//! Only the tool's `inputSchema` tells which they are: a property with `x-mcp-header`, reached from the root through
//! `properties` alone, of type string, integer or boolean. The schemas come from `tools/list` and are kept by whoever
//! owns the child. What an argument is worth is read from the body as it was written, so that two integers beyond what
//! a double can hold are still told apart.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::header::MCP_PARAM_PREFIX;
use crate::limits::{STDIO_TOOL_HEADERS_MAX, STDIO_TOOLS_MAX};
use crate::mcp::json::{Kind as Json, Reader};
use crate::mcp::mirror;

/// One argument that a header repeats.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Declared {
    /// The names that lead to it from `arguments`.
    path: Vec<String>,
    /// The header's name, in lower case.
    header: String,
    integer: bool,
}

/// What is known of the tools of one server.
#[derive(Debug, Default)]
pub struct Tools(HashMap<String, Arc<[Declared]>>);

/// Why a call is refused with `HeaderMismatch`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParamFault {
    /// The argument is there and its header is not.
    Missing(String),
    /// They differ.
    Differs(String),
    /// The header is not what `=?base64?…?=` may hold.
    Undecodable(String),
}

impl std::fmt::Display for ParamFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "the header {name} is missing"),
            Self::Differs(name) => write!(f, "the header {name} differs from the argument that it repeats"),
            Self::Undecodable(name) => write!(f, "the header {name} is not valid base64 of UTF-8 text"),
        }
    }
}

impl Tools {
    /// Learns from the `result` of a `tools/list`, and gives the cursor of the next page.
    pub fn learn(&mut self, result: &Value) -> Option<String> {
        for tool in result.get("tools").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = tool.get("name").and_then(Value::as_str) else { continue };
            if self.0.len() < STDIO_TOOLS_MAX || self.0.contains_key(name) {
                let declared = tool.get("inputSchema").and_then(declared).unwrap_or_default();
                self.0.insert(name.to_owned(), declared.into());
            }
        }
        result.get("nextCursor").and_then(Value::as_str).map(str::to_owned)
    }

    /// The arguments of `tool` that headers repeat; `None` where nothing is known of it.
    #[must_use]
    pub fn of(&self, tool: &str) -> Option<Arc<[Declared]>> {
        self.0.get(tool).cloned()
    }
}

/// What a schema declares; `None` where it breaks the rules, in which case clients leave the tool out altogether.
fn declared(schema: &Value) -> Option<Vec<Declared>> {
    let mut found = Vec::new();
    collect(schema.as_object()?, &mut Vec::new(), true, &mut found)?;
    let mut names: Vec<&str> = found.iter().map(|one| one.header.as_str()).collect();
    names.sort_unstable();
    let unique = names.windows(2).all(|pair| pair.first() != pair.last());
    (unique && found.len() <= STDIO_TOOL_HEADERS_MAX).then_some(found)
}

/// Walks a schema. Beside `properties`, subschemas are out of bounds for a declaration, wherever they stand.
fn collect(
    schema: &Map<String, Value>,
    path: &mut Vec<String>,
    reachable: bool,
    found: &mut Vec<Declared>,
) -> Option<()> {
    if let Some(name) = schema.get("x-mcp-header") {
        let name = name.as_str().filter(|name| is_token(name) && reachable && !path.is_empty())?;
        let integer = match schema.get("type")?.as_str()? {
            "string" | "boolean" => false,
            "integer" => true,
            _ => return None,
        };
        let header = format!("{MCP_PARAM_PREFIX}{}", name.to_ascii_lowercase());
        found.push(Declared { path: path.clone(), header, integer });
    }
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    let Value::Object(property) = property else { continue };
                    path.push(name.clone());
                    collect(property, path, reachable, found)?;
                    path.pop();
                }
            }
            // What these hold are values and not schemas.
            ("default" | "const" | "enum" | "examples" | "required", _) => {}
            (_, value) => elsewhere(value)?,
        }
    }
    Some(())
}

/// A subschema that is not reached by `properties` alone: no declaration may stand in it.
fn elsewhere(value: &Value) -> Option<()> {
    match value {
        Value::Object(object) if object.contains_key("x-mcp-header") => None,
        Value::Object(object) => object.values().try_for_each(elsewhere),
        Value::Array(values) => values.iter().try_for_each(elsewhere),
        _ => Some(()),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Holds the headers of a call against its arguments, given as JSON text.
///
/// # Errors
/// [`ParamFault`]
pub fn check<'h>(
    declared: &[Declared],
    arguments: Option<&str>,
    header: impl Fn(&str) -> Option<&'h [u8]>,
) -> Result<(), ParamFault> {
    for one in declared {
        let Some(value) = arguments.and_then(|arguments| at_path(arguments, &one.path)) else { continue };
        let (kind, raw) = value;
        let text = match kind {
            // Absent and null expect no header; what is no single value has no text to repeat.
            Json::Null | Json::Object | Json::Array => continue,
            Json::String => {
                match Reader::new(raw.as_bytes()).ok().and_then(|mut r| r.string().ok()?.decode()) {
                    Some(text) => text,
                    None => continue,
                }
            }
            Json::Number | Json::Boolean => Cow::Borrowed(raw),
        };
        let Some(sent) = header(&one.header) else {
            // Clients that hold numbers as doubles send no header for one that is not exact there.
            if kind == Json::Number && !is_safe(raw) {
                continue;
            }
            return Err(ParamFault::Missing(one.header.clone()));
        };
        let Some(sent) = mirror::decode(sent.trim_ascii()) else {
            return Err(ParamFault::Undecodable(one.header.clone()));
        };
        let as_numbers = || {
            let sent = std::str::from_utf8(&sent).ok().filter(|text| is_plain_decimal(text))?;
            Some(decimal(sent)? == decimal(raw)?)
        };
        let same = match kind {
            Json::Number if one.integer => as_numbers().unwrap_or(false),
            _ => *sent == *text.as_bytes(),
        };
        if !same {
            return Err(ParamFault::Differs(one.header.clone()));
        }
    }
    Ok(())
}

/// The value that the names lead to, as it was written.
fn at_path<'a>(text: &'a str, path: &[String]) -> Option<(Json, &'a str)> {
    let mut found = None;
    let mut text = text;
    for name in path {
        found = None;
        let mut reader = Reader::new(text.as_bytes()).ok()?;
        if reader.kind().ok()? != Json::Object {
            return None;
        }
        let read = reader.object(|reader, member| {
            let value = reader.raw()?;
            if member == name {
                found = Some(value);
            }
            Ok(())
        });
        read.ok()?;
        text = found?.1;
    }
    found
}

/// Whether a double holds this integer exactly, as ECMAScript's `Number.isSafeInteger` has it; true for fractions.
fn is_safe(raw: &str) -> bool {
    raw.parse::<f64>().is_ok_and(|number| number.is_finite() && number.abs() < 9_007_199_254_740_992.0)
}

fn is_plain_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match text.strip_prefix('-').unwrap_or(text).split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text.strip_prefix('-').unwrap_or(text)),
    }
}

/// A decimal number as sign, digits and exponent, in one form for each value.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0)); // zero has no sign here
    }
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
    Some((negative, kept.to_owned(), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "dry": {"type": "boolean", "x-mcp-header": "dry-Run"},
            "to": {"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}},
            "note": {"type": "string"}, "x-mcp-header": {"type": "string"}}})
    }

    fn judge(arguments: &str, headers: &[(&str, &str)]) -> Result<(), ParamFault> {
        let declared = declared(&schema()).unwrap();
        check(&declared, Some(arguments), |name| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
        })
    }

    /// M-09.
    #[test]
    fn an_annotated_argument_needs_its_header_and_no_other_does() {
        let missing = |name: &str| Err(ParamFault::Missing(format!("mcp-param-{name}")));
        let differs = |name: &str| Err(ParamFault::Differs(format!("mcp-param-{name}")));
        let undecodable = |name: &str| Err(ParamFault::Undecodable(format!("mcp-param-{name}")));
        for (arguments, headers, expected) in [
            ("{}", &[][..], Ok(())),
            ("{}", &[("mcp-param-region", "eu")], Ok(())),
            (r#"{"note":"x"}"#, &[], Ok(())),
            (r#"{"region":null}"#, &[], Ok(())),
            (r#"{"region":null}"#, &[("mcp-param-region", "eu")], Ok(())),
            (r#"{"region":["eu"]}"#, &[], Ok(())),
            (r#"{"region":"eu"}"#, &[], missing("region")),
            (r#"{"region":"eu"}"#, &[("mcp-param-region", "eu")], Ok(())),
            (r#"{"region":"eu"}"#, &[("mcp-param-region", "  eu ")], Ok(())),
            (r#"{"region":"eu"}"#, &[("mcp-param-region", "EU")], differs("region")),
            (r#"{"region":"\u0065u"}"#, &[("mcp-param-region", "eu")], Ok(())),
            (r#"{"region":"é"}"#, &[("mcp-param-region", "=?base64?w6k=?=")], Ok(())),
            (r#"{"region":"é"}"#, &[("mcp-param-region", "=?base64?w6k?=")], undecodable("region")),
            (r#"{"region":"=?BASE64?w6k=?="}"#, &[("mcp-param-region", "=?BASE64?w6k=?=")], Ok(())),
            (r#"{"region":""}"#, &[("mcp-param-region", "")], Ok(())),
            (r#"{"region":5}"#, &[("mcp-param-region", "5")], Ok(())),
            (r#"{"count":42}"#, &[("mcp-param-count", "42")], Ok(())),
            (r#"{"count":42}"#, &[("mcp-param-count", "42.0")], Ok(())),
            (r#"{"count":4.20e1}"#, &[("mcp-param-count", "42")], Ok(())),
            (r#"{"count":-0}"#, &[("mcp-param-count", "0")], Ok(())),
            (r#"{"count":42}"#, &[("mcp-param-count", "4.2e1")], differs("count")),
            (r#"{"count":42}"#, &[("mcp-param-count", "0x2a")], differs("count")),
            (r#"{"count":42}"#, &[("mcp-param-count", "43")], differs("count")),
            (r#"{"count":42}"#, &[("mcp-param-count", "-42")], differs("count")),
            (r#"{"count":9007199254740993}"#, &[("mcp-param-count", "9007199254740992")], differs("count")),
            (r#"{"count":9007199254740993}"#, &[], Ok(())),
            (r#"{"count":42}"#, &[], missing("count")),
            (r#"{"dry":true}"#, &[("mcp-param-dry-run", "true")], Ok(())),
            (r#"{"dry":true}"#, &[("mcp-param-dry-run", "True")], differs("dry-run")),
            (r#"{"dry":false}"#, &[("mcp-param-dry-run", "true")], differs("dry-run")),
            (r#"{"to":{"zone":"a"}}"#, &[("mcp-param-zone", "b")], differs("zone")),
            (r#"{"to":{"zone":"a"}}"#, &[("mcp-param-zone", "a"), ("mcp-param-region", "?")], Ok(())),
            (r#"{"to":"zone"}"#, &[], Ok(())),
        ] {
            assert_eq!(judge(arguments, headers), expected, "{arguments} {headers:?}");
        }
    }

    /// M-09: a declaration that breaks the rules makes the tool unusable for clients, and is not enforced.
    #[test]
    fn only_lawful_declarations_count() {
        let with = |property: Value| json!({"type": "object", "properties": {"a": property}});
        for (schema, lawful) in [
            (with(json!({"type": "string", "x-mcp-header": "A"})), true),
            (with(json!({"type": "number", "x-mcp-header": "A"})), false),
            (with(json!({"type": ["string", "null"], "x-mcp-header": "A"})), false),
            (with(json!({"x-mcp-header": "A"})), false),
            (with(json!({"type": "string", "x-mcp-header": ""})), false),
            (with(json!({"type": "string", "x-mcp-header": "A B"})), false),
            (with(json!({"type": "string", "x-mcp-header": 5})), false),
            (with(json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}})), false),
            (with(json!({"oneOf": [{"type": "string", "x-mcp-header": "A"}]})), false),
            (with(json!({"type": "object", "default": {"x-mcp-header": "A"}})), true),
            (json!({"type": "object", "x-mcp-header": "A"}), false),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"},
                "b": {"type": "string", "x-mcp-header": "a"}}}),
                false,
            ),
        ] {
            assert_eq!(declared(&schema).is_some(), lawful, "{schema}");
        }
    }

    #[test]
    fn tools_are_learned_page_by_page() {
        let mut tools = Tools::default();
        let page = json!({"tools": [{"name": "deploy", "inputSchema": schema()}, {"name": "odd"}, {}, 5],
            "nextCursor": "2"});
        assert_eq!(tools.learn(&page).as_deref(), Some("2"));
        assert_eq!(tools.learn(&json!({"tools": [{"name": "echo", "inputSchema": {}}]})), None);
        let declared = |name: &str| tools.of(name).map(|declared| declared.len());
        assert_eq!(
            [declared("deploy"), declared("odd"), declared("echo"), declared("none")],
            [Some(4), Some(0), Some(0), None]
        );
    }
}
