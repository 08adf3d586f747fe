//! The way to the MCP server and back.

pub mod answer;
pub(crate) mod exchange;
pub mod headers;
pub mod sse;
pub(crate) mod streams;
mod redirect;
pub(crate) mod socket;
pub mod upstream;
