//! The dated revisions of the protocol, and which era a request belongs to.
//!
//! Everything that differs between revisions is a method here, so that no other file compares dates. The era is decided
//! per request, from the body; the header is a cross-check and never lowers anything. A relay refuses only what is
//! wrong whatever the MCP server knows: versions that nobody here has heard of go on to the server, which answers them
//! itself.

use std::cmp::Ordering;

use super::Reason;
use super::message::{Kind, Message, Rpc, Value};

/// A revision of the protocol. Ordered by date.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Revision {
    /// HTTP+SSE.
    V2024_11_05,
    /// Streamable HTTP, batches, sessions.
    V2025_03_26,
    /// No batches; the server is an OAuth resource server.
    V2025_06_18,
    /// Step-up scopes.
    V2025_11_25,
    /// No handshake and no sessions; every request describes itself.
    V2026_07_28,
    /// Another date, as it is written.
    Unlisted([u8; 10]),
}

impl Revision {
    /// Reads `YYYY-MM-DD`; `None` for everything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let listed =
            [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];
        if let Some(revision) = listed.into_iter().find(|revision| revision.date() == text.as_bytes()) {
            return Some(revision);
        }
        let date: [u8; 10] = text.as_bytes().try_into().ok()?;
        let shaped = date.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        let within = |part: &str, most: u8| part.parse().is_ok_and(|number: u8| (1..=most).contains(&number));
        (shaped && within(text.get(5..7)?, 12) && within(text.get(8..)?, 31)).then_some(Self::Unlisted(date))
    }

    /// As it is written. Dates of this form sort as text.
    fn date(&self) -> &[u8] {
        match self {
            Self::V2024_11_05 => b"2024-11-05",
            Self::V2025_03_26 => b"2025-03-26",
            Self::V2025_06_18 => b"2025-06-18",
            Self::V2025_11_25 => b"2025-11-25",
            Self::V2026_07_28 => b"2026-07-28",
            Self::Unlisted(date) => date,
        }
    }

    /// Whether requests describe themselves, without a handshake (2026-07-28 and later).
    #[must_use]
    pub fn is_modern(self) -> bool {
        self >= Self::V2026_07_28
    }

    /// Whether a body may hold an array of messages (2025-03-26 alone).
    #[must_use]
    pub fn allows_batches(self) -> bool {
        self >= Self::V2025_03_26 && self < Self::V2025_06_18
    }

    /// Whether there is an `Mcp-Session-Id`, and GET and DELETE that go with it.
    #[must_use]
    pub fn has_sessions(self) -> bool {
        self >= Self::V2025_03_26 && !self.is_modern()
    }

    /// Whether a stream begins with an empty event, whose id leads back to it when it breaks (SH-05, SH-10).
    #[must_use]
    pub fn streams_resume(self) -> bool {
        self >= Self::V2025_11_25 && !self.is_modern()
    }

    /// Whether a client says its revision in `MCP-Protocol-Version`.
    #[must_use]
    pub fn has_version_header(self) -> bool {
        self >= Self::V2025_06_18
    }

    /// Whether a client that goes away has cancelled its request (M-14); before, it has not (SH-07).
    #[must_use]
    pub fn disconnect_cancels(self) -> bool {
        self.is_modern()
    }
}

impl Ord for Revision {
    fn cmp(&self, other: &Self) -> Ordering {
        self.date().cmp(other.date())
    }
}

impl PartialOrd for Revision {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How a request is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Era {
    /// With handshake, sessions, GET and DELETE; also whatever only the MCP server can judge.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

/// The era of a POST to the Streamable HTTP endpoint; `header` is its `MCP-Protocol-Version`. GET and DELETE are
/// operations on a session, hence always legacy.
///
/// # Errors
/// The rows of the era table that end in an error (M-01, M-03, M-06, SH-18).
pub fn era(header: Option<&[u8]>, message: &Message<'_>) -> Result<Era, Reason> {
    match message {
        Message::One(rpc) => era_of_one(header, rpc),
        Message::Batch(all) if all.iter().any(|rpc| rpc.claim != Value::Absent) => Err(Reason::ModernInBatch),
        Message::Batch(all) if all.iter().any(is_initialize) => Err(Reason::InitializeInBatch),
        Message::Batch(_) => Ok(Era::Legacy),
    }
}

fn era_of_one(header: Option<&[u8]>, rpc: &Rpc<'_>) -> Result<Era, Reason> {
    let header_is_modern = header.and_then(|value| std::str::from_utf8(value).ok()).is_some_and(names_modern);
    let by_header = if header_is_modern { Era::Modern } else { Era::Legacy };
    let claims_modern = rpc.claim.text().is_some_and(names_modern);
    if rpc.kind == Kind::Response {
        return Ok(Era::Legacy);
    }
    if is_initialize(rpc) && !claims_modern {
        return if header_is_modern { Err(Reason::InitializeUnderModern) } else { Ok(Era::Legacy) };
    }
    match (&rpc.claim, header) {
        (Value::Unreadable, _) => Err(Reason::ClaimUnreadable),
        (Value::Absent, _) if rpc.kind == Kind::Notification => Ok(by_header),
        (Value::Absent, _) if header_is_modern => Err(Reason::ClaimMissing),
        (Value::Absent, _) => Ok(Era::Legacy),
        (Value::Text(claim), Some(header)) if claim.as_bytes() != header => Err(Reason::VersionDiffers),
        // The header rules for notifications are undefined (M-02).
        (Value::Text(_), None) if rpc.kind == Kind::Request => Err(Reason::VersionMissing),
        (Value::Text(_), _) => Ok(if claims_modern { Era::Modern } else { Era::Legacy }),
    }
}

fn names_modern(version: &str) -> bool {
    Revision::parse(version).is_some_and(Revision::is_modern)
}

fn is_initialize(rpc: &Rpc<'_>) -> bool {
    rpc.kind == Kind::Request && rpc.method == "initialize"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_ordered_by_date() {
        for (text, modern, batches, sessions) in [
            ("2024-10-07", false, false, false),
            ("2024-11-05", false, false, false),
            ("2025-03-26", false, true, true),
            ("2025-06-18", false, false, true),
            ("2025-11-25", false, false, true),
            ("2026-07-27", false, false, true),
            ("2026-07-28", true, false, false),
            ("2027-01-01", true, false, false),
        ] {
            let revision = Revision::parse(text).unwrap();
            let found = (revision.is_modern(), revision.allows_batches(), revision.has_sessions());
            assert_eq!(found, (modern, batches, sessions), "{text}");
            assert_eq!(revision.streams_resume(), text >= "2025-11-25" && !modern, "{text}");
        }
        let others = "2025|2025-3-26|2025-03-2x|20250326|2025-13-01|2025-00-01|2025-01-32|2025-01-00|2025/03/26| \
            2025-03-26|2025-03-26 |DRAFT-2026|２025-03-2|+025-01-01|2025-+1-01";
        for text in others.split('|').chain([""]) {
            assert_eq!(Revision::parse(text), None, "{text}");
        }
    }

    /// The era table of 2.7, row by row, and what it leaves open.
    #[test]
    fn the_era_table() {
        const MODERN: &str = "2026-07-28";
        let claim = |method: &str, version: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":{version}}}}}}}"#
            )
        };
        let plain = |method: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned();
        let note = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#.to_owned();
        let batch = |all: &[&str]| format!("[{}]", all.join(","));
        let modern = claim("tools/list", "\"2026-07-28\"");
        let (legacy, modern_era) = (Ok(Era::Legacy), Ok(Era::Modern));
        for (body, header, expected) in [
            // POST, `initialize` without valid modern `_meta`
            (plain("initialize"), None, legacy),
            (plain("initialize"), Some("2025-11-25"), legacy),
            (plain("initialize"), Some("gibberish"), legacy),
            (plain("initialize"), Some(MODERN), Err(Reason::InitializeUnderModern)),
            (plain("initialize"), Some("2027-01-01"), Err(Reason::InitializeUnderModern)),
            (claim("initialize", "\"2025-11-25\""), None, legacy),
            (claim("initialize", "5"), Some(MODERN), Err(Reason::InitializeUnderModern)),
            (claim("initialize", "\"2026-07-28\""), Some(MODERN), modern_era),
            // POST, request with `_meta` protocolVersion
            (modern.clone(), Some(MODERN), modern_era),
            (claim("ping", "\"2027-01-01\""), Some("2027-01-01"), modern_era),
            (modern.clone(), None, Err(Reason::VersionMissing)),
            (modern.clone(), Some("2025-11-25"), Err(Reason::VersionDiffers)),
            (modern.clone(), Some("2027-01-01"), Err(Reason::VersionDiffers)),
            (modern.clone(), Some("gibberish"), Err(Reason::VersionDiffers)),
            (modern.clone(), Some(""), Err(Reason::VersionDiffers)),
            (claim("ping", "null"), Some(MODERN), Err(Reason::ClaimUnreadable)),
            (claim("ping", "\"\\ud800\""), Some(MODERN), Err(Reason::ClaimUnreadable)),
            (claim("ping", "\"gibberish\""), Some("gibberish"), legacy), // M-04 is the server's to say
            // POST, request without it
            (plain("tools/list"), Some(MODERN), Err(Reason::ClaimMissing)),
            (plain("tools/list"), Some("2031-12-31"), Err(Reason::ClaimMissing)),
            (plain("tools/list"), Some("2025-06-18"), legacy),
            (plain("tools/list"), Some("gibberish"), legacy), // SH-16 too
            (plain("tools/list"), None, legacy),
            // POST, response or all-legacy array
            (response.clone(), None, legacy),
            (response.clone(), Some(MODERN), legacy),
            (batch(&[&plain("ping"), &note]), None, legacy),
            (batch(&[&response, &response]), Some("2025-03-26"), legacy),
            // POST, array with a modern or invalid element
            (batch(&[&plain("ping"), &modern]), None, Err(Reason::ModernInBatch)),
            (batch(&[&modern]), Some(MODERN), Err(Reason::ModernInBatch)),
            (batch(&[&plain("initialize")]), None, Err(Reason::InitializeInBatch)), // SH-18
            // POST, notification without claim
            (note.clone(), Some(MODERN), modern_era),
            (note.clone(), None, legacy),
            // and with one
            (modern.replace(r#""id":1,"#, ""), None, modern_era),
            (modern.replace(r#""id":1,"#, ""), Some("2025-11-25"), Err(Reason::VersionDiffers)),
        ] {
            let message = Message::read(body.as_bytes()).unwrap();
            assert_eq!(era(header.map(str::as_bytes), &message), expected, "{header:?} {body}");
        }
    }

    /// Section 1.3 number 6 and the table of 2.7.
    #[test]
    fn errors_have_the_codes_of_the_table() {
        for (reason, code) in [
            (Reason::InitializeUnderModern, -32020),
            (Reason::VersionMissing, -32020),
            (Reason::VersionDiffers, -32020),
            (Reason::ClaimMissing, -32602),
            (Reason::ClaimUnreadable, -32602),
            (Reason::ModernInBatch, -32600),
            (Reason::InitializeInBatch, -32600),
        ] {
            assert_eq!(reason.code(), code, "{reason:?}");
        }
    }
}
