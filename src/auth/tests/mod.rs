//! Tests of the whole of `auth`: tokens that are really signed, and key sets that really come over a socket.

pub(crate) mod issuer;
mod tokens;
mod issuers;
mod opaque;
mod stores;
