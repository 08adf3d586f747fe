//! A JSON text, read once from left to right without building anything (RFC 8259).
//!
//! The reader checks the whole grammar and hands the places that somebody asked for to that caller. It is stricter
//! than most: one name twice in one object, after unescaping and at every level, marks the text as ambiguous, because
//! two parsers could take two different messages from it. Names are kept on one stack for all levels, whose beginning is a
//! part of the reader, so that the usual message costs no allocation; an object with many members moves its names into a
//! hash set, so that a hundred thousand of them are not compared with each other. Nesting is bounded, and so is our own recursion.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use crate::limits::JSON_DEPTH_MAX;

/// Names of one object that are compared one by one; more go into a set.
const NAMES_COMPARED_MAX: usize = 16;
/// Names for which the reader itself has room: enough for a usual message.
const NAMES_USUAL: usize = 24;

/// Why a text is not JSON that we read. The number is the offset in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JsonFault {
    /// RFC 8259 section 8.1: UTF-8 and nothing else.
    NotUtf8,
    /// RFC 8259 section 8.1: no byte order mark.
    ByteOrderMark,
    /// The grammar is broken here.
    Syntax(usize),
    /// Something stands behind the end of the text.
    Trailing(usize),
    /// Deeper than [`JSON_DEPTH_MAX`].
    TooDeep,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("the body is not UTF-8"),
            Self::ByteOrderMark => f.write_str("the body begins with a byte order mark"),
            Self::Syntax(at) => write!(f, "the body is not JSON at byte {at}"),
            Self::Trailing(at) => write!(f, "the body goes on behind its JSON text, at byte {at}"),
            Self::TooDeep => write!(f, "the body is nested deeper than {JSON_DEPTH_MAX} levels"),
        }
    }
}

impl std::error::Error for JsonFault {}

/// What a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number; its size is nobody's business here.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

/// A string as it stands between its quotes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// What it means; `None` where that is no Unicode text, because of a lone surrogate (RFC 8259 section 8.2).
    #[must_use]
    pub fn decode(self) -> Option<Cow<'a, str>> {
        if !self.escaped {
            return Some(Cow::Borrowed(self.raw));
        }
        unescape(self.raw).map(Cow::Owned)
    }
}

/// The names of an object that has many; boxed, since each level of nesting holds one on the stack.
type Many<'a> = Option<Box<HashSet<Cow<'a, str>>>>;

/// A stack of names: the first ones in place, the others on the heap.
#[derive(Debug, Default)]
struct Names<'a> {
    few: [Cow<'a, str>; NAMES_USUAL],
    more: Vec<Cow<'a, str>>,
    count: usize,
}

impl<'a> Names<'a> {
    fn push(&mut self, name: Cow<'a, str>) {
        match self.few.get_mut(self.count) {
            Some(place) => *place = name,
            None => self.more.push(name),
        }
        self.count += 1;
    }

    /// Forgets all but the first `count`. Those in place are written over by the next ones.
    fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
        self.more.truncate(self.count.saturating_sub(NAMES_USUAL));
    }

    /// Those from place `first` on.
    fn from(&self, first: usize) -> impl Iterator<Item = &Cow<'a, str>> {
        let few = self.few.get(first..self.count.min(NAMES_USUAL)).unwrap_or_default();
        let more = self.more.get(first.saturating_sub(NAMES_USUAL)..).unwrap_or_default();
        few.iter().chain(more)
    }
}

/// The reader.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    names: Names<'a>,
    ambiguous: bool,
}

impl<'a> Reader<'a> {
    /// Begins with the first byte.
    ///
    /// # Errors
    /// Another encoding, or a byte order mark.
    pub fn new(body: &'a [u8]) -> Result<Self, JsonFault> {
        let text = std::str::from_utf8(body).map_err(|_| JsonFault::NotUtf8)?;
        if text.starts_with('\u{feff}') {
            return Err(JsonFault::ByteOrderMark);
        }
        Ok(Self { text, at: 0, depth: 0, names: Names::default(), ambiguous: false })
    }

    /// Whether an object so far had one name twice, or a name that cannot be decoded.
    #[must_use]
    pub fn ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// What the next value is, by its first byte.
    ///
    /// # Errors
    /// No value begins here.
    pub fn kind(&mut self) -> Result<Kind, JsonFault> {
        Ok(match self.peek() {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b'-' | b'0'..=b'9' => Kind::Number,
            b't' | b'f' => Kind::Boolean,
            b'n' => Kind::Null,
            _ => return self.syntax(),
        })
    }

    /// Reads an object. `member` is called with each name, decoded, and reads the value itself.
    ///
    /// # Errors
    /// The grammar is broken, or `member` says so.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), JsonFault>,
    ) -> Result<(), JsonFault> {
        self.enter(b'{')?;
        let first = self.names.count;
        let mut many: Many<'a> = None;
        if self.peek() != b'}' {
            loop {
                let name = self.string()?.decode();
                self.ambiguous |= name.is_none();
                let name = name.unwrap_or(Cow::Borrowed("\u{fffd}"));
                self.take(b':')?;
                member(self, &name)?;
                self.remember(first, &mut many, name);
                if self.peek() != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.names.truncate(first);
        self.leave(b'}')
    }

    /// Reads an array. `element` is called where each element begins, and reads it.
    ///
    /// # Errors
    /// The grammar is broken, or `element` says so.
    pub fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), JsonFault>,
    ) -> Result<(), JsonFault> {
        self.enter(b'[')?;
        if self.peek() != b']' {
            loop {
                element(self)?;
                if self.peek() != b',' {
                    break;
                }
                self.at += 1;
            }
        }
        self.leave(b']')
    }

    /// Reads a string.
    ///
    /// # Errors
    /// No string is here, or it is broken.
    pub fn string(&mut self) -> Result<Text<'a>, JsonFault> {
        self.take(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.byte(0) {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.skip_escape()?;
                }
                _ => return self.syntax(), // a control character, or the end
            }
        }
        let raw = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Text { raw, escaped })
    }

    /// Reads the next value, whatever it is.
    ///
    /// # Errors
    /// The grammar is broken.
    pub fn skip(&mut self) -> Result<Kind, JsonFault> {
        let kind = self.kind()?;
        match kind {
            Kind::Object => self.object(|reader, _| reader.skip().map(drop))?,
            Kind::Array => self.array(|reader| reader.skip().map(drop))?,
            Kind::String => drop(self.string()?),
            Kind::Number => self.number()?,
            Kind::Boolean if self.byte(0) == b't' => self.word("true")?,
            Kind::Boolean => self.word("false")?,
            Kind::Null => self.word("null")?,
        }
        Ok(kind)
    }

    /// Reads the next value and gives it as it was written.
    ///
    /// # Errors
    /// The grammar is broken.
    pub fn raw(&mut self) -> Result<(Kind, &'a str), JsonFault> {
        self.peek();
        let start = self.at;
        let kind = self.skip()?;
        Ok((kind, self.text.get(start..self.at).unwrap_or_default()))
    }

    /// Reads the next value and gives it as [`Reader::raw`] does, with the offset of its first byte.
    ///
    /// # Errors
    /// The grammar is broken.
    pub fn raw_at(&mut self) -> Result<(usize, Kind, &'a str), JsonFault> {
        self.peek();
        let start = self.at;
        self.raw().map(|(kind, raw)| (start, kind, raw))
    }

    /// The offset of the next value.
    pub fn position(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// The text between two offsets that [`Reader::position`] gave.
    #[must_use]
    pub fn between(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The offset behind what was read last.
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// The text must be over.
    ///
    /// # Errors
    /// It is not.
    pub fn end(&mut self) -> Result<(), JsonFault> {
        self.peek();
        if self.at < self.text.len() { Err(JsonFault::Trailing(self.at)) } else { Ok(()) }
    }

    /// The byte that far on; 0 behind the end, where no token begins with it and no string may hold it.
    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Skips white space (RFC 8259 section 2, and no other) and gives the byte behind it.
    fn peek(&mut self) -> u8 {
        loop {
            match self.byte(0) {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return byte,
            }
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), JsonFault> {
        if self.peek() != byte {
            return self.syntax();
        }
        self.at += 1;
        Ok(())
    }

    fn syntax<T>(&self) -> Result<T, JsonFault> {
        Err(JsonFault::Syntax(self.at))
    }

    fn enter(&mut self, byte: u8) -> Result<(), JsonFault> {
        self.take(byte)?;
        self.depth += 1;
        if self.depth > JSON_DEPTH_MAX { Err(JsonFault::TooDeep) } else { Ok(()) }
    }

    fn leave(&mut self, byte: u8) -> Result<(), JsonFault> {
        self.depth -= 1;
        self.take(byte)
    }

    /// Notes a name of the object whose names begin at `first`.
    fn remember(&mut self, first: usize, many: &mut Many<'a>, name: Cow<'a, str>) {
        if let Some(seen) = many {
            self.ambiguous |= !seen.insert(name);
            return;
        }
        self.ambiguous |= self.names.from(first).any(|known| *known == name);
        if self.names.count - first < NAMES_COMPARED_MAX {
            self.names.push(name);
        } else {
            *many = Some(Box::new(self.names.from(first).cloned().chain([name]).collect()));
            self.names.truncate(first);
        }
    }

    /// Goes on to the next byte that is not plain text in a string: a quote, a backslash, a control character or the
    /// end. Eight bytes at a time, because this is where nearly all bytes of a large message are.
    fn skip_plain(&mut self) {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let (words, tail) = rest.as_chunks::<8>();
        let mut at = 0;
        for word in words {
            let found = specials(u64::from_le_bytes(*word));
            if found != 0 {
                self.at += at + (found.trailing_zeros() / 8) as usize;
                return;
            }
            at += 8;
        }
        let plain = |byte: &u8| !matches!(byte, 0..0x20 | b'"' | b'\\');
        self.at += at + tail.iter().take_while(|byte| plain(byte)).count();
    }

    fn skip_escape(&mut self) -> Result<(), JsonFault> {
        match self.byte(1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' if (2..6).all(|ahead| self.byte(ahead).is_ascii_hexdigit()) => self.at += 6,
            _ => return self.syntax(),
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), JsonFault> {
        if !self.text.get(self.at..).unwrap_or_default().starts_with(word) {
            return self.syntax();
        }
        self.at += word.len();
        Ok(())
    }

    /// RFC 8259 section 6.
    fn number(&mut self) -> Result<(), JsonFault> {
        self.at += usize::from(self.byte(0) == b'-');
        if self.byte(0) == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte(0) == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(0), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(0), b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        while self.byte(0).is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { self.syntax() } else { Ok(()) }
    }
}

/// The high bit of each byte that is a quote, a backslash or a control character. Bits above the lowest one that is set
/// may be wrong, since a subtraction borrows from the next byte; only the lowest is looked at.
fn specials(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let is = |byte: u8| {
        let differs = word ^ (EACH * u64::from(byte));
        differs.wrapping_sub(EACH) & !differs
    };
    let control = word.wrapping_sub(EACH * 0x20) & !word;
    (is(b'"') | is(b'\\') | control) & (EACH * 0x80)
}

/// Decodes the inside of a string that the reader has passed. `None` for a surrogate without its other half.
fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut chars = escape.chars();
        let (decoded, used) = match chars.next()? {
            'b' => ('\u{8}', 1),
            'f' => ('\u{c}', 1),
            'n' => ('\n', 1),
            'r' => ('\r', 1),
            't' => ('\t', 1),
            'u' => match hex4(escape.get(1..5)?)? {
                high @ 0xd800..=0xdbff => {
                    let low = escape.get(5..)?.strip_prefix("\\u")?.get(..4).and_then(hex4)?;
                    let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    (char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + low)?, 11)
                }
                unit => (char::from_u32(unit)?, 5),
            },
            itself => (itself, 1),
        };
        out.push(decoded);
        rest = escape.get(used..)?;
    }
    out.push_str(rest);
    Some(out)
}

fn hex4(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<bool, JsonFault> {
        let mut reader = Reader::new(text)?;
        reader.skip()?;
        reader.end()?;
        Ok(reader.ambiguous())
    }

    /// serde_json, asked for the grammar alone: building a value it would refuse lone surrogates and numbers beyond
    /// `f64`, which the grammar allows.
    fn other_reads(text: &[u8]) -> bool {
        std::str::from_utf8(text)
            .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
    }

    /// T-07, section 4.12. What serde_json takes for JSON, we do, and nothing else.
    #[test]
    fn takes_what_another_strict_parser_takes() {
        #[rustfmt::skip]
        let pieces = [
            "null", "true", "false", "tru", "nul", "True", "NaN", "Infinity", "-Infinity", "undefined", "0", "-0", "-",
            "+1", "01", "-01", "1.", ".5", "1.5", "1e5", "1E+5", "1e-5", "1e", "1e+", "1.e5", "0x10", "1_000", "1e999",
            "12345678901234567890123", "\"\"", "\"a\"", "\"", "\"\\", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"",
            "\"\\u0041\"", "\"\\ud83d\\ude00\"", "\"\\ud800\"", "\"\t\"", "\"\n\"", "\"\u{0}\"", "\"\u{7f}\"",
            "\"\u{1f}\"", "\"é\"", "\"\u{2028}\"", "'a'", "[]", "[", "]", "[1]", "[1,]", "[,]", "[,1]", "[1 2]", "[1,2]",
            "[[[]]]", "[1", "{}", "{", "}", "{\"a\"}", "{\"a\":}", "{\"a\":1}", "{\"a\":1,}", "{,}", "{a:1}", "{1:1}",
            "{\"a\" : 1 , \"b\":[]}", "{\"a\":1 \"b\":2}", "{\"a\":1}}", "{\"a\":1}{}", "// x\n1", "/* */1", "1 // x",
            " 1 ", "\t\r\n1\t\r\n", "\u{c}1", "\u{b}1", "\u{a0}1", "\u{feff}1", "1\u{0}", "", " ", "\u{2028}1", "1,",
            ":", ",", "\"abcdefgh\"", "\"abcdefg\\n\"", "\"abcdefgh\n\"", "\"abcdefghijklmno\\\"pqrstuvwxyz\"",
            "\"éééééééé\\u00e9é\"", "#1", "[1]x",
        ];
        for piece in pieces {
            for wrapped in [
                piece.to_owned(),
                format!("[{piece}]"),
                format!("{{\"k\":{piece}}}"),
                format!("[0,{piece},{{\"long name here\":{piece}}}]"),
            ] {
                assert_eq!(read(wrapped.as_bytes()).is_ok(), other_reads(wrapped.as_bytes()), "{wrapped:?}");
            }
        }
    }

    /// Section 4.12. Every way of cutting one byte out of a message, or of changing one, is judged as serde_json does.
    #[test]
    fn takes_every_mutation_as_another_strict_parser_does() {
        let whole = br#"{"a":[1,-2.5e+3,true,false,null,"x\u00e9\ud83d\ude00\n\"y"],"b c":{"d":{},"e":[]},"f":"plain text"}"#;
        let judge = |text: &[u8]| {
            assert_eq!(read(text).is_ok(), other_reads(text), "{}", String::from_utf8_lossy(text));
        };
        for at in 0..whole.len() {
            judge(&whole[..at]);
            judge(&[&whole[..at], &whole[at + 1..]].concat());
            for byte in *b"\0\t \"\\/{}[]:,.-+0e9uatn\x7f\x80\xc3\xff" {
                judge(&[&whole[..at], &[byte], &whole[at + 1..]].concat());
                judge(&[&whole[..at], &[byte], &whole[at..]].concat());
            }
        }
    }

    #[test]
    fn encodings_and_depth_have_their_own_words() {
        let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        for (text, fault) in [
            (b"\xef\xbb\xbf{}".to_vec(), Some(JsonFault::ByteOrderMark)),
            (b"\xff\xfe{\0}\0".to_vec(), Some(JsonFault::NotUtf8)),
            (b"{\0}\0".to_vec(), Some(JsonFault::Syntax(1))),
            (b"\"\xc0\x80\"".to_vec(), Some(JsonFault::NotUtf8)),
            (b"\"\xed\xa0\x80\"".to_vec(), Some(JsonFault::NotUtf8)),
            (b"{}\n{}".to_vec(), Some(JsonFault::Trailing(3))),
            (deep(JSON_DEPTH_MAX), None),
            (deep(JSON_DEPTH_MAX + 1), Some(JsonFault::TooDeep)),
            (vec![b'['; 4 << 20], Some(JsonFault::TooDeep)),
        ] {
            assert_eq!(read(&text).err(), fault);
        }
    }

    /// The deepest text is read on the stack that a worker has.
    #[test]
    fn the_deepest_text_fits_a_worker() {
        let half = JSON_DEPTH_MAX / 2;
        let text = format!("{}0{}", "[{\"a\":".repeat(half), "}]".repeat(half));
        let thread = std::thread::Builder::new().stack_size(crate::limits::STACK_BYTES);
        let read = thread.spawn(move || read(text.as_bytes())).unwrap();
        assert_eq!(read.join().unwrap(), Ok(false));
    }

    /// Section 4.12: names are compared as they are after unescaping, and within one object.
    #[test]
    fn a_name_twice_is_ambiguous_at_every_level() {
        let many = |last: &str| {
            let names: Vec<_> = (0..40).map(|n| format!("\"n{n}\":{{\"n1\":{n}}}")).collect();
            format!("{{{},{last}}}", names.join(","))
        };
        for (text, ambiguous) in [
            (r#"{"a":1,"b":2}"#.to_owned(), false),
            (r#"{"a":1,"a":1}"#.to_owned(), true),
            (r#"{"a":1,"\u0061":1}"#.to_owned(), true),
            (r#"{"\u0061":1,"a":1}"#.to_owned(), true),
            (r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#.to_owned(), false),
            (r#"[{"x":{"y":[{"a":1,"b":{"c":1},"a":2}]}}]"#.to_owned(), true),
            (r#"{"":1,"":2}"#.to_owned(), true),
            (r#"{"a":1,"A":1}"#.to_owned(), false),
            (r#"{"\ud83d\ude00":1,"😀":2}"#.to_owned(), true),
            (r#"{"\ud800":1}"#.to_owned(), true),
            (r#"{"a":"\ud800"}"#.to_owned(), false),
            (many("\"x\":1"), false),
            (many("\"n0\":1"), true),
            (many("\"n39\":1"), true),
            (many(r#""\u006e20":1"#), true),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(ambiguous), "{text}");
        }
    }

    /// Not quadratic: in a debug build this takes a second or so, and would take many minutes.
    #[test]
    fn a_hundred_thousand_names_take_their_time_once() {
        let names: Vec<_> = (0..100_000).map(|n| format!("\"{n:06}\":0")).collect();
        let text = format!("{{{}}}", names.join(","));
        assert_eq!(read(text.as_bytes()), Ok(false));
        assert_eq!(read(text.replace("099999", "000000").as_bytes()), Ok(true));
    }

    #[test]
    fn strings_mean_what_serde_json_says() {
        for text in [
            r#""""#,
            r#""a\"b\\c\/d\be\ff\ng\rh\ti""#,
            r#""\u00e9\u20ac\ud83d\ude00x""#,
            r#""\u0000""#,
            r#""é\né""#,
        ] {
            let decoded = Reader::new(text.as_bytes()).unwrap().string().unwrap().decode();
            assert_eq!(decoded.as_deref(), serde_json::from_str::<String>(text).ok().as_deref(), "{text}");
        }
        for lone in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\ud800""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\udc00\ud800""#,
        ] {
            assert_eq!(Reader::new(lone.as_bytes()).unwrap().string().unwrap().decode(), None, "{lone}");
        }
    }
}
