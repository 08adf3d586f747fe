//! From a configured command to a process that may begin: program, environment, folder, and its bond to us.
//!
//! The program is looked for once, when the proxy starts, so that a misspelt one is told to whoever started it and not
//! to the first caller. The environment is built from nothing (decision D12): what a program needs to run at all, and
//! what the configuration adds.
//!
//! A child that reads its standard input sees it end when we die, whatever ends us. For one that does not there is the
//! parent-death signal, which a process can only set for itself, between fork and exec. Doing that there takes unsafe
//! code; so the child is first our own program, which sets the signal, makes sure that its parent is still the one it
//! was started by, and becomes the server ([`become_child`]). The signal follows the thread that started the child,
//! which is why `process.rs` has one for that alone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Pipe};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use crate::config::{CommandLine, Stdio};
use crate::secret::Secret;

/// The first argument by which this program knows that it is to become a child of another.
pub const AS_CHILD: &str = "--as-child-of";

/// What a program needs of our environment to run at all; a name that ends in `_` stands for all that begin with it.
const ENVIRONMENT: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_"];
/// Where a program is looked for when nobody says where.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Everything that is needed to start a child, again and again.
#[derive(Debug)]
pub struct Launch {
    command: CommandLine,
    program: PathBuf,
    work_dir: Option<PathBuf>,
    env: Vec<(String, Secret)>,
    inherit_env: bool,
    launcher: Option<PathBuf>,
    /// Longest line that it may write, in bytes.
    pub(super) line_bytes: usize,
}

/// Why nothing can be started.
#[derive(Debug)]
pub enum LaunchFault {
    /// A program that is in no folder of `PATH`.
    NotFound {
        /// As it was written.
        program: String,
        /// The folders.
        searched: OsString,
    },
    /// A path that leads to no program.
    NotAProgram(PathBuf, Option<io::Error>),
    /// A folder that cannot be worked in.
    WorkDir(PathBuf, io::Error),
}

impl fmt::Display for LaunchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { program, searched } => {
                write!(f, "there is no program {program:?} in PATH, which is {}", searched.to_string_lossy())
            }
            Self::NotAProgram(path, _) => write!(f, "{} is no program that can be run", path.display()),
            Self::WorkDir(path, _) => write!(f, "stdio.work_dir {} cannot be used", path.display()),
        }
    }
}

impl std::error::Error for LaunchFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotFound { .. } => None,
            Self::NotAProgram(_, error) => error.as_ref().map(|error| error as _),
            Self::WorkDir(_, error) => Some(error),
        }
    }
}

impl Launch {
    /// Finds the program.
    ///
    /// # Errors
    /// [`LaunchFault`]
    pub fn new(stdio: &Stdio) -> Result<Self, LaunchFault> {
        if let Some(folder) = &stdio.work_dir {
            let usable = folder.metadata().and_then(|found| {
                if found.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
            });
            usable.map_err(|error| LaunchFault::WorkDir(folder.clone(), error))?;
        }
        let named = stdio.env.iter().rev().find(|(name, _)| name == "PATH");
        let searched = named.map(|(_, path)| OsString::from(path.expose())).or_else(|| env::var_os("PATH"));
        let searched = searched.unwrap_or_else(|| PATH.into());
        Ok(Self {
            program: find(&stdio.command.program, stdio.work_dir.as_deref(), searched)?,
            command: stdio.command.clone(),
            work_dir: stdio.work_dir.clone(),
            env: stdio.env.clone(),
            inherit_env: stdio.inherit_env,
            launcher: stdio.launcher.clone(),
            line_bytes: stdio.line_bytes,
        })
    }

    /// What is run, as a person could paste it. The environment is no part of it.
    #[must_use]
    pub fn argv(&self) -> &CommandLine {
        &self.command
    }

    /// A command that starts one child, in a process group of its own, with three pipes.
    pub(super) fn command(&self) -> Command {
        let mut command = match &self.launcher {
            Some(launcher) => {
                let mut command = Command::new(launcher);
                command.arg(AS_CHILD).arg(getpid().as_raw_pid().to_string());
                command.arg(&self.program).arg(&self.command.program);
                command
            }
            None => {
                let mut command = Command::new(&self.program);
                command.arg0(&self.command.program);
                command
            }
        };
        command.args(&self.command.arguments);
        if !self.inherit_env {
            command.env_clear();
            command.envs(env::vars_os().filter(|(name, _)| is_needed(name)));
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(folder) = &self.work_dir {
            command.current_dir(folder);
        }
        command.process_group(0);
        command.stdin(Pipe::piped()).stdout(Pipe::piped()).stderr(Pipe::piped());
        command
    }
}

fn is_needed(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    ENVIRONMENT.iter().any(|needed| name == *needed || needed.ends_with('_') && name.starts_with(needed))
}

/// The path of a program: as written, below the folder it will run in, or the first in `PATH`.
fn find(program: &str, work_dir: Option<&Path>, searched: OsString) -> Result<PathBuf, LaunchFault> {
    if program.contains('/') {
        let mut path = work_dir.unwrap_or_else(|| Path::new("")).join(program);
        if path.is_relative() {
            path = env::current_dir().unwrap_or_default().join(path);
        }
        return match is_program(&path) {
            Ok(true) => Ok(path),
            Ok(false) => Err(LaunchFault::NotAProgram(path, None)),
            Err(error) => Err(LaunchFault::NotAProgram(path, Some(error))),
        };
    }
    // An empty folder means the current one to a shell; a name that somebody put there is not what was meant here.
    let folders = env::split_paths(&searched).filter(|folder| folder.is_absolute());
    let found = folders.map(|folder| folder.join(program)).find(|path| is_program(path).unwrap_or(false));
    found.ok_or_else(|| LaunchFault::NotFound { program: program.to_owned(), searched })
}

fn is_program(path: &Path) -> io::Result<bool> {
    path.metadata().map(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Becomes the child of the process that is named by `arguments`: its number, the program, the name it is called by,
/// and what follows. Comes back only with what went wrong.
pub fn become_child(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let parent = arguments.next().and_then(|parent| parent.to_str().and_then(|text| text.parse().ok()));
    let (Some(parent), Some(program), Some(name)) = (parent, arguments.next(), arguments.next()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // Who died before the signal was set will not send it.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return io::Error::other("the process that started this one has ended");
    }
    Command::new(program).arg0(name).args(arguments).exec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdio(command: &str) -> Stdio {
        Stdio::new(CommandLine::split(command).unwrap())
    }

    #[test]
    fn a_program_is_found_or_the_search_is_told() {
        assert_eq!(Launch::new(&stdio("/bin/sh -c x")).unwrap().program, Path::new("/bin/sh"));
        assert!(Launch::new(&stdio("sh")).unwrap().program.is_absolute());
        let mut there = stdio("./sh");
        there.work_dir = Some("/bin".into());
        assert_eq!(Launch::new(&there).unwrap().program, Path::new("/bin/./sh"));

        let mut missing = stdio("no-such-program");
        missing.env = vec![("PATH".into(), Secret::new("/usr/bin:relative::/bin".into()))];
        let told = Launch::new(&missing).unwrap_err().to_string();
        assert_eq!(told, "there is no program \"no-such-program\" in PATH, which is /usr/bin:relative::/bin");
        for (command, told) in [
            ("/etc/passwd", "/etc/passwd is no program that can be run"),
            ("/bin", "/bin is no program that can be run"),
            ("/no/such", "/no/such is no program that can be run"),
        ] {
            assert_eq!(Launch::new(&stdio(command)).unwrap_err().to_string(), told);
        }
        there.work_dir = Some("/no/such".into());
        assert!(Launch::new(&there).unwrap_err().to_string().contains("stdio.work_dir /no/such"));
    }

    /// D12: none of our own environment but what a program needs to run.
    #[test]
    fn the_environment_is_built_from_nothing() {
        for (name, needed) in
            [("PATH", true), ("HOME", true), ("LC_ALL", true), ("TZ", true), ("LC", false), ("PATHS", false)]
        {
            assert_eq!(is_needed(OsStr::new(name)), needed, "{name}");
        }
        let mut stdio = stdio("/bin/sh");
        stdio.env = vec![("A".into(), Secret::new("hidden".into()))];
        let launch = Launch::new(&stdio).unwrap();
        let command = launch.command();
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        assert!(names.contains(&"A".into()) && names.contains(&"PATH".into()), "{names:?}");
        assert!(names.iter().all(|name| name == "A" || is_needed(name)), "{names:?}");
        assert!(!format!("{launch:?}").contains("hidden"), "values are secrets");
    }
}
