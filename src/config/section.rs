//! Reads one map of the file, key by key, each with the type it must have.
//!
//! What is asked for is what is known: [`Section::done`] reports every other key, with the nearest known one. A value
//! of the wrong type is reported and read as if it were not there, so that one reading finds everything.

use std::fmt::Display;
use std::ops::{Deref, RangeInclusive};

use super::load::Outside;
use super::problem::Findings;
use super::tree::{Node, Path, Text};
use crate::secret::Secret;

/// A value with the place where it stands.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub path: Path,
    /// How it was written, where the environment filled it in.
    raw: Option<Box<str>>,
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Placed<T> {
    pub(super) fn new(value: T, path: Path) -> Self {
        Self { value, path, raw: None }
    }
}

impl Placed<String> {
    /// `value`, which was made of `node`.
    pub(super) fn of(value: String, node: &Node, path: Path) -> Self {
        let raw = match node {
            Node::Text(text) if text.is_filled_in() => Some(text.raw.as_str().into()),
            _ => None,
        };
        Self { value, path, raw }
    }

    /// How it is told to the operator: as it was written, never with what the environment gave.
    pub(super) fn shown(&self) -> String {
        quote(self.raw.as_deref().unwrap_or(&self.value))
    }
}

/// One map of the file.
pub(super) struct Section<'a> {
    pub(super) path: Path,
    entries: &'a [(String, Node)],
    known: Vec<String>,
    outside: &'a Outside<'a>,
    findings: &'a Findings,
}

/// Keys of the original's first versions, and ours for them.
const RENAMED: &[(&str, &str)] = &[
    ("mcp_server_base_url", "base_url: the URL of the MCP server"),
    ("mcp_paths", "paths: with sse, messages and streamable_http below it"),
    ("auth_server_base_url", "issuer: the exact `iss` of access tokens"),
    ("jwks_url", "protected_resource_metadata: with jwks_uri below it"),
    ("command", "stdio: with user_command below it"),
];

impl<'a> Section<'a> {
    /// The section at `path`; a value that is no map is reported and read as an empty one.
    pub(super) fn of(node: &'a Node, path: Path, outside: &'a Outside<'a>, findings: &'a Findings) -> Self {
        let entries = match node {
            Node::Map(entries) => entries.as_slice(),
            Node::Null => &[],
            other => {
                let fix = "write keys with values below it, indented by two spaces";
                findings.problem(&path, format!("found {}", show(other)), fix);
                &[]
            }
        };
        Self { path, entries, known: Vec::new(), outside, findings }
    }

    /// The value of `key`, where there is one.
    pub(super) fn node(&mut self, key: &str) -> Option<(&'a Node, Path)> {
        self.known.push(key.to_owned());
        let (_, node) = self.entries.iter().find(|(name, _)| name == key)?;
        (*node != Node::Null).then(|| (node, self.path.key(key)))
    }

    /// The section below `key`.
    pub(super) fn section(&mut self, key: &str) -> Option<Self> {
        let (node, path) = self.node(key)?;
        Some(Self::of(node, path, self.outside, self.findings))
    }

    /// Every entry, for maps whose keys are the operator's own.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Node, Path)> + use<'a> {
        let path = self.path.clone();
        let given = self.entries.iter().filter(|(_, node)| *node != Node::Null);
        given.map(move |(key, node)| (key.as_str(), node, path.key(key)))
    }

    /// The section of an entry.
    pub(super) fn below(&self, node: &'a Node, path: Path) -> Self {
        Self::of(node, path, self.outside, self.findings)
    }

    /// Keys that begin with `stem` and a `#`, as language-tagged metadata has them (RFC 9728 section 2.1).
    pub(super) fn tagged(&mut self, stem: &str) -> Vec<String> {
        let tagged = |name: &&String| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('#'));
        self.entries.iter().map(|(name, _)| name).filter(tagged).cloned().collect()
    }

    /// Text. Empty text is nothing, unless the environment was to give it.
    pub(super) fn text(&mut self, key: &str) -> Option<Placed<String>> {
        let (node, path) = self.node(key)?;
        let text = self.scalar(node, &path, "text")?;
        Some(Placed::of(text, node, path))
    }

    /// A word out of a list of words.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<Placed<T>> {
        let text = self.text(key)?;
        let meant = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text));
        if let Some((_, value)) = meant {
            return Some(Placed::new(*value, text.path));
        }
        let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        self.findings.problem(
            &text.path,
            format!("found {}", self.shown(key)),
            format!("write one of: {}", all.join(", ")),
        );
        None
    }

    /// `true` or `false`, also in the words that YAML 1.1 had for them.
    pub(super) fn flag(&mut self, key: &str) -> Option<Placed<bool>> {
        let (node, path) = self.node(key)?;
        let value = match node {
            Node::Bool(value) => Some(*value),
            Node::Text(text) => match text.value.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            self.findings.problem(&path, format!("found {}", show(node)), "write true or false");
        }
        value.map(|value| Placed::new(value, path))
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &str, within: RangeInclusive<u64>) -> Option<Placed<u64>> {
        let (node, path) = self.node(key)?;
        let value = match node {
            Node::Int(value) => u64::try_from(*value).ok(),
            Node::Text(text) if !text.value.is_empty() && text.value.bytes().all(|b| b.is_ascii_digit()) => {
                text.value.parse().ok()
            }
            _ => None,
        };
        let value = value.filter(|value| within.contains(value));
        if value.is_none() {
            let fix = format!("write a whole number from {} to {}", within.start(), within.end());
            self.findings.problem(&path, format!("found {}", show(node)), fix);
        }
        value.map(|value| Placed::new(value, path))
    }

    /// One text or a list of texts.
    pub(super) fn list(&mut self, key: &str) -> Option<Placed<Vec<Placed<String>>>> {
        let (node, path) = self.node(key)?;
        let texts = self.texts(node, &path);
        Some(Placed::new(texts, path))
    }

    /// The texts of a node that is one text or a list of them.
    pub(super) fn texts(&self, node: &Node, path: &Path) -> Vec<Placed<String>> {
        let one = |node: &Node, path: Path| {
            let text = self.scalar(node, &path, "text or a list of texts")?;
            Some(Placed::of(text, node, path))
        };
        match node {
            Node::List(nodes) => {
                let numbered = nodes.iter().enumerate();
                numbered.filter_map(|(n, node)| one(node, path.index(n))).collect()
            }
            other => one(other, path.clone()).into_iter().collect(),
        }
    }

    /// Scopes or other words: text that is split at spaces, or a list of such.
    pub(super) fn words(&mut self, key: &str) -> Option<Placed<Vec<Placed<String>>>> {
        let list = self.list(key)?;
        Some(Placed::new(list.value.iter().flat_map(split).collect(), list.path))
    }

    /// A secret: `key`, or the content of the file that `key_file` names.
    pub(super) fn secret(&mut self, key: &str) -> Option<Placed<Secret>> {
        let file_key = format!("{key}_file");
        let given = self.node(key).and_then(|(node, path)| match node {
            Node::Text(text) if text.value.is_empty() && !text.is_filled_in() => None,
            Node::Text(text) if !text.value.is_empty() => {
                Some(Placed::new(Secret::new(text.value.clone()), path))
            }
            // What stands there may be the secret, so its kind is all that is told.
            other => {
                let found =
                    format!("found {}", if is_empty(other) { "an empty value" } else { other.kind() });
                self.findings.problem(&path, found, "write the secret as text, in quotes");
                None
            }
        });
        let Some(file) = self.text(&file_key) else { return given };
        if given.is_some() {
            let found = format!("given together with {key}");
            self.findings.problem(&file.path, found, "keep one of the two");
            return given;
        }
        let content = match (self.outside.read_file)(std::path::Path::new(file.as_str())) {
            Ok(content) => content,
            Err(error) => {
                let found = format!("{} cannot be read ({error})", self.shown(&file_key));
                self.findings.problem(&file.path, found, "name a file that this user may read");
                return None;
            }
        };
        let secret = content.strip_suffix('\n').unwrap_or(&content);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        if secret.is_empty() {
            let found = format!("the file {} is empty", self.shown(&file_key));
            self.findings.problem(&file.path, found, "put the secret into the file");
            return None;
        }
        Some(Placed::new(Secret::new(secret.to_owned()), file.path))
    }

    /// How the value of `key` may be shown.
    fn shown(&self, key: &str) -> String {
        self.entries.iter().find(|(name, _)| name == key).map_or_else(String::new, |(_, node)| show(node))
    }

    /// A scalar as text.
    fn scalar(&self, node: &Node, path: &Path, wanted: &str) -> Option<String> {
        match node {
            Node::Text(text) if !text.value.trim().is_empty() => {
                // A block of YAML and a variable made by a shell end in a line break that nobody meant.
                let value = text.value.trim();
                if !value.contains(char::is_control) {
                    return Some(value.to_owned());
                }
                let found = format!("{} has a line break or another control character in it", show(node));
                self.findings.problem(path, found, "write it on one line");
                None
            }
            Node::Text(text) if text.is_filled_in() => {
                let fix = "set the environment variable, or take the line out";
                self.findings.problem(path, format!("{} is empty in the environment", show(node)), fix);
                None
            }
            Node::Text(_) | Node::Null => None,
            Node::Int(value) => Some(value.to_string()),
            Node::Bool(value) => Some(value.to_string()),
            // Its digits are lost: 1.10 and 1.1 are the same number and not the same name.
            Node::Float(_) => {
                self.findings.problem(
                    path,
                    format!("found {}", show(node)),
                    "put it in quotes to make it text",
                );
                None
            }
            Node::List(_) | Node::Map(_) | Node::Tagged => {
                self.findings.problem(path, format!("found {}", show(node)), format!("write {wanted}"));
                None
            }
        }
    }

    /// Reports a fault that only the caller can see.
    pub(super) fn wrong(&self, at: &Path, found: &str, fix: &str) {
        self.findings.problem(at, found, fix);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn done(self) {
        for (key, _) in self.entries.iter().filter(|(key, _)| !self.known.contains(key)) {
            let at = self.path.key(key);
            if self.findings.is_full() {
                self.findings.problem(&at, "unknown key", "");
                continue;
            }
            let renamed = RENAMED.iter().find(|(old, _)| self.path.0.is_empty() && old == key);
            let fix = match (renamed, nearest(key, self.known.iter().map(String::as_str))) {
                (Some((_, new)), _) => format!("write {new}"),
                (None, Some(known)) => format!("did you mean {known}?"),
                (None, None) => {
                    let mut known = self.known.clone();
                    known.sort();
                    known.dedup();
                    let wher = if self.path.0.is_empty() {
                        "at the top".into()
                    } else {
                        format!("in {}", self.path)
                    };
                    format!("take it out; known {wher}: {}", known.join(", "))
                }
            };
            self.findings.problem(&at, "unknown key", fix);
        }
    }
}

/// The word that was probably meant: at most two slips of the pen away, or a third of a long word.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let far = (word.chars().count() / 3).max(2);
    let apart = known.map(|name| (distance(word, name), name));
    apart.filter(|(d, name)| *d <= far && *d < name.len()).min_by_key(|(d, _)| *d).map(|(_, name)| name)
}

/// Levenshtein's distance, without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, x) in a.to_lowercase().chars().enumerate() {
        let mut left = row + 1;
        let mut line = vec![left];
        for (y, pair) in b.iter().zip(above.windows(2)) {
            let (diagonal, up) = (pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0));
            left = (left + 1).min(up + 1).min(diagonal + usize::from(x != *y));
            line.push(left);
        }
        above = line;
    }
    above.last().copied().unwrap_or(0)
}

/// The parts of a text between its spaces, each at the place of the whole.
pub(super) fn split(text: &Placed<String>) -> Vec<Placed<String>> {
    let part = |part: &str| Placed { value: part.to_owned(), path: text.path.clone(), raw: text.raw.clone() };
    text.value.split_ascii_whitespace().map(part).collect()
}

fn is_empty(node: &Node) -> bool {
    matches!(node, Node::Text(Text { value, .. }) if value.is_empty())
}

/// How a value is told to the operator: as it was written, never with what the environment gave.
pub(super) fn show(node: &Node) -> String {
    match node {
        Node::Text(text) => quote(&text.raw),
        Node::Int(value) => value.to_string(),
        Node::Float(value) => value.to_string(),
        Node::Bool(value) => value.to_string(),
        other => other.kind().to_owned(),
    }
}

/// Text in quotes, cut where it is long.
pub(super) fn quote(text: impl Display) -> String {
    let text = text.to_string();
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
