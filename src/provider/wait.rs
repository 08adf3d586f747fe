//! A client that waits for a login thread: its connection is with a stream thread meanwhile, and holds no worker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::edge::{Producer, Step, Waker, Watch};
use crate::reply::{LoginFault, Reply};

/// What a login request ended in.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer, before any grant to a page.
    pub reply: Reply,
    /// Why it is a refusal, for the log.
    pub fault: Option<LoginFault>,
}

impl From<LoginFault> for Outcome {
    fn from(fault: LoginFault) -> Self {
        Self { reply: fault.reply(), fault: Some(fault) }
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self { reply, fault: None }
    }
}

/// What makes the answer of an outcome: grants to a page, and the line in the log.
pub type Finish = Box<dyn FnOnce(Outcome) -> Reply + Send>;

/// Where a login thread puts an outcome.
#[derive(Debug, Default)]
pub struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Slot {
    /// Puts it there, and wakes whoever waits.
    pub fn fill(&self, outcome: Outcome) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take(&self) -> Option<Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).outcome.take()
    }
}

/// The answer to come.
pub struct Pending {
    slot: Arc<Slot>,
    finish: Option<Finish>,
    deadline: Instant,
}

impl Pending {
    /// Waits for `slot`, until `deadline`.
    #[must_use]
    pub fn new(slot: Arc<Slot>, finish: Finish, deadline: Instant) -> Self {
        Self { slot, finish: Some(finish), deadline }
    }

    fn end(&mut self, outcome: Outcome) -> Step<'static> {
        match self.finish.take() {
            Some(finish) => Step::Refuse(Box::new(finish(outcome))),
            None => Step::Cut,
        }
    }
}

impl Producer for Pending {
    fn step(&mut self) -> Step<'_> {
        match self.slot.take() {
            Some(outcome) => self.end(outcome),
            None => Step::Wait,
        }
    }

    fn watch(&self) -> Watch<'_> {
        Watch::Nothing
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn expire(&mut self) -> Step<'_> {
        self.end(LoginFault::TimedOut.into())
    }

    fn is_endless(&self) -> bool {
        false
    }

    fn attached(&mut self, waker: Waker) {
        // The stream thread takes a step next, so what was filled in before is not missed.
        self.slot.0.lock().unwrap_or_else(PoisonError::into_inner).waker = Some(waker);
    }
}
