//! What a method and a path ask for.
//!
//! Paths are compared as they were sent, byte for byte: nothing is decoded, folded or normalised, so no spelling of a
//! path can be protected under one name here and served under another behind us. What is not listed does not exist.

use crate::config::Config;
use crate::edge::http1::Method;
use crate::metadata;
use crate::provider::document;

/// One of the three places where MCP is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// Streamable HTTP: POST, and GET and DELETE for sessions (2025-03-26 and later).
    StreamableHttp,
    /// HTTP+SSE: the event stream (2024-11-05).
    Sse,
    /// HTTP+SSE: where messages are posted.
    Messages,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::StreamableHttp, Self::Sse, Self::Messages];

    /// Its path, as configured.
    #[must_use]
    pub fn path(self, config: &Config) -> &str {
        match self {
            Self::StreamableHttp => &config.paths.streamable_http,
            Self::Sse => &config.paths.sse,
            Self::Messages => &config.paths.messages,
        }
    }
}

/// One of the metadata documents (RFC 9728 section 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Document {
    /// That of one endpoint.
    Of(Endpoint),
    /// That of the origin, for clients that look nowhere else (PRM-05).
    Root,
}

/// One of the paths of the login relay, which need no token and never lead to the MCP server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Login {
    /// Authorization server metadata, by its number in [`document::places`].
    Document(usize),
    /// Where a browser is sent on to the identity provider.
    Authorize,
    /// Where codes and refresh tokens are exchanged.
    Token,
    /// Where clients register.
    Register,
    /// Another path of `path_mapping`, by its number there.
    Passed(usize),
}

/// Something that is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// MCP itself.
    Mcp(Endpoint),
    /// A document that everybody may read.
    ResourceMetadata(Document),
    /// Logging in, through us.
    Login(Login),
    /// `*`, the server as a whole (RFC 9110 section 9.3.7).
    Server,
}

impl Place {
    /// The value of `Allow`.
    #[must_use]
    pub fn allow(self) -> &'static str {
        match self {
            Self::Mcp(Endpoint::StreamableHttp) | Self::Server => "GET, POST, DELETE, OPTIONS",
            Self::Mcp(Endpoint::Sse) => "GET, OPTIONS",
            Self::Mcp(Endpoint::Messages) => "POST, OPTIONS",
            Self::ResourceMetadata(_) | Self::Login(Login::Document(_)) => "GET, HEAD, OPTIONS",
            Self::Login(Login::Authorize) => "GET, OPTIONS",
            Self::Login(Login::Token | Login::Register) => "POST, OPTIONS",
            Self::Login(Login::Passed(_)) => "GET, POST, OPTIONS",
        }
    }

    fn allows(self, method: Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// To speak MCP.
    Mcp(Endpoint),
    /// To read a document.
    ResourceMetadata(Document),
    /// To log in.
    Login(Login),
    /// To know what is allowed here, as a browser does before it sends what it was asked to.
    Preflight(Place),
    /// Nothing that there is.
    NotFound,
    /// A method that this place does not have.
    MethodNotAllowed(Place),
}

/// The table of paths.
#[derive(Debug)]
pub struct Routes {
    places: Vec<(String, Place)>,
}

impl Routes {
    /// The table for this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut places = Vec::new();
        for endpoint in Endpoint::ALL {
            let path = endpoint.path(config);
            places.push((path.to_owned(), Place::Mcp(endpoint)));
            // MCP servers announce /messages and /messages/ alike for one route.
            if let (Endpoint::Messages, Some(without)) = (endpoint, path.strip_suffix('/')) {
                places.push((without.to_owned(), Place::Mcp(endpoint)));
            }
        }
        for endpoint in Endpoint::ALL {
            let path = metadata::well_known(&config.public, endpoint.path(config));
            let place = Place::ResourceMetadata(Document::Of(endpoint));
            // Some clients take the slash at the end of an endpoint off before they insert its path.
            if let Some(without) = path.strip_suffix('/') {
                places.push((without.to_owned(), place));
            }
            places.push((path, place));
        }
        places.push((metadata::WELL_KNOWN.to_owned(), Place::ResourceMetadata(Document::Root)));
        places.extend(login_places(config).into_iter().map(|(path, login)| (path, Place::Login(login))));
        places.push(("*".to_owned(), Place::Server));
        Self { places }
    }

    /// What this method on this path asks for. The path is without its query.
    #[must_use]
    pub fn of(&self, method: Method, path: &str) -> Route {
        let Some((_, place)) = self.places.iter().find(|(known, _)| known == path) else {
            return Route::NotFound;
        };
        match *place {
            place if method == Method::Options => Route::Preflight(place),
            place if !place.allows(method) => Route::MethodNotAllowed(place),
            Place::Mcp(endpoint) => Route::Mcp(endpoint),
            Place::ResourceMetadata(document) => Route::ResourceMetadata(document),
            Place::Login(login) => Route::Login(login),
            Place::Server => Route::NotFound,
        }
    }
}

/// The paths of the login relay, where it is on.
fn login_places(config: &Config) -> Vec<(String, Login)> {
    let Some(login) = &config.login else { return Vec::new() };
    let mut places: Vec<(String, Login)> = [
        (document::AUTHORIZE, Login::Authorize),
        (document::TOKEN, Login::Token),
        (document::REGISTER, Login::Register),
    ]
    .map(|(path, login)| (path.to_owned(), login))
    .to_vec();
    let endpoints = Endpoint::ALL.map(|endpoint| endpoint.path(config));
    let documents = document::places(&config.public, &endpoints).into_iter().enumerate();
    places.extend(documents.map(|(n, (path, _))| (path, Login::Document(n))));
    let passed = login.passed.iter().enumerate();
    places.extend(passed.map(|(n, (path, _))| (path.clone(), Login::Passed(n))));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::config;

    /// T-05, SSE-01, PRM-01, PRM-03, PRM-05.
    #[test]
    fn methods_and_paths_lead_where_they_should() {
        use Method::{Delete, Get, Head, Options, Patch, Post, Put};
        let routes = Routes::new(&config());
        let mcp = Place::Mcp(Endpoint::StreamableHttp);
        let (sse, messages) = (Place::Mcp(Endpoint::Sse), Place::Mcp(Endpoint::Messages));
        let of = |endpoint| Route::ResourceMetadata(Document::Of(endpoint));
        for (method, path, route) in [
            (Post, "/mcp", Route::Mcp(Endpoint::StreamableHttp)),
            (Get, "/mcp", Route::Mcp(Endpoint::StreamableHttp)),
            (Delete, "/mcp", Route::Mcp(Endpoint::StreamableHttp)),
            (Head, "/mcp", Route::MethodNotAllowed(mcp)),
            (Put, "/mcp", Route::MethodNotAllowed(mcp)),
            (Patch, "/mcp", Route::MethodNotAllowed(mcp)),
            (Options, "/mcp", Route::Preflight(mcp)),
            (Get, "/sse", Route::Mcp(Endpoint::Sse)),
            (Post, "/sse", Route::MethodNotAllowed(sse)),
            (Delete, "/sse", Route::MethodNotAllowed(sse)),
            (Post, "/messages/", Route::Mcp(Endpoint::Messages)),
            (Post, "/messages", Route::Mcp(Endpoint::Messages)),
            (Get, "/messages/", Route::MethodNotAllowed(messages)),
            (Get, "/.well-known/oauth-protected-resource/mcp", of(Endpoint::StreamableHttp)),
            (Head, "/.well-known/oauth-protected-resource/sse", of(Endpoint::Sse)),
            (Get, "/.well-known/oauth-protected-resource/messages/", of(Endpoint::Messages)),
            (Get, "/.well-known/oauth-protected-resource/messages", of(Endpoint::Messages)),
            (Get, "/.well-known/oauth-protected-resource", Route::ResourceMetadata(Document::Root)),
            (
                Post,
                "/.well-known/oauth-protected-resource",
                Route::MethodNotAllowed(Place::ResourceMetadata(Document::Root)),
            ),
            (Options, "*", Route::Preflight(Place::Server)),
        ] {
            assert_eq!(routes.of(method, path), route, "{} {path}", method.as_str());
        }
    }

    /// Section 4.12: no spelling of a path but its own.
    #[test]
    fn paths_are_literal() {
        let routes = Routes::new(&config());
        for path in "/|//mcp|/mcp/|/mcp//|/MCP|/Mcp|/%6dcp|/mcp%2f|/mcp;x|/mcp;x=1|/./mcp|/x/../mcp|/sse/../mcp|/sse/\
            |//sse|/sse%20|/messages//|/messages/x|/.well-known/oauth-protected-resource/|/.well-known/oauth-protected-\
            resource/x|/.well-known/oauth-protected-resource/mcp/|/.well-known/oauth-authorization-server|/healthz"
            .split('|')
        {
            for method in [Method::Get, Method::Post, Method::Delete, Method::Options] {
                assert_eq!(routes.of(method, path), Route::NotFound, "{path}");
            }
        }
    }

    /// PRM-03: the path of the public URL is what clients insert, and a proxy in front passes it on.
    #[test]
    fn the_public_prefix_is_part_of_the_metadata_path() {
        let mut config = config();
        config.public.prefix = "/a/b".to_owned();
        let routes = Routes::new(&config);
        let of = |path: &str| routes.of(Method::Get, path);
        assert_eq!(of("/mcp"), Route::Mcp(Endpoint::StreamableHttp));
        assert_eq!(
            of("/.well-known/oauth-protected-resource/a/b/mcp"),
            Route::ResourceMetadata(Document::Of(Endpoint::StreamableHttp))
        );
        assert_eq!(of("/.well-known/oauth-protected-resource/mcp"), Route::NotFound);
        assert_eq!(of("/a/b/mcp"), Route::NotFound);
    }

    /// PRM-03: the endpoint at the root has the root document.
    #[test]
    fn an_endpoint_at_the_root_owns_the_root_document() {
        let mut config = config();
        config.paths.streamable_http = "/".to_owned();
        let found = Routes::new(&config).of(Method::Get, metadata::WELL_KNOWN);
        assert_eq!(found, Route::ResourceMetadata(Document::Of(Endpoint::StreamableHttp)));
    }
}
