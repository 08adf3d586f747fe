//! MCP servers that are programs: the bridge from HTTP to their standard input and output.

pub mod line;
pub mod params;
pub mod remap;
pub mod splice;
