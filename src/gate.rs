//! The whole policy, in the order in which it is applied.
//!
//! [`Gate::admit`] judges the head before a byte of the body is waited for: where the request comes from, what it asks
//! for, and whose token it carries. [`Gate::decide`] judges the whole request: what its message is, whether its headers
//! agree, and whether that token is enough. What passes both is a [`Relay`] with a [`Permit`] in it, and nothing else
//! makes one. All branching is here; what is called is pure, but for the one wait for keys in `auth`.

mod audit;
mod failures;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smol_str::SmolStr;

use crate::auth::fault::TokenFault;
use crate::auth::scope::{CallSubject, ScopeSet};
use crate::auth::{AuthError, Authenticator, Denied, Permit, Principal};
use crate::client::{Client, Proxies};
use crate::clock::Timestamp;
use crate::config::{Config, RuleSubject};
use crate::cors::{Cors, Foreign, Grant};
use crate::edge::http1::{Incoming, Method};
use crate::header;
use crate::mcp::message::{Kind, Message, Rpc, item_member};
use crate::mcp::revision::{self, Era};
use crate::mcp::{MessageFault, Reason, mirror};
use crate::metadata::Metadata;
use crate::provider::request::check_head;
use crate::reply::{ClientFault, Refusal, Reply};
use crate::route::{Endpoint, Login, Place, Route, Routes};
use audit::clean;
use failures::Failures;

pub use audit::{Audit, Cleaned, Decision};

/// Every rule, ready to be applied. Shared by all workers.
pub struct Gate {
    cors: Cors,
    routes: Routes,
    metadata: Metadata,
    auth: Authenticator,
    proxies: Proxies,
    failures: Failures,
    /// What a client that has no token is told to ask for where its request needs nothing in particular (PRM-07).
    published: ScopeSet,
    /// The methods that have a rule for one of their items, which must then be readable.
    item_methods: HashSet<String>,
}

/// A request whose head was judged: it is for MCP, and its token holds.
#[derive(Debug)]
pub struct Admitted {
    /// Where it goes.
    pub endpoint: Endpoint,
    /// What its answer grants to a page; see [`Grant::headers`].
    pub grant: Grant,
    /// Where it comes from.
    pub client: IpAddr,
    principal: Arc<Principal>,
}

/// A request that may go on to the MCP server.
#[derive(Debug)]
pub struct Relay {
    /// The proof of it.
    pub permit: Permit,
    /// Where it goes.
    pub endpoint: Endpoint,
    /// How it is meant.
    pub era: Era,
    /// The id of a single request, as it was written, for errors of ours.
    pub id: Option<SmolStr>,
    /// Whether a request is among its messages, so that an answer to it is due.
    pub expects_answer: bool,
}

/// Why a head does not lead to a message.
enum Stop<'a> {
    Answer(Reply),
    Refuse(Refusal<'a>),
}

impl<'a> From<Refusal<'a>> for Stop<'a> {
    fn from(refusal: Refusal<'a>) -> Self {
        Self::Refuse(refusal)
    }
}

impl Gate {
    /// The rules of `config`; `bound` is what the listener got.
    #[must_use]
    pub fn new(config: &Config, auth: Authenticator, bound: SocketAddr) -> Self {
        let item_methods = config.scopes.rules.iter().filter_map(|rule| match &rule.subject {
            RuleSubject::Item { method, .. } => Some(method.clone()),
            RuleSubject::Method(_) | RuleSubject::Family(_) | RuleSubject::Path(_) => None,
        });
        Self {
            cors: Cors::new(config, bound),
            routes: Routes::new(config),
            metadata: Metadata::new(config),
            auth,
            proxies: Proxies::new(config.trusted_proxies.clone()),
            failures: Failures::new(config.limits.auth_failures_per_minute),
            published: config.resource.scopes_supported.clone(),
            item_methods: item_methods.collect(),
        }
    }

    /// Judges a request by its head.
    ///
    /// # Errors
    /// The answer, where the request goes no further: a refusal, a document, or what a preflight asks for.
    pub fn admit(&self, head: &Incoming, now: Timestamp, audit: &mut Audit) -> Result<Admitted, Reply> {
        let route = self.routes.of(head.method(), head.path());
        let client = self.proxies.client_of(head);
        audit.client = Some(client.address);
        let grant = self.grant(head, route).map_err(|foreign| audit.refuse(&Refusal::Foreign(foreign)))?;
        match self.judge_head(head, route, &grant, client, now) {
            Ok((endpoint, principal)) => {
                audit.principal = Some(Arc::clone(&principal));
                match check_representation(head) {
                    Ok(()) => Ok(Admitted { endpoint, grant, client: client.address, principal }),
                    Err(fault) => Err(grant.dress(audit.refuse(&Refusal::Client(fault)))),
                }
            }
            Err(Stop::Answer(reply)) => {
                audit.decision = Decision::Answered;
                Err(grant.dress(reply))
            }
            Err(Stop::Refuse(refusal)) => Err(grant.dress(audit.refuse(&refusal))),
        }
    }

    /// Judges the head of a request that is a part of a login, `None` where it is not. It needs no token; host and origin
    /// are judged as for MCP. With it comes its client.
    ///
    /// # Errors
    /// The answer, where it is refused.
    pub fn login(&self, head: &Incoming, audit: &mut Audit) -> Result<Option<(Login, Grant, Client)>, Reply> {
        let route = self.routes.of(head.method(), head.path());
        let Route::Login(login) = route else { return Ok(None) };
        let client = self.proxies.client_of(head);
        audit.client = Some(client.address);
        let grant = self.grant(head, route).map_err(|foreign| audit.refuse(&Refusal::Foreign(foreign)))?;
        match check_head(login, head) {
            Ok(()) => Ok(Some((login, grant, client))),
            Err(fault) => Err(grant.dress(audit.refuse(&Refusal::Login(fault)))),
        }
    }

    /// Everything that is judged without a byte of the body. Host and origin have been, before anything else.
    fn judge_head(
        &self,
        head: &Incoming,
        route: Route,
        grant: &Grant,
        client: Client,
        now: Timestamp,
    ) -> Result<(Endpoint, Arc<Principal>), Stop<'_>> {
        let endpoint = match route {
            Route::Mcp(endpoint) => endpoint,
            Route::ResourceMetadata(document) => return Err(Stop::Answer(self.metadata.reply(document))),
            // Judged by `login`, before; none of them is ever MCP.
            Route::Login(_) => return Err(Refusal::NotFound.into()),
            Route::Preflight(place) => return Err(Stop::Answer(self.cors.preflight(head, grant, place))),
            Route::NotFound => return Err(Refusal::NotFound.into()),
            Route::MethodNotAllowed(place) => return Err(Refusal::MethodNotAllowed(place).into()),
        };
        check_unique(head).map_err(Refusal::Client)?;
        if let Some(seconds) = self.failures.spent(client, now)
            && self.auth.would_verify(head, now)
        {
            return Err(Refusal::TooManyFailures { seconds }.into());
        }
        let principal = self.auth.authenticate(head, now).map_err(|error| match error {
            AuthError::Denied(denied) => {
                if is_forged(&denied) {
                    self.failures.count(client, now);
                }
                self.denied(denied, endpoint, head)
            }
            AuthError::KeysUnavailable | AuthError::IntrospectionUnavailable => Refusal::KeysUnavailable,
        })?;
        Ok((endpoint, principal))
    }

    /// Judges an admitted request whose body is whole.
    ///
    /// # Errors
    /// The answer, where it is refused.
    pub fn decide(&self, admitted: &Admitted, request: &Incoming, audit: &mut Audit) -> Result<Relay, Reply> {
        let judged = match request.method() {
            Method::Post => self.judge_message(admitted, request, audit),
            _ => self.judge_session_operation(admitted, request),
        };
        match judged {
            Ok(relay) => {
                audit.decision = Decision::Relayed;
                Ok(relay)
            }
            Err(refusal) => Err(admitted.grant.dress(audit.refuse(&refusal))),
        }
    }

    /// POST. The ladder is that of the official servers: text, era, headers; then the scopes of all messages together.
    fn judge_message(
        &self,
        admitted: &Admitted,
        request: &Incoming,
        audit: &mut Audit,
    ) -> Result<Relay, Refusal<'_>> {
        let message = Message::read(request.body()).map_err(Refusal::Message)?;
        audit.note(&message);
        let fault = |reason| Refusal::Message(MessageFault { reason, id: message.id().map(SmolStr::from) });
        let endpoint = admitted.endpoint;
        let era = match endpoint {
            Endpoint::StreamableHttp => {
                revision::era(request.header(header::MCP_PROTOCOL_VERSION), &message).map_err(fault)?
            }
            // HTTP+SSE belongs to 2024-11-05, whatever is sent over it.
            Endpoint::Sse | Endpoint::Messages => Era::Legacy,
        };
        let (method, name) = (request.header(header::MCP_METHOD), request.header(header::MCP_NAME));
        mirror::check(method, name, era, &message).map_err(fault)?;
        for rpc in message.all() {
            if rpc.item().is_none() && self.item_methods.contains(&*rpc.method) {
                return Err(fault(Reason::ItemUnreadable(item_member(&rpc.method).unwrap_or("name"))));
            }
        }
        let path = request.path();
        let permit = match &message {
            Message::One(rpc) => self.permit(admitted, request, &[subject_of(rpc, path)])?,
            Message::Batch(all) => {
                let calls: Vec<_> = all.iter().map(|rpc| subject_of(rpc, path)).collect();
                self.permit(admitted, request, &calls)?
            }
        };
        Ok(Relay {
            permit,
            endpoint,
            era,
            id: message.id().map(SmolStr::from),
            expects_answer: message.all().iter().any(|rpc| rpc.kind == Kind::Request),
        })
    }

    /// GET and DELETE: the event stream, and the end of a session. They carry no message, so the rules for paths are
    /// the ones that can apply.
    fn judge_session_operation(&self, admitted: &Admitted, request: &Incoming) -> Result<Relay, Refusal<'_>> {
        if !request.body().is_empty() {
            return Err(Refusal::Client(ClientFault::UnexpectedBody));
        }
        let call = CallSubject { method: "", item: None, path: request.path() };
        Ok(Relay {
            permit: self.permit(admitted, request, &[call])?,
            endpoint: admitted.endpoint,
            era: Era::Legacy,
            id: None,
            expects_answer: false,
        })
    }

    fn permit(
        &self,
        admitted: &Admitted,
        request: &Incoming,
        calls: &[CallSubject<'_>],
    ) -> Result<Permit, Refusal<'_>> {
        self.auth
            .permit_for(request, &admitted.principal, calls)
            .map_err(|denied| self.denied(denied, admitted.endpoint, request))
    }

    fn denied(&self, denied: Denied, endpoint: Endpoint, head: &Incoming) -> Refusal<'_> {
        let needed = self.auth.needed_for(foreseen(head, endpoint));
        // What its client would find in the metadata, too.
        let scopes = if needed.is_empty() { Cow::Borrowed(&self.published) } else { Cow::Owned(needed) };
        Refusal::Denied { denied, metadata: self.metadata.url_for(endpoint), scopes }
    }

    /// Adds to any answer what its request's page may do with it. For answers that are made outside of
    /// [`Gate::admit`] and [`Gate::decide`]; `None` where the head could not be read.
    #[must_use]
    pub fn dress(&self, head: Option<&Incoming>, reply: Reply) -> Reply {
        let grant = head.and_then(|head| self.grant(head, self.routes.of(head.method(), head.path())).ok());
        grant.unwrap_or_default().dress(reply)
    }

    /// The metadata documents are public: whatever page asks may read them (PRM-08). Everything else is for pages that
    /// were allowed. The name by which we are called is judged for both.
    fn grant(&self, head: &Incoming, route: Route) -> Result<Grant, Foreign> {
        let document = |login: Login| matches!(login, Login::Document(_));
        if matches!(route, Route::ResourceMetadata(_) | Route::Preflight(Place::ResourceMetadata(_)))
            || matches!(route, Route::Login(login) | Route::Preflight(Place::Login(login)) if document(login))
        {
            return self.cors.check_host(head).map(|()| Grant::Anyone);
        }
        self.cors.admit(head)
    }
}

fn subject_of<'a>(rpc: &'a Rpc<'_>, path: &'a str) -> CallSubject<'a> {
    CallSubject { method: &rpc.method, item: rpc.item(), path }
}

/// What a request is about, as far as its head tells: nobody's body is read before there is a token (RS-14), and the scopes
/// in a challenge are for this request and not for everything (RS-07). Clients of 2026-07-28 say it in headers. What
/// others send outside of a session is how they begin one; within a session they have a token, whose scopes they keep.
fn foreseen(head: &Incoming, endpoint: Endpoint) -> CallSubject<'_> {
    let begins = match endpoint {
        Endpoint::StreamableHttp => {
            head.method() == Method::Post && head.header(header::MCP_SESSION_ID).is_none()
        }
        Endpoint::Sse => true,
        Endpoint::Messages => false,
    };
    let begun = if begins { "initialize" } else { "" };
    CallSubject {
        method: head.header_str(header::MCP_METHOD).unwrap_or(begun),
        item: head.header_str(header::MCP_NAME),
        path: head.path(),
    }
}

/// Whether a token counts against the address that sent it. One that has run out, or is not good yet, was issued by
/// somebody we trust: a client that shows it is late and not an attacker. An opaque token that is not active may have run
/// out as well, but nobody can tell, and each one costs its issuer a question.
fn is_forged(denied: &Denied) -> bool {
    matches!(denied, Denied::BadToken(fault)
        if !matches!(fault, TokenFault::Expired { .. } | TokenFault::NotYet { .. }))
}

/// T-10. What decides must stand there once: we would read one and somebody behind us another. A name with `_` for `-`
/// is one that servers of the CGI kind take for the other. `Authorization` is judged by `auth`, which has an OAuth error
/// for it.
fn check_unique(head: &Incoming) -> Result<(), ClientFault> {
    let decides = |name: &str| {
        let mcp = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("mcp-"));
        mcp || [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::LAST_EVENT_ID]
            .iter()
            .any(|known| header::same(name, known))
    };
    for (name, _) in head.headers() {
        let lookalike = name.contains('_') && decides(&name.replace('_', "-"));
        if lookalike || decides(name) && head.headers_of(name).nth(1).is_some() {
            return Err(ClientFault::Repeated(clean(&name.to_ascii_lowercase()).into()));
        }
    }
    Ok(())
}

/// The body must be JSON in UTF-8 as it stands: what we judge is what the MCP server reads. A missing `Content-Type` is
/// its business (T-06).
fn check_representation(head: &Incoming) -> Result<(), ClientFault> {
    if head.header(header::CONTENT_ENCODING).is_some() {
        return Err(ClientFault::ContentEncoding);
    }
    let is_json = |value: &[u8]| {
        let text = std::str::from_utf8(value).unwrap_or_default();
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
        media
            && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
                !name.trim().eq_ignore_ascii_case("charset")
                    || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            })
    };
    match head.header(header::CONTENT_TYPE) {
        Some(value) if head.method() == Method::Post && !is_json(value) => Err(ClientFault::ContentType),
        _ => Ok(()),
    }
}
