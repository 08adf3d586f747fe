//! The section `stdio`: from what was written to the program that is started.

use std::path::PathBuf;
use std::time::Duration;

use super::command::{CommandFault, CommandLine, Share, Stdio};
use super::file::Number;
use super::resolve::Resolver;
use crate::secret::Secret;

impl Resolver<'_> {
    /// The MCP server that is started, when that is the transport.
    pub(super) fn stdio(&self) -> Option<Stdio> {
        let stdio = &self.file.stdio;
        let at = self.file.transport_mode.as_ref().map_or_else(|| self.top.key("stdio"), |t| t.path.clone());
        if let Some(enabled) = stdio.enabled.as_ref().filter(|enabled| !enabled.value) {
            let fix = "write enabled: true, or another transport_mode";
            self.findings.problem(&enabled.path, "false, while the transport is stdio", fix);
        }
        let Some(written) = &stdio.user_command else {
            let fix = "add a stdio section with user_command, the command that starts your MCP server";
            self.findings.problem(&at, "stdio, without a command to start", fix);
            return None;
        };
        let shell = stdio.shell.as_ref().is_some_and(|shell| shell.value);
        let split = if shell { CommandLine::shell(written) } else { CommandLine::split(written) };
        let mut command = match split {
            Ok(command) => command,
            Err(fault) => {
                let fix = match fault {
                    CommandFault::OpenQuote(_) | CommandFault::OpenEscape => {
                        "close it, or put a backslash before it"
                    }
                    CommandFault::Empty | CommandFault::Nul => "write the program, then its arguments",
                };
                self.findings.problem(&written.path, fault.to_string(), fix);
                return None;
            }
        };
        match (shell, stdio.args.first()) {
            (true, Some(first)) => {
                let fix = "write them into user_command, where the shell reads them";
                self.findings.problem(&first.path, "arguments, while shell is true", fix);
            }
            _ => command.arguments.extend(stdio.args.iter().map(|argument| argument.value.clone())),
        }
        let split = |entry: &Secret| {
            let (name, value) = entry.expose().split_once('=')?;
            Some((name.to_owned(), Secret::new(value.to_owned())))
        };
        let plain = Stdio::new(command);
        let count = |number: &Number, default: usize| {
            let written = number.as_ref().and_then(|number| usize::try_from(number.value).ok());
            written.unwrap_or(default)
        };
        let time = |number: &Number, default: Duration| {
            number.as_ref().map_or(default, |number| Duration::from_secs(number.value))
        };
        Some(Stdio {
            work_dir: stdio.work_dir.as_ref().map(|folder| PathBuf::from(&folder.value)),
            env: stdio.env.iter().filter_map(split).collect(),
            inherit_env: stdio.inherit_env.as_ref().is_some_and(|flag| flag.value),
            share: stdio.share.as_ref().map_or(Share::All, |share| share.value),
            sessions: count(&stdio.sessions, plain.sessions),
            sessions_per_principal: count(&stdio.sessions_per_principal, plain.sessions_per_principal),
            session_idle_time: time(&stdio.session_idle_seconds, plain.session_idle_time),
            request_time: time(&stdio.request_seconds, plain.request_time),
            line_bytes: count(&stdio.line_bytes, plain.line_bytes),
            ..plain
        })
    }
}
