//! The command line: its flags, its help, its exit codes, and what the person at the terminal reads.
//!
//! Standard output is for what was asked for (`--help`, `--version`, `--check`), standard error for everything else.
//! Nothing here serves: [`run`] decides which of `proxy` and `local` does.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::auth::keys::StartFault;
use crate::auth::survey;
use crate::clock::Clock;
use crate::config::{ClaimNames, Config, LoadError, Note, NoteKind, Overrides, Upstream};
use crate::limits::TOKEN_BYTES_MAX;
use crate::log::{Format, Level, Log};
use crate::proxy::StartError;
use crate::stdio::launch;
use crate::{local, proxy};

/// What `--help` says.
pub const HELP: &str = "\
Puts OAuth 2.1 authorization in front of an MCP server: every request needs a token that was
issued for it, or it never reaches the server.

Usage: openmcpauthproxy [OPTIONS]

Options:
      --config PATH  Read the configuration from PATH [default: ./config.yaml]
      --check        Check the configuration, tell everything that is wrong or guessed, and exit
      --online       With --check: also ask each issuer for what its tokens are judged by
      --explain      With --check: also read a token from standard input, and tell what it is
                     worth and, where it is refused, which line would change that
      --local        Try it out: a proxy, an authorization server and an MCP server in one,
                     on loopback, without a configuration or a network
      --listen ADDR  With --local: listen on this address of loopback [default: 127.0.0.1:8080,
                     or a free port where that is taken]
      --debug        Log more
      --demo         Log in at the organisation in the section `demo`, through this proxy
      --asgardeo     Log in at the organisation in the section `asgardeo`, through this proxy
      --stdio        Start the MCP server as a subprocess, as the section `stdio` says
  -V, --version      Print the version and exit
  -h, --help         Print this and exit

Exit codes:
  0  it did what was asked: stopped by a signal, or nothing wrong in the file
  1  it could not start, or failed while it ran
  2  a flag or the configuration is wrong

To see it work, paste this:
  openmcpauthproxy --local
";

const CONFIG: &str = "--config";
const LISTEN: &str = "--listen";

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It could not start, or failed while it ran.
    Failed,
    /// A flag or the configuration is wrong.
    Wrong,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Wrong => 2,
        })
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Cli {
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// `--check`
    Check(Args),
    /// `--local`
    Local(Args),
    /// None of these.
    Serve(Args),
}

/// What goes with it.
#[derive(Clone, Debug)]
pub struct Args {
    /// `--config`
    pub config: PathBuf,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--online`
    pub online: bool,
    /// `--explain`
    pub explain: bool,
    /// The flags that change the configuration.
    pub overrides: Overrides,
}

/// What is wrong with the command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UsageError {
    /// Something that is no flag of ours.
    Unknown(OsString),
    /// A flag without its value, or with another flag where the value should be.
    NoValue(&'static str),
    /// A flag with a value more than once.
    Twice(&'static str),
    /// `--listen` with something else than an address and a port.
    NoAddress,
    /// `--listen` without `--local`.
    ListenAlone,
    /// A flag that goes with `--check` alone.
    CheckAlone(&'static str),
    /// Two flags that ask for different things.
    Together(&'static str, &'static str),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "unknown argument {:?}", argument.to_string_lossy()),
            Self::NoValue(flag) => write!(f, "{flag} needs a value"),
            Self::Twice(flag) => write!(f, "{flag} is given twice"),
            Self::NoAddress => f.write_str("--listen needs an address and a port, such as 127.0.0.1:8080"),
            Self::ListenAlone => f.write_str(
                "--listen is for --local; otherwise the configuration has listen_address and listen_port",
            ),
            Self::CheckAlone(flag) => write!(f, "{flag} goes with --check"),
            Self::Together(one, other) => write!(f, "{one} and {other} exclude each other"),
        }
    }
}

impl Error for UsageError {}

/// Why the program ends early.
#[derive(Debug)]
pub enum Fatal {
    /// The command line is wrong.
    Usage(UsageError),
    /// The configuration is wrong or missing.
    Load(LoadError),
    /// Serving failed.
    Start(StartError),
    /// This is a child that could not become the MCP server.
    Child(std::io::Error),
}

impl Fatal {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Load(_) | Self::Start(StartError::NotLoopback(_)) => Exit::Wrong,
            Self::Start(_) | Self::Child(_) => Exit::Failed,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage(_) => Some("openmcpauthproxy --help lists the flags".into()),
            Self::Load(error) => error.hint(),
            Self::Child(_) => None,
            Self::Start(error) => Some(error.hint().into()),
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Load(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
            Self::Child(_) => f.write_str("the MCP server could not be started"),
        }
    }
}

impl Error for Fatal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // Display already is the inner error's, so the chain goes on below it.
        match self {
            Self::Usage(error) => error.source(),
            Self::Load(error) => error.source(),
            Self::Start(error) => error.source(),
            Self::Child(error) => Some(error),
        }
    }
}

/// Reads the command line, the program's own name first.
///
/// # Errors
/// When it holds anything that is not in [`HELP`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, UsageError> {
    let mut words = Vec::new();
    for word in args.into_iter().skip(1) {
        // pico-args takes values only as words of their own.
        let split = word.to_str().and_then(|word| word.split_once('='));
        match split.filter(|(flag, _)| [CONFIG, LISTEN].contains(flag)) {
            Some((flag, value)) => words.extend([flag.into(), value.into()]),
            None => words.push(word),
        }
    }
    let mut args = pico_args::Arguments::from_vec(words);
    let (path, listen) = (value(&mut args, CONFIG)?, value(&mut args, LISTEN)?);
    let listen = match listen {
        None => None,
        Some(text) => Some(text.to_str().and_then(|text| text.parse().ok()).ok_or(UsageError::NoAddress)?),
    };
    let mut flag = |names: [&'static str; 2]| {
        let mut given = false;
        while args.contains(names) {
            given = true;
        }
        given
    };
    let (help, version) = (flag(["-h", "--help"]), flag(["-V", "--version"]));
    let mut long = |name: &'static str| {
        let mut given = false;
        while args.contains(name) {
            given = true;
        }
        given
    };
    let (check, local) = (long("--check"), long("--local"));
    let (online, explain) = (long("--online"), long("--explain"));
    let overrides = Overrides {
        debug: long("--debug"),
        stdio: long("--stdio"),
        demo: long("--demo"),
        asgardeo: long("--asgardeo"),
    };
    if let Some(word) = args.finish().into_iter().next() {
        return Err(UsageError::Unknown(word));
    }
    if help {
        return Ok(Cli::Help);
    }
    if version {
        return Ok(Cli::Version);
    }
    let from_file = path.is_some() || overrides.stdio || overrides.demo || overrides.asgardeo;
    if overrides.demo && overrides.asgardeo {
        return Err(UsageError::Together("--demo", "--asgardeo"));
    }
    if !check && (online || explain) {
        return Err(UsageError::CheckAlone(if online { "--online" } else { "--explain" }));
    }
    if check && local {
        return Err(UsageError::Together("--check", "--local"));
    }
    if local && from_file {
        return Err(UsageError::Together("--local", "a configuration"));
    }
    if listen.is_some() && !local {
        return Err(UsageError::ListenAlone);
    }
    let config = path.unwrap_or_else(|| "config.yaml".into()).into();
    let args = Args { listen, config, online, explain, overrides };
    Ok(match (check, local) {
        (true, _) => Cli::Check(args),
        (_, true) => Cli::Local(args),
        _ => Cli::Serve(args),
    })
}

/// The value of `flag`, if it is given.
fn value(args: &mut pico_args::Arguments, flag: &'static str) -> Result<Option<OsString>, UsageError> {
    let keep = |text: &OsStr| Ok::<_, std::convert::Infallible>(text.to_owned());
    let mut found = None;
    loop {
        match args.opt_value_from_os_str(flag, keep) {
            Ok(None) => return Ok(found),
            Ok(Some(_)) if found.is_some() => return Err(UsageError::Twice(flag)),
            Ok(Some(text)) if !text.is_empty() && !text.as_encoded_bytes().starts_with(b"--") => {
                found = Some(text);
            }
            Ok(Some(_)) | Err(_) => return Err(UsageError::NoValue(flag)),
        }
    }
}

/// Does what the command line asks for, until it is done.
///
/// # Errors
/// With what ended it, for [`report`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Fatal> {
    let mut args = args.into_iter().peekable();
    let name = args.next();
    if args.next_if(|first| first == launch::AS_CHILD).is_some() {
        return Err(Fatal::Child(launch::become_child(args)));
    }
    match parse(name.into_iter().chain(args)).map_err(Fatal::Usage)? {
        Cli::Help => print(HELP),
        Cli::Version => print(concat!("openmcpauthproxy ", env!("CARGO_PKG_VERSION"), "\n")),
        Cli::Check(args) => {
            let (config, notes) = Config::load(&args.config, &args.overrides).map_err(Fatal::Load)?;
            print(&summary(&args, &config, &notes));
            let looked = !args.online || look(&config).map_err(start_fault)?;
            let explained = !args.explain || explain(&config)?;
            if !looked || !explained {
                return Ok(Exit::Failed);
            }
        }
        Cli::Local(args) => {
            let level = if args.overrides.debug { Level::Debug } else { Level::Info };
            local::serve(args.listen, &Log::to_stderr(level, Format::Text)).map_err(Fatal::Start)?;
        }
        Cli::Serve(args) => serve(&args)?,
    }
    Ok(Exit::Done)
}

fn start_fault(fault: StartFault) -> Fatal {
    Fatal::Start(StartError::Keys(fault))
}

/// Tells what each issuer answers now; false where one of them has nothing to judge its tokens by.
fn look(config: &Config) -> Result<bool, StartFault> {
    let findings = survey::look(config, &Clock::system())?;
    let mut out = String::from("issuers, as they are now:\n");
    for finding in &findings {
        let _ = writeln!(out, "  {}  {}", if finding.sound { "ok  " } else { "FAIL" }, finding.issuer);
        for (what, told) in &finding.lines {
            let _ = writeln!(out, "    {what:<14}{told}");
        }
    }
    print(&out);
    Ok(findings.iter().all(|finding| finding.sound))
}

/// Tells what the token on standard input is worth; false where it is not let in.
fn explain(config: &Config) -> Result<bool, Fatal> {
    let mut token = String::new();
    let longest = u64::try_from(TOKEN_BYTES_MAX).unwrap_or(u64::MAX).saturating_mul(2);
    if std::io::stdin().take(longest).read_to_string(&mut token).is_err() {
        token.clear(); // no text is no token, and is told so
    }
    let token = token.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    let (good, told) = survey::explain(config, token, &Clock::system()).map_err(start_fault)?;
    print(&format!("the token is {told}\n"));
    Ok(good)
}

fn serve(args: &Args) -> Result<(), Fatal> {
    let (mut config, notes) = Config::load(&args.config, &args.overrides).map_err(Fatal::Load)?;
    if let Upstream::Stdio(stdio) = &mut config.upstream {
        // By this name it is found even after the file was replaced by a newer version.
        stdio.launcher = Some("/proc/self/exe".into());
    }
    let log = Log::to_stderr(config.log_level, config.log_format);
    for note in &notes {
        note.log(&log);
    }
    let served = proxy::serve(config, log.clone());
    log.flush();
    served.map_err(Fatal::Start)
}

/// Tells on standard error why the program ends, with every cause and what to do.
#[expect(
    clippy::print_stderr,
    reason = "the log may not exist yet, and this is for the person who started it"
)]
pub fn report(fatal: &Fatal) -> Exit {
    let mut text = format!("error: {fatal}");
    let mut cause = fatal.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    if let Some(hint) = fatal.hint() {
        let _ = write!(text, "\nhint: {hint}");
    }
    eprintln!("{text}");
    fatal.exit()
}

/// What `--check` says about a file without problems.
fn summary(args: &Args, config: &Config, notes: &[Note]) -> String {
    let mut out = format!("{} has no problems\n", args.config.display());
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<14}{value}");
    };
    line("listens on", &config.listen.to_string());
    for path in [&config.paths.streamable_http, &config.paths.sse] {
        line("clients use", &config.public.join(path));
    }
    match &config.upstream {
        Upstream::Http { base, .. } => {
            let scheme = if base.tls { "https" } else { "http" };
            line("protects", &format!("{scheme}://{}{}", base.authority(), base.prefix));
        }
        Upstream::Stdio(stdio) => line("starts", &stdio.command.to_string()),
    }
    for issuer in &config.issuers {
        line("tokens from", &issuer.issuer);
        line("  keys", issuer.jwks_uri.as_deref().unwrap_or("found by discovery"));
        line("  signed with", &issuer.algorithms.to_string());
        line("  meant for", &issuer.audiences.join(", "));
        if let Some(introspection) = &issuer.introspection {
            let endpoint = introspection.endpoint.as_deref().unwrap_or("an endpoint found by discovery");
            line("  opaque", &format!("asked about at {endpoint}, as {}", introspection.client_id));
        }
        let plain = ClaimNames::default();
        if issuer.claims != plain {
            let ClaimNames { audience, subject, client_id, scopes } = &issuer.claims;
            let (audience, client_id) = (audience.join(" or "), client_id.join(" or "));
            let scopes = scopes.join(" and ");
            line(
                "  read from",
                &format!(
                    "{audience} (audience), {subject} (subject), {client_id} (client), {scopes} (scopes)"
                ),
            );
        }
        for (claim, values) in config.required_claims.iter().chain(&issuer.required_claims) {
            line("  only with", &format!("{claim}: {}", values.join(" or ")));
        }
    }
    for (kind, title) in [
        (NoteKind::Warning, "warnings"),
        (NoteKind::Guess, "guessed, since the file does not say"),
        (NoteKind::Ignored, "without effect"),
    ] {
        let mut some = notes.iter().filter(|note| note.kind == kind).peekable();
        if some.peek().is_some() {
            let _ = writeln!(out, "{title}:");
        }
        for note in some {
            let _ = writeln!(out, "  {note}\n    hint: {}", note.hint);
        }
    }
    out
}

/// Standard output. A reader that has gone away, as `head` does, is no fault.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Result<String, UsageError> {
        let words = std::iter::once("openmcpauthproxy").chain(line.split_whitespace()).map(OsString::from);
        parse(words).map(|cli| match cli {
            Cli::Help => "help".into(),
            Cli::Version => "version".into(),
            Cli::Check(args) => format!("check {}", args.config.display()),
            Cli::Local(args) => format!("local {}", args.overrides.debug),
            Cli::Serve(Args { config, overrides: o, .. }) => {
                format!("{} {} {} {} {}", config.display(), o.debug, o.stdio, o.demo, o.asgardeo)
            }
        })
    }

    #[test]
    fn every_flag_is_read_and_nothing_else() {
        let unknown = |word: &str| Err(UsageError::Unknown(word.into()));
        for (line, meant) in [
            ("", Ok("config.yaml false false false false")),
            ("--debug --debug --stdio", Ok("config.yaml true true false false")),
            ("--demo --config /a.yaml", Ok("/a.yaml false false true false")),
            ("--config=b.yaml --asgardeo", Ok("b.yaml false false false true")),
            ("--check", Ok("check config.yaml")),
            ("--check --config c", Ok("check c")),
            ("--local --debug", Ok("local true")),
            ("-h --check", Ok("help")),
            ("--version", Ok("version")),
            ("-V", Ok("version")),
            ("--chekc", unknown("--chekc")),
            ("config.yaml", unknown("config.yaml")),
            ("--", unknown("--")),
            ("--help --x", unknown("--x")),
            ("--config", Err(UsageError::NoValue("--config"))),
            ("--config --check", Err(UsageError::NoValue("--config"))),
            ("--config=", Err(UsageError::NoValue("--config"))),
            ("--config a --config b", Err(UsageError::Twice("--config"))),
            ("--local --listen 127.0.0.1:1", Ok("local false")),
            ("--local --listen=[::1]:0", Ok("local false")),
            ("--local --listen localhost", Err(UsageError::NoAddress)),
            ("--listen 127.0.0.1:1", Err(UsageError::ListenAlone)),
            ("--local --check", Err(UsageError::Together("--check", "--local"))),
            ("--local --config a", Err(UsageError::Together("--local", "a configuration"))),
            ("--demo --asgardeo", Err(UsageError::Together("--demo", "--asgardeo"))),
        ] {
            assert_eq!(shown(line), meant.map(str::to_owned), "{line}");
        }
    }

    /// Style of the help: every flag that is read stands in it, and its last line works when pasted.
    #[test]
    fn the_help_ends_with_a_command() {
        for flag in
            ["config", "check", "local", "listen", "debug", "demo", "asgardeo", "stdio", "version", "help"]
        {
            assert!(HELP.contains(&format!("--{flag}")), "{flag}");
        }
        assert!(HELP.ends_with("  openmcpauthproxy --local\n"));
        assert!(HELP.lines().all(|line| line.len() <= 100));
    }
}
