//! Child processes: started by one thread, looked after by another.
//!
//! ```text
//!            spawn                        ┌──────────┐
//! worker ──────────────▶ bounded queue ─▶ │ spawner  │ ── fork, exec ──▶ child, a process group of its own
//!                                         └────┬─────┘
//!                                              │ adopt
//!            send: written here and now        ▼
//! worker ──────────────────────────┐      ┌──────────┐ ◀── standard output: lines ─▶ Sink::line
//!   what the pipe does not take ──▶│ Pipe │ children │ ◀── standard error ─────────▶ the log
//!                                  └──────┤  (epoll) │ ◀── exit (pidfd) ───────────▶ Sink::ended
//!                          child's input ◀┘          │ ◀── a timer: SIGTERM, SIGKILL, a child that reads nothing
//!                                         └──────────┘
//! ```
//!
//! One thread with epoll instead of three for each child: no child can make it wait, since every pipe is non-blocking,
//! each may have its [`STDIO_READ_BYTES`] and then others have their turn, and a hundred idle children cost no thread.
//! What waits for a child that does not read is bounded (`input.rs`), and a child that goes on like that is ended.
//!
//! How it is used: [`Children::spawn`] gives a [`Child`] at once, before there is a process; [`Child::send`] writes one
//! line, which the caller has made sure is one message without a line feed, and never waits. Everything that comes back
//! goes to the [`Sink`], on the thread `children`, in order: its lines, and exactly once its [`End`], be it that it could
//! not be started. Dropping the last [`Child`] stops the process: standard input ends, SIGTERM to the group after
//! [`STDIO_EXIT_TIME_MAX`], SIGKILL after as long again. When its leader has ended, the rest of a group is killed before
//! the leader is reaped, so that the number is still ours.
//!
//! Stop: [`Children::stop`] closes the queue and joins `spawner`, then every child is stopped and `children` joined.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::cut::{Answers, too_large};
use super::framing::{Found, Lines};
use super::input::Input;
use super::launch::Launch;
use super::line::may_be_message;
use super::said::Said;
use crate::edge::Wake;
use crate::limits::{STACK_BYTES, STDIO_EXIT_TIME_MAX, STDIO_READ_BYTES, STDIO_STARTS_MAX};
use crate::log::Log;

/// Whom a child speaks to. Called on the thread `children`, which must not be made to wait.
pub(crate) trait Sink: Send + Sync {
    /// A line of its standard output, without the line end. `false` says that it is no message, which is then counted
    /// and told in the log.
    fn line(&self, line: &[u8]) -> bool;

    /// An answer was longer than a line may be, and does not say whose it is. One that does comes as [`Sink::line`],
    /// with an error in the place of what is lost.
    fn too_long(&self) {}

    /// The child has ended, or never began. Nothing comes after it.
    fn ended(&self, end: &End);
}

/// How a child ended. For the log alone: a client is only told that the server died.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct End {
    /// Its exit status, its signal, or why it could not be started.
    pub(crate) why: String,
    /// The last line of its standard error.
    pub(crate) last_words: String,
    /// Whether it was asked to.
    pub(crate) asked: bool,
}

/// As many processes wait to be started as may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooMany;

pub(crate) use super::input::NotSent;

/// A child. The process is stopped when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Child(Arc<Owner>);

struct Owner(Arc<Pipe>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Child {
    /// Writes one line, or lets it wait; never blocks. `line` holds no line feed and is a whole message.
    pub(crate) fn send(&self, line: &[u8]) -> Result<(), NotSent> {
        self.0.0.send(line)
    }

    /// Begins to end it.
    pub(crate) fn stop(&self) {
        self.0.0.stop();
    }
}

/// The way to a child, from before there is a process until after its end.
struct Pipe {
    key: u64,
    shared: Arc<Shared>,
    input: Mutex<Input>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, line: &[u8]) -> Result<(), NotSent> {
        let waits = self.lock().push(line, Instant::now())?;
        if waits {
            self.shared.tell(Command::Write(self.key));
        }
        Ok(())
    }

    fn stop(&self) {
        self.lock().close();
        self.shared.tell(Command::Stop(self.key));
    }
}

enum Command {
    Adopt(Box<Running>),
    /// Something waits to be written.
    Write(u64),
    Stop(u64),
    /// Stop all, and end when the last one has.
    Halt,
}

struct Shared {
    wake: Wake,
    /// Bounded without a number of its own: four for each child at most.
    commands: Mutex<Vec<Command>>,
    alive: AtomicUsize,
    log: Log,
}

impl Shared {
    fn tell(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.wake.wake();
    }
}

/// A child to be started.
struct Job {
    launch: Arc<Launch>,
    sink: Arc<dyn Sink>,
    pipe: Arc<Pipe>,
}

/// All children, and the two threads that look after them.
pub(crate) struct Children {
    shared: Arc<Shared>,
    jobs: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    keys: AtomicU64,
}

impl Children {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where the system has no descriptors or threads for them.
    pub(crate) fn start(log: &Log) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            wake: Wake::new()?,
            commands: Mutex::default(),
            alive: AtomicUsize::new(0),
            log: log.clone(),
        });
        let (jobs, queue) = bounded(STDIO_STARTS_MAX);
        let mut keeper = Keeper::new(Arc::clone(&shared))?;
        let children = thread::Builder::new()
            .name("children".into())
            .stack_size(STACK_BYTES)
            .spawn(move || keeper.run())?;
        let spawning = Arc::clone(&shared);
        let spawner = thread::Builder::new()
            .name("spawner".into())
            .stack_size(STACK_BYTES)
            .spawn(move || spawn_all(&queue, &spawning));
        let threads = match spawner {
            Ok(spawner) => vec![spawner, children],
            Err(err) => {
                shared.tell(Command::Halt);
                let _ = children.join();
                return Err(err);
            }
        };
        Ok(Self {
            shared,
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(threads),
            keys: AtomicU64::new(1),
        })
    }

    /// Starts a child, by and by; lines may be sent to it at once.
    ///
    /// # Errors
    /// Where too many wait to be started, or everything is being stopped.
    pub(crate) fn spawn(&self, launch: &Arc<Launch>, sink: Arc<dyn Sink>) -> Result<Child, TooMany> {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let pipe = Arc::new(Pipe { key, shared: Arc::clone(&self.shared), input: Mutex::default() });
        let job = Job { launch: Arc::clone(launch), sink, pipe: Arc::clone(&pipe) };
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.alive.fetch_add(1, Ordering::Relaxed);
        if jobs.as_ref().is_none_or(|jobs| jobs.try_send(job).is_err()) {
            self.shared.alive.fetch_sub(1, Ordering::Relaxed);
            return Err(TooMany);
        }
        Ok(Child(Arc::new(Owner(pipe))))
    }

    /// Children that are there, or about to be.
    pub(crate) fn count(&self) -> usize {
        self.shared.alive.load(Ordering::Relaxed)
    }

    /// Stops all children and joins both threads.
    pub(crate) fn stop(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut threads = threads.into_iter();
        if let Some(spawner) = threads.next() {
            let _ = spawner.join();
            // Only now: what it still started has been handed over.
            self.shared.tell(Command::Halt);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// The thread `spawner`. It lives as long as there may be children, since their parent-death signal follows it.
fn spawn_all(queue: &Receiver<Job>, shared: &Arc<Shared>) {
    for job in queue {
        if job.pipe.lock().is_closed() {
            fail(&job, shared, "it was stopped before it was started".into(), true);
            continue;
        }
        match Running::start(&job, shared) {
            Ok(running) => shared.tell(Command::Adopt(Box::new(running))),
            Err(error) => {
                let why = format!("it could not be started: {error}");
                let argv = job.launch.argv();
                shared.log.error("the MCP server could not be started", &[("argv", argv), ("why", &error)]);
                fail(&job, shared, why, false);
            }
        }
    }
}

fn fail(job: &Job, shared: &Shared, why: String, asked: bool) {
    job.pipe.lock().end();
    shared.alive.fetch_sub(1, Ordering::Relaxed);
    let told = catch_unwind(AssertUnwindSafe(|| {
        job.sink.ended(&End { why, last_words: String::new(), asked });
    }));
    if told.is_err() {
        shared.log.error("telling of a child's end panicked", &[]);
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Running,
    /// Standard input has ended; SIGTERM follows.
    Asked(Instant),
    /// SIGKILL follows.
    Termed(Instant),
    Killed,
}

/// A process that has not been reaped.
struct Running {
    child: process::Child,
    pid: Pid,
    pipe: Arc<Pipe>,
    sink: Arc<dyn Sink>,
    stdout: Option<process::ChildStdout>,
    stderr: Option<process::ChildStderr>,
    /// Readable when it has ended; absent on kernels before 5.3, where the timer looks.
    pidfd: Option<OwnedFd>,
    lines: Lines,
    noise: Said,
    errors: Said,
    phase: Phase,
    asked: bool,
    /// Whether standard input is watched for room.
    writes: bool,
}

/// Which of a child's descriptors an event is about, beside its key.
const OUT: u64 = 0;
const ERR: u64 = 1;
const IN: u64 = 2;
const EXIT: u64 = 3;

/// The token of [`Shared::wake`].
const WAKE: u64 = u64::MAX;

impl Running {
    fn start(job: &Job, shared: &Shared) -> io::Result<Self> {
        let mut child = job.launch.command().spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let prepared = (|| {
            let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
            for fd in [
                stdin.as_ref().map(|fd| fd.as_fd()),
                stdout.as_ref().map(|fd| fd.as_fd()),
                stderr.as_ref().map(|fd| fd.as_fd()),
            ] {
                rustix::io::ioctl_fionbio(fd.ok_or(io::ErrorKind::InvalidData)?, true)?;
            }
            Ok::<_, io::Error>(pid)
        })();
        let pid = match prepared {
            Ok(pid) => pid,
            Err(err) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(err);
            }
        };
        let number = pid.as_raw_pid();
        shared.log.info("started the MCP server", &[("pid", &number), ("argv", job.launch.argv())]);
        job.pipe.lock().open(stdin.map(OwnedFd::from));
        Ok(Self {
            pid,
            pipe: Arc::clone(&job.pipe),
            sink: Arc::clone(&job.sink),
            stdout,
            stderr,
            pidfd: pidfd_open(pid, PidfdFlags::empty()).ok(),
            lines: Lines::new(job.launch.line_bytes),
            noise: Said::new("the MCP server wrote what is no message", number),
            errors: Said::new("the MCP server says", number),
            phase: Phase::Running,
            asked: false,
            writes: false,
            child,
        })
    }

    /// Reads standard output, at most `most` times. `false` at its end.
    fn read_lines(&mut self, buffer: &mut [u8], most: usize, log: &Log, now: Instant) -> bool {
        for _ in 0..most {
            let Some(stdout) = &mut self.stdout else { return false };
            let read = match stdout.read(buffer) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            let (sink, noise) = (&self.sink, &mut self.noise);
            self.lines.push(buffer.get(..read).unwrap_or_default(), |found| match found {
                Found::Line(line) => {
                    if !may_be_message(line) || !sink.line(line) {
                        noise.line(line, log, now);
                    }
                }
                Found::TooLong(cut) => {
                    log.warn("the MCP server wrote a line that is too long; it is lost", &[]);
                    match cut.answers() {
                        Answers::One(id) => drop(sink.line(too_large(&id).as_bytes())),
                        Answers::Somebody => sink.too_long(),
                        Answers::Nobody => {}
                    }
                }
            });
            if read < buffer.len() {
                return true;
            }
        }
        true
    }

    /// Reads standard error, at most `most` times. `false` at its end.
    fn read_errors(&mut self, buffer: &mut [u8], most: usize, log: &Log, now: Instant) -> bool {
        for _ in 0..most {
            let Some(stderr) = &mut self.stderr else { return false };
            match stderr.read(buffer) {
                Ok(0) => return false,
                Ok(read) => self.errors.push(buffer.get(..read).unwrap_or_default(), log, now),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal); // a group without members is what was wanted
    }

    /// Whether it has ended; it is not reaped by this.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }
}

/// The thread `children`.
struct Keeper {
    shared: Arc<Shared>,
    epoll: OwnedFd,
    running: HashMap<u64, Box<Running>>,
    buffer: Vec<u8>,
    halting: bool,
}

impl Keeper {
    fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &shared.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let buffer = vec![0; STDIO_READ_BYTES];
        Ok(Self { shared, epoll, running: HashMap::new(), buffer, halting: false })
    }

    fn run(&mut self) {
        let mut events = Vec::with_capacity(64);
        let mut ticked = Instant::now();
        while !self.halting || !self.running.is_empty() {
            let ending = self.running.values().any(|running| running.phase != Phase::Running);
            let tick = Duration::from_millis(if ending { 20 } else { 500 });
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(tick.subsec_nanos()) };
            events.clear();
            let wait = (!self.running.is_empty()).then_some(&timeout);
            let room = rustix::buffer::spare_capacity(&mut events);
            if epoll::wait(&self.epoll, room, wait).is_err() {
                events.clear(); // interrupted
            }
            let now = Instant::now();
            for event in &events {
                let token = event.data.u64();
                if token == WAKE {
                    self.shared.wake.clear();
                } else {
                    self.guarded(token >> 2, |keeper| keeper.ready(token >> 2, token & 3, now));
                }
            }
            let commands = {
                let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *commands)
            };
            for command in commands {
                self.obey(command, now);
            }
            if now.duration_since(ticked) >= tick {
                ticked = now;
                for key in self.running.keys().copied().collect::<Vec<_>>() {
                    self.guarded(key, |keeper| keeper.tick(key, now));
                }
            }
        }
    }

    /// A panic over one child ends that child and no other.
    fn guarded(&mut self, key: u64, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
            self.shared.log.error("looking after a child panicked; it is ended", &[]);
            if let Some(running) = self.running.get_mut(&key) {
                running.signal(Signal::KILL);
                running.phase = Phase::Killed;
            }
        }
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Adopt(running) => self.adopt(running, now),
            Command::Write(key) => self.write(key, now),
            Command::Stop(key) => self.begin_end(key, true, now),
            Command::Halt => {
                self.halting = true;
                for key in self.running.keys().copied().collect::<Vec<_>>() {
                    self.begin_end(key, true, now);
                }
            }
        }
    }

    fn adopt(&mut self, running: Box<Running>, now: Instant) {
        let key = running.pipe.key;
        let data = |which| EventData::new_u64(key << 2 | which);
        let mut failed = false;
        let running = self.running.entry(key).insert_entry(running).into_mut();
        if let Some(fd) = &running.stdout {
            failed |= epoll::add(&self.epoll, fd, data(OUT), EventFlags::IN).is_err();
        }
        if let Some(fd) = &running.stderr {
            failed |= epoll::add(&self.epoll, fd, data(ERR), EventFlags::IN).is_err();
        }
        if let Some(fd) = &running.pidfd {
            failed |= epoll::add(&self.epoll, fd, data(EXIT), EventFlags::IN).is_err();
        }
        let closed = running.pipe.lock().is_closed();
        self.write(key, now);
        if failed || closed || self.halting {
            self.begin_end(key, closed || self.halting, now);
        }
    }

    /// Writes what waits for a child, and watches for room where some is left.
    fn write(&mut self, key: u64, now: Instant) {
        let Some(running) = self.running.get_mut(&key) else { return };
        let mut input = running.pipe.lock();
        let done = input.flush(now);
        let Some(fd) = input.fd() else {
            running.writes = false;
            return;
        };
        if done && running.writes {
            let _ = epoll::delete(&self.epoll, fd);
        } else if !done && !running.writes {
            let data = EventData::new_u64(key << 2 | IN);
            if epoll::add(&self.epoll, fd, data, EventFlags::OUT).is_err() {
                self.shared.log.error("a child's input cannot be watched", &[]);
            }
        }
        running.writes = !done;
    }

    fn ready(&mut self, key: u64, which: u64, now: Instant) {
        let log = self.shared.log.clone();
        let Some(running) = self.running.get_mut(&key) else { return };
        match which {
            OUT => {
                if !running.read_lines(&mut self.buffer, 1, &log, now) {
                    // Closing a descriptor takes it out of epoll too. Without it the child can answer nothing more.
                    running.stdout = None;
                    self.begin_end(key, false, now);
                }
            }
            ERR => {
                if !running.read_errors(&mut self.buffer, 1, &log, now) {
                    running.stderr = None;
                }
            }
            IN => self.write(key, now),
            _ => self.finish(key, now),
        }
    }

    /// Closes standard input and begins the countdown.
    fn begin_end(&mut self, key: u64, asked: bool, now: Instant) {
        let Some(running) = self.running.get_mut(&key) else { return };
        running.asked |= asked;
        if running.phase != Phase::Running {
            return;
        }
        let mut input = running.pipe.lock();
        input.flush(now); // what still fits, such as a cancellation
        input.end();
        drop(input);
        running.writes = false;
        running.phase = Phase::Asked(now + STDIO_EXIT_TIME_MAX);
    }

    fn tick(&mut self, key: u64, now: Instant) {
        let log = self.shared.log.clone();
        let Some(running) = self.running.get_mut(&key) else { return };
        running.errors.settle(&log, now, false);
        running.noise.settle(&log, now, false);
        if running.pidfd.is_none() && running.has_ended() {
            self.finish(key, now);
            return;
        }
        let stuck = running.pipe.lock().is_stuck(now);
        match running.phase {
            Phase::Running if stuck => {
                let pid = running.pid.as_raw_pid();
                log.warn("the MCP server reads nothing and is ended", &[("pid", &pid)]);
                self.begin_end(key, false, now);
            }
            Phase::Asked(until) if now >= until => {
                running.signal(Signal::TERM);
                running.phase = Phase::Termed(now + STDIO_EXIT_TIME_MAX);
            }
            Phase::Termed(until) if now >= until => {
                running.signal(Signal::KILL);
                running.phase = Phase::Killed;
            }
            Phase::Running | Phase::Asked(_) | Phase::Termed(_) | Phase::Killed => {}
        }
    }

    /// The leader of the group has ended: the rest of it is killed, the last lines are read, and it is reaped.
    fn finish(&mut self, key: u64, now: Instant) {
        let log = self.shared.log.clone();
        let Some(mut running) = self.running.remove(&key) else { return };
        running.signal(Signal::KILL);
        // What a pipe holds is 64 KiB unless somebody made it larger, and nobody writes into it any more.
        let (lines, errors) = (running.stdout.is_some(), running.stderr.is_some());
        if lines {
            running.read_lines(&mut self.buffer, 32, &log, now);
        }
        if errors {
            running.read_errors(&mut self.buffer, 32, &log, now);
        }
        running.errors.settle(&log, now, true);
        running.noise.settle(&log, now, true);
        running.pipe.lock().end();
        let why = match running.child.wait() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => "no status".into(),
            },
            Err(error) => format!("no status: {error}"),
        };
        self.shared.alive.fetch_sub(1, Ordering::Relaxed);
        let end = End { why, last_words: running.errors.last(), asked: running.asked };
        let pid = running.pid.as_raw_pid();
        if end.asked {
            log.info("the MCP server ended", &[("pid", &pid), ("status", &end.why)]);
        } else {
            let fields: [crate::log::Field<'_>; 3] =
                [("pid", &pid), ("status", &end.why), ("last_line", &end.last_words)];
            log.error("the MCP server died", &fields);
        }
        running.sink.ended(&end);
    }
}
