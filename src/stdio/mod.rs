//! The bridge: an MCP server that is a program, served to the network over HTTP.
//!
//! ```text
//!  worker ── Bridge::serve(Relay with its Permit, request, Caller) ──▶ Answer
//!    │                                                                  │ a Tap, carried by the engine
//!    │ legacy.rs: a session and a child each                            ▼
//!    │ modern …:  a child for many                    Outlet ◀── lines, led by id, token, kind ── thread `children`
//!    └── Child::send(line) ──▶ process.rs ──▶ the MCP server ──▶ standard output ──▶ Sink::line ──┘
//!  thread `stdio-timer`: deadlines, idle sessions, silent streams
//! ```
//!
//! | file | what it is for |
//! |---|---|
//! | `launch.rs` | command, environment and folder; the bond that ends a child with us |
//! | `process.rs` | children: starting, reading, writing, ending; threads `spawner` and `children` |
//! | `input.rs` | lines to a child, written at once or waiting within a bound |
//! | `framing.rs`, `cut.rs`, `said.rs` | bytes to bounded lines; whom a line too long answers; what goes to the log |
//! | `line.rs`, `id.rs` | one message and where its members stand; ids as keys |
//! | `remap.rs`, `splice.rs` | many askers at one child: ids of ours for theirs |
//! | `params.rs` | `Mcp-Param-*` against the tools' schemas |
//! | `outlet.rs` | an answer whose form its first message decides |
//! | `legacy.rs`, `session.rs` | sessions: finding, capping, ending them; one client and its child |
//! | `commons.rs` | the child that the sessions of one caller share, where they do |
//! | `streams.rs`, `replay.rs` | on which stream of a session a message goes out; its last events |
//! | `modern.rs`, `warm.rs`, `ladder.rs` | requests that stand for themselves; the child they share; what they must be |
//! | `era.rs` | what the server speaks, as far as anybody knows |
//! | `upgrade.rs`, `old.rs`, `translate.rs` | modern clients at a server that knows sessions only |
//! | `downgrade.rs` | sessions at a server that knows none |
//!
//! A request comes with a [`crate::auth::Permit`], taken by value: what was not authorized does not get here. Its
//! [`Caller`] makes the answer one for that request and writes the line of the log; whoever answers holds an [`Outlet`].
//! Nobody waits for anybody: a worker writes a line and goes, the thread `children` leads what comes back and goes on.
//!
//! Both eras have the same four entries: `serve(relay, request, caller) -> Answer` on a worker, the [`process::Sink`] of
//! each child on `children`, `tick(now)` on `stdio-timer`, and an end: `Legacy::stop()`, `Modern::close()`. Each starts
//! its own children from one [`launch::Launch`] by [`process::Children::spawn`]; a child never changes its era.

pub mod cut;
pub mod framing;
pub mod id;
mod commons;
mod downgrade;
mod era;
mod input;
mod ladder;
pub mod launch;
pub mod line;
pub(crate) mod modern;
mod old;
pub mod params;
pub mod remap;
pub mod splice;
mod legacy;
pub(crate) mod outlet;
pub(crate) mod process;
mod replay;
mod said;
mod session;
mod streams;
mod translate;
mod upgrade;
mod warm;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use crate::auth::session::SessionKey;
use crate::config::{Config, Stdio};
use crate::edge::Answer;
use crate::edge::http1::{Incoming, Method};
use crate::gate::Relay;
use crate::limits::{STACK_BYTES, STDIO_TICK, STDIO_TICK_IDLE};
use crate::log::Log;
use crate::mcp::message::VERSION_MEMBER;
use crate::mcp::revision::Era;
use crate::route::Endpoint;
use launch::{Launch, LaunchFault};
use legacy::Legacy;
use line::Line;
use modern::Modern;
use outlet::Caller;
use process::Children;

/// What everything here shares.
pub(crate) struct Setting {
    pub(crate) children: Arc<Children>,
    pub(crate) launch: Arc<Launch>,
    pub(crate) key: Arc<SessionKey>,
    pub(crate) stdio: Stdio,
    /// The path of our public URL, before every path that we tell.
    pub(crate) prefix: String,
    pub(crate) messages_path: String,
    pub(crate) pace: Arc<Pace>,
    pub(crate) log: Log,
}

/// Why the bridge does not start.
#[derive(Debug)]
pub enum BridgeFault {
    /// There is nothing to start.
    Launch(LaunchFault),
    /// The system has no threads or descriptors for us.
    System(io::Error),
}

impl fmt::Display for BridgeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Launch(_) => "the MCP server cannot be started",
            Self::System(_) => "the system refuses threads or descriptors for the MCP server",
        })
    }
}

impl std::error::Error for BridgeFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Launch(fault) => Some(fault),
            Self::System(error) => Some(error),
        }
    }
}

/// Everything behind the gate, where the MCP server is a program.
pub struct Bridge {
    setting: Arc<Setting>,
    legacy: Arc<Legacy>,
    modern: Arc<Modern>,
    timer: Timer,
}

impl Bridge {
    /// Finds the program and starts the threads. The program itself is started when somebody needs it.
    ///
    /// # Errors
    /// [`BridgeFault`]
    pub fn start(
        stdio: &Stdio,
        config: &Config,
        key: &Arc<SessionKey>,
        log: &Log,
    ) -> Result<Self, BridgeFault> {
        let launch = Launch::new(stdio).map_err(BridgeFault::Launch)?;
        log.info("the MCP server is a program", &[("argv", launch.argv())]);
        let children = Children::start(log).map_err(BridgeFault::System)?;
        let setting = Arc::new(Setting {
            children: Arc::new(children),
            launch: Arc::new(launch),
            key: Arc::clone(key),
            stdio: stdio.clone(),
            prefix: config.public.prefix.clone(),
            messages_path: config.paths.messages.clone(),
            pace: Arc::default(),
            log: log.clone(),
        });
        let legacy = Arc::new(Legacy::new(Arc::clone(&setting)));
        let modern = Arc::new(Modern::new(&setting));
        let ticking = (Arc::clone(&legacy), Arc::clone(&modern));
        let tick = move |now| ticking.0.tick(now) | ticking.1.tick(now);
        let timer = Timer::start(Arc::clone(&setting.pace), tick).map_err(|error| {
            setting.children.stop();
            BridgeFault::System(error)
        })?;
        Ok(Self { setting, legacy, modern, timer })
    }

    /// Answers a request. The permit is used up here: one request, one permit.
    pub(crate) fn serve(&self, relay: Relay, request: &Incoming, caller: Box<dyn Caller>) -> Answer {
        let posted = relay.endpoint == Endpoint::StreamableHttp && request.method() == Method::Post;
        if posted && (relay.era == Era::Modern || names_its_version(request.body())) {
            return self.modern.serve(relay, request, caller);
        }
        self.legacy.serve(relay, request, caller)
    }

    /// Processes that there are, or are about to be.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.setting.children.count()
    }

    /// Sessions of the legacy era.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.legacy.count()
    }

    /// Ends all subscriptions with their result, while there are still clients to read it.
    pub(crate) fn close(&self) {
        self.modern.close();
    }

    /// Ends every session and every process, and joins all threads.
    pub fn stop(&self) {
        self.legacy.stop();
        self.timer.stop();
        self.setting.children.stop();
    }
}

/// Whether a message describes itself, whatever version it names: one that nobody has heard of is the modern era's to
/// refuse (M-04).
fn names_its_version(body: &[u8]) -> bool {
    memchr::memmem::find(body, VERSION_MEMBER.as_bytes()).is_some()
        && Line::read(body).is_ok_and(|line| line.version.is_some())
}

/// How soon the timer looks again: not so soon while there is nothing to look at, until somebody says that there is.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    idle: AtomicBool,
    stopping: AtomicBool,
    timer: OnceLock<Thread>,
}

impl Pace {
    /// A request is under way.
    pub(crate) fn quicken(&self) {
        if self.idle.swap(false, Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Looks, and is idle after that unless there was something or somebody spoke up meanwhile.
    fn look(&self, tick: impl FnOnce() -> bool) {
        self.idle.store(true, Ordering::Relaxed);
        if tick() {
            self.idle.store(false, Ordering::Relaxed);
        }
    }

    fn wake(&self) {
        if let Some(timer) = self.timer.get() {
            timer.unpark();
        }
    }
}

/// The thread `stdio-timer`: calls what it was given, again and again.
struct Timer {
    pace: Arc<Pace>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Timer {
    /// `tick` says whether it wants to be called again soon.
    fn start(pace: Arc<Pace>, tick: impl Fn(Instant) -> bool + Send + 'static) -> io::Result<Self> {
        let ours = Arc::clone(&pace);
        let run = move || {
            while !ours.stopping.load(Ordering::Relaxed) {
                let idle = ours.idle.load(Ordering::Relaxed);
                thread::park_timeout(if idle { STDIO_TICK_IDLE } else { STDIO_TICK });
                ours.look(|| tick(Instant::now()));
            }
        };
        let thread = thread::Builder::new().name("stdio-timer".into()).stack_size(STACK_BYTES).spawn(run)?;
        let _ = pace.timer.set(thread.thread().clone());
        Ok(Self { pace, thread: Mutex::new(Some(thread)) })
    }

    fn stop(&self) {
        self.pace.stopping.store(true, Ordering::Relaxed);
        self.pace.wake();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that came while the timer was looking waited for the long pause.
    #[test]
    fn who_speaks_up_while_the_timer_looks_is_not_overheard() {
        let pace = Pace::default();
        for (seen, speaks, idle) in
            [(false, false, true), (false, true, false), (true, false, false), (true, true, false)]
        {
            pace.look(|| {
                if speaks {
                    pace.quicken();
                }
                seen
            });
            assert_eq!(pace.idle.load(Ordering::Relaxed), idle, "seen {seen}, speaks {speaks}");
        }
    }
}
