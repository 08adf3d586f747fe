//! What is measured, how often, and in which order.

use super::fleet::Kind;
use super::load::Scenario;

/// How much of it.
pub struct Plan {
    smoke: bool,
    only: Vec<String>,
    matching: String,
    pub rounds: u32,
    pub seconds: u32,
    pub starts: u32,
    pub event_seconds: u64,
}

impl Plan {
    pub fn from(args: &mut pico_args::Arguments) -> Result<Self, pico_args::Error> {
        let smoke = args.contains("--smoke");
        let pick = |full, small| if smoke { small } else { full };
        let rounds = args.opt_value_from_str("--rounds")?.unwrap_or_else(|| pick(3, 1));
        Ok(Self {
            smoke,
            only: args.values_from_str("--only")?,
            matching: args.opt_value_from_str("--match")?.unwrap_or_default(),
            rounds,
            seconds: args.opt_value_from_str("--seconds")?.unwrap_or_else(|| pick(3, 1)),
            starts: pick(15, 3),
            event_seconds: u64::from(pick(5, 1)),
        })
    }

    pub fn does(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    /// Whether any of the parts that relay to a server on the network is done.
    pub fn relays(&self) -> bool {
        ["start", "load", "syscalls", "streams"].iter().any(|part| self.does(part))
    }

    /// What the titles of requests, and the names of bridges, must have.
    pub fn matching(&self) -> &str {
        &self.matching
    }

    /// Whether it is to take less than a minute.
    pub fn is_short(&self) -> bool {
        self.smoke
    }

    pub fn scenarios(&self) -> Vec<Scenario> {
        let connections: &[u32] = if self.smoke { &[16] } else { &[1, 16, 64] };
        let mut all = Vec::new();
        for tokens in ["1", "1000"] {
            all.extend(connections.iter().map(|connections| json(*connections, tokens)));
        }
        for connections in connections {
            let mode = "rotate,stream";
            all.push(Scenario { what: "POST, event stream", mode, ..json(*connections, "1") });
        }
        for (what, tokens, mode) in [
            ("refused: no token", "none", "rotate,echo"),
            ("refused: bad signatures, all different", "forged", "forge,echo"),
            ("refused: one bad signature, repeated", "forged", "rotate,echo"),
            ("refused: unknown kids", "unknown", "rotate,echo"),
        ] {
            all.push(Scenario { what, connections: 16, tokens, mode, refused: true });
        }
        all.retain(|scenario| scenario.title().contains(&self.matching));
        all
    }

    pub fn streams(&self) -> &'static [usize] {
        if self.smoke { &[100] } else { &[100, 1000, 5000] }
    }

    pub fn syscall_connections(&self) -> &'static [u32] {
        if self.smoke { &[16] } else { &[1, 16, 64] }
    }
}

/// A call that is allowed, answered with JSON.
pub fn json(connections: u32, tokens: &'static str) -> Scenario {
    Scenario { what: "POST, JSON", connections, tokens, mode: "rotate,echo", refused: false }
}

/// Who has something to show: those that look at no token are measured once for each kind of answer.
pub fn applies(kind: Kind, scenario: &Scenario) -> bool {
    kind.checks() || !scenario.refused && scenario.tokens == "1"
}

/// Runs `one` for every target in every round, the order turning by one from round to round.
pub fn interleaved<K: Copy, T>(
    rounds: u32,
    kinds: &[K],
    mut one: impl FnMut(K, u32) -> T,
) -> Vec<(K, Vec<T>)> {
    let mut runs: Vec<(K, Vec<T>)> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
    let count = runs.len();
    for round in 0..rounds {
        for step in 0..count {
            let at = (step + round as usize) % count;
            let (kind, figures) = &mut runs[at];
            figures.push(one(*kind, round));
        }
    }
    runs
}
