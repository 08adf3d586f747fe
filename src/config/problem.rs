//! What the operator is told about the file: problems, which stop the program, and notes, which do not.
//!
//! A [`Problem`] names the line, the key, what was found there and what to write instead, so that nobody needs this
//! source. A [`Note`] says what the program had to guess or what it should be watched for, and which line settles it.
//! Neither ever holds a secret. A problem shows what stands in the file and no value from the environment; a note may
//! show what was made of one, such as the issuer whose tokens are accepted.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::tree::{self, Path};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_PLACES_MAX};
use crate::log::{Level, Log};

/// One thing that is wrong in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The line, from 1, of the key or of the section that lacks it.
    pub line: Option<usize>,
    /// The column, from 1; only known where the file is no YAML.
    pub column: Option<usize>,
    /// The key with its sections, such as `cors.allowed_origins[0]`; empty where the file as a whole is meant.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What to write.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, self.line, self.column, &self.key)?;
        f.write_str(&self.found)
    }
}

/// What kind of note it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoteKind {
    /// The file is silent and a value was derived; `hint` is the line that settles it.
    Guess,
    /// It works, and somebody should know what it costs.
    Warning,
    /// A key that is known and has no effect.
    Ignored,
}

/// Something worth knowing that does not stop the program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// Which kind.
    pub kind: NoteKind,
    /// The line, from 1, of the key that it is about, where there is one.
    pub line: Option<usize>,
    /// The key that it is about.
    pub key: String,
    /// What was taken or noticed.
    pub text: String,
    /// What to write to settle or end it.
    pub hint: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        place(f, self.line, None, &self.key)?;
        f.write_str(&self.text)
    }
}

impl Note {
    /// Puts it into the log: warnings as such, the rest for information.
    pub fn log(&self, log: &Log) {
        let level = if self.kind == NoteKind::Warning { Level::Warn } else { Level::Info };
        log.line(level, &self.to_string(), &[("hint", &self.hint)]);
    }
}

fn place(f: &mut fmt::Formatter<'_>, line: Option<usize>, column: Option<usize>, key: &str) -> fmt::Result {
    match (line, column) {
        (Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
        (Some(line), None) => write!(f, "line {line}: ")?,
        (None, _) => {}
    }
    if key.is_empty() { Ok(()) } else { write!(f, "{key}: ") }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// There is no such file.
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger than [`CONFIG_BYTES_MAX`].
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It was read and is wrong.
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Everything that is wrong, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl LoadError {
    /// What to do next, where the message itself does not say it for each problem.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "name the file with --config PATH, or try the program without one: openmcpauthproxy --local"
                    .into(),
            ),
            Self::Unreadable { .. } => Some("check the path and who may read the file".into()),
            Self::TooLarge { .. } => Some("name the configuration, not another file".into()),
            Self::Wrong { .. } => None,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "there is no {}", path.display()),
            Self::Unreadable { path, .. } => write!(f, "{} cannot be read", path.display()),
            Self::TooLarge { path } => {
                write!(f, "{} is larger than {} KiB", path.display(), CONFIG_BYTES_MAX / 1024)
            }
            Self::Wrong { path, problems } => {
                let plural = if problems.len() == 1 { "" } else { "s" };
                write!(f, "{} has {} problem{plural}", path.display(), problems.len())?;
                for problem in problems {
                    write!(f, "\n  {problem}\n    hint: {}", problem.fix)?;
                }
                Ok(())
            }
        }
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Missing { .. } | Self::TooLarge { .. } | Self::Wrong { .. } => None,
        }
    }
}

/// Collects what is found while the tree is read; places become lines at the end.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The text of the file.
    text: String,
    problems: RefCell<Vec<(Path, String, String)>>,
    /// Problems beyond [`CONFIG_PLACES_MAX`], which are only counted.
    untold: Cell<usize>,
    notes: RefCell<Vec<(Path, Note)>>,
}

impl Findings {
    pub(super) fn of(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// A key with its line, for messages that come when the file is long closed.
    pub(super) fn place(&self, at: &Path) -> String {
        match tree::line_of(&self.text, at) {
            Some(line) => format!("{at} (line {line})"),
            None => at.to_string(),
        }
    }

    pub(super) fn problem(&self, at: &Path, found: impl Into<String>, fix: impl Into<String>) {
        if self.is_full() {
            self.untold.set(self.untold.get() + 1);
        } else {
            self.problems.borrow_mut().push((at.clone(), found.into(), fix.into()));
        }
    }

    /// Whether a further problem would only be counted, so that its wording need not be worked out.
    pub(super) fn is_full(&self) -> bool {
        self.problems.borrow().len() >= CONFIG_PLACES_MAX
    }

    /// A problem that several readers may meet; told once.
    pub(super) fn problem_once(&self, at: &Path, found: impl Into<String>, fix: impl Into<String>) {
        if !self.problems.borrow().iter().any(|(path, _, _)| path == at) {
            self.problem(at, found, fix);
        }
    }

    pub(super) fn note(&self, kind: NoteKind, at: &Path, text: impl Into<String>, hint: impl Into<String>) {
        let (key, text, hint) = (at.to_string(), text.into(), hint.into());
        self.notes.borrow_mut().push((at.clone(), Note { kind, line: None, key, text, hint }));
    }

    pub(super) fn guess(&self, at: &Path, text: impl Into<String>, hint: impl Into<String>) {
        self.note(NoteKind::Guess, at, text, hint);
    }

    pub(super) fn warn(&self, at: &Path, text: impl Into<String>, hint: impl Into<String>) {
        self.note(NoteKind::Warning, at, text, hint);
    }

    pub(super) fn ignored(&self, at: &Path, text: impl Into<String>, hint: impl Into<String>) {
        self.note(NoteKind::Ignored, at, text, hint);
    }

    /// The problems in the order of the file, and all notes. Only the first [`CONFIG_PLACES_MAX`] of each get a line.
    pub(super) fn into_parts(self) -> (Vec<Problem>, Vec<Note>) {
        let text = self.text.as_str();
        let problems = self.problems.into_inner().into_iter();
        let mut problems: Vec<_> = problems
            .map(|(path, found, fix)| {
                let line = tree::line_of(text, &path);
                Problem { line, column: None, key: path.to_string(), found, fix }
            })
            .collect();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        if self.untold.get() > 0 {
            problems.push(Problem {
                line: None,
                column: None,
                key: String::new(),
                found: format!("and {} more", self.untold.get()),
                fix: "mend these first, then check again".into(),
            });
        }
        let notes = self.notes.into_inner().into_iter().enumerate();
        let notes = notes
            .map(|(n, (path, note))| {
                let line = (n < CONFIG_PLACES_MAX).then(|| tree::line_of(text, &path)).flatten();
                Note { line, ..note }
            })
            .collect();
        (problems, notes)
    }
}
