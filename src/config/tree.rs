//! The file as a tree that forgets nothing: every key as often as it was written, and the line of each.
//!
//! Filling a structure straight from YAML stops at the first mistake and lets the last of two equal keys win. So the
//! text becomes a [`Node`] first; what a node means is decided in `section.rs` and above. The parser does not hand out
//! positions with values, but every error it reports has one: [`line_of`] reads the text again and raises an error
//! on purpose at the place in question. That costs one more reading for each message, and nothing where all is well.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One value of the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Nothing, `~` or `null`; read as if the key were not there.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Text),
    /// A sequence.
    List(Vec<Self>),
    /// A mapping in the order of the file, equal keys included.
    Map(Vec<(String, Self)>),
    /// A value with a `!tag`, which means nothing here.
    Tagged,
}

/// A string, as it was written and as it is meant. They differ where `${NAME}` stood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text {
    /// As written: this may be shown, it holds no value from the environment.
    pub raw: String,
    /// With the environment filled in.
    pub value: String,
}

impl Text {
    /// Text without anything to fill in.
    #[must_use]
    pub fn plain(text: &str) -> Self {
        Self { raw: text.to_owned(), value: text.to_owned() }
    }

    /// Whether part of it came from the environment.
    #[must_use]
    pub fn is_filled_in(&self) -> bool {
        self.raw != self.value
    }
}

impl Node {
    /// What a person would call it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Tagged => "a value with a tag",
        }
    }
}

/// One step from a node to one below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// The `nth` occurrence, from 0, of a key.
    Key(String, usize),
    /// An element of a list, from 0.
    Index(usize),
}

/// Where a value stands; shown as `cors.allowed_origins[0]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The first (and in a correct file only) value of `key` below this.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.nth_key(key, 0)
    }

    /// The `nth` occurrence of `key` below this.
    #[must_use]
    pub fn nth_key(&self, key: &str, nth: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned(), nth));
        Self(steps)
    }

    /// The element `index` below this.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key, _) => {
                    let dot = if n > 0 { "." } else { "" };
                    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || b == b'#';
                    if !key.is_empty() && key.bytes().all(plain) {
                        write!(f, "{dot}{key}")?;
                    } else {
                        write!(f, "{dot}{key:?}")?;
                    }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Why a text is no tree at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SyntaxFault {
    /// From 1, where the parser knows it.
    pub line: Option<usize>,
    /// From 1, where the parser knows it.
    pub column: Option<usize>,
    /// The parser's own words, without the position.
    pub message: String,
}

/// The tree of a YAML text.
///
/// # Errors
/// When it is not one YAML document.
pub fn parse(text: &str) -> Result<Node, SyntaxFault> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.trim_start_matches('\u{feff}').lines().all(blank) {
        return Ok(Node::Null);
    }
    NodeSeed.deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|err| {
        let mut message = err.to_string();
        // The position is told separately, in one form for all messages.
        if let Some(cut) = message.find(" at line ") {
            message.truncate(cut);
        }
        let (line, column) = err.location().map(|at| (at.line(), at.column())).unzip();
        SyntaxFault { line, column, message }
    })
}

/// The line, from 1, of the value at `path`, or of the nearest value above it that exists.
#[must_use]
pub fn line_of(text: &str, path: &Path) -> Option<usize> {
    let mut steps = path.0.as_slice();
    while !steps.is_empty() {
        let found = Cell::new(false);
        let seed = Finder { steps, found: &found };
        let error = seed.deserialize(serde_yaml::Deserializer::from_str(text)).err();
        if let (true, Some(at)) = (found.get(), error.and_then(|error| error.location())) {
            return Some(at.line());
        }
        steps = steps.split_last().map_or(&[][..], |(_, above)| above);
    }
    None
}

/// Builds a [`Node`].
struct NodeSeed;

impl<'de> DeserializeSeed<'de> for NodeSeed {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(Text::plain(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element_seed(Self)? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            entries.push((key, map.next_value_seed(Self)?));
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        use serde::de::VariantAccess as _;
        let (IgnoredAny, value) = data.variant()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(Node::Tagged)
    }
}

/// A key: text, or a scalar that is taken as text.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        match NodeSeed.deserialize(from)? {
            Node::Text(text) => Ok(text.value),
            Node::Bool(value) => Ok(value.to_string()),
            Node::Int(value) => Ok(value.to_string()),
            Node::Float(value) => Ok(value.to_string()),
            Node::Null => Ok("null".to_owned()),
            other => Err(D::Error::custom(format_args!("a key is {}, it must be text", other.kind()))),
        }
    }
}

/// Raises an error at the end of `steps`, so that the parser tells where that is.
#[derive(Clone, Copy)]
struct Finder<'a> {
    steps: &'a [Step],
    found: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Finder<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Finder<'_> {
    fn here<E: serde::de::Error>(self) -> Result<(), E> {
        if self.steps.is_empty() {
            self.found.set(true);
            return Err(E::custom("here"));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Finder<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.here()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.here()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.here()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.here()
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.here()
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.here()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.here()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.here()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.here()?;
        let mut index = 0;
        loop {
            let more = match self.steps.split_first() {
                Some((Step::Index(wanted), below)) if *wanted == index => {
                    seq.next_element_seed(Finder { steps: below, ..self })?
                }
                _ => seq.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.here()?;
        let mut seen = 0;
        loop {
            let last = self.steps.len() == 1;
            let Some((Step::Key(wanted, nth), below)) = self.steps.split_first() else {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(());
            };
            // The key itself is the place: a value may begin on the next line.
            let stop = (last && seen == *nth).then_some(self.found);
            let Some(matches) = map.next_key_seed(KeyFinder { wanted, stop })? else { return Ok(()) };
            if matches && seen == *nth {
                map.next_value_seed(Finder { steps: below, ..self })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            seen += usize::from(matches);
        }
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        use serde::de::VariantAccess as _;
        self.here()?;
        let (IgnoredAny, value) = data.variant()?;
        value.newtype_variant::<IgnoredAny>().map(drop)
    }
}

/// Tells whether a key is the wanted one, or stops there.
struct KeyFinder<'a> {
    wanted: &'a str,
    stop: Option<&'a Cell<bool>>,
}

impl<'de> DeserializeSeed<'de> for KeyFinder<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_any(self)
    }
}

impl KeyFinder<'_> {
    fn judge<E: serde::de::Error>(&self, key: &str) -> Result<bool, E> {
        let matches = key == self.wanted;
        if let (true, Some(found)) = (matches, self.stop) {
            found.set(true);
            return Err(E::custom("here"));
        }
        Ok(matches)
    }
}

impl<'de> Visitor<'de> for KeyFinder<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        self.judge(key)
    }

    fn visit_bool<E: serde::de::Error>(self, key: bool) -> Result<bool, E> {
        self.judge(&key.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, key: i64) -> Result<bool, E> {
        self.judge(&key.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, key: u64) -> Result<bool, E> {
        self.judge(&key.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, key: f64) -> Result<bool, E> {
        self.judge(&key.to_string())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<bool, E> {
        self.judge("null")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\n\"b\":\n  - x\n  - c: [1, 2]\n    d:\n      e: f\na: 2\n3: four\n";

    #[test]
    fn a_tree_keeps_order_and_equal_keys() {
        let Ok(Node::Map(entries)) = parse(TEXT) else { panic!("a map") };
        let keys: Vec<_> = entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "a", "3"]);
    }

    #[test]
    fn every_place_has_its_line() {
        let root = Path::default();
        let c = root.key("b").index(1).key("c");
        for (path, line, shown) in [
            (root.key("a"), Some(1), "a"),
            (root.nth_key("a", 1), Some(7), "a"),
            (root.key("b"), Some(2), "b"),
            (root.key("b").index(0), Some(3), "b[0]"),
            (c.index(1), Some(4), "b[1].c[1]"),
            (root.key("b").index(1).key("d").key("e"), Some(6), "b[1].d.e"),
            (root.key("b").index(1).key("d").key("missing"), Some(5), "b[1].d.missing"),
            (root.key("3"), Some(8), "3"),
            (root.key("/x.y"), None, "\"/x.y\""),
        ] {
            assert_eq!(line_of(TEXT, &path), line, "{path}");
            assert_eq!(path.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_tree_says_where() {
        for (text, line, says) in [
            ("a: [1,\nb: 2\n", Some(3), "did not find expected"),
            ("a: 1\n b: 2\n", Some(2), "mapping values are not allowed"),
            ("a: 1\n\tb: 2\n", Some(2), "found a tab character"),
            ("a: *nowhere\n", Some(1), "unknown anchor"),
            ("a: 1\n---\nb: 2\n", None, "more than one document"),
            ("{[1]: 2}", Some(1), "a key is a list"),
        ] {
            let Err(fault) = parse(text) else { panic!("accepted {text:?}") };
            assert!(fault.message.contains(says), "{text:?} gave {fault:?}");
            assert_eq!(fault.line, line, "{text:?} gave {fault:?}");
        }
        assert!(parse(&"[".repeat(5_000)).is_err(), "depth is bounded");
        for nothing in ["", "# only a remark\n\n", "\u{feff}", "---\n", "~"] {
            assert_eq!(parse(nothing), Ok(Node::Null), "{nothing:?}");
        }
    }
}
