//! Where connections wait without a thread: one epoll set, one slot each, and a sweeper for those that wait too long.
//!
//! ```text
//! worker ── park(conn) ──▶ slot ◀── take(event) ── worker, when the socket is ready
//!                           ▲
//!                           └────── sweep() ────── sweeper, when the deadline has passed
//! ```
//!
//! A descriptor is registered once, when its connection is accepted, with `EPOLLONESHOT`: an event goes to one worker
//! and disarms it, and parking arms it again. Event and sweeper may race for a slot; whoever finds it empty has lost,
//! and a generation number keeps a late event away from the next connection in the same slot.
//!
//! While the MCP server has the word, it is the other end that is waited for: the descriptor of the connection's
//! producer, registered in the same set under the same slot. That one may go on to serve another connection; an event
//! that it left behind finds its connection in another phase, or makes a producer look once in vain.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::conn::{Conn, Phase};
use super::pump::Watch;

type Slot<P> = Mutex<Option<Box<Conn<P>>>>;
type Block<P> = Box<[Slot<P>]>;

/// Slots that are made at one time.
const BLOCK: usize = 256;

/// All connections that wait.
pub(crate) struct Park<P> {
    epoll: OwnedFd,
    /// Made when the first connection needs one of a block, so that a high limit costs nothing before it is used.
    blocks: Box<[OnceLock<Block<P>>]>,
    most: usize,
    free: Arc<Mutex<Free>>,
}

/// The slot of a connection; given back when dropped, by whatever way the connection ends.
pub(crate) struct Place(Arc<Mutex<Free>>, u32);

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0).again.push(self.1);
    }
}

struct Free {
    /// Slots that were used and given back, the last one first.
    again: Vec<u32>,
    /// Slots from here on were never used, so the sweeper need not look at them.
    fresh: u32,
    generation: u32,
}

/// What a socket is waited for.
pub(crate) const READ: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);
/// Room to write.
pub(crate) const WRITE: EventFlags = EventFlags::OUT;

impl<P> Park<P> {
    /// A park with room for `most` connections.
    pub(crate) fn new(most: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let blocks = (0..most.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
        let free = Arc::new(Mutex::new(Free { again: Vec::new(), fresh: 0, generation: 0 }));
        Ok(Self { epoll, blocks, most, free })
    }

    fn slot(&self, number: usize) -> Option<&Slot<P>> {
        self.blocks.get(number / BLOCK)?.get()?.get(number % BLOCK)
    }

    /// The descriptor that workers wait on.
    pub(crate) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// Takes a new connection in and waits for its first byte. `Err` gives it back when there is no room.
    pub(crate) fn admit(&self, mut conn: Box<Conn<P>>) -> Result<(), Box<Conn<P>>> {
        let mut free = lock(&self.free);
        let slot = match free.again.pop() {
            Some(slot) => slot,
            None if (free.fresh as usize) < self.most => {
                if let Some(block) = self.blocks.get(free.fresh as usize / BLOCK) {
                    block.get_or_init(|| (0..BLOCK).map(|_| Mutex::new(None)).collect());
                }
                free.fresh += 1;
                free.fresh - 1
            }
            None => return Err(conn),
        };
        free.generation = free.generation.wrapping_add(1);
        conn.slot = slot;
        conn.place = Some(Place(Arc::clone(&self.free), slot));
        conn.generation = free.generation;
        drop(free);
        let registered = epoll::add(&self.epoll, &conn.stream, token(&conn), EventFlags::ONESHOT);
        if registered.is_err() {
            self.forget(&conn);
            return Err(conn);
        }
        self.park(conn, READ);
        Ok(())
    }

    /// Lets a connection wait for `events` or its deadline.
    pub(crate) fn park(&self, conn: Box<Conn<P>>, events: EventFlags) {
        let Some(slot) = self.slot(conn.slot as usize) else { return };
        let mut place = lock(slot);
        // Armed under the lock: the worker that the event wakes at once waits here until the connection is in place.
        match epoll::modify(&self.epoll, &conn.stream, token(&conn), events | EventFlags::ONESHOT) {
            Ok(()) => *place = Some(conn),
            Err(_) => {
                drop(place);
                self.close(conn);
            }
        }
    }

    /// Lets a connection wait for what the producer of its answer watches, or its deadline. `Err` gives it back when
    /// there is nothing to watch.
    pub(crate) fn park_answer(&self, conn: Box<Conn<P>>) -> Result<(), Box<Conn<P>>> {
        let Some(slot) = self.slot(conn.slot as usize) else { return Err(conn) };
        let (fd, events) = match conn.answer.as_ref().map(|answer| answer.watch()) {
            Some(Watch::Read(fd, _)) => (fd, READ),
            // Who answers before it has read all is heard too.
            Some(Watch::Write(fd, _)) => (fd, WRITE | EventFlags::IN),
            Some(Watch::Nothing) | None => return Err(conn),
        };
        let mut place = lock(slot);
        let (token, events) = (EventData::new_u64(token(&conn).u64() | SOURCE), events | EventFlags::ONESHOT);
        let armed = match epoll::modify(&self.epoll, fd, token, events) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, fd, token, events),
            armed => armed,
        };
        if armed.is_err() {
            return Err(conn);
        }
        *place = Some(conn);
        Ok(())
    }

    /// The connection that an event is about, unless somebody else has it.
    pub(crate) fn take(&self, data: EventData) -> Option<Box<Conn<P>>> {
        let (slot, generation) = untoken(data);
        let of_source = data.u64() & SOURCE != 0;
        lock(self.slot(slot)?)
            .take_if(|conn| conn.generation == generation && (conn.phase == Phase::Answering) == of_source)
    }

    /// Takes out every connection for which `wanted` holds.
    pub(crate) fn sweep(&self, mut wanted: impl FnMut(&Conn<P>) -> bool) -> Vec<Box<Conn<P>>> {
        let used = lock(&self.free).fresh as usize;
        let slots = self.blocks.iter().filter_map(OnceLock::get).flat_map(|block| block.iter()).take(used);
        slots.filter_map(|slot| lock(slot).take_if(|conn| wanted(conn))).collect()
    }

    /// Ends a connection that was taken out.
    pub(crate) fn close(&self, conn: Box<Conn<P>>) {
        self.forget(&conn);
        drop(conn);
    }

    fn forget(&self, conn: &Conn<P>) {
        // Dropping the socket takes it out of the set too, but only when no one else holds the same description.
        let _ = epoll::delete(&self.epoll, &conn.stream);
    }
}

/// Whether a waiting connection has waited too long.
pub(crate) fn overdue<P>(conn: &Conn<P>, now: Instant, pressed: bool, stopping: bool) -> bool {
    let unused = conn.phase == Phase::Idle;
    conn.deadline.is_some_and(|deadline| deadline <= now)
        || unused && stopping
        // With three quarters of all places taken, an unused connection has a second instead of a minute.
        || unused && pressed && conn.since.is_some_and(|since| now.duration_since(since).as_secs() >= 1)
}

/// Marks the event of a producer's descriptor, against that of the client's socket.
const SOURCE: u64 = 1 << 31;

fn token<P>(conn: &Conn<P>) -> EventData {
    EventData::new_u64(u64::from(conn.generation) << 32 | u64::from(conn.slot))
}

fn untoken(data: EventData) -> (usize, u32) {
    let [slot, generation] = [data.u64() & 0x7fff_ffff, data.u64() >> 32];
    (usize::try_from(slot).unwrap_or(usize::MAX), u32::try_from(generation).unwrap_or(0))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

    use super::super::conn::Grant;
    use super::super::{Counts, household};
    use super::*;

    /// A worker that panics drops the connection it served without a word to anybody.
    #[test]
    fn a_slot_is_free_again_however_its_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (park, counts) = (Park::<()>::new(2).unwrap(), Arc::new(Counts::default()));
        for round in 0..10 {
            let client = TcpStream::connect(addr).unwrap();
            let (stream, _) = listener.accept().unwrap();
            let peer = household(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let counted = counts.enter(peer, 2).unwrap();
            let conn = Box::new(Conn::new(stream, peer, counted, Grant::new(Arc::default())));
            assert!(park.admit(conn).is_ok(), "round {round}");
            let conn = park.sweep(|_| true).pop().unwrap();
            if round % 2 == 0 {
                park.close(conn)
            } else {
                drop(conn)
            }
            drop(client);
        }
        assert_eq!((counts.all(), lock(&park.free).fresh), (0, 1));
    }
}
