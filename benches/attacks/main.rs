//! What each attack costs the real program, and what a normal client notices of it: `make attacks`.
//!
//! ```text
//! attackers ──┐
//!             ├─▶ the program, a process of its own ──▶ an MCP server and an issuer in this one,
//! normal ─────┘                                         or the tests' scripted child
//! ```
//!
//! Before each attack the normal client is measured in quiet, then while the attack meets another process of the same
//! program, and then under the attack. Attackers, client, MCP server and program share this machine, and the second
//! figure is what the client feels of that alone. What the program holds is read from /proc before, every 20 ms during
//! (the most is kept), and after. Everything is on loopback, bounded, and stops by itself.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool for the developer, as the tests are"
)]
#![allow(unreachable_pub, dead_code, reason = "the tests' world is for more than this")]

#[path = "../../tests/spec/world/mod.rs"]
mod world;
mod list;
mod programs;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use list::{ATTACKS, Attack};
use world::issuer::{Issuer, Key};
use world::program::{Held, Program, raise_descriptors};
use world::raw::{Raw, RawAnswer};
use world::server::McpServer;
use world::{call_of, request};

/// What an attacker gets to work with.
pub struct Arena {
    /// Where the program listens.
    pub addr: SocketAddr,
    /// A good token, as `Authorization` has it.
    pub bearer: String,
    /// Another one's.
    pub mallory: String,
    /// What is spoken, where its MCP server is a program too.
    pub era: Option<programs::Era>,
    /// A token without its signature, and a signature that is not its own.
    unsigned: String,
    signature: String,
    /// What the attacker did, in units of its own.
    pub deeds: AtomicU64,
    over: AtomicBool,
}

impl Arena {
    /// A token with a bad signature, another one for each number and each attacker.
    pub fn forged(&self, number: usize) -> String {
        let attacker = format!("{:?}", std::thread::current().id());
        let mark: String = format!("{attacker}{number:012}").chars().filter(char::is_ascii_digit).collect();
        format!("{}.{}{mark}{}", self.unsigned, &self.signature[..100], &self.signature[100 + mark.len()..])
    }

    /// Whether the attack is to end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Counts deeds.
    pub fn did(&self, deeds: usize) {
        self.deeds.fetch_add(deeds as u64, Ordering::Relaxed);
    }

    /// A connection, unless there is none to be had.
    pub fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.addr, Duration::from_millis(500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(stream)
    }
}

/// Latencies of a client that behaves, and how many of its requests were not served.
#[derive(Default)]
struct Felt {
    micros: Vec<u128>,
    unserved: usize,
}

impl Felt {
    fn quantile(&self, part: f64) -> String {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index from a share"
        )]
        let at = ((sorted.len() as f64 - 1.0) * part).max(0.0) as usize;
        sorted.get(at).map_or_else(|| "-".into(), |micros| format!("{:.2}", *micros as f64 / 1000.0))
    }
}

/// Calls a tool again and again with `message`, every fourth time on a new connection.
fn normal_client(addr: SocketAddr, message: &str, time: Duration, kept: &mut Option<Raw>) -> Felt {
    let (mut felt, until) = (Felt::default(), Instant::now() + time);
    let mut count = 0;
    while Instant::now() < until {
        count += 1;
        let began = Instant::now();
        let fresh = count % 4 == 0;
        let client = if fresh { None } else { kept.take() };
        let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut client = client.unwrap_or_else(|| Raw::connect(addr));
            let answer = client.send(message).answer();
            answer.filter(is_served).map(|_| client)
        }));
        match answered {
            Ok(Some(client)) => {
                felt.micros.push(began.elapsed().as_micros());
                if !fresh {
                    *kept = Some(client);
                }
            }
            _ => felt.unserved += 1,
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    felt
}

/// Whether it is the result that was asked for; an error of JSON-RPC is none.
fn is_served(answer: &RawAnswer) -> bool {
    answer.status == 200 && memchr::memmem::find(&answer.body, b"\"result\"").is_some()
}

fn most(a: Held, b: Held) -> Held {
    Held { rss: a.rss.max(b.rss), fds: a.fds.max(b.fds), threads: a.threads.max(b.threads) }
}

/// Runs an attack while `client` does its calls: what that felt, the most that the attacked program held, and how long it
/// took.
fn under(
    attack: &Attack,
    arena: &Arena,
    attacked: &Program,
    client: &mut (impl FnMut() -> Felt + Send),
) -> (Felt, Held, Duration) {
    let mut during = attacked.held();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..attack.attackers {
            std::thread::Builder::new().spawn_scoped(scope, || (attack.run)(arena)).unwrap();
        }
        let client = scope.spawn(|| {
            while arena.deeds.load(Ordering::Relaxed) == 0 && begun.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(20));
            }
            client()
        });
        while !client.is_finished() {
            during = most(during, attacked.held());
            std::thread::sleep(Duration::from_millis(20));
        }
        let felt = client.join().unwrap_or_default();
        let took = begun.elapsed();
        arena.over.store(true, Ordering::Relaxed);
        (felt, during, took)
    })
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.iter().any(|arg| arg == "--list" || arg == "--test") {
        return; // somebody runs all benches as tests
    }
    let quick = args.iter().any(|arg| arg == "--quick");
    let only: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let time = Duration::from_secs(if quick { 1 } else { 4 });
    std::panic::set_hook(Box::new(|_| {})); // a request that is not served is counted, not told
    raise_descriptors();
    let (issuer, server) = (Issuer::start(), McpServer::start());
    server.script(list::server);
    let token = Program::token(&issuer).claim("exp", i64::MAX / (1 << 30));
    let stranger = token.clone().signed_by(Key::Stranger).compact();
    let (unsigned, signature) = stranger.rsplit_once('.').unwrap();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    if programs::child().is_none() {
        println!("without the stdio rows: cargo build --release --example scripted-child has not been run");
    }
    println!(
        "{cores} processors, load average {}, {} s each, latencies in ms\n",
        load.split(' ').next().unwrap(),
        time.as_secs()
    );
    println!("| attack | deeds | RSS MiB | descriptors | threads | p50 | p99 | served | not |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for attack in ATTACKS.iter().chain(programs::ATTACKS) {
        if !only.is_empty() && !only.iter().any(|word| attack.name.contains(word.as_str())) {
            continue;
        }
        if attack.program.is_some() && programs::child().is_none() {
            continue;
        }
        let mut limits = format!("trusted_proxies: [127.0.0.0/8]\nlimits: {{ {} }}\n", attack.limits);
        limits.push_str(&attack.program.map(programs::settings).unwrap_or_default());
        let start = || Program::start(&issuer, server.addr, &limits, attack.descriptors);
        let (program, other) = (start(), start());
        let arena_of = |program: &Program| Arena {
            addr: program.addr(),
            bearer: format!("Bearer {}", token.compact()),
            mallory: format!("Bearer {}", token.clone().subject("mallory").compact()),
            era: attack.program,
            unsigned: unsigned.to_owned(),
            signature: signature.to_owned(),
            deeds: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        let arena = arena_of(&program);
        let message = match attack.program {
            None => request("POST", "/mcp", &[("Authorization", &arena.bearer)], &call_of("echo")),
            Some(era) => {
                let client = programs::Client::open(arena.addr, &arena.bearer, era);
                client.call(7, "echo", &serde_json::json!({"message": "hello"}))
            }
        };
        let mut kept = None;
        normal_client(arena.addr, &message, Duration::from_millis(500), &mut kept); // every buffer and key is there now
        let quiet = normal_client(arena.addr, &message, time, &mut kept);
        let mut client = || normal_client(arena.addr, &message, time, &mut kept);
        let (beside, _, _) = under(attack, &arena_of(&other), &other, &mut client);
        drop(other);
        std::thread::sleep(Duration::from_millis(100));
        let before = program.held();
        let (felt, during, took) = under(attack, &arena, &program, &mut client);
        let mut after = program.settles_to(before);
        let until = Instant::now() + Duration::from_secs(1);
        while after.rss > before.rss + 128 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            after = program.held();
        }
        server.take_calls();
        let mib = |kib: usize| format!("{:.1}", kib as f64 / 1024.0);
        let deeds = arena.deeds.load(Ordering::Relaxed);
        let rate = deeds as f64 / took.as_secs_f64();
        let deeds = match attack.unit {
            "" => deeds.to_string(),
            unit => format!("{deeds}{unit}, {rate:.0}{unit}/s"),
        };
        println!(
            "| {} | {} | {} → {} → {} | {} → {} → {} | {} → {} → {} | {} → {} | {} → {} → {} | {} | {} |",
            attack.name,
            deeds,
            mib(before.rss),
            mib(during.rss),
            mib(after.rss),
            before.fds,
            during.fds,
            after.fds,
            before.threads,
            during.threads,
            after.threads,
            quiet.quantile(0.5),
            felt.quantile(0.5),
            quiet.quantile(0.99),
            beside.quantile(0.99),
            felt.quantile(0.99),
            felt.micros.len(),
            felt.unserved,
        );
    }
}
