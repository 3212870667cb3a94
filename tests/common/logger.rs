//! A logger that keeps all lines, and panics at the lines that a test names: so does a logger that prints to standard output
//! where that is a closed pipe or a full disk.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

struct Logger {
    panics_at: Mutex<&'static str>,
    lines: Mutex<Vec<String>>,
}

static LOGGER: Logger = Logger { panics_at: Mutex::new(""), lines: Mutex::new(Vec::new()) };

/// How often the logger has panicked.
pub static PANICS: AtomicUsize = AtomicUsize::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let (line, panics_at) = (record.args().to_string(), *lock(&self.panics_at));
        if !panics_at.is_empty() && line.starts_with(panics_at) {
            PANICS.fetch_add(1, Ordering::SeqCst);
            panic!("failed printing to stdout: {line}");
        }
        lock(&self.lines).push(line);
    }

    fn flush(&self) {}
}

/// Sets this logger, before Rocket sets its own. Where one test of a file needs it, each test has to call this first.
pub fn install() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&LOGGER).expect("no other logger");
        log::set_max_level(LevelFilter::Info);
    });
}

/// The logger, for one test at a time.
pub async fn logger() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    install();
    let turn = TURN.lock().await;
    panic_at("");
    lock(&LOGGER.lines).clear();
    PANICS.store(0, Ordering::SeqCst);
    turn
}

/// From now on the logger panics at lines that begin with these words.
pub fn panic_at(words: &'static str) {
    *lock(&LOGGER.panics_at) = words;
}

pub fn logged(words: &str) -> usize {
    lock(&LOGGER.lines).iter().filter(|line| line.contains(words)).count()
}
