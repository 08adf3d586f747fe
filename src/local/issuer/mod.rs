//! The authorization server of `--local`: an OAuth 2.1 provider for one person on one machine.
//!
//! ```text
//! discovery ─▶ /register ─▶ /authorize ─▶ consent page ─▶ /authorize/decision ─▶ redirect with a code
//!                                                                /token ◀─ code + verifier, later the refresh token
//! ```
//!
//! It does what MCP asks of a provider: metadata (RFC 8414 and OpenID discovery), dynamic registration (RFC 7591),
//! the authorization code flow with PKCE S256 and nothing else (OAuth 2.1), resource indicators as audience (RFC 8707),
//! `iss` in the answer (RFC 9207), RFC 9068 access tokens, and refresh tokens that are replaced at each use. It has one
//! user, who is not asked for a password: whoever can open a page on this machine is that user. So it runs on loopback
//! only, and under its own name only, or a page could reach it by DNS rebinding.

mod authorize;
mod book;
mod form;
mod mint;
mod page;
mod register;
mod token;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::edge::http1::{Fault, Incoming, Method};
use crate::edge::{Answer, Handler};
use crate::header;
use crate::limits::LOCAL_LOGIN_SECONDS;
use crate::log::Log;
use crate::reply::{HeaderValue, Reply};
use book::{Book, Client};
use mint::{Claims, Minter, random_name};
use register::Registration;

/// The `sub` of everybody here.
const SUBJECT: &str = "local-user";

/// The authorization server.
pub struct Issuer {
    url: String,
    minter: Minter,
    book: Mutex<Book>,
    resources: Vec<String>,
    scopes: Vec<(String, String)>,
    clock: Clock,
    log: Log,
}

/// An error of RFC 6749 section 5.2 or RFC 7591 section 3.2.2.
#[derive(Clone, Debug, Eq, PartialEq)]
struct OAuthError {
    error: &'static str,
    description: String,
}

impl OAuthError {
    fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { error, description: description.into() }
    }

    fn reply(&self) -> Reply {
        no_store(400, &json!({ "error": self.error, "error_description": self.description }))
    }
}

/// The endpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The metadata of RFC 8414 and of OpenID discovery.
    Metadata,
    /// The key set.
    Keys,
    /// RFC 7591.
    Register,
    /// The authorization endpoint.
    Authorize,
    /// Where the consent page's form goes.
    Decision,
    /// The token endpoint.
    Token,
    /// A preflight for one of those that pages may call.
    Preflight,
}

impl Issuer {
    /// A server under `url` (`http://127.0.0.1:port`) that issues tokens for `resources`, the first of them where a
    /// client names none, with these `(scope, meaning)`.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn new(
        url: String,
        resources: Vec<String>,
        scopes: Vec<(String, String)>,
        clock: Clock,
        log: Log,
    ) -> io::Result<Self> {
        let minter = Minter::new(&url)?;
        Ok(Self { url, minter, book: Mutex::default(), resources, scopes, clock, log })
    }

    /// An access token that nobody had to log in for.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub fn mint(&self, audience: &str, scope: &str, seconds: i64) -> io::Result<String> {
        let claims = Claims { subject: SUBJECT, client_id: "printed-at-start", audience, scope, seconds };
        self.minter.token(&claims, self.clock.now())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// RFC 8414 section 2, and what OpenID Connect Discovery 1.0 section 3 requires on top.
    fn metadata(&self) -> Value {
        let url = &self.url;
        let scopes: Vec<&str> = self.scopes.iter().map(|(scope, _)| scope.as_str()).collect();
        json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "registration_endpoint": format!("{url}/register"),
            "jwks_uri": format!("{url}/jwks"),
            "scopes_supported": scopes,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "subject_types_supported": ["public"],
            // It issues no ID token, so that RS256 need not stand here; this is what its key is for.
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    fn register(&self, request: &Incoming) -> Reply {
        let registration = match Registration::read(request.body()) {
            Ok(registration) => registration,
            Err(error) => return error.reply(),
        };
        let Ok(id) = random_name() else { return Reply::new(500) };
        let now = self.clock.now();
        self.log.info("a client registered", &[("client", &registration.name)]);
        let answer = registration.answer(&id, now.0);
        let client = Client { name: registration.name, redirect_uris: registration.redirect_uris };
        self.book().clients.put(id, client, now.plus(LOCAL_LOGIN_SECONDS));
        no_store(201, &answer)
    }

    fn route(&self, head: &Incoming) -> Result<Place, Reply> {
        let known = self.url.strip_prefix("http://").unwrap_or_default();
        let host = head.header_str(header::HOST).unwrap_or_default();
        let port = known.rsplit_once(':').map_or("", |(_, port)| port);
        if host != known && host.strip_prefix("localhost:") != Some(port) {
            return Err(Reply::new(403).body("the host is not this server's\n"));
        }
        let (place, method, for_pages) = match head.path() {
            "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration" => {
                (Place::Metadata, Method::Get, true)
            }
            "/jwks" => (Place::Keys, Method::Get, true),
            "/register" => (Place::Register, Method::Post, true),
            "/token" => (Place::Token, Method::Post, true),
            "/authorize" => (Place::Authorize, Method::Get, false),
            "/authorize/decision" => (Place::Decision, Method::Post, false),
            _ => return Err(Reply::new(404)),
        };
        match head.method() {
            given if given == method => Ok(place),
            Method::Options if for_pages => Ok(Place::Preflight),
            _ => Err(Reply::new(405).header(header::ALLOW, HeaderValue::fixed(method.as_str()))),
        }
    }
}

impl Handler for Issuer {
    type Pass = Place;

    fn admit(&self, head: &Incoming) -> Result<Place, Reply> {
        self.route(head)
    }

    fn serve(&self, place: Place, request: &Incoming) -> Answer {
        let reply = match place {
            Place::Metadata => Reply::json(200, self.metadata().to_string()),
            Place::Keys => Reply::json(200, self.minter.jwks().to_string()),
            Place::Register => self.register(request),
            Place::Authorize => return Answer::Reply(self.authorize(request)),
            Place::Decision => return Answer::Reply(self.decide(request)),
            Place::Token => self.token(request).unwrap_or_else(|error| error.reply()),
            Place::Preflight => Reply::new(204)
                .header(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::fixed("GET, POST"))
                .header(
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    HeaderValue::fixed("Authorization, Content-Type, MCP-Protocol-Version"),
                )
                .header(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::fixed("600")),
        };
        // Any page may speak to these: what they give away is public, or worth nothing without a person's consent and
        // the client's own verifier.
        Answer::Reply(reply.header(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::fixed("*")))
    }

    fn refuse(&self, _head: Option<&Incoming>, fault: Fault) -> Reply {
        Reply::new(fault.status()).body(format!("{fault}\n"))
    }
}

/// A JSON answer that no cache keeps (RFC 6749 section 5.1).
fn no_store(status: u16, body: &Value) -> Reply {
    Reply::json(status, body.to_string()).header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
}

#[cfg(test)]
mod tests;
