//! What a line was that is longer than it may be: whose answer, so that its asker need not wait for it in vain.
//!
//! Of such a line only the two ends are kept. Servers write the id of an answer before its result or behind it, and
//! either way within a few bytes of an end. At the front it counts where `result` or `error` follows as a whole name. At
//! the end it counts where everything from it on is the rest of the outermost object: in JSON text the name `"id"` behind
//! a comma is a member's, and the last brace is the outermost one's. So the id is never one that stands deeper, in what
//! a tool said. Where neither end tells it, the line is the answer to whatever request is the only one under way.
//!
//! A line that begins as a request or a notification, or as nothing that we know, is nobody's answer.

use memchr::memmem;

use crate::limits::STDIO_CUT_BYTES;
use crate::mcp::json::{JsonFault, Kind, Reader};
use crate::reply::rpc_error;

/// Both ends of a line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cut {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// Whom a line answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answers {
    /// Whoever asked with this id, as it was written.
    One(String),
    /// It is an answer, and does not say whose.
    Somebody,
    /// It is no answer.
    Nobody,
}

impl Cut {
    /// Takes the next piece of the line.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = STDIO_CUT_BYTES - self.head.len();
        self.head.extend_from_slice(piece.get(..room).unwrap_or(piece));
        let last = piece.get(piece.len().saturating_sub(STDIO_CUT_BYTES)..).unwrap_or_default();
        let kept = STDIO_CUT_BYTES - last.len();
        self.tail.drain(..self.tail.len().saturating_sub(kept));
        self.tail.extend_from_slice(last);
    }

    /// Whom the line answers.
    #[must_use]
    pub fn answers(&self) -> Answers {
        let (before, follows) = front(&self.head);
        if !matches!(follows.as_deref(), Some("result" | "error")) {
            return Answers::Nobody;
        }
        match (before, behind(&self.tail)) {
            (Some(one), Some(other)) if one != other => Answers::Somebody,
            (Some(id), _) | (None, Some(id)) => Answers::One(id),
            (None, None) => Answers::Somebody,
        }
    }
}

/// What is said in the place of an answer that is lost.
pub(super) fn too_large(id: &str) -> String {
    rpc_error(-32603, "the MCP server's answer is too large", Some(id))
}

/// The id before the first member that is neither it nor `jsonrpc`, and the name of that member.
fn front(head: &[u8]) -> (Option<String>, Option<String>) {
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    };
    let Some(mut reader) = head.get(..whole).and_then(|head| Reader::new(head).ok()) else {
        return (None, None);
    };
    let (mut id, mut follows) = (None, None);
    // It ends with a fault, the one that says where to stop or another.
    let _ = reader.object(|reader, name| match name {
        "jsonrpc" => reader.skip().map(drop),
        "id" => take_id(reader, &mut id),
        _ => {
            follows = Some(name.to_owned());
            Err(JsonFault::Syntax(0))
        }
    });
    (id, follows)
}

/// The id behind everything else, with which the line ends but for `jsonrpc`.
fn behind(tail: &[u8]) -> Option<String> {
    let tail = tail.trim_ascii_end();
    let names: Vec<usize> = memmem::find_iter(tail, b"\"id\"").collect();
    names.into_iter().rev().find_map(|at| {
        let (before, rest) = tail.split_at_checked(at)?;
        if before.trim_ascii_end().last() != Some(&b',') {
            return None;
        }
        let rest = [b"{", rest].concat();
        let mut reader = Reader::new(&rest).ok()?;
        let mut id = None;
        let read = reader.object(|reader, name| match name {
            "jsonrpc" => reader.skip().map(drop),
            "id" => take_id(reader, &mut id),
            _ => Err(JsonFault::Syntax(0)),
        });
        read.and_then(|()| reader.end()).ok().and(id)
    })
}

fn take_id(reader: &mut Reader<'_>, id: &mut Option<String>) -> Result<(), JsonFault> {
    let (kind, raw) = reader.raw()?;
    if id.is_some() || !matches!(kind, Kind::String | Kind::Number) {
        return Err(JsonFault::Syntax(0)); // twice, or none that anybody asks with
    }
    *id = Some(raw.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 3.1: however a server orders the members of its answer, and however the line is read.
    #[test]
    fn the_asker_is_known_from_either_end() {
        let large = format!(r#"{{"text":"{},\"id\":7}}","deeper":{{"a":1,"id":8}}}}"#, "\u{e9}".repeat(3000));
        let one = |id: &str| Answers::One(id.into());
        for (line, expected) in [
            (r#"{"jsonrpc":"2.0","id":3,"result":LARGE}"#, one("3")),
            (r#"{ "id" : "a\"b" , "jsonrpc":"2.0", "error": LARGE }"#, one(r#""a\"b""#)),
            (r#"{"result":LARGE,"jsonrpc":"2.0","id":3}"#, one("3")),
            (r#"{"jsonrpc":"2.0","result":LARGE,"id":"x"}"#, one("\"x\"")),
            (r#"{"result":LARGE , "id" : 3 , "jsonrpc" : "2.0" }"#, one("3")),
            (r#"{"jsonrpc":"2.0","id":3,"result":LARGE,"id":3}"#, one("3")),
            // Whose it is cannot be told, or two readers would tell two.
            (r#"{"jsonrpc":"2.0","result":LARGE}"#, Answers::Somebody),
            (r#"{"jsonrpc":"2.0","result":LARGE,"id":null}"#, Answers::Somebody),
            (r#"{"jsonrpc":"2.0","id":3,"result":LARGE,"id":4}"#, Answers::Somebody),
            (r#"{"jsonrpc":"2.0","result":LARGE,"more":{"a":1,"id":3}}"#, Answers::Somebody),
            (r#"{"jsonrpc":"2.0","result":LARGE,"more":[{"a":1,"id":3}]}"#, Answers::Somebody),
            (r#"{"jsonrpc":"2.0","result":LARGE,"more":"x,\"id\":3}"#, Answers::Somebody),
            // What is no answer.
            (r#"{"jsonrpc":"2.0","id":3,"method":"a","params":LARGE}"#, Answers::Nobody),
            (r#"{"jsonrpc":"2.0","id":3,"params":LARGE,"method":"a"}"#, Answers::Nobody),
            (r#"{"params":LARGE,"method":"a","id":3}"#, Answers::Nobody),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":LARGE}"#, Answers::Nobody),
            (r#"{"jsonrpc":"2.0","id":LARGE}"#, Answers::Nobody),
            (r#"[{"jsonrpc":"2.0","id":3,"result":LARGE}]"#, Answers::Nobody),
            (r#"{"text":LARGE,"id":3}"#, Answers::Nobody),
            (r#"LARGE"#, Answers::Nobody),
            (r#"no JSON LARGE"#, Answers::Nobody),
        ] {
            let line = line.replace("LARGE", &large);
            for piece in [1, 7, 1000, 1024, 5000, line.len()] {
                let mut cut = Cut::default();
                line.as_bytes().chunks(piece).for_each(|piece| cut.push(piece));
                assert!(cut.head.len() <= STDIO_CUT_BYTES && cut.tail.len() <= STDIO_CUT_BYTES);
                let shown = line.replace(&large, "LARGE");
                assert_eq!(cut.answers(), expected, "{shown} in pieces of {piece}");
            }
        }
    }

    /// An id that goes on behind the bytes that are kept is not taken for a shorter one.
    #[test]
    fn half_an_id_is_none() {
        for at in STDIO_CUT_BYTES - 40..STDIO_CUT_BYTES + 10 {
            let mut cut = Cut::default();
            let space = " ".repeat(at);
            cut.push(format!(r#"{{{space}"id":12345,"result":{{}}}}"#).as_bytes());
            assert_ne!(cut.answers(), Answers::Somebody);
            assert!(
                matches!(cut.answers(), Answers::Nobody) || cut.answers() == Answers::One("12345".into())
            );
        }
    }
}
