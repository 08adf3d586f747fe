//! The Model Context Protocol, as far as an authorization proxy looks at it.
//!
//! [`json`] reads the text, [`message`] the few fields that a decision rests on, [`revision`] says which era of the
//! protocol a message belongs to, and [`mirror`] holds the headers that repeat the message against it. All of it is
//! pure. Nothing here changes a message: what was judged is forwarded byte for byte.
//!
//! Every reason for which a message is refused stands in [`Reason`], beside its JSON-RPC error code.

pub mod json;
pub mod message;
pub mod mirror;
pub mod revision;

use std::fmt;

use smol_str::SmolStr;

use json::JsonFault;

/// Why a message is not relayed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Not JSON, or not in UTF-8.
    NotJson(JsonFault),
    /// Neither an object nor an array, or an element of a batch that is no object.
    NotAMessage,
    /// An array without elements (JSON-RPC 2.0 section 6).
    BatchEmpty,
    /// More elements than [`crate::limits::BATCH_MESSAGES_MAX`].
    BatchTooLong,
    /// One name twice in one object, or a name with a lone surrogate: two parsers could see two messages.
    NameRepeated,
    /// A name that a parser which ignores case would take for this one.
    NameLookalike(&'static str),
    /// `jsonrpc` is not `"2.0"`.
    NotJsonRpc,
    /// `method` is no string, is empty, or cannot be decoded.
    BadMethod,
    /// `id` is neither string nor number, or is missing where it must be.
    BadId,
    /// `method` together with `result` or `error`, or both of these, or none of the three.
    BadKind,
    /// `params` is a string, a number or a boolean.
    BadParams,
    /// `initialize` as an element of a batch (SH-18).
    InitializeInBatch,
    /// A batch with a message of 2026-07-28 or later (M-01).
    ModernInBatch,
    /// `params` is not an object where a decision rests on one of its members.
    ParamsNotObject,
    /// This member of `params` is missing, is no string, or cannot be decoded, while a decision rests on it.
    ItemUnreadable(&'static str),
    /// The protocol version in `_meta` is not a string (M-06).
    ClaimUnreadable,
    /// The header names a modern revision while `_meta` names none (M-06).
    ClaimMissing,
    /// `_meta` of a modern request does not hold the capabilities of its client (M-06).
    CapabilitiesMissing,
    /// `initialize` under a revision that has none.
    InitializeUnderModern,
    /// `MCP-Protocol-Version` is missing on a modern request (M-03).
    VersionMissing,
    /// `MCP-Protocol-Version` and `_meta` differ (M-03).
    VersionDiffers,
    /// This header is missing on a modern request (M-07, M-08).
    MirrorMissing(&'static str),
    /// This header and the message differ (M-07, M-08).
    MirrorDiffers(&'static str),
    /// This header is not what `=?base64?…?=` may hold (M-08).
    MirrorUndecodable(&'static str),
}

impl Reason {
    /// The code of the JSON-RPC error: those of JSON-RPC 2.0 section 5.1, and `HeaderMismatch` of MCP 2026-07-28.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::NotJson(_) => -32700,
            Self::NotAMessage
            | Self::BatchEmpty
            | Self::BatchTooLong
            | Self::NameRepeated
            | Self::NameLookalike(_)
            | Self::NotJsonRpc
            | Self::BadMethod
            | Self::BadId
            | Self::BadKind
            | Self::BadParams
            | Self::InitializeInBatch
            | Self::ModernInBatch => -32600,
            Self::ParamsNotObject
            | Self::ItemUnreadable(_)
            | Self::ClaimUnreadable
            | Self::ClaimMissing
            | Self::CapabilitiesMissing => -32602,
            Self::InitializeUnderModern
            | Self::VersionMissing
            | Self::VersionDiffers
            | Self::MirrorMissing(_)
            | Self::MirrorDiffers(_)
            | Self::MirrorUndecodable(_) => -32020,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(fault) => write!(f, "{fault}"),
            Self::NotAMessage => f.write_str("a message is a JSON object"),
            Self::BatchEmpty => f.write_str("the batch is empty"),
            Self::BatchTooLong => f.write_str("the batch has too many messages"),
            Self::NameRepeated => f.write_str("a member name occurs twice or cannot be decoded"),
            Self::NameLookalike(name) => write!(f, "a member name differs from {name} only in case"),
            Self::NotJsonRpc => f.write_str("jsonrpc must be \"2.0\""),
            Self::BadMethod => f.write_str("method must be a non-empty string"),
            Self::BadId => f.write_str("id must be a string or a number"),
            Self::BadKind => f.write_str("a message has exactly one of method, result and error"),
            Self::BadParams => f.write_str("params must be an object or an array"),
            Self::InitializeInBatch => f.write_str("initialize must not be part of a batch"),
            Self::ModernInBatch => f.write_str("this protocol version has no batches"),
            Self::ParamsNotObject => f.write_str("params must be an object"),
            Self::ItemUnreadable(name) => write!(f, "params.{name} must be a string"),
            Self::ClaimUnreadable => f.write_str("the protocol version in _meta must be a string"),
            Self::ClaimMissing => {
                f.write_str("params._meta must name the protocol version that MCP-Protocol-Version names")
            }
            Self::CapabilitiesMissing => {
                f.write_str("params._meta must hold io.modelcontextprotocol/clientCapabilities, an object")
            }
            Self::InitializeUnderModern => {
                f.write_str("the protocol version that MCP-Protocol-Version names has no initialize")
            }
            Self::VersionMissing => f.write_str("MCP-Protocol-Version is missing"),
            Self::VersionDiffers => f.write_str("MCP-Protocol-Version differs from the version in _meta"),
            Self::MirrorMissing(name) => write!(f, "{name} is missing"),
            Self::MirrorDiffers(name) => write!(f, "{name} differs from the message"),
            Self::MirrorUndecodable(name) => write!(f, "{name} is not valid base64 of UTF-8 text"),
        }
    }
}

/// A message that is refused, with the `id` for the error, as it was written, when it could be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MessageFault {
    /// What is wrong.
    pub reason: Reason,
    /// JSON text, a string or a number.
    pub id: Option<SmolStr>,
}

impl fmt::Display for MessageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)
    }
}

impl std::error::Error for MessageFault {}
