//! The box in which an exchange goes from thread to thread, used by one exchange after the other.
//!
//! ```text
//! worker ── begin ──▶ Box<Relayed> ── connection, park, stream thread ──▶ release ──▶ this thread's spare boxes
//! ```

use std::cell::RefCell;
use std::time::Instant;

use super::ticket::Ticket;
use crate::edge::{Producer, Step, Watch};
use crate::limits::SPARES_MAX;
use crate::relay::exchange::Exchange;

thread_local! {
    #[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
    static BOXES: RefCell<Vec<Box<Relayed>>> = const { RefCell::new(Vec::new()) };
}

/// An exchange, until it is over.
pub(super) struct Relayed(Option<Exchange<Ticket>>);

impl Relayed {
    /// Puts `exchange` into a box.
    pub(super) fn boxed(exchange: Exchange<Ticket>) -> Box<Self> {
        let Some(mut spare) = BOXES.with_borrow_mut(Vec::pop) else { return Box::new(Self(Some(exchange))) };
        spare.0 = Some(exchange);
        spare
    }
}

impl Producer for Relayed {
    fn step(&mut self) -> Step<'_> {
        self.0.as_mut().map_or(Step::Cut, Exchange::step)
    }

    fn watch(&self) -> Watch<'_> {
        self.0.as_ref().map_or(Watch::Nothing, Exchange::watch)
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().and_then(Exchange::deadline)
    }

    fn expire(&mut self) -> Step<'_> {
        self.0.as_mut().map_or(Step::Cut, Exchange::expire)
    }

    fn is_endless(&self) -> bool {
        self.0.as_ref().is_some_and(Exchange::is_endless)
    }

    fn release(mut self: Box<Self>) {
        if let Some(mut exchange) = self.0.take() {
            exchange.release();
        }
        BOXES.with_borrow_mut(|boxes| {
            if boxes.len() < SPARES_MAX {
                boxes.push(self);
            }
        });
    }
}
