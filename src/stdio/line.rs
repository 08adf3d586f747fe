//! One JSON-RPC message, with the places of the few values that a bridge looks at or changes.
//!
//! [`crate::mcp::message`] judges what a client may ask; this knows where things stand, in messages of both sides. It
//! reads the text once and keeps what it finds as it was written.

use std::borrow::Cow;
use std::ops::Range;

use crate::mcp::json::{JsonFault, Kind as Json, Reader};
use crate::mcp::message::VERSION_MEMBER;

/// `_meta` of a modern request: the capabilities of the client, for this request alone.
pub const CAPABILITIES_MEMBER: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta` of a modern request: who the client is.
pub const CLIENT_MEMBER: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta` of a modern request: which log messages it wants, if any.
pub const LOG_LEVEL_MEMBER: &str = "io.modelcontextprotocol/logLevel";
/// `_meta` of everything that belongs to a `subscriptions/listen`: the id of that request.
pub const SUBSCRIPTION_MEMBER: &str = "io.modelcontextprotocol/subscriptionId";
/// `_meta` of a `server/discover` result: who the server is.
pub const SERVER_MEMBER: &str = "io.modelcontextprotocol/serverInfo";

/// A value, as it was written and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece<'a> {
    /// Its text.
    pub raw: &'a str,
    /// What it is.
    pub kind: Json,
    /// Its first byte.
    pub at: usize,
}

impl<'a> Piece<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, JsonFault> {
        let (at, kind, raw) = reader.raw_at()?;
        Ok(Self { raw, kind, at })
    }

    /// Where it stands.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.raw.len()
    }

    /// What it means, where it is a string.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        if self.kind != Json::String {
            return None;
        }
        Reader::new(self.raw.as_bytes()).ok()?.string().ok()?.decode()
    }

    /// The number that we gave, if it is one of ours as we write them.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let number: u64 = self.raw.parse().ok()?;
        (self.kind == Json::Number && self.raw.as_bytes().first() != Some(&b'0')).then_some(number)
    }

    fn is_object(&self) -> bool {
        self.kind == Json::Object
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// `method` and `id`.
    Request,
    /// `method` alone.
    Notification,
    /// `id` with `result`.
    Result,
    /// `id` with `error`.
    Error,
}

/// A message that was read. Everything but `shape` is as it was met, and absent where it was not.
#[derive(Debug)]
pub struct Line<'a> {
    /// Which of the four.
    pub shape: Shape,
    /// The whole text.
    pub text: &'a str,
    /// `id`
    pub id: Option<Piece<'a>>,
    /// `method`; empty for responses.
    pub method: Cow<'a, str>,
    /// `params` or `result` or `error`, whichever there is.
    pub body: Option<Piece<'a>>,
    /// `_meta` within it.
    pub meta: Option<Piece<'a>>,
    /// `params._meta.progressToken`, by which a request asks to be told of its progress.
    pub token: Option<Piece<'a>>,
    /// `params.progressToken`, by which a notification says whose progress it tells.
    pub progress: Option<Piece<'a>>,
    /// `_meta["io.modelcontextprotocol/subscriptionId"]`
    pub subscription: Option<Piece<'a>>,
    /// `_meta["io.modelcontextprotocol/logLevel"]`
    pub log_level: Option<Piece<'a>>,
    /// `_meta["io.modelcontextprotocol/protocolVersion"]`
    pub version: Option<Piece<'a>>,
    /// `_meta["io.modelcontextprotocol/clientCapabilities"]`
    pub capabilities: Option<Piece<'a>>,
    /// `_meta["io.modelcontextprotocol/clientInfo"]`
    pub client: Option<Piece<'a>>,
    /// `params.requestId` of `notifications/cancelled`.
    pub cancelled: Option<Piece<'a>>,
    /// `params.arguments`
    pub arguments: Option<Piece<'a>>,
    /// `params.requestState` or `result.requestState`
    pub state: Option<Piece<'a>>,
    /// `params.inputResponses`
    pub responses: Option<Piece<'a>>,
    /// `result.resultType`
    pub result_type: Option<Piece<'a>>,
    /// `error.code`
    pub code: Option<Piece<'a>>,
    /// One name stands twice in one object, or a name cannot be decoded.
    pub ambiguous: bool,
}

/// Why a line is none of the four messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoMessage {
    /// Not JSON.
    Json(JsonFault),
    /// JSON, but not an object of one of the four shapes.
    Shape,
}

/// Whether a text begins as a message or a batch does. What does not is garbage, and a flood of that is to cost little.
pub(super) fn may_be_message(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

impl<'a> Line<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// [`NoMessage`]
    pub fn read(text: &'a [u8]) -> Result<Self, NoMessage> {
        let mut reader = Reader::new(text).map_err(NoMessage::Json)?;
        if reader.kind().map_err(NoMessage::Json)? != Json::Object {
            reader.skip().and_then(|_| reader.end()).map_err(NoMessage::Json)?;
            return Err(NoMessage::Shape);
        }
        let text = std::str::from_utf8(text).map_err(|_| NoMessage::Shape)?;
        let mut line = Self::empty(text);
        let (mut version, mut method, mut result, mut error) = (false, None, false, false);
        let read = reader.object(|reader, name| {
            match name {
                "jsonrpc" => version = reader.raw()?.1 == "\"2.0\"",
                "id" => line.id = Some(Piece::read(reader)?),
                "method" => method = Some(Piece::read(reader)?),
                "params" => line.read_body(reader)?,
                "result" => {
                    result = true;
                    line.read_body(reader)?;
                }
                "error" => {
                    error = true;
                    line.read_body(reader)?;
                }
                _ => drop(reader.skip()?),
            }
            Ok(())
        });
        read.and_then(|()| reader.end()).map_err(NoMessage::Json)?;
        line.ambiguous = reader.ambiguous();
        line.shape = match (&method, line.id.is_some(), result, error) {
            (Some(_), true, false, false) => Shape::Request,
            (Some(_), false, false, false) => Shape::Notification,
            (None, true, true, false) => Shape::Result,
            (None, true, false, true) => Shape::Error,
            _ => return Err(NoMessage::Shape),
        };
        if let Some(method) = method {
            line.method = method.text().ok_or(NoMessage::Shape)?;
        }
        if version { Ok(line) } else { Err(NoMessage::Shape) }
    }

    fn empty(text: &'a str) -> Self {
        Self {
            shape: Shape::Notification,
            text,
            id: None,
            method: Cow::Borrowed(""),
            body: None,
            meta: None,
            token: None,
            progress: None,
            subscription: None,
            log_level: None,
            version: None,
            capabilities: None,
            client: None,
            cancelled: None,
            arguments: None,
            state: None,
            responses: None,
            result_type: None,
            code: None,
            ambiguous: false,
        }
    }

    fn read_body(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonFault> {
        let at = reader.position();
        let kind = reader.kind()?;
        if kind == Json::Object {
            reader.object(|reader, name| {
                let slot = match name {
                    "_meta" => return self.read_meta(reader),
                    "code" => &mut self.code,
                    "progressToken" => &mut self.progress,
                    "requestId" => &mut self.cancelled,
                    "arguments" => &mut self.arguments,
                    "requestState" => &mut self.state,
                    "inputResponses" => &mut self.responses,
                    "resultType" => &mut self.result_type,
                    _ => return reader.skip().map(drop),
                };
                *slot = Some(Piece::read(reader)?);
                Ok(())
            })?;
        } else {
            reader.skip()?;
        }
        let raw = reader.between(at, reader.consumed());
        self.body = Some(Piece { raw, kind, at });
        Ok(())
    }

    fn read_meta(&mut self, reader: &mut Reader<'a>) -> Result<(), JsonFault> {
        let at = reader.position();
        let kind = reader.kind()?;
        if kind == Json::Object {
            reader.object(|reader, name| {
                let slot = match name {
                    "progressToken" => &mut self.token,
                    VERSION_MEMBER => &mut self.version,
                    CAPABILITIES_MEMBER => &mut self.capabilities,
                    CLIENT_MEMBER => &mut self.client,
                    LOG_LEVEL_MEMBER => &mut self.log_level,
                    SUBSCRIPTION_MEMBER => &mut self.subscription,
                    _ => return reader.skip().map(drop),
                };
                *slot = Some(Piece::read(reader)?);
                Ok(())
            })?;
        } else {
            reader.skip()?;
        }
        self.meta = Some(Piece { raw: reader.between(at, reader.consumed()), kind, at });
        Ok(())
    }

    /// The code of an error; one that cannot be read is an internal error's.
    #[must_use]
    pub fn error_code(&self) -> Option<i64> {
        let read = || self.code.and_then(|code| code.raw.parse().ok()).unwrap_or(-32603);
        (self.shape == Shape::Error).then(read)
    }

    /// The id of a request or response, where JSON-RPC allows it.
    #[must_use]
    pub fn readable_id(&self) -> Option<&'a str> {
        self.id.filter(|id| matches!(id.kind, Json::String | Json::Number)).map(|id| id.raw)
    }

    /// The result, where it is an object.
    #[must_use]
    pub fn result(&self) -> Option<Piece<'a>> {
        self.body.filter(|body| self.shape == Shape::Result && body.is_object())
    }

    /// The parameters, where they are an object.
    #[must_use]
    pub fn params(&self) -> Option<Piece<'a>> {
        let has = matches!(self.shape, Shape::Request | Shape::Notification);
        self.body.filter(|body| has && body.is_object())
    }
}
