//! Changes a few values of a JSON text and leaves every other byte as it is.
//!
//! A bridge that parsed and wrote messages anew would change numbers, escapes and the order of members on the way. This
//! one cuts the values that must differ out of the text and puts others in. All that may change besides is white space
//! between tokens, where the text spans lines: on stdio a message is one line (2024-11-05 and later, "stdio").

use std::borrow::Cow;
use std::ops::Range;

/// A text and what is to change in it. Ranges must not overlap; they are given in any order.
#[derive(Debug)]
pub struct Splice<'a> {
    text: &'a str,
    edits: Vec<(Range<usize>, Cow<'a, str>)>,
}

impl<'a> Splice<'a> {
    /// Nothing is changed yet.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, edits: Vec::with_capacity(3) }
    }

    /// Puts `new` where `range` is now.
    pub fn replace(&mut self, range: Range<usize>, new: impl Into<Cow<'a, str>>) {
        self.edits.push((range, new.into()));
    }

    /// The text with all changes, on one line.
    #[must_use]
    pub fn line(mut self) -> String {
        self.edits.sort_by_key(|(range, _)| range.start);
        let longer: usize = self.edits.iter().map(|(_, new)| new.len()).sum();
        let mut out = String::with_capacity(self.text.len() + longer + 1);
        let mut at = 0;
        for (range, new) in &self.edits {
            out.push_str(self.text.get(at..range.start).unwrap_or_default());
            out.push_str(new);
            at = range.end;
        }
        out.push_str(self.text.get(at..).unwrap_or_default());
        match one_line(&out) {
            Cow::Borrowed(_) => out,
            Cow::Owned(line) => line,
        }
    }
}

/// A JSON text on one line: without its white space if it has line breaks, and as it is otherwise. Strings hold no line
/// breaks (RFC 8259 section 7), so nothing of them changes.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if !matches!(c, ' ' | '\t' | '\n' | '\r') {
            out.push(c);
            quoted = c == '"';
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 3.1: compact, no raw LF or CR; what a string holds and how a number is written stays.
    #[test]
    fn a_text_of_many_lines_becomes_one() {
        for (text, line) in [
            ("{ \"a\" : 1.0 }", "{ \"a\" : 1.0 }"),
            ("{\n  \"a\" : 1.0,\r\n\t\"b\": [ 1E+5, -0 ]\n}\n", "{\"a\":1.0,\"b\":[1E+5,-0]}"),
            (
                "{\n\"a b\": \"c \\\" d \\\\\", \"e\": \" \u{2028} \"}",
                "{\"a b\":\"c \\\" d \\\\\",\"e\":\" \u{2028} \"}",
            ),
            ("[\n\"\\\\\", \" \"]", "[\"\\\\\",\" \"]"),
            ("\r\n", ""),
        ] {
            assert_eq!(one_line(text), line, "{text:?}");
        }
    }

    #[test]
    fn only_what_is_replaced_changes() {
        let mut splice = Splice::new(r#"{"id": 1.50, "x": "é", "t":"a"}"#);
        splice.replace(28..31, "77");
        splice.replace(7..11, "\"k\"");
        assert_eq!(splice.line(), r#"{"id": "k", "x": "é", "t":77}"#);
    }
}
