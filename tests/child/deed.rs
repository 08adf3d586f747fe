//! The misdeeds, each a word with at most one argument: `crash:3`, `late:200`, `garbage:10`.

use std::io::Write as _;
use std::process::{Command, Stdio, exit};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire;

/// One misdeed. Those that are about an answer need a request to answer.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Ends with this status.
    Crash(i32),
    /// Ends by this signal, as a child that was killed.
    Signal(i32),
    /// Never answers this request, and goes on with others.
    Hang,
    /// Reads nothing more.
    Deaf,
    /// Answers only after so many milliseconds; other requests go on meanwhile.
    Late(u64),
    /// Answers only when this word is released, so that a test says how long a request is under way and no clock does.
    Until(String),
    /// Gives every answer that waits for this word.
    Release(String),
    /// Reads nothing for so many milliseconds.
    Sleep(u64),
    /// Answers twice.
    Twice,
    /// First answers an id that nobody asked with.
    Unknown,
    /// Answers with this JSON text for an id.
    WithId(String),
    /// Writes so many bytes to standard error, in lines; 0 goes on for ever.
    Stderr(u64),
    /// One line of so many bytes on standard error, without an end.
    StderrLine(u64),
    /// Writes so many MB a second to standard error from now on, in lines, and goes on serving; 0 is as fast as it goes.
    Complain(u64),
    /// Writes lines that are no JSON to standard output from now on, as fast as it goes, and goes on serving.
    Babble,
    /// Writes so many bytes of notifications to standard output; 0 goes on for ever.
    Stdout(u64),
    /// One valid line of at least so many bytes.
    Long(u64),
    /// A result of so many bytes, in one line.
    Large(u64),
    /// The id of the answer behind everything else.
    IdLast,
    /// So many lines that are no JSON.
    Garbage(u64),
    /// Half of the answer, the rest after so many milliseconds.
    Partial(u64),
    /// Half of a line, and a crash with this status.
    Half(i32),
    /// The answer in a line that ends with CR LF, between blank lines.
    Crlf,
    /// The answer as the only element of an array.
    Batch,
    /// A request to the client, in whatever era.
    Rogue(String),
    /// So many progress notifications with the token of the request.
    Progress(u64),
    /// So many log messages that nothing ties to a request.
    Log(u64),
    /// A notification of this method, tied to nothing.
    Notify(String),
    /// A grandchild that holds standard output for so many seconds.
    Grandchild(u64),
    /// Closes nothing, but ends only so many milliseconds later; for the moment `eof`.
    Linger(u64),
    /// An error with this code as the answer.
    Error(i64),
}

impl Deed {
    pub(crate) fn parse_all(text: &str) -> Vec<Self> {
        text.split(',').filter(|word| !word.is_empty()).map(Self::parse).collect()
    }

    fn parse(word: &str) -> Self {
        let (name, argument) = word.split_once(':').unwrap_or((word, ""));
        let number = || argument.parse::<u64>().unwrap_or_default();
        let status = || argument.parse::<i32>().unwrap_or(1);
        match name {
            "crash" => Self::Crash(status()),
            "signal" => Self::Signal(argument.parse().unwrap_or(9)),
            "hang" => Self::Hang,
            "deaf" => Self::Deaf,
            "late" => Self::Late(number()),
            "until" => Self::Until(argument.to_owned()),
            "release" => Self::Release(argument.to_owned()),
            "sleep" => Self::Sleep(number()),
            "twice" => Self::Twice,
            "unknown" => Self::Unknown,
            "with-id" => Self::WithId(argument.to_owned()),
            "stderr" => Self::Stderr(number()),
            "complain" => Self::Complain(number()),
            "babble" => Self::Babble,
            "stderr-line" => Self::StderrLine(number()),
            "stdout" => Self::Stdout(number()),
            "long" => Self::Long(number()),
            "large" => Self::Large(number()),
            "id-last" => Self::IdLast,
            "garbage" => Self::Garbage(number()),
            "partial" => Self::Partial(number()),
            "half" => Self::Half(status()),
            "crlf" => Self::Crlf,
            "batch" => Self::Batch,
            "rogue" => Self::Rogue(argument.to_owned()),
            "progress" => Self::Progress(number()),
            "log" => Self::Log(number()),
            "notify" => Self::Notify(argument.to_owned()),
            "grandchild" => Self::Grandchild(number()),
            "linger" => Self::Linger(number()),
            "error" => Self::Error(argument.parse().unwrap_or(-32603)),
            _ => panic!("{word} is no deed"),
        }
    }

    /// Does what comes before the answer, and says how that is to be given.
    pub(crate) fn commit(self, token: Option<&Value>, how: &mut How) {
        match self {
            Self::Crash(status) => {
                eprintln!("scripted-child: ending with {status} as told");
                exit(status)
            }
            Self::Signal(signal) => {
                let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
                rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
                std::thread::sleep(Duration::from_secs(10));
            }
            Self::Hang => how.never = true,
            Self::Deaf => do_nothing(),
            Self::Late(millis) => how.late = Duration::from_millis(millis),
            Self::Until(word) => how.until = Some(word),
            Self::Release(word) => release(&word),
            Self::Sleep(millis) | Self::Linger(millis) => std::thread::sleep(Duration::from_millis(millis)),
            Self::Twice => how.twice = true,
            Self::Unknown => {
                wire::line(&wire::response("987654321", &Ok(json!({"content": []}))));
                wire::line(&wire::response("\"nobody\"", &Ok(json!({"content": []}))));
            }
            Self::WithId(id) => how.id = Some(id),
            Self::Stderr(bytes) => {
                flood(bytes, |_| eprintln!("{}", "scripted-child complains at length. ".repeat(28)));
            }
            Self::Complain(rate) => beside("complain", move || complain(rate)),
            Self::Babble => {
                let lines = "this is { no JSON, and there is more of it. \n".repeat(400);
                beside("babble", move || {
                    loop {
                        wire::bytes(lines.as_bytes());
                    }
                });
            }
            Self::StderrLine(bytes) => (0..bytes / 1024).for_each(|_| eprint!("{}", "x".repeat(1024))),
            Self::Stdout(bytes) => {
                let data = "noise ".repeat(160);
                flood(bytes, |_| {
                    wire::notify("notifications/message", &json!({"level": "info", "data": data}));
                });
            }
            Self::Long(bytes) => {
                let data = "x".repeat(usize::try_from(bytes).unwrap());
                wire::notify("notifications/message", &json!({"level": "info", "data": data}));
            }
            Self::Large(bytes) => how.large = Some(usize::try_from(bytes).unwrap()),
            Self::IdLast => how.id_last = true,
            Self::Garbage(lines) => (0..lines).for_each(|n| wire::line(&format!("{n} this is {{ no JSON"))),
            Self::Partial(millis) => how.partial = Some(Duration::from_millis(millis)),
            Self::Half(status) => {
                wire::bytes(br#"{"jsonrpc":"2.0","id":1,"resu"#);
                exit(status)
            }
            Self::Crlf => how.crlf = true,
            Self::Batch => how.batch = true,
            Self::Rogue(method) => wire::request("rogue-1", &method, &json!({})),
            Self::Progress(steps) => {
                let Some(token) = token else { return };
                for step in 1..=steps {
                    let params = json!({"progressToken": token, "progress": step, "total": steps});
                    wire::notify("notifications/progress", &params);
                }
            }
            Self::Log(messages) => {
                for n in 1..=messages {
                    let params =
                        json!({"level": "info", "logger": "scripted", "data": format!("message {n}")});
                    wire::notify("notifications/message", &params);
                }
            }
            Self::Notify(method) => wire::notify(&method, &json!({})),
            Self::Grandchild(seconds) => {
                // Nobody waits for it: it is to outlive us.
                let sleeper = Command::new("sleep").arg(seconds.to_string()).stdin(Stdio::null()).spawn();
                drop(sleeper.unwrap());
            }
            Self::Error(code) => how.error = Some(code),
        }
    }
}

/// An answer that waits for a word.
type Waiting = (String, Box<dyn FnOnce() + Send>);

static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

/// Gives what waits for this word; it is out before the request that released it is answered.
fn release(word: &str) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let (due, others) = std::mem::take(&mut *waiting).into_iter().partition(|(awaited, _)| awaited == word);
    *waiting = others;
    drop(waiting);
    let due: Vec<Waiting> = due;
    due.into_iter().for_each(|(_, write)| write());
}

/// For ever.
pub(crate) fn do_nothing() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Does something while the server goes on.
fn beside(name: &str, work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().name(name.into()).spawn(work).unwrap();
}

/// So many MB a second, in pieces of 16 KiB at the most.
fn complain(rate: u64) {
    let piece = format!("{}\n", "scripted-child complains at length. ".repeat(28)).repeat(16);
    let (began, mut written) = (Instant::now(), 0_u64);
    loop {
        if std::io::stderr().write_all(piece.as_bytes()).is_err() {
            return;
        }
        written += piece.len() as u64;
        let due = Duration::from_micros(written / rate.max(1));
        if rate > 0 {
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
}

/// Calls `write`, which writes about a KiB, until so many bytes are out; 0 is for ever.
fn flood(bytes: u64, mut write: impl FnMut(u64)) {
    let mut written = 0;
    while bytes == 0 || written < bytes {
        write(written);
        written += 1024;
    }
}

/// How an answer is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct How {
    never: bool,
    late: Duration,
    until: Option<String>,
    twice: bool,
    partial: Option<Duration>,
    crlf: bool,
    batch: bool,
    id: Option<String>,
    error: Option<i64>,
    large: Option<usize>,
    id_last: bool,
}

impl How {
    /// Gives it. What is late has a thread of its own.
    pub(crate) fn give(self, id: &str, outcome: Result<Value, Value>) {
        if self.never {
            return;
        }
        let outcome = match self.error {
            Some(code) => Err(wire::error(code, "an error as told", Value::Null)),
            None => outcome,
        };
        let outcome = match self.large {
            Some(bytes) => Ok(json!({"content": [{"type": "text", "text": "x".repeat(bytes)}]})),
            None => outcome,
        };
        let id = self.id.as_deref().unwrap_or(id);
        let mut text = if self.id_last { wire::id_last(id, &outcome) } else { wire::response(id, &outcome) };
        if self.batch {
            text = format!("[{text}]");
        }
        let end = if self.crlf { "\r\n\r\n\n" } else { "\n" };
        let write = move || {
            std::thread::sleep(self.late);
            for _ in 0..1 + usize::from(self.twice) {
                if let Some(pause) = self.partial {
                    let (first, rest) = text.as_bytes().split_at(text.len() / 2);
                    wire::bytes(first);
                    std::thread::sleep(pause);
                    wire::bytes(rest);
                    wire::bytes(end.as_bytes());
                } else {
                    wire::bytes(format!("{text}{end}").as_bytes());
                }
            }
        };
        if let Some(word) = self.until {
            WAITING.lock().unwrap_or_else(PoisonError::into_inner).push((word, Box::new(write)));
        } else if self.late.is_zero() {
            write();
        } else {
            beside("late", write);
        }
    }
}
