//! Every header name that this program knows, once, in lower case; and the lists that decide what crosses.

/// `Accept` (RFC 9110 section 12.5.1).
pub const ACCEPT: &str = "accept";
/// `Access-Control-Allow-Credentials` (Fetch standard).
pub const ACCESS_CONTROL_ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
/// `Access-Control-Allow-Headers` (Fetch standard).
pub const ACCESS_CONTROL_ALLOW_HEADERS: &str = "access-control-allow-headers";
/// `Access-Control-Allow-Methods` (Fetch standard).
pub const ACCESS_CONTROL_ALLOW_METHODS: &str = "access-control-allow-methods";
/// `Access-Control-Allow-Origin` (Fetch standard).
pub const ACCESS_CONTROL_ALLOW_ORIGIN: &str = "access-control-allow-origin";
/// `Access-Control-Expose-Headers` (Fetch standard).
pub const ACCESS_CONTROL_EXPOSE_HEADERS: &str = "access-control-expose-headers";
/// `Access-Control-Max-Age` (Fetch standard).
pub const ACCESS_CONTROL_MAX_AGE: &str = "access-control-max-age";
/// `Access-Control-Request-Headers` (Fetch standard).
pub const ACCESS_CONTROL_REQUEST_HEADERS: &str = "access-control-request-headers";
/// `Access-Control-Request-Method` (Fetch standard).
pub const ACCESS_CONTROL_REQUEST_METHOD: &str = "access-control-request-method";
/// `Allow` (RFC 9110 section 10.2.1).
pub const ALLOW: &str = "allow";
/// `Authorization` (RFC 9110 section 11.6.2).
pub const AUTHORIZATION: &str = "authorization";
/// `Cache-Control` (RFC 9111 section 5.2).
pub const CACHE_CONTROL: &str = "cache-control";
/// `Connection` (RFC 9110 section 7.6.1).
pub const CONNECTION: &str = "connection";
/// `Content-Encoding` (RFC 9110 section 8.4).
pub const CONTENT_ENCODING: &str = "content-encoding";
/// `Content-Length` (RFC 9110 section 8.6).
pub const CONTENT_LENGTH: &str = "content-length";
/// `Content-Security-Policy` (Content Security Policy level 3).
pub const CONTENT_SECURITY_POLICY: &str = "content-security-policy";
/// `Content-Type` (RFC 9110 section 8.3).
pub const CONTENT_TYPE: &str = "content-type";
/// `Cookie` (RFC 6265 section 5.4).
pub const COOKIE: &str = "cookie";
/// `Date` (RFC 9110 section 6.6.1).
pub const DATE: &str = "date";
/// `DPoP` (RFC 9449 section 4.1).
pub const DPOP: &str = "dpop";
/// `Expect` (RFC 9110 section 10.1.1).
pub const EXPECT: &str = "expect";
/// `Host` (RFC 9110 section 7.2).
pub const HOST: &str = "host";
/// `Last-Event-ID` (WHATWG HTML, server-sent events).
pub const LAST_EVENT_ID: &str = "last-event-id";
/// `Location` (RFC 9110 section 10.2.2).
pub const LOCATION: &str = "location";
/// `Mcp-Method` (MCP 2026-07-28, Streamable HTTP).
pub const MCP_METHOD: &str = "mcp-method";
/// `Mcp-Name` (MCP 2026-07-28, Streamable HTTP).
pub const MCP_NAME: &str = "mcp-name";
/// The prefix of `Mcp-Param-{Name}` (MCP 2026-07-28, Streamable HTTP).
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";
/// `MCP-Protocol-Version` (MCP 2025-06-18 and later, Streamable HTTP).
pub const MCP_PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// `Mcp-Session-Id` (MCP 2025-03-26 to 2025-11-25, Streamable HTTP).
pub const MCP_SESSION_ID: &str = "mcp-session-id";
/// `Origin` (RFC 6454 section 7).
pub const ORIGIN: &str = "origin";
/// `Referrer-Policy` (Referrer Policy).
pub const REFERRER_POLICY: &str = "referrer-policy";
/// `Retry-After` (RFC 9110 section 10.2.3).
pub const RETRY_AFTER: &str = "retry-after";
/// `Transfer-Encoding` (RFC 9112 section 6.1).
pub const TRANSFER_ENCODING: &str = "transfer-encoding";
/// `Vary` (RFC 9110 section 12.5.5).
pub const VARY: &str = "vary";
/// `WWW-Authenticate` (RFC 9110 section 11.6.1).
pub const WWW_AUTHENTICATE: &str = "www-authenticate";
/// `X-Accel-Buffering`: asks nginx in front of us not to hold events back (MCP 2026-07-28, M-16).
pub const X_ACCEL_BUFFERING: &str = "x-accel-buffering";
/// `X-Content-Type-Options` (Fetch standard).
pub const X_CONTENT_TYPE_OPTIONS: &str = "x-content-type-options";
/// `X-Frame-Options` (HTML standard).
pub const X_FRAME_OPTIONS: &str = "x-frame-options";

/// `Accept-Encoding` (RFC 9110 section 12.5.3).
pub const ACCEPT_ENCODING: &str = "accept-encoding";
/// `Alt-Svc` (RFC 7838): the MCP server's, which would lead a client past us.
pub const ALT_SVC: &str = "alt-svc";
/// `Forwarded` (RFC 7239).
pub const FORWARDED: &str = "forwarded";
/// `Proxy-Authenticate` (RFC 9110 section 11.7.1).
pub const PROXY_AUTHENTICATE: &str = "proxy-authenticate";
/// `Set-Cookie` (RFC 6265 section 4.1).
pub const SET_COOKIE: &str = "set-cookie";
/// `Strict-Transport-Security` (RFC 6797): about the name by which clients reach us, so not the MCP server's to set.
pub const STRICT_TRANSPORT_SECURITY: &str = "strict-transport-security";
/// `X-Forwarded-For`: the client's address.
pub const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// `X-Forwarded-Host`: the authority by which the client reached us.
pub const X_FORWARDED_HOST: &str = "x-forwarded-host";
/// `X-Forwarded-Proto`: the scheme by which the client reached us.
pub const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
/// Ours, for the MCP server: `client_id` of the verified token.
pub const X_MCP_AUTH_CLIENT_ID: &str = "x-mcp-auth-client-id";
/// Ours, for the MCP server: `iss` of the verified token.
pub const X_MCP_AUTH_ISSUER: &str = "x-mcp-auth-issuer";
/// Ours, for the MCP server: the scopes of the verified token.
pub const X_MCP_AUTH_SCOPES: &str = "x-mcp-auth-scopes";
/// Ours, for the MCP server: `sub` of the verified token.
pub const X_MCP_AUTH_SUBJECT: &str = "x-mcp-auth-subject";
/// `X-Real-IP`: another spelling of the client's address.
pub const X_REAL_IP: &str = "x-real-ip";

/// Fields that belong to one connection and never cross (RFC 9110 section 7.6.1), `Proxy-*` aside.
pub const HOP_BY_HOP: &[&str] =
    &["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"];

/// Whether two field names are the same (RFC 9110 section 5.1: case-insensitive).
#[must_use]
pub fn same(a: impl AsRef<[u8]>, b: &str) -> bool {
    let a = a.as_ref();
    // Nearly every comparison is over with the length.
    a.len() == b.len() && a.eq_ignore_ascii_case(b.as_bytes())
}
