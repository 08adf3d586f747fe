//! The Model Context Protocol, as far as an authorization proxy looks at it.
