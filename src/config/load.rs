//! From a file to a [`Config`]: reading, filling in the environment, and everything that is wrong at once.
//!
//! [`Config::from_yaml`] is a pure function of a text and of what [`Outside`] answers, so that a test needs neither
//! files nor environment; [`Config::load`] gives it the real ones.

use std::collections::HashMap;
use std::fs::File as OsFile;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path as FilePath;

use super::file::File;
use super::problem::{Findings, LoadError, Note, Problem};
use super::tree::{self, Node, Path};
use super::{Config, resolve};
use crate::limits::CONFIG_BYTES_MAX;

/// What the command line says about the configuration; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--debug`
    pub debug: bool,
    /// `--stdio`
    pub stdio: bool,
    /// `--demo`
    pub demo: bool,
    /// `--asgardeo`
    pub asgardeo: bool,
}

/// What the configuration may ask the system.
pub struct Outside<'a> {
    /// The value of an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file.
    pub read_file: &'a dyn Fn(&FilePath) -> io::Result<String>,
}

impl Outside<'static> {
    /// The real environment and real files.
    #[must_use]
    pub fn system() -> Self {
        Self { env: &|name| std::env::var(name).ok(), read_file: &read_bounded }
    }

    /// An empty environment and no files, for tests.
    #[must_use]
    pub fn nothing() -> Self {
        Self { env: &|_| None, read_file: &|_| Err(ErrorKind::NotFound.into()) }
    }
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read or is wrong; then with everything that is wrong.
    pub fn load(path: &FilePath, overrides: &Overrides) -> Result<(Self, Vec<Note>), LoadError> {
        let owned = || path.to_path_buf();
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(LoadError::Missing { path: owned() });
            }
            Err(error) if error.kind() == ErrorKind::FileTooLarge => {
                return Err(LoadError::TooLarge { path: owned() });
            }
            Err(source) => return Err(LoadError::Unreadable { path: owned(), source }),
        };
        Self::from_yaml(&text, overrides, &Outside::system())
            .map_err(|problems| LoadError::Wrong { path: owned(), problems })
    }

    /// The configuration that `text` describes.
    ///
    /// # Errors
    /// With every problem, in the order of the file.
    pub fn from_yaml(
        text: &str,
        overrides: &Overrides,
        outside: &Outside<'_>,
    ) -> Result<(Self, Vec<Note>), Vec<Problem>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut root = tree::parse(text).map_err(|fault| {
            let found = format!("this is no YAML: {}", fault.message);
            let fix =
                "check indentation (spaces, never tabs), colons, quotes and brackets here and just above";
            vec![Problem {
                line: fault.line,
                column: fault.column,
                key: String::new(),
                found,
                fix: fix.into(),
            }]
        })?;
        let findings = Findings::of(text);
        fill_in(&mut root, &Path::default(), outside, &findings);
        let file = File::read(&root, outside, &findings);
        let config = resolve::config(&file, overrides, outside, &findings);
        let (problems, notes) = findings.into_parts();
        match config {
            Some(config) if problems.is_empty() => Ok((config, notes)),
            _ => Err(problems),
        }
    }
}

/// Reads a small text file, whatever its length claims to be.
fn read_bounded(path: &FilePath) -> io::Result<String> {
    let mut text = String::new();
    OsFile::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= CONFIG_BYTES_MAX) {
        Ok(text)
    } else {
        Err(ErrorKind::FileTooLarge.into())
    }
}

/// Looks for keys that are written twice, and puts the environment into every text.
fn fill_in(node: &mut Node, path: &Path, outside: &Outside<'_>, findings: &Findings) {
    match node {
        Node::Map(entries) => {
            let mut times: HashMap<String, usize> = HashMap::with_capacity(entries.len());
            for (key, node) in entries {
                let before = times.entry(key.clone()).or_default();
                let path = path.nth_key(key, *before);
                if *before > 0 {
                    findings.problem(&path, "written a second time", "keep one of the two");
                }
                *before += 1;
                fill_in(node, &path, outside, findings);
            }
        }
        Node::List(nodes) => {
            for (n, node) in nodes.iter_mut().enumerate() {
                fill_in(node, &path.index(n), outside, findings);
            }
        }
        Node::Text(text) if text.raw.contains("${") => {
            match substitute(&text.raw, outside) {
                Ok(value) => text.value = value,
                Err(fault) => {
                    findings.problem(path, fault.to_string(), fault.fix());
                    // It has been told; nothing else is to be said about this value.
                    *node = Node::Null;
                }
            }
        }
        Node::Tagged => {
            findings.problem(path, "found a value with a !tag", "write the value without the tag");
            *node = Node::Null;
        }
        Node::Null | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) => {}
    }
}

/// Why a text with `${` could not be filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
enum SubstituteFault {
    Unset(String),
    Open,
    Name(String),
}

impl SubstituteFault {
    fn fix(&self) -> String {
        match self {
            Self::Unset(name) => format!("set {name} before the start, or write the value here"),
            Self::Open => "close it with }, or write $${ for the two characters themselves".into(),
            Self::Name(_) => {
                "use letters, digits and _ in the name, or write $${ for the two characters themselves".into()
            }
        }
    }
}

impl std::fmt::Display for SubstituteFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unset(name) => write!(f, "the environment has no {name}"),
            Self::Open => f.write_str("${ has no end"),
            Self::Name(name) => write!(f, "{name:?} is no name of a variable"),
        }
    }
}

/// `${NAME}` becomes the variable's value, which is not looked at again; `$${` becomes `${`.
fn substitute(raw: &str, outside: &Outside<'_>) -> Result<String, SubstituteFault> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            value.push_str(before);
            value.push_str("${");
            rest = after;
            continue;
        }
        value.push_str(before);
        let (name, after) = after.split_once('}').ok_or(SubstituteFault::Open)?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(fits) {
            return Err(SubstituteFault::Name(name.to_owned()));
        }
        let found = (outside.env)(name).ok_or_else(|| SubstituteFault::Unset(name.to_owned()))?;
        value.push_str(&found);
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_filled_in_once() {
        let env = |name: &str| match name {
            "A" => Some("x".to_owned()),
            "B" => Some("${A}".to_owned()),
            "_9" => Some(String::new()),
            _ => None,
        };
        let outside = Outside { env: &env, ..Outside::nothing() };
        for (raw, value) in [
            ("plain", Ok("plain")),
            ("${A}", Ok("x")),
            ("a${A}b${A}", Ok("axbx")),
            ("${B}", Ok("${A}")),
            ("[${_9}]", Ok("[]")),
            ("$A $ {A} $", Ok("$A $ {A} $")),
            ("$${A}", Ok("${A}")),
            ("$$${A}", Ok("$${A}")),
            ("${NONE}", Err(SubstituteFault::Unset("NONE".into()))),
            ("${A", Err(SubstituteFault::Open)),
            ("${}", Err(SubstituteFault::Name(String::new()))),
            ("${A-b}", Err(SubstituteFault::Name("A-b".into()))),
            ("${9}", Err(SubstituteFault::Name("9".into()))),
        ] {
            assert_eq!(substitute(raw, &outside), value.map(str::to_owned), "{raw}");
        }
    }
}
