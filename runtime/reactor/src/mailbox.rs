//! Bounded channels into a reactor, from other reactors and from the control thread.
//!
//! A message never blocks its sender and is never dropped: when the box is full the sender gets it back and decides.
//! The ring of messages is set aside when the box is made; sending allocates nothing.

use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use crate::backend::Waker;

/// The receiving end, owned by a reactor; looked into after `Completion::Woken`.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Receiver<T>,
}

/// A sending end; clone it for every sender.
pub struct Sender<T> {
    queue: SyncSender<T>,
    waker: Waker,
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waker: self.waker.clone() }
    }
}

/// Why a message was not taken; it comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undelivered<T> {
    /// The box is full: try again later.
    Full(T),
    /// The reactor is gone.
    Closed(T),
}

impl<T> Undelivered<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

/// A box for `capacity` messages whose senders wake the reactor with `waker`.
pub fn mailbox<T>(capacity: usize, waker: Waker) -> (Sender<T>, Mailbox<T>) {
    let (tx, rx) = mpsc::sync_channel(capacity.max(1));
    (Sender { queue: tx, waker }, Mailbox { queue: rx })
}

impl<T> Sender<T> {
    /// Puts a message into the box and wakes the reactor. Never blocks.
    ///
    /// # Errors
    /// The message, when the box is full or the reactor is gone.
    pub fn send(&self, message: T) -> Result<(), Undelivered<T>> {
        let sent = self.queue.try_send(message);
        match sent {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(message)) => {
                self.waker.wake();
                Err(Undelivered::Full(message))
            }
            Err(TrySendError::Disconnected(message)) => Err(Undelivered::Closed(message)),
        }
    }
}

impl<T> Mailbox<T> {
    /// The next message, if there is one. Never blocks.
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::backend::Wake;

    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn messages_come_in_order_and_a_full_box_gives_them_back() {
        let count = Arc::new(Count(AtomicU32::new(0)));
        let (tx, rx) = mailbox(2, count.clone());
        let other = tx.clone();
        assert_eq!(tx.send('a'), Ok(()));
        assert_eq!(other.send('b'), Ok(()));
        assert_eq!(tx.send('c'), Err(Undelivered::Full('c')));
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        assert_eq!((rx.take(), rx.take(), rx.take()), (Some('a'), Some('b'), None));
        drop(rx);
        assert_eq!(tx.send('d'), Err(Undelivered::Closed('d')));
        assert_eq!(tx.send('d').unwrap_err().into_inner(), 'd');
    }
}
