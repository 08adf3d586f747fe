//! A small MCP server over stdio that can do every misdeed on command, for the tests of the stdio bridge.
//!
//! It is built as the example `scripted-child`: a plain `cargo test` and `cargo nextest run` build examples, while a
//! release, `cargo install` and the published binary never hold one; a binary target would be shipped, and a test
//! target has no file name that another test could find. Narrow runs (`--test spec`) do not build examples, so after a
//! change here `cargo build --example scripted-child` comes first.
//!
//! ```text
//! scripted-child [--era legacy|modern|dual] [--at MOMENT=DEED[,DEED…]]… [--slow MILLISECONDS] [--stubborn]
//! ```
//!
//! A moment is `start`, `eof`, or a method; the deeds stand in `deed.rs`. The same deeds are done by the tool `do`, whose
//! argument `deed` is such a list. `--slow` waits before a byte is read. `--stubborn` ignores SIGTERM and the end of
//! standard input. The other tools are in `server.rs`: `seen` tells every line that was received, `whoami` the process.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test program"
)]

mod deed;
mod server;
mod wire;

use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use deed::Deed;
use server::{Era, Server};

/// What the arguments say.
struct Script {
    era: Era,
    at: Vec<(String, Vec<Deed>)>,
    slow: Duration,
    stubborn: bool,
}

impl Script {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut script = Self { era: Era::Dual, at: Vec::new(), slow: Duration::ZERO, stubborn: false };
        while let Some(flag) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{flag} needs a value"));
            match flag.as_str() {
                "--era" => script.era = Era::parse(&value()),
                "--at" => {
                    let value = value();
                    let (moment, deeds) = value.split_once('=').expect("--at MOMENT=DEED");
                    script.at.push((moment.to_owned(), Deed::parse_all(deeds)));
                }
                "--slow" => script.slow = Duration::from_millis(value().parse().unwrap()),
                "--stubborn" => script.stubborn = true,
                // Whatever a test gives to see how arguments are split; `whoami` tells all of them.
                _ => {}
            }
        }
        script
    }
}

fn main() {
    let script = Script::parse(std::env::args().skip(1));
    if script.stubborn {
        // A handler that does nothing: the signal is taken and forgotten.
        let ignored = Arc::new(std::sync::atomic::AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGTERM, ignored).unwrap();
    }
    std::thread::sleep(script.slow);
    let server = Arc::new(Server::new(script.era, script.at));
    server.at("start", None);
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        server.take(&line);
    }
    server.at("eof", None);
    if script.stubborn {
        deed::do_nothing();
    }
}
