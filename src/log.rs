//! Which records become lines of the log? Those that the operator's level and profile ask for. They go into memory, and
//! from there to standard output by a thread of their own.
//!
//! Rocket's own logger writes while a request waits: a standard output that nobody reads would stop every answer. Here
//! nothing waits. What standard output does not take stays in memory up to a bound; further lines are dropped and counted.
//! `tracing-subscriber` with `tracing-log` and `tracing-appender` would have been eight more crates, and tracing-appender
//! bounds lines, not bytes, loses a line uncounted where a disk is full, and at the end prints to standard output even where it
//! is stuck. `fern` writes while the caller waits, or into a channel without a bound.

mod line;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::mem;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use figment::Figment;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rocket::config::LogLevel;

use crate::crowdsec::Journal;
use line::{Style, text};

/// How long the end of the process waits for a standard output that nobody reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends all records of the `log` crate to standard output, and the words of panics too. Rocket keeps a logger that was set
/// before its own, so call this before `rocket::custom`. A second call does nothing, nor does one where another logger is set.
pub fn install(figment: &Figment) {
    // Rocket's own logger is better than none.
    let Ok(logger) = Logger::new(figment) else { return };
    let logger = LOGGER.get_or_init(|| logger);
    if log::set_logger(logger).is_err() {
        return;
    }
    log::set_max_level(match logger.level {
        LevelFilter::Off => LevelFilter::Off,
        // What is always shown is of level info.
        level => level.max(LevelFilter::Info),
    });
    panic::set_hook(Box::new(|panic| {
        log::error!("A panic, which is a bug in the code it names: {}", panic.to_string().replace('\n', " "));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            trace.to_string().lines().for_each(|line| log::error!("{line}"));
        }
        // A panic of the main thread ends the process. Rocket has said why, if a route is wrong. Nobody else waits for the log.
        if thread::current().name() == Some("main") {
            let said = rockets_error();
            if !said.is_empty() {
                log::error!("{said}");
            }
            log::logger().flush();
        }
    }));
}

/// Whether an error of ours has been logged: then a launch that fails has been explained.
pub fn has_told_an_error() -> bool {
    LOGGER.get().is_some_and(|logger| logger.told_an_error.load(Ordering::Relaxed))
}

/// What Rocket said of a launch that failed, from its first error on.
pub fn rockets_error() -> String {
    let Some(logger) = LOGGER.get() else { return String::new() };
    let held = mem::take(&mut *lock(&logger.held));
    let said = held.iter().skip_while(|(level, ..)| *level != Level::Error).map(|(_, text, _)| text.as_str());
    let said = said.collect::<Vec<_>>().join(" ").replace("\\n", " ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    /// Rocket's `log_level`.
    level: LevelFilter,
    /// Whether Rocket's lines about single requests are shown: in the debug profile alone.
    requests: bool,
    style: Style,
    /// Rocket's messages until it has launched, each with its level and its line: a launch that fails is told in one sentence,
    /// without Rocket's whole configuration.
    held: Mutex<Vec<(Level, String, String)>>,
    launched: AtomicBool,
    /// Whether an error has been logged.
    told_an_error: AtomicBool,
    journal: Journal,
}

impl Logger {
    fn new(figment: &Figment) -> io::Result<Self> {
        let level = figment.extract_inner::<LogLevel>("log_level").unwrap_or(LogLevel::Normal);
        Ok(Self {
            level: level.into(),
            requests: figment.profile() == rocket::Config::DEBUG_PROFILE,
            style: Style::of(figment),
            held: Mutex::default(),
            launched: AtomicBool::new(false),
            told_an_error: AtomicBool::new(false),
            journal: Journal::open(Path::new("stdout"), Arc::default())?,
        })
    }

    fn send(&self, line: &str) {
        self.journal.append(|lines| lines.extend_from_slice(line.as_bytes()));
        self.journal.wake();
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let (level, target) = (metadata.level(), metadata.target());
        // What an operator looks for in the release profile too: what is connected at the launch, and that it stops.
        let always = (target == "crowdsec" || target == "launch") && level <= Level::Info;
        if self.level == LevelFilter::Off || !(always || level <= self.level) {
            return false;
        }
        // As Rocket does it: these crates speak to those who debug them.
        let deep = ["hyper", "rustls"].iter().any(|name| target.starts_with(name));
        !(deep && self.level < LevelFilter::Trace) && (self.requests || !is_of_a_request(target))
    }

    fn log(&self, record: &Record<'_>) {
        let (level, target, shown) = (record.level(), record.target(), self.enabled(record.metadata()));
        let hold = target.starts_with("rocket") && !self.launched.load(Ordering::Relaxed);
        if !shown && !hold {
            // The record has not been put into words, so it cost nothing.
            return;
        }
        let text = text(record.args());
        // Rocket logs its launch as a warning, so that it is seen.
        let is_launch = target == "rocket::launch" && level == Level::Warn;
        let seen_as = if target.starts_with("rocket::launch") { Level::Info } else { level };
        let line = if shown { self.style.line(seen_as, target, &text) } else { String::new() };
        if is_launch {
            self.launched.store(true, Ordering::Relaxed);
            lock(&self.held).drain(..).for_each(|(.., line)| self.send(&line));
        } else if hold {
            return lock(&self.held).push((level, text, line));
        }
        if level == Level::Error {
            self.told_an_error.store(true, Ordering::Relaxed);
        }
        self.send(&line);
    }

    fn flush(&self) {
        self.journal.flush(PATIENCE);
    }
}

/// Whether lines with this target are Rocket's about single requests. Visitors cause as many of them as they like. Rocket
/// indents lines whose target ends with `_`; code that Rocket generates writes such lines in the name of your modules.
fn is_of_a_request(target: &str) -> bool {
    let modules = ["rocket::server", "rocket::request", "rocket::response", "rocket::shield"];
    let stays = ["rocket_dyn_templates", "rocket::launch"].iter().any(|name| target.starts_with(name));
    modules.iter().any(|name| target.starts_with(name)) || (target.ends_with("::_") && !stays)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    fn logger(level: LogLevel, profile: &str) -> Logger {
        let figment = Figment::from(rocket::Config::debug_default()).merge(("log_level", level)).select(profile);
        Logger::new(&figment).expect("a logger")
    }

    fn shows(logger: &Logger, level: Level, target: &str) -> bool {
        logger.enabled(&Metadata::builder().level(level).target(target).build())
    }

    #[test]
    fn rockets_lines_about_requests_are_shown_in_the_debug_profile_alone() {
        for target in [
            "rocket::server",
            "rocket::server::_",
            "rocket::request::request",
            "rocket::data::data::_",
            "app::routes::_",
        ] {
            assert!(shows(&logger(LogLevel::Critical, "debug"), Level::Error, target), "{target}");
            for level in [LogLevel::Critical, LogLevel::Normal, LogLevel::Debug] {
                assert!(!shows(&logger(level, "release"), Level::Error, target), "{target}");
            }
        }
    }

    #[test]
    fn everything_else_is_shown_from_rockets_log_level_on() {
        let release = logger(LogLevel::Critical, "release");
        for target in ["app::crowdsec::poller", "app::routes", "rocket::rkt", "rocket_http::listener", "rocket::launch"]
        {
            assert!(shows(&release, Level::Warn, target), "{target}");
            assert!(!shows(&release, Level::Info, target), "{target}");
        }
        assert!(shows(&release, Level::Error, "rocket_dyn_templates::engine::tera::_"), "the owner has to mend it");
        assert!(shows(&release, Level::Info, "crowdsec"), "the line at the launch is for every profile");
        assert!(shows(&release, Level::Info, "launch"), "so is the stop");
        assert!(!shows(&release, Level::Debug, "crowdsec"));
        assert!(!shows(&logger(LogLevel::Off, "debug"), Level::Error, "crowdsec"));
        assert!(!shows(&logger(LogLevel::Normal, "debug"), Level::Warn, "hyper::proto"));
        assert!(shows(&logger(LogLevel::Debug, "debug"), Level::Trace, "hyper::proto"));
    }

    #[test]
    fn what_is_not_shown_is_never_put_into_words() {
        struct Dear;
        impl fmt::Display for Dear {
            fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
                panic!("it was put into words");
            }
        }
        let logger = logger(LogLevel::Critical, "release");
        logger.launched.store(true, Ordering::Relaxed);
        for (level, target) in
            [(Level::Error, "rocket::server::_"), (Level::Info, "app::routes"), (Level::Warn, "app::_::_")]
        {
            logger.log(&Record::builder().level(level).target(target).args(format_args!("{Dear}")).build());
        }
    }
}
