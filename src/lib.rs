//! The authorization proxy in front of an MCP server: an OAuth 2.1 protected resource in one small binary.
//!
//! The modules stand in the order in which a request meets them:
//! `edge` reads it, `route` and `cors` place it, `auth` verifies its token, `mcp` reads its message, `gate` decides,
//! `relay` carries it to the MCP server and streams the answer back; `provider` is the way to the identity provider; `proxy` wires these together and `reply` is the
//! one place where a refusal becomes HTTP. ARCHITECTURE.md draws the walk.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod proxy;
pub mod client;
pub mod edge;
pub mod gate;
pub mod cors;
pub mod route;
pub mod mcp;
pub mod auth;
pub mod metadata;
pub mod provider;
pub mod relay;
pub mod stdio;
pub mod local;
pub mod reply;
pub mod header;
pub mod limits;
pub mod clock;
pub mod secret;
pub mod log;
pub(crate) mod spare;
pub mod fuzz;
