//! The specification, as tests against the real proxy: an issuer, an MCP server and the proxy on loopback.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod world;
mod engine;
mod attacks;
mod framing;
mod failing;
mod starting;
mod vanishing;
mod tokens;
mod issuers;
mod relaying;
mod upstream;
mod tls;
mod local;
mod stdio;
mod modern;
mod login;
mod login_config;
mod asgardeo;
mod originals;
mod binary;
mod diagnosis;
mod configuration;
mod corpus;
mod tidy;
