//! How many workers wait for work at one time: as many as there are processors, and no more.
//!
//! Whoever waits in epoll is woken for every event that comes, even where a worker that is awake would have been there
//! in a microsecond; waking and switching threads is then most of what a request costs. So the others stand by, outside
//! of epoll. A worker that has to wait for something else while it serves, as for keys that are on their way, says so
//! through [`while_waiting`], and one of the others takes its place until it is back.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Who may take events, shared by the workers of one server.
#[derive(Debug)]
pub(crate) struct Standby {
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
}

impl Standby {
    pub(crate) fn new(places: usize) -> Self {
        let places = Mutex::new(Places { taken: 0, all: places.max(1) });
        Self { places, crowded: AtomicBool::new(false), wake: Condvar::new() }
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

/// Runs what may take its time while another worker, if there is one, does this one's work.
pub fn while_waiting<T>(wait: impl FnOnce() -> T) -> T {
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

    use super::*;

    #[test]
    fn whoever_waits_is_stood_in_for_until_it_is_back() {
        let standby = Arc::new(Standby::new(1));
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
