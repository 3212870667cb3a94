//! How does a line reach a log? Through memory and a thread of its own, so that no request ever waits for a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rocket::time::OffsetDateTime;
use rocket::warn;

/// Where an operator wants lines to go.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
}

/// A log that takes lines at the speed of memory. What waits there is written when it is dropped.
pub struct Journal {
    destination: Destination,
    waiting: Arc<Mutex<Waiting>>,
    /// Dropped to end the thread.
    open: Option<Sender<()>>,
    thread: JoinHandle<()>,
}

/// Between two writes: short beside a poll, long enough that each write has many lines. A thread that looks by itself
/// spares requests the system call of waking it.
const PAUSE: Duration = Duration::from_millis(100);
/// What may wait for a slow disk. Further lines are dropped and counted: the application is worth more than its log.
const MOST: usize = 4 << 20;
/// Between two warnings about dropped lines.
const QUIET: Duration = Duration::from_secs(10);
/// How long a stuck disk may hold up the end.
const PATIENCE: Duration = Duration::from_secs(5);

impl Journal {
    pub fn open(destination: Destination) -> io::Result<Self> {
        let file = match &destination {
            Destination::File(path) => Some(open(path)?),
            Destination::Stdout => None,
        };
        let waiting = Arc::<Mutex<Waiting>>::default();
        let (sender, closed) = channel();
        let writer = Writer {
            destination: destination.clone(),
            file,
            waiting: waiting.clone(),
            lines: Vec::new(),
            written: 0,
            failing: false,
        };
        let thread = thread::Builder::new().name("log".into()).spawn(|| writer.run(closed))?;
        Ok(Self { destination, waiting, open: Some(sender), thread })
    }

    /// Lets `write` add one line, which ends with a line feed.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>, &Clock)) {
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() < MOST {
            let Waiting { lines, clock, .. } = &mut *waiting;
            clock.set(OffsetDateTime::now_utc());
            write(lines, clock);
            return;
        }
        waiting.dropped += 1;
        // The thread may be stuck, so it is said from here; but not on a standard output that is stuck itself.
        let dropped = if self.destination == Destination::Stdout { 0 } else { waiting.untold() };
        drop(waiting);
        tell(&self.destination, dropped);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.open.take());
        let end = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What the thread has not taken yet.
#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    clock: Clock,
    dropped: u64,
    told: Option<Instant>,
}

impl Waiting {
    /// How many lines were dropped since that was last told; 0 as well while it was told only now.
    fn untold(&mut self) -> u64 {
        if self.dropped == 0 || self.told.is_some_and(|told| told.elapsed() < QUIET) {
            return 0;
        }
        self.told = Some(Instant::now());
        mem::take(&mut self.dropped)
    }
}

/// The time in words, put together once a second rather than for each line.
#[derive(Default)]
pub struct Clock {
    second: i64,
    /// As nginx writes it.
    pub common: String,
    /// As RFC 3339 writes it.
    pub rfc3339: String,
}

impl Clock {
    fn set(&mut self, now: OffsetDateTime) {
        let second = now.unix_timestamp();
        if second != self.second {
            let (date, (hour, minute, second_of_it)) = (now.date(), now.to_hms());
            let month = &date.month().to_string()[..3];
            let time = format!("{hour:02}:{minute:02}:{second_of_it:02}");
            self.common = format!("{:02}/{month}/{}:{time} +0000", date.day(), date.year());
            self.rfc3339 = format!("{date}T{time}Z");
            self.second = second;
        }
    }
}

/// The thread's half.
struct Writer {
    destination: Destination,
    file: Option<File>,
    waiting: Arc<Mutex<Waiting>>,
    lines: Vec<u8>,
    /// How much of `lines` the file has: after an error the rest is tried again, so that no line is torn or doubled.
    written: usize,
    failing: bool,
}

impl Writer {
    fn run(mut self, closed: Receiver<()>) {
        loop {
            let last = closed.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected);
            match self.round() {
                Ok(()) => self.failing = false,
                Err(error) if !self.failing => {
                    warn!("{} cannot be written: {error}. It is tried again.", self.destination.name());
                    self.failing = true;
                }
                Err(_) => {}
            }
            let dropped = lock(&self.waiting).untold();
            tell(&self.destination, dropped);
            if last {
                return;
            }
        }
    }

    /// Writes what an error left, then what has come since. No lock is held meanwhile.
    fn round(&mut self) -> io::Result<()> {
        self.write()?;
        self.lines.clear();
        self.written = 0;
        mem::swap(&mut self.lines, &mut lock(&self.waiting).lines);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        if self.written == self.lines.len() {
            return Ok(());
        }
        let mut stdout;
        let out: &mut dyn Write = match &self.destination {
            Destination::File(path) => {
                // Whoever rotates logs has moved the file away, and needs no signal to us.
                match &mut self.file {
                    Some(file) if is_at(file, path) => file,
                    other => other.insert(open(path)?),
                }
            }
            // Locked for all of it, so that Rocket's lines and ours do not meet in the middle.
            Destination::Stdout => {
                stdout = io::stdout().lock();
                &mut stdout
            }
        };
        while self.written < self.lines.len() {
            match out.write(&self.lines[self.written..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                more => self.written += more,
            }
        }
        out.flush()
    }
}

impl Destination {
    pub fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".into(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn tell(destination: &Destination, dropped: u64) {
    if dropped > 0 {
        warn!("{} is too slow: {dropped} lines did not get there.", destination.name());
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Appending, so that a file that is cut down to nothing (`copytruncate`) starts anew. It is opened for reading too,
/// since opening a named pipe for writing alone waits for a reader.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    // Addresses of visitors are for the owner and a group to read.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

/// Whether the path still leads to this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    fs::exists(path).unwrap_or(false)
}
