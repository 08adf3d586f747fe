//! The command that starts an MCP server, as a person writes it, split into arguments without a shell (decision D12).
//!
//! Quotes and backslashes mean what they mean to a shell (POSIX, Shell Command Language, 2.2). Nothing else does: `$`,
//! `*`, `~`, `;`, `|` and `>` are letters like any other, so no value in a command can start a second one. Whoever needs
//! a shell asks for it with `stdio.shell: true`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits as l;
use crate::secret::Secret;

/// The MCP server that is started as a subprocess, and how it is treated.
#[derive(Clone, Debug)]
pub struct Stdio {
    /// What is run.
    pub command: CommandLine,
    /// Where it runs; where the proxy was started, when absent.
    pub work_dir: Option<PathBuf>,
    /// What its environment has besides the minimum.
    pub env: Vec<(String, Secret)>,
    /// Whether it gets the whole environment of the proxy.
    pub inherit_env: bool,
    /// Who shares one process.
    pub share: Share,
    /// Most processes of legacy sessions, of all callers together.
    pub sessions: usize,
    /// Most of them of one caller.
    pub sessions_per_principal: usize,
    /// A session that nobody uses ends after this long.
    pub session_idle_time: Duration,
    /// An answer takes no longer than this; what the server says on the way begins the time anew.
    pub request_time: Duration,
    /// How long the question what the server speaks may stay open before sessions are tried.
    pub probe_time: Duration,
    /// Longest line that the server may write, in bytes.
    pub line_bytes: usize,
    /// Our own program, which a child is started through so that it dies when we do, whatever ends us. The command line
    /// sets it; without it a child is told by the end of its standard input alone.
    pub launcher: Option<PathBuf>,
}

impl Stdio {
    /// `command` with every default.
    #[must_use]
    pub fn new(command: CommandLine) -> Self {
        Self {
            command,
            work_dir: None,
            env: Vec::new(),
            inherit_env: false,
            share: Share::All,
            sessions: l::STDIO_SESSIONS_MAX,
            sessions_per_principal: l::STDIO_SESSIONS_PER_PRINCIPAL_MAX,
            session_idle_time: l::STDIO_SESSION_IDLE_TIME_MAX,
            request_time: l::STDIO_REQUEST_TIME_MAX,
            probe_time: l::STDIO_PROBE_TIME_MAX,
            line_bytes: l::STDIO_LINE_BYTES_MAX,
            launcher: None,
        }
    }
}

/// Who shares a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Share {
    /// All callers of the modern era, which is made for it; each legacy session has one of its own.
    #[default]
    All,
    /// Each principal, that is issuer and subject, has one for each era, which its legacy sessions share.
    Principal,
}

/// A program and its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandLine {
    /// A name that is looked up in `PATH`, or a path.
    pub program: String,
    /// What follows it.
    pub arguments: Vec<String>,
}

/// Why a command cannot be split.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CommandFault {
    /// Nothing but white space, or an empty program.
    Empty,
    /// A quote without its other half.
    OpenQuote(char),
    /// A backslash with nothing behind it.
    OpenEscape,
    /// A NUL, which no argument can hold.
    Nul,
}

impl fmt::Display for CommandFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no command"),
            Self::OpenQuote(quote) => write!(f, "a {quote} has no other half"),
            Self::OpenEscape => f.write_str("it ends with a backslash"),
            Self::Nul => f.write_str("it holds a NUL character"),
        }
    }
}

impl CommandLine {
    /// Splits `text` as a shell splits words.
    ///
    /// # Errors
    /// [`CommandFault`]
    pub fn split(text: &str) -> Result<Self, CommandFault> {
        let mut words = words(text)?.into_iter();
        let program = words.next().filter(|program| !program.is_empty()).ok_or(CommandFault::Empty)?;
        Ok(Self { program, arguments: words.collect() })
    }

    /// `text` for `/bin/sh`, unsplit.
    ///
    /// # Errors
    /// [`CommandFault::Empty`] and [`CommandFault::Nul`]; everything else is the shell's to judge.
    pub fn shell(text: &str) -> Result<Self, CommandFault> {
        if text.trim().is_empty() {
            return Err(CommandFault::Empty);
        }
        if text.contains('\0') {
            return Err(CommandFault::Nul);
        }
        Ok(Self { program: "/bin/sh".into(), arguments: vec!["-c".into(), text.into()] })
    }
}

fn words(text: &str) -> Result<Vec<String>, CommandFault> {
    if text.contains('\0') {
        return Err(CommandFault::Nul);
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(CommandFault::OpenQuote('\'')),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                Some('\n') => {} // a line that goes on
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err(CommandFault::OpenEscape),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The inside of double quotes, where a backslash stands for itself unless a shell would need it.
fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), CommandFault> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some('\n') => {}
                Some(c) => word.extend(['\\', c]),
                None => return Err(CommandFault::OpenQuote('"')),
            },
            Some(c) => word.push(c),
            None => return Err(CommandFault::OpenQuote('"')),
        }
    }
}

/// As a person could paste it, for the log: words that need quotes have them.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, word) in std::iter::once(&self.program).chain(&self.arguments).enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&b);
            if !word.is_empty() && word.bytes().all(plain) {
                f.write_str(word)?;
            } else {
                write!(f, "'{}'", word.replace('\'', "'\\''"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D12: quotes and escapes as a shell reads them, and no expansion of anything.
    #[test]
    fn a_command_is_split_as_a_shell_splits_it() {
        for (text, words) in [
            ("npx -y server /srv", &["npx", "-y", "server", "/srv"][..]),
            ("  a\t b\n c\r\n", &["a", "b", "c"]),
            ("a 'b c' \"d e\" f\\ g", &["a", "b c", "d e", "f g"]),
            ("a 'b'\"c\"d", &["a", "bcd"]),
            ("a '' \"\"", &["a", "", ""]),
            (r#"a "b\"c\\d\$e\`f\g""#, &["a", "b\"c\\d$e`f\\g"]),
            (r"a 'b\c'", &["a", r"b\c"]),
            ("a \"b 'c' d\" 'e \"f\" g'", &["a", "b 'c' d", "e \"f\" g"]),
            ("a b\\\nc", &["a", "bc"]),
            (
                "a $HOME ~ * ; rm -rf / | b > c & `d` $(e)",
                &["a", "$HOME", "~", "*", ";", "rm", "-rf", "/", "|", "b", ">", "c", "&", "`d`", "$(e)"],
            ),
            ("\"/opt/my server/run\" --x=\"1 2\"", &["/opt/my server/run", "--x=1 2"]),
            ("é 'ü ß'", &["é", "ü ß"]),
        ] {
            let command = CommandLine::split(text).unwrap();
            let all: Vec<&str> =
                std::iter::once(&command.program).chain(&command.arguments).map(String::as_str).collect();
            assert_eq!(all, words, "{text}");
            assert_eq!(CommandLine::split(&command.to_string()), Ok(command), "shown and read again: {text}");
        }
        for (text, fault) in [
            ("", CommandFault::Empty),
            (" \n", CommandFault::Empty),
            ("'' a", CommandFault::Empty),
            ("a 'b", CommandFault::OpenQuote('\'')),
            ("a \"b", CommandFault::OpenQuote('"')),
            ("a \"b\\", CommandFault::OpenQuote('"')),
            ("a \\", CommandFault::OpenEscape),
            ("a \0", CommandFault::Nul),
        ] {
            assert_eq!(CommandLine::split(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn a_shell_gets_the_text_as_it_is() {
        let command = CommandLine::shell("cd /srv && exec ./server \"$X\"").unwrap();
        assert_eq!(command.program, "/bin/sh");
        assert_eq!(command.arguments, ["-c", "cd /srv && exec ./server \"$X\""]);
        assert_eq!(CommandLine::shell(" "), Err(CommandFault::Empty));
    }
}
