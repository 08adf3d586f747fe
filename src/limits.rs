//! Every bound of the program, with its unit in the name and its reason above it.
//!
//! What an operator may want to move is a default here and a key under `limits:` in config.yaml.

use std::time::Duration;

/// Largest request head, in bytes: room for an 8 KiB token and everything a browser adds. Beyond it 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Longest request target, in bytes. Beyond it 414.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;
/// Most header fields in one head, ours or the MCP server's. Beyond it 431 to a client, 502 for a server.
pub const HEADERS_MAX: usize = 96;
/// Default for the largest JSON-RPC message, in bytes. Beyond it 413.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of half-read bodies held at one time by all connections together. Beyond it 503.
pub const BODY_BYTES_IN_FLIGHT_MAX: usize = 64 * 1024 * 1024;
/// Deepest nesting of a JSON text, in levels; serde_json stops at the same depth.
pub const JSON_DEPTH_MAX: usize = 128;
/// Most elements of a JSON-RPC batch (2025-03-26).
pub const BATCH_MESSAGES_MAX: usize = 100;

/// From the first byte of a head to its last.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// From the end of a head to the end of its body: 10 s and one second more per [`BODY_BYTES_PER_SECOND_MIN`].
pub const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// The slowest body that is waited for, in bytes per second.
pub const BODY_BYTES_PER_SECOND_MIN: usize = 64 * 1024;
/// A kept-alive connection without a request is closed after this long.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(75);
/// A client that does not take the bytes it asked for is dropped after this long.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
/// After an answer that came before its body: how long and how much is still read so that the answer is not lost to a
/// reset (RFC 9112 section 9.6).
pub const LINGER_TIME_MAX: Duration = Duration::from_millis(500);
/// The bytes that go with [`LINGER_TIME_MAX`].
pub const LINGER_BYTES_MAX: usize = 256 * 1024;
/// A connection on which nothing was heard for this long is asked whether its other end is still there.
pub const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// The time between two such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer after which it is gone.
pub const KEEPALIVE_COUNT: u32 = 4;
/// How often the sweeper looks for deadlines that have passed.
pub const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// Fewest worker threads, where the configuration is silent: most stand by and cost a stack, so that some are left when
/// many wait for an issuer.
pub const WORKERS_MIN: usize = 12;
/// Most of them.
pub const WORKERS_MAX: usize = 32;
/// Events that a worker takes at one time. More would save little more, and let the last of them wait.
pub const EVENTS_AT_ONCE_MAX: usize = 4;
/// Stack of a worker or stream thread, in bytes.
pub const STACK_BYTES: usize = 256 * 1024;
/// Default for open event streams, all clients together.
pub const STREAMS_MAX: usize = 8192;
/// Of all event streams, one in so many is not for the principal that holds the others, where the configuration is silent:
/// one token may serve thousands of sessions of one service, and still leaves room.
pub const STREAMS_SPARED_PART: usize = 4;
/// Default for tokens that do not hold, from one address in a minute, before it is answered 429. An office of many may
/// stand behind one address, and its clients fail once each when their tokens are replaced.
pub const AUTH_FAILURES_PER_MINUTE: u32 = 60;
/// Addresses whose failures are counted; with those that failed least, the first ones make room.
pub const FAILING_ADDRESSES_MAX: usize = 4096;
/// How long an answer of the MCP server is waited for among the workers before a stream thread gets it, which also
/// notices at once when the client leaves. The sweeper hands it over, so it may be [`SWEEP_INTERVAL`] more.
pub const WORKER_PATIENCE: Duration = Duration::from_millis(50);
/// Bytes read from the MCP server at one time, and so the most that waits for a slow client.
pub const RELAY_CHUNK_BYTES: usize = 32 * 1024;
/// Boxes of finished exchanges, and as many vectors, that each thread keeps for the next requests to use.
pub const SPARES_MAX: usize = 32;
/// The largest vector, in bytes, that is kept so.
pub const SPARE_TEXT_BYTES_MAX: usize = 4 * 1024;
/// Idle connections kept to one MCP server.
pub const UPSTREAM_IDLE_MAX: usize = 128;
/// An idle connection to an MCP server is not used again after this long; Node and uvicorn close theirs after 5 s.
pub const UPSTREAM_IDLE_TIME_MAX: Duration = Duration::from_millis(4000);
/// A request up to this size, in bytes, is kept until its answer begins, so that it can be sent again where a redirect
/// within the MCP server asks for that. A larger one is not, and such an answer to it goes to the client.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;
/// Interim answers (1xx) before the one that counts.
pub const INTERIM_ANSWERS_MAX: usize = 8;
/// Paths that are remembered to have moved within the MCP server.
pub const REDIRECTS_MAX: usize = 8;
/// How long that is remembered: a server that is replaced may serve another path.
pub const REDIRECT_TIME_MAX: Duration = Duration::from_secs(300);
/// An addresses' answer of the resolver is used for this long.
pub const RESOLVE_TTL: Duration = Duration::from_secs(30);
/// From SIGTERM to the end, for requests that are still running.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest bearer token, in bytes, before anything of it is decoded.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest header segment of a token, in bytes as it is written: room for a certificate chain that nobody reads.
pub const TOKEN_HEADER_BYTES_MAX: usize = 4 * 1024;
/// Deepest nesting of a token's header or claims, in levels. Real claims need four or five.
pub const TOKEN_JSON_DEPTH_MAX: usize = 16;
/// Most values in a token's header or claims, array elements included.
pub const TOKEN_JSON_VALUES_MAX: usize = 1024;
/// The latest moment that a `NumericDate` may name, 9999-12-31T23:59:59Z. Beyond it the issuer counts in other units.
pub const NUMERIC_DATE_MAX: i64 = 253_402_300_799;
/// Tokens remembered for a signature that fails, so that a repeated one costs a hash and not an RSA operation.
pub const REFUSED_CACHE_MAX: usize = 2048;
/// How long such a refusal is remembered, in seconds.
pub const REFUSED_CACHE_SECONDS: i64 = 60;
/// Parts of a token cache, each with a lock of its own.
pub const CACHE_SHARDS: usize = 16;
/// Verified tokens remembered.
pub const TOKEN_CACHE_MAX: usize = 8192;
/// Default leeway for `exp`, `nbf` and `iat`, in seconds (RFC 7519 section 4.1.4: "no more than a few minutes").
pub const LEEWAY_SECONDS: i64 = 60;
/// Largest key set or metadata document, in bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Most keys looked at in a key set.
pub const JWKS_KEYS_MAX: usize = 64;
/// One fetch of a key set or metadata document.
pub const JWKS_FETCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Deepest nesting of a key set or metadata document, in levels.
pub const JWKS_JSON_DEPTH_MAX: usize = 32;
/// Most values in a key set or metadata document. Some issuers list hundreds of claims and scopes.
pub const JWKS_JSON_VALUES_MAX: usize = 16 * 1024;
/// Smallest RSA modulus, in bits (RFC 7518 section 3.3).
pub const RSA_BITS_MIN: usize = 2048;
/// Largest RSA modulus, in bits: a verification grows with its square.
pub const RSA_BITS_MAX: usize = 8192;
/// Most keys tried for a token without `kid`.
pub const KEYS_TRIED_MAX: usize = 4;
/// Fetches per issuer that tokens may ask for in a row without bringing other keys. Two, so that whoever forged a token a
/// moment ago does not keep a rotation from being noticed.
pub const JWKS_ASKS_MAX: i64 = 2;
/// After those, one more each time this has passed, whatever tokens ask for.
pub const JWKS_COOLDOWN_SECONDS: i64 = 10;
/// Keys are fetched again in the background after this long.
pub const JWKS_REFRESH_SECONDS: i64 = 600;
/// The first wait after a fetch that failed; it doubles up to [`JWKS_COOLDOWN_SECONDS`].
pub const JWKS_RETRY_SECONDS: i64 = 1;
/// Keys that could not be fetched again for this long are used no more: a withdrawn key must not live for ever.
pub const JWKS_STALE_SECONDS_MAX: i64 = 24 * 60 * 60;
/// A key set that keeps failing to load is told to the operator once, and then at most this often.
pub const JWKS_LOG_SECONDS: i64 = 300;
/// How long a request waits for a key set that is on its way.
pub const JWKS_WAIT_MAX: Duration = Duration::from_secs(3);
/// Of the workers, one in so many goes on with everything else while the others wait for keys. A proxy that has just
/// started has clients that come back all at once.
pub const JWKS_SPARED_PART: usize = 4;
/// Of the workers, one in so many may wait for keys where most may wait for answers about opaque tokens.
pub const JWKS_INTROSPECTING_PART: usize = 8;
/// Requests that may wait for the keys of one issuer, however many issuers there are.
pub const JWKS_WAITERS_EACH_MIN: usize = 2;

/// Largest body of a login request, in bytes: a registration with logos as data would be larger, and is refused.
pub const LOGIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// Most parameters of one login request.
pub const LOGIN_PARAMETERS_MAX: usize = 64;
/// Largest answer of an identity provider to a login request, in bytes.
pub const LOGIN_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// One request to the identity provider, from the name to the last byte.
pub const LOGIN_FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client waits for a login request, with everything that it takes.
pub const LOGIN_TIME_MAX: Duration = Duration::from_secs(25);
/// Login requests that the identity provider is asked at one time; each has a thread.
pub const LOGIN_THREADS: usize = 4;
/// Login requests that wait for one of these. Beyond it 503.
pub const LOGIN_QUEUE_MAX: usize = 64;
/// Login requests of one client that wait or are asked at one time, so that others find room however slow the identity
/// provider is. Beyond it 429.
pub const LOGIN_SHARE_MAX: usize = LOGIN_QUEUE_MAX / 4;
/// The identity provider's metadata is asked for again after this long.
pub const LOGIN_METADATA_TIME: Duration = Duration::from_secs(600);
/// And not sooner than this after it could not be had.
pub const LOGIN_RETRY_TIME: Duration = Duration::from_secs(3);
/// Metadata that could not be had again for this long is used no more.
pub const LOGIN_STALE_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// An identity provider that keeps failing is told to the operator once, and then at most this often.
pub const LOGIN_LOG_TIME: Duration = Duration::from_secs(60);
/// A refresh or a registration that comes again within this time gets the first one's answer: its sender did not hear
/// it, and a refresh token may be good only once.
pub const LOGIN_REPEAT_TIME: Duration = Duration::from_secs(5);
/// Most such answers that are remembered.
pub const LOGIN_REPEATS_MAX: usize = 256;
/// Most requests that wait for the answer to one like them.
pub const LOGIN_WAITERS_MAX: usize = 8;
/// Addresses whose login requests are counted at one time.
pub const LOGIN_ADDRESSES_MAX: usize = 4096;
/// Registrations that one address may make at once, and the time in which it may make one more.
pub const LOGIN_REGISTRATIONS: (u32, Duration) = (60, Duration::from_secs(1));
/// Token and other requests that one address may make at once, and the time in which it may make one more.
pub const LOGIN_TOKENS: (u32, Duration) = (300, Duration::from_millis(50));
/// Most redirect URIs of a client that is registered by us.
pub const LOGIN_REDIRECTS_MAX: usize = 16;
/// Longest of these, in bytes.
pub const LOGIN_URI_BYTES_MAX: usize = 2048;
/// Longest name of a client that is registered by us, in characters.
pub const LOGIN_NAME_CHARS_MAX: usize = 40;
/// A token of ours for a management interface is used no longer than until so many seconds before its end.
pub const LOGIN_TOKEN_MARGIN_SECONDS: i64 = 30;

/// An answer of an issuer about an opaque token is remembered for this long at most, in seconds: so long a token that
/// was revoked goes on.
pub const INTROSPECTION_SECONDS_MAX: i64 = 60;
/// One question to an issuer about an opaque token.
pub const INTROSPECTION_TIME_MAX: Duration = Duration::from_secs(3);
/// A question that failed sooner than this is asked a second time, on a new connection.
pub const INTROSPECTION_RETRY_WITHIN: Duration = Duration::from_millis(500);
/// Requests that may wait for answers about opaque tokens at one time; each holds a worker. Never more than three
/// quarters of the workers.
pub const INTROSPECTION_WAITERS_MAX: usize = 24;
/// Default for the worker threads where opaque tokens are asked about, since most of them only wait.
pub const INTROSPECTION_WORKERS: usize = 32;
/// Idle connections kept to the issuer that is asked about opaque tokens.
pub const INTROSPECTION_IDLE_MAX: usize = 8;
/// Largest answer about an opaque token, in bytes.
pub const INTROSPECTION_BYTES_MAX: u64 = 64 * 1024;

/// How long a browser may remember a preflight, in seconds; Chromium caps it at two hours.
pub const PREFLIGHT_SECONDS_MAX: u32 = 3600;
/// `Retry-After` of a 503 that means "too much at once", in seconds: our queues drain within that.
pub const BUSY_RETRY_SECONDS: u32 = 2;
/// Longest value of a log field that a peer chose, in characters.
pub const LOG_VALUE_CHARS_MAX: usize = 200;

/// Largest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Most characters of one value of a peer's that stand in a log line.
pub const SHOWN_CHARS_MAX: usize = 120;
/// Most problems of the file that are told, and most notes that are told with their line; each line costs one more
/// reading of the file.
pub const CONFIG_PLACES_MAX: usize = 50;
/// Shortest `session_key`, in bytes: as many as HMAC-SHA-256 gives (RFC 2104 section 3).
pub const SESSION_KEY_BYTES_MIN: usize = 32;
/// Longest wait that a key ending in `_seconds` may name: a day.
pub const CONFIG_SECONDS_MAX: u64 = 86_400;
/// Log text that waits for a slow reader of standard error, in bytes. Beyond it lines are dropped and counted.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Room for one line that each thread keeps, in bytes; a longer line makes its own.
pub const LOG_LINE_KEPT_BYTES: usize = 4 * 1024;

/// `--local`: most clients, waiting requests, codes or refresh tokens that its authorization server remembers.
pub const LOCAL_ENTRIES_MAX: usize = 1000;
/// `--local`: most parameters of one form.
pub const LOCAL_PARAMETERS_MAX: usize = 64;
/// `--local`: largest body that its authorization server reads, in bytes.
pub const LOCAL_FORM_BYTES_MAX: usize = 64 * 1024;
/// `--local`: longest value that a client may have repeated to it, such as `state`, in bytes.
pub const LOCAL_VALUE_BYTES_MAX: usize = 2048;
/// `--local`: most redirect URIs of one client.
pub const LOCAL_REDIRECTS_MAX: usize = 16;
/// `--local`: a consent page waits for its decision so long, in seconds.
pub const LOCAL_CONSENT_SECONDS: i64 = 600;
/// `--local`: an authorization code is good for so long, in seconds (RFC 6749 section 4.1.2: at most ten minutes).
pub const LOCAL_CODE_SECONDS: i64 = 60;
/// `--local`: an access token is good for so long, in seconds: short enough that a client's refresh is seen at work.
pub const LOCAL_TOKEN_SECONDS: i64 = 600;
/// `--local`: a client and its refresh tokens are remembered for so long, in seconds.
pub const LOCAL_LOGIN_SECONDS: i64 = 24 * 3600;
/// `--local`: most sessions, and most open event streams, that its MCP server remembers.
pub const LOCAL_SESSIONS_MAX: usize = 256;
/// `--local`: most calls that count at one time; each has a thread.
pub const LOCAL_COUNTS_MAX: usize = 32;

/// Requests that one shared child of the modern era works on at one time. Beyond it 503.
pub const STDIO_SHARED_PENDING_MAX: usize = 4096;
/// Requests that wait for a shared child to be found out about or started again; each holds its body. Beyond it 503.
pub const STDIO_QUEUED_MAX: usize = 256;
/// The bytes that go with [`STDIO_QUEUED_MAX`]; beyond them no further body is held.
pub const STDIO_QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a request waits for a child that is to be started again; where it would take longer, 502 at once.
pub const STDIO_WAIT_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a child may take to answer `server/discover` before sessions are tried at other children. Programs that a
/// package runner fetches first take longer, so an answer that comes later counts as well.
pub const STDIO_PROBE_TIME_MAX: Duration = Duration::from_secs(15);
/// The pause after the second death of a child; it doubles up to [`STDIO_BACKOFF_TIME_MAX`]. There is none after the
/// first.
pub const STDIO_BACKOFF_TIME_MIN: Duration = Duration::from_millis(250);
/// The longest pause before a child is started again.
pub const STDIO_BACKOFF_TIME_MAX: Duration = Duration::from_secs(30);
/// A child that ran this long and died is treated as if it had never died before.
pub const STDIO_STEADY_TIME: Duration = Duration::from_secs(10);
/// Schemas of tools are asked for again after this long; a call is never refused by older ones.
pub const STDIO_SCHEMA_TIME_MAX: Duration = Duration::from_secs(60);
/// Most pages of one `tools/list` of ours.
pub const STDIO_SCHEMA_PAGES_MAX: usize = 64;
/// Children that are shared by one principal each, at most. Beyond it 503.
pub const STDIO_WARM_MAX: usize = 64;
/// Sessions that are opened for the modern requests of one principal at a server that has nothing else. A call that the
/// server asks something during has one for itself.
pub const STDIO_TRANSLATED_MAX: usize = 8;
/// How long a call waits for what its server asked of the client, a person's decision perhaps.
pub const STDIO_ASK_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// How often a server may ask the client of one call for input, where we ask in its place.
pub const STDIO_ROUNDS_MAX: u32 = 32;
/// Tools of one stdio server whose schemas are kept for `Mcp-Param-*`.
pub const STDIO_TOOLS_MAX: usize = 4096;
/// Most arguments of one tool that headers may repeat: as many headers as a head may have would be too many.
pub const STDIO_TOOL_HEADERS_MAX: usize = 32;
/// stdio: default for the longest line that an MCP server may write, in bytes: as large as a message to it may be.
pub const STDIO_LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// stdio: bytes that are kept of each end of a line that is longer: room for an id and what surrounds it.
pub const STDIO_CUT_BYTES: usize = 1024;
/// stdio: bytes that may wait for a server that does not read. One message of any size may wait alone.
pub const STDIO_INPUT_BYTES_MAX: usize = 1024 * 1024;
/// stdio: a server that has read nothing of what waits for it for so long is ended.
pub const STDIO_INPUT_TIME_MAX: Duration = Duration::from_secs(30);
/// stdio: bytes read from a server at one time, and so the most that one of them may have before others have their turn.
pub const STDIO_READ_BYTES: usize = 64 * 1024;
/// stdio: from the end of its standard input to SIGTERM, and from there to SIGKILL.
pub const STDIO_EXIT_TIME_MAX: Duration = Duration::from_secs(2);
/// stdio: processes that wait to be started.
pub const STDIO_STARTS_MAX: usize = 64;
/// stdio: lines of standard error that the log shows of one server in [`STDIO_LOG_TIME`]; more are counted.
pub const STDIO_LOG_LINES_MAX: usize = 20;
/// stdio: the time that goes with [`STDIO_LOG_LINES_MAX`].
pub const STDIO_LOG_TIME: Duration = Duration::from_secs(10);
/// stdio: default for the processes of legacy sessions, of all callers together.
pub const STDIO_SESSIONS_MAX: usize = 256;
/// stdio: default for the processes of legacy sessions of one caller.
pub const STDIO_SESSIONS_PER_PRINCIPAL_MAX: usize = 64;
/// stdio: default for a legacy session that nobody uses.
pub const STDIO_SESSION_IDLE_TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// stdio: default for one answer; a person may have to be asked on the way.
pub const STDIO_REQUEST_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// stdio: requests of one session, or of one shared process and caller, that wait for their answer at one time.
pub const STDIO_PENDING_MAX: usize = 256;
/// stdio: bytes that may wait for a client that does not take them; one message of any size may wait alone.
pub const STDIO_OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// stdio: how long an answer may take before it becomes an event stream, so that it can be resumed.
pub const STDIO_JSON_TIME_MAX: Duration = Duration::from_millis(100);
/// stdio: a comment goes out on a stream that has been silent for so long, for the proxies between.
pub const STDIO_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// stdio: how long a client waits before it comes back to a stream that broke, in milliseconds (SSE `retry`).
pub const STDIO_RETRY_MILLIS: u32 = 1000;
/// stdio: events of a session that are kept for a client that comes back, in number.
pub const STDIO_REPLAY_EVENTS_MAX: usize = 256;
/// stdio: the same, in bytes; the newest is kept whatever its size.
pub const STDIO_REPLAY_BYTES_MAX: usize = 256 * 1024;
/// stdio: messages of a session that wait for a client to listen, in number. Beyond it the oldest are dropped.
pub const STDIO_PARKED_MAX: usize = 64;
/// stdio: the same, in bytes.
pub const STDIO_PARKED_BYTES_MAX: usize = 256 * 1024;
/// stdio: after a client cancelled a request, how long an answer to it is still waited for.
pub const STDIO_CANCEL_TIME_MAX: Duration = Duration::from_secs(2);
/// stdio: requests of a server that wait for the client's answer, in one session.
pub const STDIO_ASKED_MAX: usize = 256;
/// stdio: how often deadlines, idle sessions and silent streams are looked at.
pub const STDIO_TICK: Duration = Duration::from_millis(50);
/// stdio: the same, while no request is under way.
pub const STDIO_TICK_IDLE: Duration = Duration::from_millis(250);

const _: () = assert!(TOKEN_BYTES_MAX < HEAD_BYTES_MAX, "a token must fit into a head");
const _: () = assert!(TOKEN_HEADER_BYTES_MAX < TOKEN_BYTES_MAX, "the header is a part of the token");
const _: () =
    assert!(INTROSPECTION_WAITERS_MAX < INTROSPECTION_WORKERS, "some workers never wait for the issuer");
const _: () = assert!(JWKS_RETRY_SECONDS <= JWKS_COOLDOWN_SECONDS, "a retry comes sooner than a refetch");
const _: () = assert!(LOGIN_FETCH_TIME_MAX.as_secs() * 2 < LOGIN_TIME_MAX.as_secs(), "a token, then its use");
const _: () = assert!(MESSAGE_BYTES_MAX <= BODY_BYTES_IN_FLIGHT_MAX, "one message must fit");
