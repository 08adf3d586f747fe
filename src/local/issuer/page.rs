//! The pages that a person sees. No script, no image, nothing from elsewhere; every value of a client's is escaped.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::header;
use crate::reply::{HeaderValue, Reply};

/// How the pages look. The policy lets styles stand in the page, and nothing else.
const STYLE: &str = "
:root{color-scheme:light dark;--ink:#17202b;--soft:#5a6878;--line:#dce3ea;--paper:#fff;--back:#eef2f6;--key:#0b6bcb;
--warm:#fff8e6;--warmline:#f0d48a}
@media(prefers-color-scheme:dark){:root{--ink:#e8edf3;--soft:#9dabba;--line:#2d3844;--paper:#18202a;--back:#0e141b;
--key:#5aa9ff;--warm:#2b2412;--warmline:#6b5720}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--back);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{width:100%;max-width:30rem;background:var(--paper);border:1px solid var(--line);border-radius:14px;
padding:2rem 2rem 1.6rem;box-shadow:0 12px 40px rgb(15 30 50/.08)}
.brand{display:flex;gap:.6rem;align-items:center;font-size:.86rem;color:var(--soft);margin:0 0 1.4rem}
.brand span{display:grid;place-items:center;width:1.9rem;height:1.9rem;border-radius:9px;background:var(--key);
color:#fff;font-weight:700}
h1{font-size:1.38rem;line-height:1.3;margin:0 0 .5rem;overflow-wrap:anywhere}
p{margin:.4rem 0;overflow-wrap:anywhere}.soft{color:var(--soft);font-size:.92rem}
ul{list-style:none;margin:1.1rem 0;padding:0;border:1px solid var(--line);border-radius:10px}
li{padding:.7rem .9rem;border-top:1px solid var(--line)}li:first-child{border-top:0}
li::first-letter{text-transform:uppercase}
code{font:.84em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--soft)}
li code{display:block}
dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem .9rem;margin:1rem 0;font-size:.92rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.note{background:var(--warm);border:1px solid var(--warmline);border-radius:10px;padding:.65rem .9rem;font-size:.88rem}
form{display:flex;gap:.7rem;margin:1.4rem 0 0}
button{flex:1;font:inherit;font-weight:600;padding:.72rem 1rem;border-radius:10px;border:1px solid var(--line);
background:transparent;color:inherit;cursor:pointer}
button.go{background:var(--key);border-color:var(--key);color:#fff}
@media(prefers-color-scheme:dark){button.go,.brand span{color:#06121f}}
button:focus-visible{outline:3px solid var(--key);outline-offset:2px}
";

/// What the consent page tells.
pub(super) struct Consent<'a> {
    pub(super) client: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) audience: &'a str,
    /// `(scope, what it allows)`.
    pub(super) scopes: &'a [(String, String)],
    /// Names the request on the way back.
    pub(super) request: &'a str,
    /// Where the browser is led after the decision, as a source of a content security policy.
    pub(super) form_target: &'a str,
}

/// Asks whether the client may act for the person.
pub(super) fn consent(ask: &Consent<'_>) -> Reply {
    let mut list = String::new();
    for (scope, words) in ask.scopes {
        let _ = write!(list, "<li>{}<code>{}</code></li>", escape(words), escape(scope));
    }
    let body = format!(
        "<h1>Allow {client} to use your MCP server?</h1>\
         <p class=\"soft\">It asks to act for you. If you allow it, it may:</p><ul>{list}</ul>\
         <dl><dt>Server</dt><dd>{audience}</dd><dt>You are led to</dt><dd>{target}</dd>\
         <dt>Signed in as</dt><dd>local-user</dd></dl>\
         <p class=\"note\">The client chose its name itself, and nobody has checked it. Allow it only if you have just \
         asked it to connect.</p>\
         <form method=\"post\" action=\"/authorize/decision\">\
         <input type=\"hidden\" name=\"request\" value=\"{request}\">\
         <button name=\"decision\" value=\"deny\">Deny</button>\
         <button class=\"go\" name=\"decision\" value=\"approve\">Allow</button></form>",
        client = escape(ask.client),
        audience = escape(ask.audience),
        target = escape(ask.redirect_uri),
        request = escape(ask.request),
    );
    page(200, "Allow access?", &body, ask.form_target)
}

/// Says why there is no way on. For faults that must not be sent to a redirect URI (RFC 6749 section 4.1.2.1).
pub(super) fn stop(why: &str) -> Reply {
    let body = format!(
        "<h1>This login cannot go on</h1><p>{}.</p>\
         <p class=\"soft\">Go back to the application that sent you here and connect once more. Nothing was allowed.</p>",
        escape(why)
    );
    page(400, "Login stopped", &body, "")
}

fn page(status: u16, title: &str, body: &str, form_target: &str) -> Reply {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head><body><main>\
         <p class=\"brand\"><span>M</span>Open MCP Auth Proxy, local demonstration</p>{body}</main></body></html>\n"
    );
    // Browsers hold the redirect that answers a form against `form-action` too, so the client's address is in it.
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {form_target}; frame-ancestors 'none'; \
         base-uri 'none'"
    );
    Reply::new(status)
        .header(header::CONTENT_TYPE, HeaderValue::fixed("text/html; charset=utf-8"))
        .header(header::CACHE_CONTROL, HeaderValue::fixed("no-store"))
        .header(header::CONTENT_SECURITY_POLICY, HeaderValue::cleaned(policy))
        .header(header::X_FRAME_OPTIONS, HeaderValue::fixed("DENY"))
        .header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::fixed("nosniff"))
        .header(header::REFERRER_POLICY, HeaderValue::fixed("same-origin"))
        .body(html)
}

/// `text` as HTML text or the value of a quoted attribute.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_clients_becomes_markup() {
        let evil = "\"><script>alert('1')</script>&";
        let reply = consent(&Consent {
            client: evil,
            redirect_uri: evil,
            audience: evil,
            scopes: &[(evil.to_owned(), evil.to_owned())],
            request: evil,
            form_target: "http://localhost:1",
        });
        let html = String::from_utf8(reply.body).unwrap();
        assert!(!html.contains("<script") && !html.contains("alert('"), "{html}");
        assert_eq!(html.matches("&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;").count(), 6);
        let policy = reply.headers.iter().find(|(name, _)| *name == header::CONTENT_SECURITY_POLICY).unwrap();
        assert!(
            policy.1.as_str().contains("form-action 'self' http://localhost:1;"),
            "{}",
            policy.1.as_str()
        );
    }
}
