//! The queues between the threads of a node: whole batches, bounded in bytes, and a wake only when
//! the consumer sleeps, since waking a parked thread costs tens of microseconds.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::Waker;

/// A lock whose holder panicked is taken all the same: what it guards is a list, valid after every
/// statement that changes it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Work for a thread that sleeps while there is none. The producer is never blocked: it reads
/// [`Queue::bytes`] and takes in less.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<QueueState<T>>,
    ready: Condvar,
}

#[derive(Debug)]
struct QueueState<T> {
    items: Vec<T>,
    bytes: usize,
    /// Bytes that the consumer took with its last `take` and may still be at work on.
    in_hand: usize,
    sleeping: bool,
    closed: bool,
}

/// What [`Queue::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Items.
    Some,
    /// Nothing came within the time given.
    Nothing,
    /// Nothing is left and nothing will come.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Arc<Self> {
        let state =
            QueueState { items: Vec::new(), bytes: 0, in_hand: 0, sleeping: false, closed: false };
        Arc::new(Self { state: Mutex::new(state), ready: Condvar::new() })
    }

    /// Appends `items`, which is left empty, and counts `bytes` for them.
    pub(crate) fn push(&self, items: &mut Vec<T>, bytes: usize) {
        if items.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        state.bytes += bytes;
        if state.items.is_empty() {
            std::mem::swap(&mut state.items, items);
        } else {
            state.items.append(items);
        }
        if state.sleeping {
            state.sleeping = false;
            self.ready.notify_one();
        }
    }

    /// Moves everything into `into`, which must be empty; waits for `patience`, or without end.
    pub(crate) fn take(&self, into: &mut Vec<T>, patience: Option<Duration>) -> Taken {
        debug_assert!(into.is_empty());
        let mut state = lock(&self.state);
        state.in_hand = 0;
        loop {
            if !state.items.is_empty() {
                std::mem::swap(&mut state.items, into);
                state.in_hand = std::mem::take(&mut state.bytes);
                return Taken::Some;
            }
            if state.closed {
                return Taken::Closed;
            }
            state.sleeping = true;
            let Some(patience) = patience else {
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (woken, timeout) =
                self.ready.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.items.is_empty() && !state.closed {
                state.sleeping = false;
                return Taken::Nothing;
            }
        }
    }

    /// Bytes that wait or are being worked on.
    pub(crate) fn bytes(&self) -> usize {
        let state = lock(&self.state);
        state.bytes + state.in_hand
    }

    /// How many items wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).items.len()
    }

    /// Lets the consumer end once it has taken what is there.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.ready.notify_one();
    }
}

/// What other threads tell the protocol thread, which sleeps in its poll. A producer that is too far
/// ahead waits; the protocol thread never does.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<InboxState<T>>,
    room: Condvar,
    waker: Arc<Waker>,
    bytes_max: usize,
}

#[derive(Debug)]
struct InboxState<T> {
    items: Vec<T>,
    bytes: usize,
    sleeping: bool,
    closed: bool,
    /// How many producers wait for room.
    waiting: usize,
}

impl<T> Inbox<T> {
    pub(crate) fn new(waker: Arc<Waker>, bytes_max: usize) -> Arc<Self> {
        let state =
            InboxState { items: Vec::new(), bytes: 0, sleeping: false, closed: false, waiting: 0 };
        Arc::new(Self { state: Mutex::new(state), room: Condvar::new(), waker, bytes_max })
    }

    /// Appends an item that counts for `bytes`. Waits while there is no room for it, unless the
    /// inbox is empty or closed.
    pub(crate) fn push(&self, item: T, bytes: usize) {
        let mut state = lock(&self.state);
        while state.bytes + bytes > self.bytes_max && !state.items.is_empty() && !state.closed {
            state.waiting += 1;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.items.push(item);
        state.bytes += bytes;
        if state.sleeping {
            state.sleeping = false;
            drop(state);
            // The poll this would wake is gone only when the node has ended.
            let _ = self.waker.wake();
        }
    }

    /// Bytes that wait to be taken.
    pub(crate) fn bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Moves everything into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<T>) {
        debug_assert!(into.is_empty());
        let mut state = lock(&self.state);
        state.sleeping = false;
        std::mem::swap(&mut state.items, into);
        state.bytes = 0;
        // Also when nothing of it counted: a producer of more than there ever is room for waits for that, too.
        if state.waiting > 0 {
            self.room.notify_all();
        }
    }

    /// To be asked before sleeping: whether there is nothing to do. If so, the next push wakes.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut state = lock(&self.state);
        state.sleeping = state.items.is_empty();
        state.sleeping
    }

    /// Lets producers that wait go on; what they push is never read.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn everything_pushed_arrives_once_and_in_order() {
        let queue = Queue::new();
        let producer = Arc::clone(&queue);
        let thread = thread::spawn(move || {
            for n in 0..10_000u32 {
                producer.push(&mut vec![n], 4);
            }
            producer.close();
        });
        let (mut all, mut batch) = (Vec::new(), Vec::new());
        while queue.take(&mut batch, None) != Taken::Closed {
            all.append(&mut batch);
        }
        thread.join().unwrap();
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn bytes_count_until_the_next_take() {
        let queue = Queue::new();
        queue.push(&mut vec![1], 10);
        let mut batch = Vec::new();
        assert_eq!(queue.take(&mut batch, None), Taken::Some);
        queue.push(&mut vec![2], 7);
        assert_eq!(queue.bytes(), 17);
        batch.clear();
        queue.take(&mut batch, None);
        assert_eq!(queue.bytes(), 7);
        batch.clear();
        assert_eq!(queue.take(&mut batch, Some(Duration::from_millis(1))), Taken::Nothing);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_producer_ahead_of_the_inbox_waits_and_goes_on() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let inbox = Inbox::new(waker, 100);
        let producer = Arc::clone(&inbox);
        let thread = thread::spawn(move || (0..50).for_each(|n| producer.push(n, 40)));
        let (mut all, mut batch) = (Vec::new(), Vec::new());
        while all.len() < 50 {
            inbox.take(&mut batch);
            assert!(batch.len() <= 2, "{batch:?}");
            all.append(&mut batch);
        }
        thread.join().unwrap();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_producer_of_more_than_there_is_room_for_waits_for_what_counts_for_nothing() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let inbox = Inbox::new(waker, 100);
        inbox.push(0, 0);
        let producer = Arc::clone(&inbox);
        let thread = thread::spawn(move || producer.push(1, 101));
        while lock(&inbox.state).waiting == 0 {
            thread::yield_now();
        }
        let mut batch = Vec::new();
        inbox.take(&mut batch);
        assert_eq!(batch, [0]);
        thread.join().unwrap();
        batch.clear();
        inbox.take(&mut batch);
        assert_eq!(batch, [1]);
    }

    #[test]
    fn a_push_wakes_a_sleeping_poll() {
        let mut poll = mio::Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(7)).unwrap());
        let inbox = Inbox::new(waker, 100);
        assert!(inbox.may_sleep());
        let producer = Arc::clone(&inbox);
        let thread = thread::spawn(move || producer.push((), 1));
        let mut events = mio::Events::with_capacity(4);
        while events.is_empty() {
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        }
        assert_eq!(events.iter().next().unwrap().token(), mio::Token(7));
        assert!(!inbox.may_sleep());
        thread.join().unwrap();
    }
}
