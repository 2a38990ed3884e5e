//! Log lines on their way to standard error.
//!
//! Standard error may be a pipe that nobody reads, or storage that does not answer: write(2) waits then, and a reactor that
//! waits stops all its sessions. So every thread puts its lines into a [`LogQueue`], which never waits, and one thread
//! writes them. The queue is bounded; a line that finds no room is lost and counted, and the count is logged as soon as
//! writing works again.

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that may wait to be written.
const MAX_LINES: usize = 4096;
/// Bytes of all lines that may wait to be written.
const MAX_BYTES: usize = 1 << 20;
/// How long the end of the daemon waits for the lines that are left.
const DRAIN: Duration = Duration::from_secs(1);

thread_local! {
    /// What the writing thread itself logs: it goes to the sink at once, never through the queue. Other threads have none.
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// A queue of log lines, shared by all threads. One `write` is one line, and it never waits.
#[derive(Clone, Debug)]
pub struct LogQueue {
    lines: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes in the queue.
    bytes: AtomicUsize,
    /// Lines that found room.
    accepted: AtomicU64,
    /// Lines that nobody will read, since the count was logged.
    lost: AtomicU64,
    /// Lines that the thread is done with.
    done: Mutex<u64>,
    /// Signals that `done` has grown.
    grown: Condvar,
}

/// Waits when dropped, at most a second, until what was logged is written.
#[derive(Debug)]
pub struct LogDrain(Arc<Counts>);

impl LogQueue {
    /// Starts the thread that writes to `sink`. It calls `tell_lost` with the number of lines that were lost, when it can
    /// write again; what that logs goes to the sink at once.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        sink: impl Write + Send + 'static,
        tell_lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, LogDrain)> {
        let (lines, queued) = sync_channel(MAX_LINES);
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&shared, &queued, sink, tell_lost))?;
        let drain = LogDrain(Arc::clone(&counts));
        Ok((Self { lines, counts }, drain))
    }

    fn push(&self, line: &[u8]) {
        let counts = &self.counts;
        let before = counts.bytes.fetch_add(line.len(), Ordering::Relaxed);
        counts.accepted.fetch_add(1, Ordering::SeqCst);
        if before + line.len() > MAX_BYTES || self.lines.try_send(line.to_vec()).is_err() {
            counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            counts.accepted.fetch_sub(1, Ordering::SeqCst);
            counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        OWN.with_borrow_mut(|own| match own {
            Some(own) => own.extend_from_slice(line),
            None => self.push(line),
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogDrain {
    fn drop(&mut self) {
        let goal = self.0.accepted.load(Ordering::SeqCst);
        let done = self.0.done.lock().unwrap_or_else(PoisonError::into_inner);
        // After a time-out nothing is left to be done about the rest.
        drop(self.0.grown.wait_timeout_while(done, DRAIN, |done| *done < goal));
    }
}

fn write_lines(counts: &Counts, queued: &Receiver<Vec<u8>>, mut sink: impl Write, tell_lost: impl Fn(u64)) {
    OWN.set(Some(Vec::new()));
    let mut done = 0;
    for line in queued {
        counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        if sink.write_all(&line).is_err() {
            counts.lost.fetch_add(1, Ordering::Relaxed);
        } else if counts.accepted.load(Ordering::SeqCst) <= done + 1 {
            // Not between two lines that wait: as long as lines are being lost one number says it all.
            let lost = counts.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                tell_lost(lost);
                let own = OWN.with_borrow_mut(|own| own.as_mut().map(std::mem::take)).unwrap_or_default();
                if sink.write_all(&own).is_err() {
                    counts.lost.fetch_add(lost, Ordering::Relaxed);
                }
            }
        }
        done += 1;
        *counts.done.lock().unwrap_or_else(PoisonError::into_inner) = done;
        counts.grown.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A sink that says which line it is asked to write, and does so when it may.
    struct Gate {
        asked: Sender<String>,
        may: Receiver<io::Result<()>>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.asked.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
            // Without a test that says so nothing is held back any more.
            self.may.recv().unwrap_or(Ok(())).map(|()| line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LogQueue, LogDrain, Receiver<String>, Sender<io::Result<()>>) {
        let (asked, lines) = channel();
        let (may, allowed) = channel();
        let own = Arc::new(Mutex::new(None::<LogQueue>));
        let through = Arc::clone(&own);
        let tell = move |lost| {
            if let Some(queue) = &mut *through.lock().unwrap() {
                write!(queue, "{lost} lost").unwrap();
            }
        };
        let (queue, drain) = LogQueue::start(Gate { asked, may: allowed }, tell).unwrap();
        *own.lock().unwrap() = Some(queue.clone());
        (queue, drain, lines, may)
    }

    fn log(queue: &LogQueue, line: &str) {
        queue.clone().write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn a_sink_that_does_not_answer_costs_lines_never_a_thread_and_the_lost_ones_are_counted() {
        let (queue, drain, lines, may) = gated();
        log(&queue, "first");
        assert_eq!(lines.recv().unwrap(), "first");
        for number in 0..MAX_LINES + 3 {
            log(&queue, &number.to_string());
        }
        drop(may);
        drop(drain);
        let mut written: Vec<String> = lines.try_iter().collect();
        assert_eq!(written.pop().unwrap(), "3 lost");
        assert_eq!(written, (0..MAX_LINES).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (queue, drain, lines, may) = gated();
        log(&queue, "first");
        assert_eq!(lines.recv().unwrap(), "first");
        let half = "x".repeat(MAX_BYTES / 2);
        for line in [&half, &half, "one more", "and one"] {
            log(&queue, line);
        }
        drop(may);
        drop(drain);
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), [half.clone(), half, "2 lost".to_owned()]);
    }

    #[test]
    fn a_line_that_cannot_be_written_counts_and_the_count_survives_until_it_can_be_told() {
        let (queue, drain, lines, may) = gated();
        let fails = || Err(io::Error::from(io::ErrorKind::StorageFull));
        log(&queue, "first");
        may.send(fails()).unwrap();
        log(&queue, "second");
        // The second is written, the telling of the count is not, the third is written.
        may.send(Ok(())).unwrap();
        may.send(fails()).unwrap();
        assert_eq!(lines.iter().take(3).collect::<Vec<_>>()[2], "1 lost");
        log(&queue, "third");
        drop(may);
        drop(drain);
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), ["third", "1 lost"]);
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (queue, drain, lines, may) = gated();
        log(&queue, "first");
        assert_eq!(lines.recv().unwrap(), "first");
        drop(drain);
        drop(may);
    }
}
