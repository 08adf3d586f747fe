//! A strict reader of JSON objects that come from outside: token headers, claims, key sets and issuers' metadata.
//!
//! Two readers of one text must not see two things. So what `serde_json` lets pass is refused here: a member that is
//! there twice on any level (RFC 7515 section 4, RFC 7519 section 4), text that is not UTF-8, and whatever is deeper
//! or larger than the caller allows. What a member means is left to the caller.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use smol_str::SmolStr;

use super::fault::Shown;
use crate::limits;

/// How much of a text is read.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Deepest nesting, in levels; the outermost object is the first.
    pub depth: usize,
    /// Most values, members and elements together.
    pub values: usize,
    /// Whether an object below the outermost with a repeated member becomes [`Json::Repeated`] instead of spoiling
    /// the whole text. For key sets, where one bad key leaves the others usable (RFC 7517 section 5).
    pub mark_repeated: bool,
}

impl Bounds {
    /// For the header and the claims of a token.
    pub const TOKEN: Self = Self {
        depth: limits::TOKEN_JSON_DEPTH_MAX,
        values: limits::TOKEN_JSON_VALUES_MAX,
        mark_repeated: false,
    };
    /// For a key set.
    pub const KEY_SET: Self = Self {
        depth: limits::JWKS_JSON_DEPTH_MAX,
        values: limits::JWKS_JSON_VALUES_MAX,
        mark_repeated: true,
    };
    /// For the metadata of an issuer.
    pub const METADATA: Self = Self { mark_repeated: false, ..Self::KEY_SET };
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without fraction that fits.
    Integer(i64),
    /// Every other number.
    Float(f64),
    /// A string.
    String(SmolStr),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object),
    /// An object that has this member twice; only where [`Bounds::mark_repeated`] asks for it.
    Repeated(Shown),
}

/// An object whose members are all different.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Vec<(SmolStr, Json)>);

impl Object {
    /// The member of this name, compared exactly.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value)
    }
}

/// Why a text is not the object that was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Some byte is no part of a UTF-8 text.
    NotUtf8,
    /// It is not JSON, from this column of this line on.
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// It is JSON, but no object.
    NotAnObject,
    /// More stands behind the object.
    Trailing,
    /// A member is there twice.
    Repeated(Shown),
    /// It is nested deeper than allowed.
    TooDeep,
    /// It holds more values than allowed.
    TooManyValues,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("it is not UTF-8"),
            Self::Syntax { line, column } => write!(f, "it is not JSON at line {line}, column {column}"),
            Self::NotAnObject => f.write_str("it is not a JSON object"),
            Self::Trailing => f.write_str("something follows the JSON object"),
            Self::Repeated(name) => write!(f, "its member {name} is there twice"),
            Self::TooDeep => f.write_str("its JSON is nested too deeply"),
            Self::TooManyValues => f.write_str("its JSON has too many members"),
        }
    }
}

/// Reads one object and nothing else.
///
/// # Errors
/// Whatever [`Fault`] says.
pub fn read(text: &[u8], bounds: Bounds) -> Result<Object, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::NotUtf8)?;
    let state = State { bounds, values: Cell::new(0), fault: RefCell::new(None) };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Value { state: &state, depth: 0 }.deserialize(&mut reader);
    let value = read.map_err(|err| {
        state.fault.take().unwrap_or_else(|| Fault::Syntax { line: err.line(), column: err.column() })
    })?;
    reader.end().map_err(|_| Fault::Trailing)?;
    match value {
        Json::Object(object) => Ok(object),
        Json::Repeated(name) => Err(Fault::Repeated(name)),
        _ => Err(Fault::NotAnObject),
    }
}

/// What is known while reading. `serde` carries errors as text alone, so the fault itself waits here.
struct State {
    bounds: Bounds,
    values: Cell<usize>,
    fault: RefCell<Option<Fault>>,
}

impl State {
    fn fail<E: serde::de::Error>(&self, fault: Fault) -> E {
        *self.fault.borrow_mut() = Some(fault);
        E::custom("refused")
    }

    fn enter<E: serde::de::Error>(&self, depth: usize) -> Result<(), E> {
        if depth > self.bounds.depth { Err(self.fail(Fault::TooDeep)) } else { Ok(()) }
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > self.bounds.values { Err(self.fail(Fault::TooManyValues)) } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
struct Value<'s> {
    state: &'s State,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a number beyond i64 is only compared with far smaller ones"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let inner = Self { depth: self.depth + 1, ..self };
        self.state.enter(inner.depth)?;
        let mut array = Vec::new();
        while let Some(value) = elements.next_element_seed(inner)? {
            self.state.count()?;
            array.push(value);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = Self { depth: self.depth + 1, ..self };
        self.state.enter(inner.depth)?;
        let mut object: Vec<(SmolStr, Json)> = Vec::new();
        while let Some(name) = members.next_key_seed(Name)? {
            self.state.count()?;
            let value = members.next_value_seed(inner)?;
            if object.is_empty() {
                object.reserve(MEMBERS_USUAL);
            }
            object.push((name, value));
        }
        if let Some(name) = repeated(&object) {
            let name = Shown::of(name);
            return match self.state.bounds.mark_repeated && self.depth > 0 {
                true => Ok(Json::Repeated(name)),
                false => Err(self.state.fail(Fault::Repeated(name))),
            };
        }
        Ok(Json::Object(Object(object)))
    }
}

/// Members of most tokens' claims.
const MEMBERS_USUAL: usize = 12;

/// A name that is there twice.
fn repeated(object: &[(SmolStr, Json)]) -> Option<&str> {
    if object.len() <= MEMBERS_USUAL {
        let later = |at: usize| object.iter().skip(at + 1).map(|(name, _)| name);
        let mut names = object.iter().enumerate().map(|(at, (name, _))| (at, name));
        return names
            .find(|(at, name)| later(*at).any(|other| other == *name))
            .map(|(_, name)| name.as_str());
    }
    let mut names: Vec<&str> = object.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.iter().zip(names.iter().skip(1)).find(|(one, next)| one == next).map(|(one, _)| *one)
}

/// Reads the name of a member.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = SmolStr;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<SmolStr, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = SmolStr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<SmolStr, E> {
        Ok(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515 section 4, RFC 7519 section 4, RFC 8725 section 3.11.
    #[test]
    fn only_one_reading_is_possible() {
        let deep = format!("{}{}", r#"{"a":"#.repeat(16), "1".to_owned() + &"}".repeat(16));
        let deeper = format!("{}{}", r#"{"a":"#.repeat(17), "1".to_owned() + &"}".repeat(17));
        let abyss = format!("{}1{}", r#"{"a":["#.repeat(4000), "]}".repeat(4000));
        let many = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(1022));
        let more = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(1023));
        let members = |last: &str| (0..40).map(|n| format!("\"m{n}\":{n},")).collect::<String>() + last;
        let (long, long_twice) =
            (format!("{{{}}}", members("\"x\":1")), format!("{{{}}}", members("\"m3\":1")));
        let twice = |name: &str| Err(Fault::Repeated(Shown::of(name)));
        for (text, expected) in [
            (&b"{}"[..], Ok(())),
            (b" {\"a\": [1, {\"a\": null}]}\r\n", Ok(())),
            (deep.as_bytes(), Ok(())),
            (deeper.as_bytes(), Err(Fault::TooDeep)),
            (abyss.as_bytes(), Err(Fault::TooDeep)),
            (many.as_bytes(), Ok(())),
            (more.as_bytes(), Err(Fault::TooManyValues)),
            (b"{\"a\":1,\"a\":1}", twice("a")),
            (b"{\"alg\":1,\"\\u0061lg\":2}", twice("alg")),
            (b"{\"x\":[{\"a\":1,\"b\":2,\"a\":3}]}", twice("a")),
            (b"{\"a\":1,\"A\":1}", Ok(())),
            (long.as_bytes(), Ok(())),
            (long_twice.as_bytes(), twice("m3")),
            (b"{}{}", Err(Fault::Trailing)),
            (b"{} x", Err(Fault::Trailing)),
            (b"{}\0", Err(Fault::Trailing)),
            (b"[]", Err(Fault::NotAnObject)),
            (b"\"a\"", Err(Fault::NotAnObject)),
            (b"null", Err(Fault::NotAnObject)),
            (b"{\"a\":\"\xff\"}", Err(Fault::NotUtf8)),
            (b"{\"a\":\"\xc0\x80\"}", Err(Fault::NotUtf8)),
            (b"\xef\xbb\xbf{}", Err(Fault::Syntax { line: 1, column: 1 })),
            (b"", Err(Fault::Syntax { line: 1, column: 0 })),
            (b"{\"a\":1e999}", Err(Fault::Syntax { line: 1, column: 10 })),
            (b"{\"a\":NaN}", Err(Fault::Syntax { line: 1, column: 6 })),
            (b"{\"a\":01}", Err(Fault::Syntax { line: 1, column: 7 })),
            (b"{\"a\":\"\\ud800\"}", Err(Fault::Syntax { line: 1, column: 13 })),
            (b"{\"a\":1,}", Err(Fault::Syntax { line: 1, column: 8 })),
            (b"{'a':1}", Err(Fault::Syntax { line: 1, column: 2 })),
        ] {
            let shown = String::from_utf8_lossy(text).chars().take(60).collect::<String>();
            let read = read(text, Bounds::TOKEN).map(|_| ());
            match (&read, &expected) {
                // Where exactly a text stops being JSON is serde_json's to say.
                (Err(Fault::Syntax { .. }), Err(Fault::Syntax { .. })) => {}
                _ => assert_eq!(read, expected, "{shown}"),
            }
        }
    }

    /// RFC 7517 section 5: one bad key does not spoil the set.
    #[test]
    fn a_key_with_a_repeated_member_is_marked_and_a_set_is_not() {
        let set = read(br#"{"keys":[{"n":"a","n":"b"},{"n":"c"}]}"#, Bounds::KEY_SET).unwrap();
        let Some(Json::Array(keys)) = set.get("keys") else { panic!("keys is an array") };
        assert_eq!(keys[0], Json::Repeated(Shown::of("n")));
        assert!(matches!(keys[1], Json::Object(_)));
        let twice = read(br#"{"keys":[],"keys":[]}"#, Bounds::KEY_SET);
        assert_eq!(twice, Err(Fault::Repeated(Shown::of("keys"))));
    }

    #[test]
    fn numbers_keep_their_value() {
        for (text, value) in [
            ("1", Json::Integer(1)),
            ("-1", Json::Integer(-1)),
            ("9223372036854775807", Json::Integer(i64::MAX)),
            ("9223372036854775808", Json::Float(9_223_372_036_854_775_808.0)),
            ("1.5", Json::Float(1.5)),
            ("1e3", Json::Float(1000.0)),
        ] {
            let object = read(format!("{{\"n\":{text}}}").as_bytes(), Bounds::TOKEN).unwrap();
            assert_eq!(object.get("n"), Some(&value), "{text}");
        }
    }
}
