//! `lines` and `remap`: what a program writes, and what two clients of one program send.

use super::{cuts, shown};
use crate::config::CommandLine;
use crate::stdio::cut::Answers;
use crate::stdio::framing::{Found, Lines};
use crate::stdio::id::Id;
use crate::stdio::line::{Line, Shape};
use crate::stdio::remap;
use crate::stdio::splice::one_line;

/// The output of a program. The first byte says how long a line may be.
///
/// The lines do not depend on how the output is cut into reads; none is blank, too long, or two; what lies between line
/// ends is told once, whole or as too long. A line that is a message stays that message on one line, and its ids are the
/// same once they are written anew. A line that can be split into a command is the same command once it is shown.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn lines(input: &[u8]) -> bool {
    let Some((bound, output)) = input.split_first() else { return false };
    let most = usize::from(*bound).max(1);
    let found = read(most, &[output]);
    for pieces in cuts(output) {
        assert_eq!(read(most, &pieces), found, "{} in {} pieces", shown(input), pieces.len());
    }
    let ended = output.iter().filter(|byte| **byte == b'\n').count();
    let between = output.split(|byte| *byte == b'\n').take(ended);
    let blank = |line: &[u8]| line.iter().all(u8::is_ascii_whitespace);
    let told = between.filter(|line| line.len() > most || !blank(line));
    let expected: Vec<_> = told
        .map(|line| (line.len() <= most).then(|| line.strip_suffix(b"\r").unwrap_or(line).to_vec()))
        .collect();
    let whole: Vec<_> = found.iter().map(|line| line.as_ref().ok().cloned()).collect();
    assert_eq!(whole, expected, "{}", shown(input));
    let mut messages = 0;
    for line in found.iter().flatten() {
        messages += usize::from(message(line));
        command(line);
    }
    messages > 0
}

/// Every line; of one that was too long, whom it answers.
fn read(most: usize, pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, Answers>> {
    let (mut lines, mut all) = (Lines::new(most), Vec::new());
    for piece in pieces {
        lines.push(piece, |found| {
            all.push(match found {
                Found::Line(line) => Ok(line.to_vec()),
                Found::TooLong(cut) => Err(cut.answers()),
            });
        });
    }
    all
}

fn message(text: &[u8]) -> bool {
    let Ok(line) = Line::read(text) else { return false };
    let compact = one_line(line.text);
    assert!(!compact.contains(['\n', '\r']), "{} is not one line", shown(text));
    let again = Line::read(compact.as_bytes());
    let same = again.is_ok_and(|again| (again.shape, &again.method) == (line.shape, &line.method));
    assert!(same, "{} is another message on one line", shown(text));
    for id in [line.id, line.token, line.progress, line.cancelled].iter().flatten() {
        if let Some(id) = Id::of(Some(id)) {
            assert_eq!(Id::read(&id.json()), Some(id), "{}", shown(text));
        }
    }
    true
}

fn command(line: &[u8]) {
    let split = std::str::from_utf8(line).ok().and_then(|text| CommandLine::split(text).ok());
    if let Some(command) = split {
        assert_eq!(CommandLine::split(&command.to_string()), Ok(command), "{}", shown(line));
    }
}

/// A request that two clients send to one program, and behind a NUL a line that the program writes of its own accord:
/// [`remap::check`] says what must hold.
///
/// # Panics
/// Where that does not hold.
#[must_use]
pub fn remapped(input: &[u8]) -> bool {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let (body, noise) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    remap::check(body, noise);
    Line::read(body).is_ok_and(|line| line.shape == Shape::Request && line.readable_id().is_some())
}
