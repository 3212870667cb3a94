//! How does a line reach a log? Through memory and a thread of its own, so that no request ever waits for a disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocket::time::OffsetDateTime;
use rocket::warn;

/// Written in place of a path, it means standard output.
pub const STDOUT: &str = "stdout";

/// What CrowdSec reads. Both may be one.
pub struct Logs {
    pub access: Option<Arc<Journal>>,
    pub events: Option<Arc<Journal>>,
}

impl Logs {
    pub fn open(access_log: Option<&PathBuf>, event_log: Option<&PathBuf>) -> Result<Self, String> {
        let open = |key, path: &PathBuf| {
            Journal::open(path.clone()).map(Arc::new).map_err(|error| {
                let path = path.display();
                format!(
                    "`crowdsec.{key}`: cannot write to {path}: {error}. Make its folder, and let this user write there"
                )
            })
        };
        let access = access_log.map(|path| open("access_log", path)).transpose()?;
        let same = event_log == access_log;
        let events = if same { access.clone() } else { event_log.map(|path| open("event_log", path)).transpose()? };
        Ok(Self { access, events })
    }
}

/// A log that takes lines at the speed of memory. What waits there is written when it is dropped.
///
/// `tracing-appender` was measured beside it: four times the instructions, an allocation and a wake for each line, and a
/// file that is rotated is not opened anew.
pub struct Journal {
    path: PathBuf,
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
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = if path == Path::new(STDOUT) { None } else { Some(open(&path)?) };
        let waiting = Arc::<Mutex<Waiting>>::default();
        let (sender, closed) = channel();
        let (lines, written, failing) = (Vec::new(), 0, false);
        let writer = Writer { path: path.clone(), file, waiting: waiting.clone(), lines, written, failing };
        let thread = thread::Builder::new().name("log".into()).spawn(|| writer.run(closed))?;
        Ok(Self { path, waiting, open: Some(sender), thread })
    }

    /// Lets `write` add one line, which ends with a line feed.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>, &Clock)) {
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() < MOST {
            let Waiting { lines, clock, .. } = &mut *waiting;
            clock.set(SystemTime::now());
            return write(lines, clock);
        }
        waiting.dropped += 1;
        // The thread may be stuck, so it is said from here; but not on a standard output that is stuck itself.
        let dropped = if self.path == Path::new(STDOUT) { 0 } else { waiting.untold() };
        drop(waiting);
        tell(&self.path, dropped);
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
    second: u64,
    /// As nginx writes it, with what stands around.
    pub common: String,
    /// As RFC 3339 writes it.
    pub rfc3339: String,
}

impl Clock {
    fn set(&mut self, now: SystemTime) {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if mem::replace(&mut self.second, second) != second {
            let now = OffsetDateTime::from(now);
            let (date, (hour, minute, second)) = (now.date(), now.to_hms());
            let time = format!("{hour:02}:{minute:02}:{second:02}");
            self.common =
                format!(" - - [{:02}/{:.3}/{}:{time} +0000] ", date.day(), date.month().to_string(), date.year());
            self.rfc3339 = format!("{date}T{time}Z");
        }
    }
}

/// The thread's half.
struct Writer {
    path: PathBuf,
    /// None for standard output.
    file: Option<File>,
    waiting: Arc<Mutex<Waiting>>,
    lines: Vec<u8>,
    /// How much of `lines` is written: after an error the rest is tried again, so that no line is torn or doubled.
    written: usize,
    failing: bool,
}

impl Writer {
    fn run(mut self, closed: Receiver<()>) {
        loop {
            let last = closed.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected);
            let result = self.round();
            if let (Err(error), false) = (&result, self.failing) {
                warn!("{} cannot be written: {error}. It is tried again.", self.path.display());
            }
            self.failing = result.is_err();
            let dropped = lock(&self.waiting).untold();
            tell(&self.path, dropped);
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
        // Locked for all of it, so that Rocket's lines and ours do not meet in the middle.
        let mut stdout = self.file.is_none().then(|| io::stdout().lock());
        while self.written < self.lines.len() {
            let rest = &self.lines[self.written..];
            let more = match (&mut self.file, &mut stdout) {
                (None, Some(stdout)) => stdout.write(rest).and_then(|more| stdout.flush().and(Ok(more)))?,
                (Some(file), _) => {
                    // Whoever rotates logs has moved the file away, and needs no signal to us.
                    if !is_at(file, &self.path) {
                        *file = open(&self.path)?;
                    }
                    file.write(rest)?
                }
                (None, None) => 0,
            };
            if more == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += more;
        }
        Ok(())
    }
}

fn tell(path: &Path, dropped: u64) {
    if dropped > 0 {
        warn!("{} is too slow: {dropped} lines did not get there.", path.display());
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Appending, so that a file that is cut down to nothing (`copytruncate`) starts anew. It is opened for reading too,
/// since opening a named pipe for writing alone waits for a reader. Addresses are for the owner and a group to read.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).create(true).mode(0o640).open(path)
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    id(fs::metadata(path)).is_some_and(|there| id(file.metadata()) == Some(there))
}
