//! Where do lines wait for standard output? In memory, and a thread of their own writes them.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

use super::line::Style;

/// Lines that wait or are being written take this many bytes at most.
const MOST_BYTES: usize = 2 << 20;
/// Between two tries to write to a standard output that takes nothing (a full disk, a closed pipe).
const PAUSE: Duration = Duration::from_millis(200);
/// How long the end of the process waits for a standard output that nobody reads.
const PATIENCE: Duration = Duration::from_secs(1);

pub struct Queue {
    lines: Sender<String>,
    /// The bytes of the lines that wait or are being written.
    waiting: AtomicUsize,
    /// How many lines were dropped, and are not told yet.
    dropped: AtomicUsize,
}

impl Queue {
    /// The queue, and its other end for the thread that writes.
    pub fn new() -> (Self, Receiver<String>) {
        let (lines, written) = mpsc::channel();
        (Self { lines, waiting: AtomicUsize::new(0), dropped: AtomicUsize::new(0) }, written)
    }

    /// Waits for nothing.
    pub fn send(&self, line: String) {
        let length = line.len();
        let waiting = self.waiting.fetch_add(length, Ordering::Relaxed) + length;
        if waiting > MOST_BYTES || self.lines.send(line).is_err() {
            // Fails open: the application is worth more than its log.
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The thread. What was dropped is told as soon as standard output takes a line again.
    pub fn write(&self, lines: Receiver<String>, mut output: File, style: Style) {
        for line in lines {
            write_all(&mut output, line.as_bytes());
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let told = format!(
                    "{dropped} lines of this log were dropped: standard output was not read, or its disk is full. See who \
                     reads it."
                );
                write_all(&mut output, style.line(Level::Warn, module_path!(), &told).as_bytes());
            }
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, and no longer than a second: nobody may be reading them.
    pub fn finish(&self) {
        let end = Instant::now() + PATIENCE;
        while self.waiting.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Writes, however long that takes. The access log may go to standard output too, from a thread of its own: under one lock
/// no line of one ends in the middle of one of the other's.
fn write_all(output: &mut File, mut rest: &[u8]) {
    loop {
        let whole_lines = io::stdout().lock();
        while let Ok(written @ 1..) = output.write(rest) {
            rest = &rest[written..];
        }
        drop(whole_lines);
        if rest.is_empty() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_memory_is_dropped_and_counted() {
        let (queue, _nobody_writes) = Queue::new();
        let line = "a line\n".repeat(1000);
        for _ in 0..1000 {
            queue.send(line.clone());
        }
        let (waiting, dropped) = (queue.waiting.into_inner(), queue.dropped.into_inner());
        assert!(waiting <= MOST_BYTES && waiting > MOST_BYTES - line.len());
        assert_eq!(dropped, 1000 - waiting / line.len());
    }
}
