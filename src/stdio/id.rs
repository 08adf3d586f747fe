//! Ids and progress tokens as keys: equal when they mean the same, whatever their spelling.
//!
//! A server reads `1.0` and answers `1`; it reads `"\u0061"` and answers `"a"`. What it answers must still find who
//! asked. `"1"` and `1` are two ids all the same.

use std::borrow::Cow;

use super::line::Piece;
use crate::mcp::json::{Kind, Reader};

/// An id or a progress token.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Id {
    /// A string, decoded.
    Text(Box<str>),
    /// A whole number.
    Whole(i64),
    /// Any other number, by its bits.
    Float(u64),
}

impl Id {
    /// Reads a JSON string or number.
    #[must_use]
    pub fn read(raw: &str) -> Option<Self> {
        if raw.starts_with('"') {
            let text = Reader::new(raw.as_bytes()).ok()?.string().ok()?.decode()?;
            return Some(Self::Text(text.into()));
        }
        if let Ok(whole) = raw.parse::<i64>() {
            return Some(Self::Whole(whole));
        }
        let float = raw.parse::<f64>().ok().filter(|float| float.is_finite())?;
        // Up to here every whole number is itself (RFC 8259 section 6).
        if float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 {
            return format!("{float:.0}").parse().ok().map(Self::Whole);
        }
        Some(Self::Float(float.to_bits()))
    }

    /// What stands at `piece`, where it is a string or a number.
    #[must_use]
    pub fn of(piece: Option<&Piece<'_>>) -> Option<Self> {
        piece
            .filter(|piece| matches!(piece.kind, Kind::String | Kind::Number))
            .and_then(|p| Self::read(p.raw))
    }

    /// As JSON text.
    #[must_use]
    pub fn json(&self) -> String {
        match self {
            Self::Text(text) => serde_json::Value::from(&**text).to_string(),
            Self::Whole(whole) => whole.to_string(),
            Self::Float(bits) => f64::from_bits(*bits).to_string(),
        }
    }
}

/// The text of a message on one line: line feeds and carriage returns can only stand between its tokens (RFC 8259
/// section 7), where nothing need stand.
#[must_use]
pub fn on_one_line(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr::memchr2(b'\n', b'\r', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(bytes.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_equal_by_value_and_type() {
        let id = |raw| Id::read(raw).unwrap();
        assert_eq!(id("1"), id("1.0"));
        assert_eq!(id("10"), id("1e1"));
        assert_eq!(id("-0"), id("0"));
        assert_ne!(id("1"), id("\"1\""));
        assert_eq!(id("\"a\""), id("\"\\u0061\""));
        assert_ne!(id("1.5"), id("1.25"));
        assert_eq!(Id::read("\"\\ud800\""), None);
        for raw in ["1", "\"1\"", "-5", "\"a\\\"b\"", "1.5", "9007199254740993"] {
            assert_eq!(id(raw).json(), raw);
        }
    }

    #[test]
    fn a_message_fits_on_one_line() {
        assert_eq!(&*on_one_line("{\r\n \"a\": \"b c\"\n}"), b"{ \"a\": \"b c\"}");
        assert!(matches!(on_one_line("{}"), Cow::Borrowed(_)));
    }
}
