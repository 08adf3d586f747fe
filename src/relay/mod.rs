//! The way to the MCP server and back.

pub mod upstream;
