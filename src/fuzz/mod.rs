//! The properties that the fuzz targets and the replay of their corpora hold.
//!
//! Each function hands the bytes of one input to a parser that reads what a peer sends, and panics where a property does
//! not hold: that the outcome is the same however the input is cut into reads, that what was understood means the same
//! when it is written anew, that a second reader who was written by others sees the same. It returns whether the parser
//! accepted the input, so that a seed can be held to what its name claims.
//!
//! `fuzz/fuzz_targets` calls these functions under libFuzzer, and `tests/spec/corpus.rs` calls them on a stable
//! toolchain with every file of `fuzz/corpus`. Both see the library from outside, where `cfg(test)` is off, and a plain
//! `cargo test` passes no feature: so the module is always compiled. Nothing in the program calls it, and the linker
//! leaves it out.

mod config;
mod http;
mod message;
mod sse;
mod stdio;
mod token;

pub use config::config;
pub use http::{answer, chunked, head};
pub use message::message;
pub use sse::sse;
pub use stdio::{lines, remapped};
pub use token::{jwks, token};

/// A property: whether the input was accepted, or a panic.
pub type Property = fn(&[u8]) -> bool;

/// Every target whose body stands here. `differential` is not among them: its second parser is a crate that only
/// `fuzz/` knows.
pub const TARGETS: [(&str, Property); 10] = [
    ("token", token),
    ("jwks", jwks),
    ("message", message),
    ("head", head),
    ("answer", answer),
    ("chunked", chunked),
    ("sse", sse),
    ("lines", lines),
    ("remap", remapped),
    ("config", config),
];

/// Longest input that is also shown one byte at a time.
const BYTE_BY_BYTE_MAX: usize = 4096;

/// Ways to cut `input` into reads: byte by byte, in many small pieces, and in a few large ones. Where the cuts fall is
/// derived from the bytes themselves, so that a finding is a file and nothing else.
fn cuts(input: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut chance = Chance::of(input);
    let mut all = vec![pieces(input, &mut chance, 9), pieces(input, &mut chance, 1 + input.len())];
    if input.len() <= BYTE_BY_BYTE_MAX {
        all.push(input.chunks(1).collect());
    }
    all
}

/// `input` in pieces of 1 to `longest` bytes.
fn pieces<'i>(input: &'i [u8], chance: &mut Chance, longest: usize) -> Vec<&'i [u8]> {
    let (mut all, mut rest) = (Vec::new(), input);
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + chance.below(longest)).min(rest.len()));
        all.push(piece);
        rest = behind;
    }
    all
}

/// Numbers that look random and are the same for the same input (xorshift, started from FNV-1a).
struct Chance(u64);

impl Chance {
    fn of(input: &[u8]) -> Self {
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(input.iter().fold(0xcbf2_9ce4_8422_2325, hash) | 1)
    }

    /// Less than `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % bound
    }
}

/// An input as it is shown when a property does not hold.
fn shown(input: &[u8]) -> String {
    input.escape_ascii().to_string()
}

/// What a log line or an answer may show of a fault: one line, and not a long one.
fn assert_tellable(text: &str, about: &[u8]) {
    assert!(!text.contains(char::is_control), "{text:?} about {}", shown(about));
    assert!(text.len() <= 4096, "{} bytes of text about {}", text.len(), shown(about));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lose_nothing_and_repeat_themselves() {
        for length in [0, 1, 2, 100, BYTE_BY_BYTE_MAX + 1] {
            let input: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            assert_eq!(cuts(&input), cuts(&input));
            assert!(cuts(&input).iter().all(|pieces| pieces.concat() == input));
            assert!(cuts(&input).iter().flatten().all(|piece| !piece.is_empty()));
        }
        assert!(cuts(&[7; 100]).iter().any(|pieces| pieces.len() > 10));
    }
}
