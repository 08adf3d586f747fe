//! `config`: the file that an operator writes.

use std::io::{Error, ErrorKind};
use std::path::Path;

use super::{assert_tellable, shown};
use crate::config::{Config, Note, Outside, Overrides, Problem};
use crate::limits::CONFIG_PLACES_MAX;

/// The value of the one variable that is set. Nobody writes it by chance.
const SECRET: &str = "7h3-v4lu3-0f-4-v4r14bl3-7h47-15-53cr37-3n0u6h";

/// Configuration files.
///
/// Whatever stands in them, the problems are few enough to be read, each has its place in the file and says what to do,
/// and none tells a value from the environment. The same text gives the same answer, with or without a byte order mark.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn config(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    // YAML 1.1 ends a line at each of these, and CRLF counts once; so this is a little more than there are.
    let lines = 1 + text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    let read = load(text);
    match &read {
        Ok((_, notes)) => {
            for note in notes {
                assert!(note.line.is_none_or(|line| (1..=lines).contains(&line)), "{note:?}");
                assert_tellable(&note.hint, input);
                assert_tellable(&note.to_string(), input);
            }
        }
        Err(problems) => {
            let told = 1..=CONFIG_PLACES_MAX + 1;
            assert!(told.contains(&problems.len()), "{} problems of {}", problems.len(), shown(input));
            for problem in problems {
                // The parser may name the line behind the last one, where it met the end.
                assert!(problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{problem:?}");
                assert!(!problem.found.is_empty() && !problem.fix.is_empty(), "{problem:?}");
                assert_tellable(&problem.to_string(), input);
                assert_tellable(&problem.fix, input);
                let secret = problem.to_string().contains(SECRET) || problem.fix.contains(SECRET);
                assert!(!secret, "{problem}");
            }
        }
    }
    let marked = load(&format!("\u{feff}{text}"));
    if !text.starts_with('\u{feff}') {
        assert_eq!(told(&marked), told(&read), "a byte order mark before {}", shown(input));
    }
    read.is_ok()
}

type Read = Result<(Config, Vec<Note>), Vec<Problem>>;

fn load(text: &str) -> Read {
    let env = |name: &str| (name == "SECRET").then(|| SECRET.to_owned());
    let read_file = |path: &Path| {
        let there = path.ends_with("secret");
        there.then(|| SECRET.to_owned()).ok_or_else(|| Error::from(ErrorKind::NotFound))
    };
    Config::from_yaml(text, &Overrides::default(), &Outside { env: &env, read_file: &read_file })
}

fn told(read: &Read) -> Result<&[Note], &[Problem]> {
    match read {
        Ok((_, notes)) => Ok(notes),
        Err(problems) => Err(problems),
    }
}
