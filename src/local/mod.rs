//! `--local`: everything in one process, offline, for a first look.

use crate::log::Log;
use crate::proxy::StartError;

/// Starts the demonstration and serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`]
pub fn serve(_log: Log) -> Result<(), StartError> {
    Err(StartError::Stdio)
}
