//! Arguments, configuration, start, wait, exit code; nothing else.
#![forbid(unsafe_code)]

fn main() {}
