//! Arguments, configuration, start, wait, exit code; nothing else.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

use open_mcp_auth_proxy::cli;

fn main() -> ExitCode {
    match cli::run(env::args_os()) {
        Ok(exit) => exit.into(),
        Err(fatal) => cli::report(&fatal).into(),
    }
}
