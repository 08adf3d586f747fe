//! The bridge: an MCP server that is a program, served to the network over HTTP.
//!
//! ```text
//!  worker ── Bridge::serve(Relay with its Permit, request, Caller) ──▶ Answer
//!    │                                                                  │ a Tap, carried by the engine
//!    │ legacy.rs: a session and a child each                            ▼
//!    │ modern …:  a child for many                    Outlet ◀── lines, led by id, token, kind ── thread `children`
//!    └── Child::send(line) ──▶ process.rs ──▶ the MCP server ──▶ standard output ──▶ Sink::line ──┘
//!  thread `stdio-timer`: deadlines, idle sessions, silent streams
//! ```
//!
//! | file | what it is for |
//! |---|---|
//! | `launch.rs` | command, environment and folder; the bond that ends a child with us |
//! | `process.rs` | children: starting, reading, writing, ending; threads `spawner` and `children` |
//! | `framing.rs`, `said.rs` | bytes to bounded lines; what goes to the log |
//! | `line.rs`, `id.rs` | one message and where its members stand; ids as keys |
//! | `remap.rs`, `splice.rs` | many askers at one child: ids of ours for theirs |
//! | `params.rs` | `Mcp-Param-*` against the tools' schemas |
//! | `outlet.rs` | an answer whose form its first message decides |
//!
//! A request comes with a [`crate::auth::Permit`], taken by value: what was not authorized does not get here. Its
//! [`Caller`] makes the answer one for that request and writes the line of the log; whoever answers holds an [`Outlet`].
//! Nobody waits for anybody: a worker writes a line and goes, the thread `children` leads what comes back and goes on.
//!
//! Both eras have the same four entries: `serve(relay, request, caller) -> Answer` on a worker, the [`process::Sink`] of
//! each child on `children`, `tick(now)` on `stdio-timer`, and `stop()`. Each starts its own children from one
//! [`launch::Launch`] by [`process::Children::spawn`]; a child never changes its era.

pub mod framing;
pub mod id;
pub mod launch;
pub mod line;
pub mod params;
pub mod remap;
pub mod splice;
pub(crate) mod outlet;
pub(crate) mod process;
mod said;
