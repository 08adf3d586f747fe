//! The documents by which a client finds out who issues tokens for us (RFC 9728).
//!
//! One for each endpoint, because a client compares `resource` with the URL that it calls, and one for the origin. They
//! are made at start from the configured public URL, never from a request, and are answered as they are.

use serde_json::Value;

use crate::auth::scope::ScopeSet;
use crate::config::{Config, PublicUrl};
use crate::header;
use crate::reply::{HeaderValue, Reply};
use crate::route::{Document, Endpoint};

/// RFC 9728 section 3: inserted between the authority and the path of a resource's URL.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The path of the document of the endpoint at `path` (PRM-03): a slash that is the whole path is left out.
#[must_use]
pub fn well_known(public: &PublicUrl, path: &str) -> String {
    let whole = format!("{}{path}", public.prefix);
    if whole == "/" { WELL_KNOWN.to_owned() } else { format!("{WELL_KNOWN}{whole}") }
}

/// All documents and their URLs.
#[derive(Debug)]
pub struct Metadata {
    streamable_http: Entry,
    sse: Entry,
    messages: Entry,
    root: Entry,
}

#[derive(Debug)]
struct Entry {
    url: String,
    body: Vec<u8>,
}

impl Metadata {
    /// Writes the documents.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let entry = |path: String, resource: &str| Entry {
            url: format!("{}{path}", config.public.origin()),
            body: document(config, resource),
        };
        let of = |endpoint: Endpoint| {
            let path = endpoint.path(config);
            let identifier = &config.resource.identifier;
            let resource = match endpoint {
                Endpoint::StreamableHttp if !identifier.is_empty() => identifier.clone(),
                _ => config.public.join(path),
            };
            entry(well_known(&config.public, path), &resource)
        };
        Self {
            streamable_http: of(Endpoint::StreamableHttp),
            sse: of(Endpoint::Sse),
            messages: of(Endpoint::Messages),
            root: entry(WELL_KNOWN.to_owned(), &config.public.origin()),
        }
    }

    /// The answer to a request for a document. It may change with the next start, so it is not kept (RFC 9728
    /// section 5.2).
    #[must_use]
    pub fn reply(&self, document: Document) -> Reply {
        let entry = match document {
            Document::Of(Endpoint::StreamableHttp) => &self.streamable_http,
            Document::Of(Endpoint::Sse) => &self.sse,
            Document::Of(Endpoint::Messages) => &self.messages,
            Document::Root => &self.root,
        };
        Reply::json(200, entry.body.clone())
            .header(header::CACHE_CONTROL, HeaderValue::fixed("no-cache"))
            .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::fixed("nosniff"))
    }

    /// `resource_metadata` for a challenge at this endpoint (RFC 9728 section 5.1).
    ///
    /// A challenge to a posted message names the document of the event stream: the client was given that URL as the
    /// server's and compares `resource` with it, while the URL for messages is one that the server told it.
    #[must_use]
    pub fn url_for(&self, endpoint: Endpoint) -> &str {
        match endpoint {
            Endpoint::StreamableHttp => &self.streamable_http.url,
            Endpoint::Sse | Endpoint::Messages => &self.sse.url,
        }
    }
}

/// The members that are ours to write, in this order.
const OURS: [&str; 5] =
    ["resource", "authorization_servers", "scopes_supported", "bearer_methods_supported", "jwks_uri"];

/// RFC 9728 section 2. Members without a value are left out: an empty array is forbidden, and an empty
/// `scopes_supported` makes clients ask for no scope at all (PRM-06).
fn document(config: &Config, resource: &str) -> Vec<u8> {
    let list = |items: &[String]| Value::from(items.to_vec());
    let known = &config.resource;
    let values = [
        Value::from(resource),
        list(&known.authorization_servers),
        list(&minimal(&known.scopes_supported)),
        list(&known.bearer_methods_supported),
        known.jwks_uri.clone().map_or(Value::Null, Value::from),
    ];
    let ours = OURS.into_iter().zip(&values);
    let extra = known.extra.iter().map(|(name, value)| (name.as_str(), value));
    let mut text = String::from("{");
    for (name, value) in ours.chain(extra.filter(|(name, _)| !OURS.contains(name))) {
        if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let comma = if text.len() > 1 { "," } else { "" };
        text.push_str(&format!("{comma}{}:{value}", Value::from(name)));
    }
    text.push('}');
    text.into_bytes()
}

/// Without `offline_access`, which is between the client and the authorization server (RS-11, PRM-07).
fn minimal(scopes: &ScopeSet) -> Vec<String> {
    scopes.0.iter().map(|scope| scope.as_str().to_owned()).filter(|scope| scope != "offline_access").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::tests::config;

    fn read(metadata: &Metadata, document: Document) -> Value {
        serde_json::from_slice(&metadata.reply(document).body).unwrap()
    }

    /// PRM-02, PRM-04, PRM-05, D3: `resource` is what the well-known path was inserted into.
    #[test]
    fn each_endpoint_has_its_own_resource() {
        for (prefix, mcp_url) in [("", "https://h.example/mcp"), ("/p", "https://h.example/p/mcp")] {
            let mut config = config();
            config.public.prefix = prefix.to_owned();
            config.resource.identifier = String::new();
            let metadata = Metadata::new(&config);
            for (document, resource) in [
                (Document::Of(Endpoint::StreamableHttp), mcp_url.to_owned()),
                (Document::Of(Endpoint::Sse), format!("https://h.example{prefix}/sse")),
                (Document::Of(Endpoint::Messages), format!("https://h.example{prefix}/messages/")),
                (Document::Root, "https://h.example".to_owned()),
            ] {
                let found = read(&metadata, document);
                assert_eq!(found["resource"], resource, "{prefix} {document:?}");
                assert_eq!(found["authorization_servers"][0], "https://idp.example/");
            }
            assert_eq!(
                metadata.url_for(Endpoint::StreamableHttp),
                format!("https://h.example/.well-known/oauth-protected-resource{prefix}/mcp")
            );
            // The client behind a posted message knows the server by the URL of its event stream.
            assert_eq!(metadata.url_for(Endpoint::Messages), metadata.url_for(Endpoint::Sse));
        }
        let mut config = config();
        config.resource.identifier = "urn:example:mcp".to_owned();
        let metadata = Metadata::new(&config);
        assert_eq!(read(&metadata, Document::Of(Endpoint::StreamableHttp))["resource"], "urn:example:mcp");
        assert_eq!(read(&metadata, Document::Of(Endpoint::Sse))["resource"], "https://h.example/sse");
    }

    /// PRM-01, PRM-06, PRM-07, RS-11.
    #[test]
    fn empty_members_are_left_out_and_extra_ones_pass() {
        let mut config = config();
        config.resource.scopes_supported = ScopeSet::parse("b offline_access a");
        config.resource.bearer_methods_supported.clear();
        config.resource.extra = vec![
            ("resource_name#fr".to_owned(), Value::from("É\"x")),
            ("resource".to_owned(), Value::from("https://elsewhere")),
            ("dpop_signing_alg_values_supported".to_owned(), Value::Array(Vec::new())),
            ("resource_tos_uri".to_owned(), Value::Null),
        ];
        let reply = Metadata::new(&config).reply(Document::Root);
        assert_eq!(reply.status, 200);
        let types = reply.headers.iter().filter(|(name, _)| *name == header::CONTENT_TYPE);
        assert_eq!(types.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["application/json"]);
        assert_eq!(
            String::from_utf8(reply.body).unwrap(),
            r#"{"resource":"https://h.example","authorization_servers":["https://idp.example/"],"scopes_supported":["a","b"],"resource_name#fr":"É\"x"}"#
        );
        config.resource.scopes_supported = ScopeSet::parse("offline_access");
        let text = String::from_utf8(Metadata::new(&config).reply(Document::Root).body).unwrap();
        assert!(!text.contains("scopes_supported") && !text.contains("offline"), "{text}");
    }
}
