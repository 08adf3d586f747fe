//! Two clients at one program: `fuzz::remapped` says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = open_mcp_auth_proxy::fuzz::remapped(input);
});
