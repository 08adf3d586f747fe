//! What the MCP server speaks, as far as anybody knows (section 3.4).
//!
//! ```text
//!               answer to server/discover: a modern one ──▶ Modern   for good
//!  nothing ─────┤                          any other ─────▶ Legacy   for good
//!  known        └ none within a time, or it died of the question: silent
//!                     calls go to sessions, which ask initialize, while the question stays open
//! ```
//!
//! Only an answer decides. A program that a package runner fetches first says nothing for minutes and is modern all the
//! same, and one that nobody can ask but by `initialize` may end when it is asked anything else. So silence decides
//! nothing: sessions are tried meanwhile, a late answer counts, and every start asks anew. There is one exception: a
//! server that died of the question twice, and opens sessions, is one that knows nothing but sessions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a server speaks.
#[derive(Clone, Debug)]
pub(super) enum Era {
    /// These revisions, without a handshake.
    Modern(Arc<[String]>),
    /// Nothing but sessions.
    Legacy,
}

/// What was found out; kept for as long as the program runs.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    era: Option<Era>,
    silent: bool,
    /// Whether it opens sessions; unknown until one was tried.
    opens: Option<bool>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an answer has decided.
    pub(super) fn era(&self) -> Option<Era> {
        self.lock().era.clone()
    }

    pub(super) fn is_modern(&self) -> bool {
        matches!(self.lock().era, Some(Era::Modern(_)))
    }

    pub(super) fn is_legacy(&self) -> bool {
        matches!(self.lock().era, Some(Era::Legacy))
    }

    /// An answer decides.
    pub(super) fn pin(&self, era: Era) {
        self.lock().era = Some(era);
    }

    /// The question was not answered in time, or the server died of it. Says whether that is news.
    pub(super) fn be_silent(&self) -> bool {
        let mut state = self.lock();
        state.era.is_none() && !std::mem::replace(&mut state.silent, true)
    }

    /// A server that is started anew may do what the one before it did not.
    pub(super) fn start_anew(&self) {
        let mut state = self.lock();
        state.opens = state.opens.filter(|opens| *opens);
    }

    /// A session was tried.
    pub(super) fn tried(&self, opens: bool) {
        let mut state = self.lock();
        // Once it could, it can: a later failure is no more than that.
        state.opens = Some(opens || state.opens == Some(true));
    }

    pub(super) fn opens_sessions(&self) -> bool {
        self.lock().opens == Some(true)
    }

    /// Whether modern calls go to sessions: for good, or for the time being.
    pub(super) fn is_served_by_sessions(&self) -> bool {
        let state = self.lock();
        match state.era {
            Some(Era::Legacy) => true,
            Some(Era::Modern(_)) => false,
            None => state.silent && state.opens != Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_decides() {
        let known = Known::default();
        assert!(!known.is_served_by_sessions());
        assert!(known.be_silent() && !known.be_silent(), "told once");
        assert!(known.is_served_by_sessions());
        known.tried(false);
        assert!(!known.is_served_by_sessions(), "not where there are none");
        known.start_anew();
        assert!(known.is_served_by_sessions());
        known.tried(true);
        known.tried(false);
        assert!(known.is_served_by_sessions() && known.opens_sessions());
        known.pin(Era::Modern([].into()));
        assert!(known.is_modern() && !known.is_served_by_sessions() && !known.be_silent());
        known.pin(Era::Legacy);
        assert!(known.is_served_by_sessions());
    }
}
