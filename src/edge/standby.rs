//! How many workers wait for work at one time: as many as there are processors, and no more.
//!
//! Whoever waits in epoll is woken for every event that comes, even where a worker that is awake would have been there
//! in a microsecond; waking and switching threads is then most of what a request costs. So the others stand by, outside
//! of epoll. A worker that has to wait for something else while it serves, as for keys that are on their way, says so
//! through [`while_waiting`], and one of the others takes its place until it is back.
//!
//! A worker takes several events at one time, which under load saves most of the calls that ask for them. What it has
//! taken and not looked at when it has to wait is given back first, so that nobody waits behind it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll::Event;

/// Where events can be given back to.
pub(crate) trait Renew: Send + Sync {
    /// Lets what this event told be told again, to any worker.
    fn renew(&self, event: Event);
}

/// Who may take events, shared by the workers of one server.
pub(crate) struct Standby {
    events: Arc<dyn Renew>,
    places: Mutex<Places>,
    /// Whether more are at work than should be, for a look without the lock.
    crowded: AtomicBool,
    wake: Condvar,
}

#[derive(Debug)]
struct Places {
    taken: usize,
    all: usize,
}

thread_local! {
    /// Where this thread has its place, if it is a worker.
    static HERE: RefCell<Option<Arc<Standby>>> = const { RefCell::new(None) };
    /// The events that this worker has taken and not looked at.
    static TAKEN: RefCell<VecDeque<Event>> = const { RefCell::new(VecDeque::new()) };
}

impl Standby {
    /// Room for `places` workers, whose events are given back to `events`.
    pub(crate) fn new(places: usize, events: Arc<dyn Renew>) -> Self {
        let places = Mutex::new(Places { taken: 0, all: places.max(1) });
        Self { events, places, crowded: AtomicBool::new(false), wake: Condvar::new() }
    }

    /// Waits for a place; for a worker, before it takes its first event.
    pub(crate) fn enter(self: &Arc<Self>) {
        HERE.set(Some(Arc::clone(self)));
        self.take_place(self.lock());
    }

    /// Leaves the place to those who are back, if there are more than places, until one is free again.
    pub(crate) fn make_room(&self) {
        if self.crowded.load(Ordering::Relaxed) {
            let mut places = self.lock();
            if places.taken > places.all {
                places.taken -= 1;
                self.look(&places);
                self.take_place(places);
            }
        }
    }

    /// Lets everybody in, to end.
    pub(crate) fn open(&self) {
        self.lock().all = usize::MAX;
        self.wake.notify_all();
    }

    fn take_place(&self, mut places: MutexGuard<'_, Places>) {
        while places.taken >= places.all {
            places = self.wake.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
        places.taken += 1;
    }

    fn look(&self, places: &Places) {
        self.crowded.store(places.taken > places.all, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One more place for as long as this lives.
struct Lent<'a>(&'a Standby);

impl<'a> Lent<'a> {
    fn by(standby: &'a Standby) -> Self {
        let mut places = standby.lock();
        places.all = places.all.saturating_add(1);
        drop(places);
        standby.wake.notify_one();
        Self(standby)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut places = self.0.lock();
        if places.all < usize::MAX {
            places.all -= 1;
        }
        self.0.look(&places);
    }
}

/// Keeps the events that this worker took, for [`next_event`].
pub(crate) fn keep_events(events: &[Event]) {
    TAKEN.with_borrow_mut(|taken| taken.extend(events));
}

/// The next event that this worker took.
pub(crate) fn next_event() -> Option<Event> {
    TAKEN.with_borrow_mut(VecDeque::pop_front)
}

/// Gives back what this worker took and has not looked at, before something that takes its time.
pub(crate) fn give_back() {
    HERE.with_borrow(|here| {
        while let (Some(here), Some(event)) = (here, next_event()) {
            here.events.renew(event);
        }
    });
}

/// Runs what may take its time while another worker, if there is one, does this one's work.
pub fn while_waiting<T>(wait: impl FnOnce() -> T) -> T {
    give_back();
    HERE.with_borrow(|here| {
        let _lent = here.as_deref().map(Lent::by);
        wait()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use rustix::event::epoll::{EventData, EventFlags};

    use super::*;

    #[derive(Default)]
    struct Renewed(Mutex<Vec<u64>>);

    impl Renew for Renewed {
        fn renew(&self, event: Event) {
            let data = event.data;
            self.0.lock().unwrap().push(data.u64());
        }
    }

    #[test]
    fn what_was_taken_is_given_back_before_a_wait() {
        let renewed = Arc::new(Renewed::default());
        let standby = Arc::new(Standby::new(1, Arc::clone(&renewed) as _));
        standby.enter();
        keep_events(&[1, 2, 3].map(|data| Event { flags: EventFlags::IN, data: EventData::new_u64(data) }));
        let first = next_event().unwrap().data;
        assert_eq!(first.u64(), 1);
        while_waiting(|| assert_eq!(*renewed.0.lock().unwrap(), [2, 3]));
        assert!(next_event().is_none());
    }

    #[test]
    fn whoever_waits_is_stood_in_for_until_it_is_back() {
        let standby = Arc::new(Standby::new(1, Arc::<Renewed>::default()));
        let (told, tell) = (mpsc::channel(), Arc::clone(&standby));
        standby.enter();
        let second = thread::Builder::new()
            .spawn(move || {
                tell.enter();
                told.0.send("in").unwrap();
                while !tell.crowded.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                tell.make_room(); // comes back once the first has left for good
                told.0.send("in again").unwrap();
            })
            .unwrap();
        assert!(told.1.recv_timeout(Duration::from_millis(50)).is_err(), "there is one place");
        while_waiting(|| assert_eq!(told.1.recv_timeout(Duration::from_secs(10)), Ok("in")));
        assert!(told.1.recv_timeout(Duration::from_millis(50)).is_err(), "the first has its place again");
        standby.open();
        assert_eq!(told.1.recv_timeout(Duration::from_secs(10)), Ok("in again"));
        second.join().unwrap();
    }

    #[test]
    fn a_thread_that_is_no_worker_simply_waits() {
        assert_eq!(while_waiting(|| 7), 7);
    }
}
