//! An identity provider that answers from a table and remembers what it was asked, and a world with the login relay.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use open_mcp_auth_proxy::config::{Config, Outside, Overrides};
use serde_json::Value;

use super::World;
use super::issuer::Issuer;
use super::server::{Call, McpServer};

/// One answer: status, further header lines, body.
pub type Told = (u16, &'static str, String);

/// Answers of an identity provider.
pub struct Idp {
    pub server: McpServer,
    pub url: String,
}

impl Idp {
    /// Answers each request by `answer`; the connection is closed afterwards.
    pub fn start(answer: impl Fn(&Call) -> Told + Send + Sync + 'static) -> Self {
        let server = McpServer::start();
        let url = format!("http://{}", server.addr);
        let idp = Self { server, url };
        idp.answer(answer);
        idp
    }

    pub fn answer(&self, answer: impl Fn(&Call) -> Told + Send + Sync + 'static) {
        self.server.script(move |call, stream| {
            let (status, lines, body) = answer(call);
            let kind = if lines.to_ascii_lowercase().contains("content-type") {
                ""
            } else {
                "Content-Type: application/json\r\n"
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\n{kind}{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            false
        });
    }

    /// What it was asked since the last time: method and target.
    pub fn asked(&self) -> Vec<String> {
        let line = |call: &Call| format!("{} {}", call.method(), call.target());
        self.server.take_calls().iter().map(line).collect()
    }
}

/// A world whose configuration is read from text; `${issuer}` in it is the one whose tokens are good.
pub fn world(yaml: &str, overrides: &Overrides) -> World {
    let (issuer, server) = (Issuer::start(), McpServer::start());
    let text = format!(
        "proxy_base_url: https://proxy.example\nlisten_port: 0\nbase_url: http://{}\n{}\n\
         cors: {{ allowed_origins: [\"https://page.example\"] }}\nlimits: {{ drain_seconds: 1 }}\n",
        server.addr,
        yaml.replace("${issuer}", &issuer.url),
    );
    let read = Config::from_yaml(&text, overrides, &Outside::nothing());
    let (config, _) = read.unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    World::built(issuer, server, |into| *into = config)
}

/// A JSON body.
pub fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(body)))
}

/// Runs `work` on so many threads at once and gives what each returned.
pub fn at_once<T: Send + 'static>(count: usize, work: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let work = Arc::new(work);
    let ready = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..count)
        .map(|n| {
            let (work, ready) = (Arc::clone(&work), Arc::clone(&ready));
            thread::Builder::new()
                .spawn(move || {
                    ready.fetch_add(1, Ordering::SeqCst);
                    let until = Instant::now() + Duration::from_secs(5);
                    while ready.load(Ordering::SeqCst) < count && Instant::now() < until {
                        thread::yield_now();
                    }
                    work(n)
                })
                .unwrap()
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}
