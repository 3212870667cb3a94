//! How does a line reach a log? Through memory and a thread of its own, so that no request ever waits for a disk.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::warn;

use crate::crowdsec::panics::{lock, survive_now};

/// In place of a path, this means standard output.
pub const STDOUT: &str = "stdout";

/// A log that takes lines at the speed of memory. Lines that still wait are written when the journal is dropped.
///
/// `tracing-appender` was measured too: it needs four times the instructions, an allocation and a wake for each line, and
/// it does not reopen a file that was rotated.
pub struct Journal {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Between two writes: short compared with a poll, long enough that each write has many lines. Since the thread looks by
/// itself, requests need no system call to wake it.
const PAUSE: Duration = Duration::from_millis(100);
/// The most bytes that wait for a slow disk, beside as many that are being written. Further lines are dropped and counted:
/// the application is worth more than its log.
const MOST_WAITING: usize = 4 << 20;
/// How many bytes stay allocated after a burst. Doubled again and again, they make exactly `MOST_WAITING`.
const KEPT: usize = 256 << 10;
/// No line of the access log, of events or of refusals has more bytes, since Docker cuts such lines. A line of the
/// application's log may have more, if its characters are escaped.
const LONGEST_LINE: usize = 16 << 10;
/// Between two warnings about dropped lines.
const QUIET: Duration = Duration::from_secs(10);
/// How long a stuck disk may hold up the shutdown.
const PATIENCE: Duration = Duration::from_secs(5);

impl Journal {
    /// Lines that are dropped are counted in `lost`.
    pub fn open(path: &Path, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let waiting = Waiting { lines: Vec::with_capacity(KEPT), ..Waiting::default() };
        let shared = Arc::new(Shared { path: path.into(), lost, waiting: Mutex::new(waiting) });
        let lines = Vec::with_capacity(KEPT);
        let writer = Writer { shared: shared.clone(), file: open(path)?, lines, written: 0 };
        let thread = thread::Builder::new().name("log".into()).spawn(|| writer.run())?;
        Ok(Self { shared, thread })
    }

    /// Lets `write` add lines, each of which ends with a line feed.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = lock(&self.shared.waiting);
        if waiting.lines.len() + LONGEST_LINE <= MOST_WAITING {
            return write(&mut waiting.lines);
        }
        waiting.dropped += 1;
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
        self.shared.tell(waiting, true);
    }

    /// Writes what waits now, for whoever reads along. It costs a system call.
    pub fn wake(&self) {
        self.thread.thread().unpark();
    }

    /// Waits until all lines are written, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        // Lines dropped since the last warning are told now.
        lock(&self.shared.waiting).told = None;
        let is_over = |waiting: &Waiting| waiting.rests && waiting.lines.is_empty();
        while !is_over(&lock(&self.shared.waiting)) && Instant::now() < end {
            self.wake();
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        lock(&self.shared.waiting).closed = true;
        self.wake();
        let end = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        let stuck = !self.thread.is_finished();
        let mut waiting = lock(&self.shared.waiting);
        waiting.dropped += waiting.lines.iter().filter(|byte| **byte == b'\n').count() + usize::from(stuck);
        waiting.told = None;
        self.shared.tell(waiting, stuck);
    }
}

/// What requests and the thread have in common.
struct Shared {
    path: PathBuf,
    lost: Arc<AtomicU64>,
    waiting: Mutex<Waiting>,
}

/// What the thread has not taken yet.
#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: usize,
    told: Option<Instant>,
    closed: bool,
    /// Whether the thread is at rest, since no line waited when it looked last.
    rests: bool,
}

impl Shared {
    /// Tells how many lines were dropped, unless that was told less than `QUIET` ago, or would go to a standard output that
    /// may be stuck itself.
    fn tell(&self, mut waiting: MutexGuard<'_, Waiting>, stuck: bool) {
        let loud = waiting.told.is_none_or(|told| told.elapsed() >= QUIET) && !(stuck && is_stdout(&self.path));
        if loud && waiting.dropped > 0 {
            waiting.told = Some(Instant::now());
            let (path, dropped) = (self.path.display(), mem::take(&mut waiting.dropped));
            drop(waiting);
            // If this warning panics, neither a visitor's request nor the log's thread ends.
            let _ = survive_now(|| {
                warn!("{path} does not take all that is written: at least {dropped} lines did not get there.");
            });
        }
    }
}

/// The thread's half.
struct Writer {
    shared: Arc<Shared>,
    file: File,
    lines: Vec<u8>,
    /// How many bytes of `lines` are written: after an error the rest is tried again, so that no line is doubled. If a full
    /// disk cut a line and the file was moved away since, the old file ends within that line, and the new one has the line
    /// whole.
    written: usize,
}

impl Writer {
    fn run(mut self) {
        let (mut failing, mut last) = (false, false);
        while !last {
            thread::park_timeout(PAUSE);
            last = lock(&self.shared.waiting).closed;
            let result = self.round();
            if let (Err(error), false) = (&result, mem::replace(&mut failing, result.is_err())) {
                let path = self.shared.path.display();
                let _ = survive_now(|| warn!("{path} cannot be written: {error}. It is tried again."));
            }
        }
        lock(&self.shared.waiting).lines.extend_from_slice(&self.lines[self.written..]);
    }

    /// Writes what an error left, then what has come since. No lock is held meanwhile.
    fn round(&mut self) -> io::Result<()> {
        self.write()?;
        self.lines.clear();
        self.lines.shrink_to(KEPT);
        self.written = 0;
        let mut waiting = lock(&self.shared.waiting);
        mem::swap(&mut self.lines, &mut waiting.lines);
        waiting.rests = self.lines.is_empty();
        // Now there is room for the warning, if it goes into this very log.
        self.shared.tell(waiting, false);
        self.write()
    }

    /// Writes whole lines, piece by piece: on standard output two logs must not mix within a line, and one log must not
    /// wait until a slow reader has taken all lines of the other.
    fn write(&mut self) -> io::Result<()> {
        while self.written < self.lines.len() {
            // A rotation of logs has moved the file away. It need not send us a signal.
            if !is_at(&self.file, &self.shared.path) {
                self.file = open(&self.shared.path)?;
                // The rest of a line would be taken for a line: 192.0.2.7 might become `2.0.2.7`.
                self.written =
                    self.lines[..self.written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            }
            let locked = is_stdout(&self.shared.path).then(|| io::stdout().lock());
            let end = self.written + end_of_piece(&self.lines[self.written..]);
            while self.written < end {
                match self.file.write(&self.lines[self.written..end]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(more) => self.written += more,
                    // Somebody has made standard output non-blocking. Under the lock no other log's line begins meanwhile.
                    Err(error) if locked.is_some() && error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                    Err(error) => return Err(error),
                }
            }
            if locked.is_some() {
                drop(locked);
                // Whoever waits for the lock needs a moment to take it.
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

/// How many bytes the next piece has: whole lines, as many as fit into `LONGEST_LINE`, and one at least. A longer line is
/// not split: otherwise a visitor's text within it could begin a line.
fn end_of_piece(lines: &[u8]) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    let ends = lines[..lines.len().min(LONGEST_LINE)].iter().rposition(is_end);
    ends.or_else(|| lines.iter().position(is_end)).map_or(lines.len(), |at| at + 1)
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == STDOUT
}

/// Opens a log for appending, so that a file that is cut down to nothing (`copytruncate`) starts anew. Opens it for reading
/// too, since opening a named pipe for writing alone waits for a reader. Only the file's owner and group may read the
/// addresses in it.
///
/// Standard output is used as a file, past Rust's own buffer, which does not say how much of it is written.
pub fn open(path: &Path) -> io::Result<File> {
    if is_stdout(path) {
        return io::stdout().as_fd().try_clone_to_owned().map(File::from);
    }
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    is_stdout(path) || id(fs::metadata(path)).is_some_and(|there| id(file.metadata()) == Some(there))
}
