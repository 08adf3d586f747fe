//! What an identity provider must give the login relay, and how each of them is spoken to.
//!
//! ```text
//!  client ─ /authorize, /token, /register, metadata ─▶ relay.rs ─▶ Provider: default.rs or asgardeo.rs
//!                                                        │  form.rs, preset.rs: parameters on their way
//!                                                        │  recent.rs, rate.rs, share.rs: duplicates, too many
//!                                                        └─▶ idp.rs ─HTTPS─▶ identity provider
//! ```
//!
//! A [`Provider`] says where its endpoints are ([`Provider::describe`]) and, where registration is not just one more
//! request to pass on, how a client is registered ([`Provider::register`]). What differs between the others is data, in
//! `preset.rs`. Nothing in here knows MCP, and nothing of a login reaches the MCP server.

pub mod asgardeo;
pub mod default;
pub mod document;
pub mod form;
pub mod idp;
pub mod preset;
pub mod rate;
pub mod recent;
pub mod relay;
pub mod request;
pub mod share;
pub mod wait;

use document::{Description, Registration};
use idp::{Ask, Idp, IdpFault, JSON, Told};

use crate::clock::Timestamp;
use crate::reply::LoginFault;
use crate::secret::Secret;

/// An identity provider, as far as the login relay needs it.
pub trait Provider: Send + Sync {
    /// Where its endpoints are and what they can do; asked for if need be.
    ///
    /// # Errors
    /// [`IdpFault`]
    fn describe(&self, idp: &Idp) -> Result<Description, IdpFault>;

    /// Registers a client (RFC 7591). Most providers do it themselves.
    ///
    /// # Errors
    /// [`Trouble`]
    fn register(&self, idp: &Idp, known: &Description, client: &NewClient<'_>) -> Result<Told, Trouble> {
        let Some(Registration::At(place)) = &known.register else {
            return Err(Trouble::Client(LoginFault::NoRegistration));
        };
        let url = form::with_query(&place.url, client.query);
        let body = Some((JSON, client.body));
        let ask = Ask { url: &url, reach: place.reach, body, authorization: client.authorization };
        idp.ask(&ask).map_err(Trouble::Provider)
    }
}

/// A registration request.
#[derive(Debug)]
pub struct NewClient<'a> {
    /// The client's metadata, a JSON object (RFC 7591 section 2).
    pub body: &'a [u8],
    /// Parameters that the configuration adds to the provider's URL.
    pub query: &'a form::Form,
    /// The initial access token that the client may have (RFC 7591 section 3).
    pub authorization: Option<&'a Secret>,
    /// The time.
    pub now: Timestamp,
}

/// Why a request of a login failed: whose move is next.
#[derive(Debug)]
pub enum Trouble {
    /// The client's.
    Client(LoginFault),
    /// The operator's, or the provider's.
    Provider(IdpFault),
}
