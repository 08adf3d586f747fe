//! The way to the MCP server and back.

pub mod answer;
pub(crate) mod exchange;
pub mod headers;
pub mod sse;
pub mod upstream;
