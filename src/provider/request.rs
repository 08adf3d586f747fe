//! From a login request to what the provider is asked: checked, and with what the configuration adds, translates or
//! drops. Pure.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::form::{Form, FormFault, RESOURCE};
use super::idp::{FORM, JSON};
use super::preset::{ForeignTarget, Step};
use super::recent::Key;
use crate::config::login::{Login, Parameters};
use crate::edge::http1::{Incoming, Method};
use crate::header;
use crate::limits::LOGIN_BODY_BYTES_MAX;
use crate::reply::LoginFault;
use crate::route;
use crate::secret::Secret;

/// A body and its type.
pub enum Body {
    /// A form.
    Form(String),
    /// JSON.
    Json(Vec<u8>),
}

impl Body {
    /// As it is sent.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &[u8]) {
        match self {
            Self::Form(text) => (FORM, text.as_bytes()),
            Self::Json(bytes) => (JSON, bytes),
        }
    }
}

/// What is to be done.
pub enum Work {
    /// Serve the document of this number.
    Document(usize),
    /// Send a browser on with these parameters.
    Authorize(Form),
    /// Exchange a code or a refresh token.
    Token(Body, Option<Secret>),
    /// Register a client.
    Register(Vec<u8>, Option<Secret>),
    /// Pass on what another path was asked.
    Passed {
        /// Its number.
        place: usize,
        /// Its query.
        query: Form,
        /// Its body, of a POST.
        body: Option<Body>,
        /// Its credentials.
        authorization: Option<Secret>,
    },
}

/// A request that can be worked on.
pub struct Prepared {
    /// What is to be done.
    pub work: Work,
    /// What makes another one the same, where a duplicate must not be asked twice.
    pub same: Option<Key>,
}

impl From<FormFault> for LoginFault {
    fn from(fault: FormFault) -> Self {
        Self::Request(fault.words())
    }
}

impl From<ForeignTarget> for LoginFault {
    fn from(_: ForeignTarget) -> Self {
        Self::Target
    }
}

/// Judges a head before its body is waited for: nobody here has a token, so nobody makes us hold much.
///
/// # Errors
/// [`LoginFault`]
pub fn check_head(place: route::Login, head: &Incoming) -> Result<(), LoginFault> {
    if head.headers_of(header::AUTHORIZATION).nth(1).is_some() {
        return Err(LoginFault::Request("the header authorization stands there more than once"));
    }
    if head.header(header::CONTENT_ENCODING).is_some() {
        return Err(LoginFault::Request("the body must not have a content encoding"));
    }
    let length = head.header_str(header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    if head.method() != Method::Post {
        let bodiless = length.unwrap_or(0) == 0 && head.header(header::TRANSFER_ENCODING).is_none();
        return if bodiless {
            Ok(())
        } else {
            Err(LoginFault::Request("a request with this method has no body"))
        };
    }
    match length {
        None if head.header(header::TRANSFER_ENCODING).is_some() => return Err(LoginFault::NoLength),
        Some(length) if length > LOGIN_BODY_BYTES_MAX => return Err(LoginFault::TooLarge),
        _ => {}
    }
    let fits = match (place, content_type(head)) {
        (route::Login::Register, Some(JSON)) => true,
        (route::Login::Register, _) => return Err(LoginFault::ContentType(JSON)),
        (_, Some(FORM | JSON)) => true,
        _ => false,
    };
    if fits { Ok(()) } else { Err(LoginFault::ContentType(FORM)) }
}

/// Reads a whole request of `client`.
///
/// # Errors
/// [`LoginFault`]
pub fn prepare(
    place: route::Login,
    request: &Incoming,
    client: IpAddr,
    login: &Login,
) -> Result<Prepared, LoginFault> {
    let query = request.query().unwrap_or_default();
    let once = |work| Prepared { work, same: None };
    match place {
        route::Login::Document(n) => Ok(once(Work::Document(n))),
        route::Login::Authorize => {
            let mut form = Form::read(query)?;
            login.preset.adapt(Step::Authorize, &mut form, &login.audiences)?;
            add(&mut form, &login.added.authorize_query);
            Ok(once(Work::Authorize(form)))
        }
        route::Login::Token => token(request, login),
        route::Login::Register => {
            let authorization = credentials(request, &["Bearer"]);
            let body = request.body();
            let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(body) else {
                return Err(LoginFault::ClientMetadata("the body is no JSON object"));
            };
            let sender = client.to_string();
            let same = Key::of(&[b"register", sender.as_bytes(), exposed(authorization.as_ref()), body]);
            let body = with_members(body, members, &login.added.register_body);
            Ok(Prepared { work: Work::Register(body, authorization), same: Some(same) })
        }
        route::Login::Passed(place) => {
            let body = match (request.method(), content_type(request)) {
                (Method::Post, Some(JSON)) => Some(Body::Json(request.body().to_vec())),
                (Method::Post, _) => Some(Body::Form(text(request.body())?.to_owned())),
                _ => None,
            };
            let authorization = credentials(request, &["Basic", "Bearer"]);
            Ok(once(Work::Passed { place, query: Form::read(query)?, body, authorization }))
        }
    }
}

/// A token request, as a form (RFC 6749 section 4.1.3) or as the JSON that some providers take as well.
fn token(request: &Incoming, login: &Login) -> Result<Prepared, LoginFault> {
    let authorization = credentials(request, &["Basic"]);
    let added = &login.added.token_body;
    let (body, refreshes) = if content_type(request) == Some(JSON) {
        let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(request.body()) else {
            return Err(LoginFault::Request("the body is no JSON object"));
        };
        let refreshes = members.get("grant_type").is_some_and(|grant| grant == "refresh_token");
        let before = members.contains_key(RESOURCE);
        adapt_json(&mut members, login)?;
        if before == members.contains_key(RESOURCE) {
            (Body::Json(with_members(request.body(), members, added)), refreshes)
        } else {
            let rest = Value::Object(members.clone()).to_string();
            (Body::Json(with_members(rest.as_bytes(), members, added)), refreshes)
        }
    } else {
        let mut form = Form::read(text(request.body())?)?;
        let refreshes = form.get("grant_type") == Some("refresh_token");
        login.preset.adapt(Step::Token, &mut form, &login.audiences)?;
        add(&mut form, added);
        (Body::Form(form.write()), refreshes)
    };
    let same = refreshes.then(|| Key::of(&[b"refresh", exposed(authorization.as_ref()), request.body()]));
    Ok(Prepared { work: Work::Token(body, authorization), same })
}

/// `resource` in JSON: the same rule as in a form.
fn adapt_json(members: &mut Map<String, Value>, login: &Login) -> Result<(), LoginFault> {
    let mut form = Form::default();
    match members.get(RESOURCE) {
        Some(Value::String(resource)) => form.add(RESOURCE, resource),
        Some(_) if login.preset.adapts() => return Err(LoginFault::Target),
        _ => return Ok(()),
    }
    login.preset.adapt(Step::Token, &mut form, &login.audiences)?;
    if form.get(RESOURCE).is_none() {
        members.remove(RESOURCE);
    }
    Ok(())
}

fn add(form: &mut Form, added: &Parameters) {
    for (name, value) in added {
        form.add(name, value);
    }
}

/// `body` with members of ours; the very same bytes where there are none (ASR-11).
fn with_members(body: &[u8], mut members: Map<String, Value>, added: &Parameters) -> Vec<u8> {
    if added.is_empty() {
        return body.to_vec();
    }
    for (name, value) in added {
        members.insert(name.clone(), value.clone().into());
    }
    Value::Object(members).to_string().into_bytes()
}

/// `Authorization`, where it is of a scheme that belongs there: a token for the MCP server is none of the provider's
/// business.
fn credentials(request: &Incoming, schemes: &[&str]) -> Option<Secret> {
    let value = request.header_str(header::AUTHORIZATION)?;
    let (scheme, _) = value.split_once(' ')?;
    let fits = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    let known = schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    (fits && known).then(|| Secret::new(value.to_owned()))
}

fn exposed(authorization: Option<&Secret>) -> &[u8] {
    authorization.map_or(b"", |authorization| authorization.expose().as_bytes())
}

fn text(body: &[u8]) -> Result<&str, LoginFault> {
    std::str::from_utf8(body).map_err(|_| FormFault::Encoding.into())
}

/// The type of the body, one of the two that are known.
fn content_type(request: &Incoming) -> Option<&'static str> {
    if request.headers_of(header::CONTENT_TYPE).nth(1).is_some() {
        return None;
    }
    let value = request.header_str(header::CONTENT_TYPE)?;
    let mut parts = value.split(';').map(str::trim);
    let media = parts.next()?;
    let utf8 = |value: &str| value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8");
    let readable = parts
        .filter_map(|part| part.split_once('='))
        .all(|(name, value)| !name.trim().eq_ignore_ascii_case("charset") || utf8(value));
    [FORM, JSON].into_iter().find(|known| readable && media.eq_ignore_ascii_case(known))
}
