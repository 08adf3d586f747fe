//! Where connections wait without a thread: one epoll set, one slot each, and a sweeper for those that wait too long.
//!
//! ```text
//! worker ── park(conn) ──▶ slot ◀── take(event) ── worker, when the socket is ready
//!                           ▲
//!                           └────── sweep() ────── sweeper, when the deadline has passed
//! ```
//!
//! A descriptor is registered once, when its connection is accepted, and edge-triggered: each arrival is told to one
//! worker, once. That takes the connection out and reads until nothing is left; what arrives meanwhile wakes another,
//! which finds the slot empty and leaves a note there. So parking costs no system call where all was read, nothing was
//! noted, and the same is waited for as before. Wherever one of these is in doubt the registration is renewed, which
//! makes the kernel look at the socket again. Event and sweeper may race for a slot; whoever finds it empty has lost, and
//! a generation number keeps a late event away from the next connection in the same slot.
//!
//! While the MCP server has the word, it is the other end that is waited for: the descriptor of the connection's
//! producer, registered in the same set under the same slot, with `EPOLLONESHOT`, since it may go on to serve another
//! connection; an event that it left behind finds its connection in another phase, or makes a producer look once in vain.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

use super::conn::{Conn, Phase};
use super::pump::{Producer, Watch};
use super::standby::Renew;

/// Where one connection waits.
struct Slot<P> {
    conn: Option<Box<Conn<P>>>,
    /// Whose slot it is, also while a worker has the connection.
    generation: u32,
    /// Whether its socket has reported something that nobody has looked at.
    noted: bool,
}

type Block<P> = Box<[Mutex<Slot<P>>]>;

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
pub(crate) const READ: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::PRI);
/// Room to write.
pub(crate) const WRITE: EventFlags = EventFlags::OUT;
/// What a short read does not reach: the end of a connection, which is told once, and what stands behind urgent data, at
/// whose mark a read stops.
const BEYOND: EventFlags =
    EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR).union(EventFlags::PRI);

impl<P> Park<P> {
    /// A park with room for `most` connections.
    pub(crate) fn new(most: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let blocks = (0..most.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
        let free = Arc::new(Mutex::new(Free { again: Vec::new(), fresh: 0, generation: 0 }));
        Ok(Self { epoll, blocks, most, free })
    }

    fn slot(&self, number: usize) -> Option<&Mutex<Slot<P>>> {
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
                    let empty = || Mutex::new(Slot { conn: None, generation: 0, noted: false });
                    block.get_or_init(|| (0..BLOCK).map(|_| empty()).collect());
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
        let Some(slot) = self.slot(slot as usize) else { return Err(conn) };
        let mut slot = lock(slot);
        (slot.generation, slot.noted) = (conn.generation, false);
        // Registered under the lock: the worker that an event wakes at once waits here until the connection is in place.
        if epoll::add(&self.epoll, &conn.stream, token(&conn), READ | EventFlags::ET).is_err() {
            return Err(conn);
        }
        conn.armed = READ;
        slot.conn = Some(conn);
        Ok(())
    }

    /// Lets a connection wait for `events` or its deadline.
    pub(crate) fn park(&self, mut conn: Box<Conn<P>>, events: EventFlags) {
        let Some(slot) = self.slot(conn.slot as usize) else { return };
        let mut slot = lock(slot);
        // Who waits to write wants to hear at once that it can, which is no news.
        let rests = events == READ && conn.armed == READ && conn.drained && !conn.beyond && !slot.noted;
        // Renewed under the lock, as above.
        if rests || epoll::modify(&self.epoll, &conn.stream, token(&conn), events | EventFlags::ET).is_ok() {
            slot.noted = false;
            conn.armed = events;
            slot.conn = Some(conn);
        } else {
            drop(slot);
            self.close(conn);
        }
    }

    /// Lets a connection wait for what the producer of its answer watches, or its deadline. `Err` gives it back when
    /// there is nothing to watch.
    pub(crate) fn park_answer(&self, conn: Box<Conn<P>>) -> Result<(), Box<Conn<P>>> {
        let Some(slot) = self.slot(conn.slot as usize) else { return Err(conn) };
        let Some((fd, events)) = conn.answer.as_deref().and_then(watched) else { return Err(conn) };
        let mut slot = lock(slot);
        let (token, events) = (EventData::new_u64(token(&conn).u64() | SOURCE), events | EventFlags::ONESHOT);
        let armed = match epoll::modify(&self.epoll, fd, token, events) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, fd, token, events),
            armed => armed,
        };
        if armed.is_err() {
            return Err(conn);
        }
        slot.conn = Some(conn);
        Ok(())
    }

    /// The connection that an event is about, unless somebody else has it.
    pub(crate) fn take(&self, event: Event) -> Option<Box<Conn<P>>> {
        let (data, flags) = (event.data, event.flags);
        let (number, generation) = untoken(data);
        let of_source = data.u64() & SOURCE != 0;
        let mut slot = lock(self.slot(number)?);
        if slot.generation != generation {
            return None;
        }
        let mut conn = slot.conn.take_if(|conn| (conn.phase == Phase::Answering) == of_source);
        match &mut conn {
            Some(conn) if !of_source => {
                conn.drained = false;
                // From now on the kernel is asked each time.
                conn.beyond |= flags.intersects(BEYOND);
            }
            None if !of_source => slot.noted = true,
            _ => {}
        }
        conn
    }

    /// Takes out every connection for which `wanted` holds.
    pub(crate) fn sweep(&self, mut wanted: impl FnMut(&Conn<P>) -> bool) -> Vec<Box<Conn<P>>> {
        let used = lock(&self.free).fresh as usize;
        let slots = self.blocks.iter().filter_map(OnceLock::get).flat_map(|block| block.iter()).take(used);
        slots.filter_map(|slot| lock(slot).conn.take_if(|conn| wanted(conn))).collect()
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

impl<P: Send> Renew for Park<P> {
    fn renew(&self, event: Event) {
        let (number, generation) = untoken(event.data);
        let Some(mut slot) = self.slot(number).map(lock).filter(|slot| slot.generation == generation) else {
            return;
        };
        let of_source = event.data.u64() & SOURCE != 0;
        let renewed =
            match &slot.conn {
                Some(conn) if (conn.phase == Phase::Answering) != of_source => None,
                Some(conn) if !of_source => {
                    Some(epoll::modify(&self.epoll, &conn.stream, event.data, conn.armed | EventFlags::ET))
                }
                Some(conn) => conn.answer.as_deref().and_then(watched).map(|(fd, events)| {
                    epoll::modify(&self.epoll, fd, event.data, events | EventFlags::ONESHOT)
                }),
                None => None,
            };
        match renewed {
            Some(Ok(())) => {}
            Some(Err(_)) => {
                if let Some(conn) = slot.conn.take() {
                    drop(slot);
                    self.close(conn);
                }
            }
            None => slot.noted |= !of_source,
        }
    }
}

/// What the producer of an answer waits for.
fn watched(answer: &dyn Producer) -> Option<(BorrowedFd<'_>, EventFlags)> {
    match answer.watch() {
        Watch::Read(fd, _) => Some((fd, READ)),
        // Who answers before it has read all is heard too.
        Watch::Write(fd, _) => Some((fd, WRITE | EventFlags::IN)),
        Watch::Nothing => None,
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
    use std::io::{Read as _, Write as _};
    use std::mem::MaybeUninit;
    use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::event::Timespec;

    use super::super::conn::Grant;
    use super::super::{Counts, household};
    use super::*;

    /// A client and the park in which its connection waits.
    struct Scene {
        client: TcpStream,
        park: Park<()>,
    }

    impl Scene {
        fn new() -> Self {
            let park = Park::new(1).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let peer = household(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let counted = Arc::<Counts>::default().enter(peer, 1).unwrap();
            assert!(
                park.admit(Box::new(Conn::new(stream, peer, counted, Grant::new(Arc::default())))).is_ok()
            );
            Self { client, park }
        }

        /// The next event; none where nothing comes for a while.
        fn event(&self) -> Option<Event> {
            let mut room = [MaybeUninit::uninit(); 1];
            let wait = Timespec { tv_sec: 0, tv_nsec: Duration::from_millis(200).subsec_nanos().into() };
            let (events, _) = epoll::wait(&self.park.epoll, &mut room, Some(&wait)).unwrap();
            events.first().copied()
        }

        /// The connection with its next event, and all that was there to be read, as a worker would.
        fn taken(&self, expected: &str) -> Box<Conn<()>> {
            let mut conn = self.park.take(self.event().unwrap()).unwrap();
            let mut bytes = [0; 64];
            let read = (&conn.stream).read(&mut bytes).unwrap();
            assert_eq!(std::str::from_utf8(&bytes[..read]).unwrap(), expected);
            conn.drained = true;
            conn
        }
    }

    #[test]
    fn what_arrives_while_a_worker_has_the_connection_is_told_when_it_is_back() {
        let mut scene = Scene::new();
        for round in 0..3 {
            scene.client.write_all(b"one").unwrap();
            let conn = scene.taken("one");
            scene.client.write_all(b"two").unwrap();
            let early = scene.event().unwrap();
            assert!(scene.park.take(early).is_none(), "round {round}: a worker has it");
            scene.park.park(conn, READ);
            let conn = scene.taken("two");
            scene.park.park(conn, READ);
            assert!(scene.event().is_none(), "round {round}: all of it was read");
        }
    }

    #[test]
    fn an_end_that_came_with_the_last_bytes_is_told_again() {
        let mut scene = Scene::new();
        scene.client.write_all(b"last").unwrap();
        scene.client.shutdown(Shutdown::Write).unwrap();
        let conn = scene.taken("last");
        scene.park.park(conn, READ);
        drop(scene.taken(""));
    }

    /// A read stops in front of urgent data, however much stands behind it.
    #[test]
    fn bytes_behind_urgent_data_are_told_again() {
        let mut scene = Scene::new();
        scene.client.write_all(b"one").unwrap();
        rustix::net::send(&scene.client, b"!", rustix::net::SendFlags::OOB).unwrap();
        scene.client.write_all(b"two").unwrap();
        std::thread::sleep(Duration::from_millis(50)); // all of it is one event
        let conn = scene.taken("one");
        scene.park.park(conn, READ);
        let conn = scene.taken("two");
        scene.park.park(conn, READ);
        assert!(scene.event().is_none(), "all of it was read");
    }

    #[test]
    fn what_was_not_read_to_its_end_is_told_again() {
        let mut scene = Scene::new();
        scene.client.write_all(b"long").unwrap();
        let conn = scene.park.take(scene.event().unwrap()).unwrap();
        assert!(!conn.drained);
        scene.park.park(conn, READ);
        drop(scene.taken("long"));
    }

    #[test]
    fn bytes_that_come_during_an_answer_are_told_after_it() {
        let mut scene = Scene::new();
        scene.client.write_all(b"one").unwrap();
        let mut conn = scene.taken("one");
        conn.phase = Phase::Answering;
        lock(scene.park.slot(0).unwrap()).conn = Some(conn); // as park_answer leaves it
        scene.client.write_all(b"two").unwrap();
        assert!(scene.park.take(scene.event().unwrap()).is_none(), "it waits for its answer");
        let mut conn = scene.park.sweep(|_| true).pop().unwrap();
        conn.phase = Phase::Idle;
        scene.park.park(conn, READ);
        drop(scene.taken("two"));
    }

    #[test]
    fn an_event_that_is_given_back_is_told_again() {
        let mut scene = Scene::new();
        scene.client.write_all(b"one").unwrap();
        let event = scene.event().unwrap();
        assert!(scene.event().is_none(), "it is told once");
        scene.park.renew(event);
        let conn = scene.taken("one");
        // Given back while somebody has the connection, it must not be lost either.
        scene.client.write_all(b"two").unwrap();
        scene.park.renew(scene.event().unwrap());
        scene.park.park(conn, READ);
        let conn = scene.taken("two");
        // The event of one that left its slot says nothing about the next.
        scene.park.close(conn);
        scene.park.renew(event);
        assert!(scene.park.take(event).is_none());
    }

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
