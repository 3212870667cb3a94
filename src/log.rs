//! Where do log lines go? Into memory, and from there to standard output by a thread of their own.
//!
//! Rocket's own logger writes while a request waits: a standard output that nobody reads would stop every answer. Here
//! nothing waits. What standard output does not take stays in memory up to a bound; further lines are dropped and counted.
//! `tracing-subscriber` with `tracing-log` and `tracing-appender` would have been eight more crates, and the levels for
//! journald and the choice of Rocket's lines would have had to be written all the same.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use figment::Figment;
use log::{Level, LevelFilter, Log, Metadata, Record};
use rocket::config::LogLevel;
use rocket::time::OffsetDateTime;
use serde_json::json;

use crate::crowdsec::{LogFormat, is_harmful};

/// Lines that wait for standard output take this many bytes at most, and as many again while they are being written.
const MOST: usize = 1 << 20;
/// No message is longer than this many bytes; the rest of a longer one is not even put into words.
const LONGEST: usize = 8 << 10;
/// Between two tries to write to a standard output that takes nothing (a full disk, a closed pipe).
const PAUSE: Duration = Duration::from_millis(200);
/// How long the end of the process waits for a standard output that nobody reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends all records of the `log` crate to standard output, and panics as well. Rocket leaves a logger alone that is there
/// before its own, so this comes before `rocket::custom`. The second call, and one where another logger is set, do nothing.
pub fn install(figment: &Figment) {
    let Ok(output) = io::stdout().as_fd().try_clone_to_owned().map(File::from) else { return };
    let logger = LOGGER.get_or_init(|| Logger::new(figment, &output));
    if log::set_logger(logger).is_err() {
        return;
    }
    log::set_max_level(match logger.level {
        LevelFilter::Off => LevelFilter::Off,
        // What is always shown is of level info.
        level => level.max(LevelFilter::Info),
    });
    // Without a thread for them lines wait in memory, and the rest of the application runs on.
    let _ = thread::Builder::new().name("log".into()).spawn(|| logger.write(output));
    panic::set_hook(Box::new(|panic| {
        log::error!("A panic, which is a bug in the code it names: {}", panic.to_string().replace('\n', " "));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            trace.to_string().lines().for_each(|line| log::error!("{line}"));
        }
        // Such a panic ends the process. Rocket has said why, if it was about a route, and nobody else waits for the log.
        if thread::current().name() == Some("main") {
            let said = rockets_error();
            if !said.is_empty() {
                log::error!("{said}");
            }
            finish();
        }
    }));
}

/// Waits until all lines are written, and no longer than a second: nobody may be reading them.
pub fn finish() {
    let Some(logger) = LOGGER.get() else { return };
    let (end, mut waiting) = (Instant::now() + PATIENCE, lock(&logger.waiting));
    while (waiting.writing || !waiting.lines.is_empty()) && Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        waiting = logger.changed.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Whether an error of ours has been logged: then a launch that fails has been explained.
pub fn has_told_an_error() -> bool {
    LOGGER.get().is_some_and(|logger| logger.told.load(Ordering::Relaxed))
}

/// What Rocket said of a launch that failed, from its first error on.
pub fn rockets_error() -> String {
    let Some(logger) = LOGGER.get() else { return String::new() };
    let held = mem::take(&mut *lock(&logger.held));
    let texts = held.into_iter().skip_while(|line| line.level > Level::Error).map(|line| line.text);
    let said = texts.collect::<Vec<_>>().join(" ").replace("\\n", " ");
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    /// Rocket's `log_level`.
    level: LevelFilter,
    /// Whether Rocket's lines about single requests are shown: in the debug profile alone.
    requests: bool,
    style: Style,
    /// What Rocket says until it has launched: of a launch that fails one sentence is told, and not its whole configuration.
    held: Mutex<Vec<Line>>,
    launched: AtomicBool,
    told: AtomicBool,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// A line of Rocket's before the launch.
struct Line {
    level: Level,
    text: String,
    /// Empty where `log_level` does not show it.
    shown: String,
}

/// What the thread has not taken yet.
#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: usize,
    /// Whether the thread is writing what it took.
    writing: bool,
}

impl Logger {
    fn new(figment: &Figment, output: &File) -> Self {
        let level = figment.extract_inner::<LogLevel>("log_level").unwrap_or(LogLevel::Normal);
        Self {
            level: level.into(),
            requests: figment.profile() == rocket::Config::DEBUG_PROFILE,
            style: Style::of(figment, output),
            held: Mutex::default(),
            launched: AtomicBool::new(false),
            told: AtomicBool::new(false),
            waiting: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn send(&self, line: &str) {
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() + line.len() > MOST {
            // Fails open: the application is worth more than its log.
            waiting.dropped += 1;
        } else {
            waiting.lines.extend_from_slice(line.as_bytes());
        }
        self.changed.notify_all();
    }

    /// The thread.
    fn write(&self, mut output: File) {
        let mut lines = Vec::new();
        loop {
            let mut waiting = lock(&self.waiting);
            while waiting.lines.is_empty() && waiting.dropped == 0 {
                waiting.writing = false;
                self.changed.notify_all();
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.writing = true;
            mem::swap(&mut lines, &mut waiting.lines);
            let dropped = mem::take(&mut waiting.dropped);
            drop(waiting);
            if dropped > 0 {
                let told = format!(
                    "{dropped} lines of this log were dropped here: standard output was not read, or its disk is full. See who reads it."
                );
                lines.extend(self.style.line(Level::Warn, module_path!(), &told).bytes());
            }
            write_all(&mut output, &lines);
            lines.clear();
            lines.shrink_to(64 << 10);
        }
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
        let hold =
            target.starts_with("rocket") && !self.launched.load(Ordering::Relaxed) && self.level != LevelFilter::Off;
        if !shown && !hold {
            // Nothing of it has been put into words, so it cost nothing.
            return;
        }
        let text = text(record.args());
        // Rocket logs its launch as a warning, so that it is seen.
        let is_launch = target == "rocket::launch" && level == Level::Warn;
        let seen_as = if target.starts_with("rocket::launch") { Level::Info } else { level };
        let line = if shown { self.style.line(seen_as, target, &text) } else { String::new() };
        if is_launch {
            self.launched.store(true, Ordering::Relaxed);
            lock(&self.held).drain(..).for_each(|line| self.send(&line.shown));
        } else if hold {
            return lock(&self.held).push(Line { level, text, shown: line });
        }
        if level == Level::Error {
            self.told.store(true, Ordering::Relaxed);
        }
        self.send(&line);
    }

    /// Nobody waits: that is what `finish` is for.
    fn flush(&self) {}
}

/// Whether a target is of Rocket's lines about single requests. Visitors write those, as many as they like. Rocket indents
/// lines whose target ends with `_`; code that it generates logs so in the name of the application's modules.
fn is_of_a_request(target: &str) -> bool {
    let modules = ["rocket::server", "rocket::request", "rocket::response", "rocket::shield"];
    let stays = ["rocket_dyn_templates", "rocket::launch"].iter().any(|name| target.starts_with(name));
    modules.iter().any(|name| target.starts_with(name)) || (target.ends_with("::_") && !stays)
}

/// How a line looks.
#[derive(Clone, Copy)]
struct Style {
    format: LogFormat,
    /// Whether journald reads it, and wants the level as a number in front.
    journal: bool,
    colours: bool,
}

impl Style {
    fn of(figment: &Figment, output: &File) -> Self {
        let id = output.metadata().map(|file| format!("{}:{}", file.dev(), file.ino()));
        // Where Rocket.toml cannot be parsed, the variable still says how to tell that.
        let variable =
            || env::var("CROWDSEC_LOG_FORMAT").is_ok_and(|format| format == "json").then_some(LogFormat::Json);
        let format = figment.extract_inner("crowdsec.log_format").ok().or_else(variable).unwrap_or_default();
        Self {
            format,
            journal: env::var("JOURNAL_STREAM").is_ok_and(|stream| id.is_ok_and(|id| id == stream)),
            colours: output.is_terminal() && figment.extract_inner("cli_colors").unwrap_or(true),
        }
    }

    /// One record is one line.
    fn line(self, level: Level, target: &str, text: &str) -> String {
        let mut line = String::with_capacity(text.len() + 40);
        if self.journal {
            line += match level {
                Level::Error => "<3>",
                Level::Warn => "<4>",
                Level::Info => "<6>",
                Level::Debug | Level::Trace => "<7>",
            };
        }
        if self.format == LogFormat::Json {
            let now = OffsetDateTime::now_utc();
            let (date, (h, m, s, ms)) = (now.date(), now.to_hms_milli());
            let time = format!("{date}T{h:02}:{m:02}:{s:02}.{ms:03}Z");
            let level = level.as_str().to_lowercase();
            let json = json!({ "time": time, "level": level, "target": target, "message": text });
            let _ = writeln!(line, "{json}");
            return line;
        }
        let (word, colour) = match level {
            _ if target.ends_with("::_") => ("   >> ", ""),
            Level::Error => ("Error: ", "\u{1b}[1;31m"),
            Level::Warn => ("Warning: ", "\u{1b}[33m"),
            _ => ("", ""),
        };
        let _ = match self.colours && !colour.is_empty() {
            true => writeln!(line, "{colour}{word}{text}\u{1b}[0m"),
            false => writeln!(line, "{word}{text}"),
        };
        line
    }
}

/// A message in words, with nothing in it that has power over a terminal or begins a new line.
fn text(message: &fmt::Arguments<'_>) -> String {
    let mut text = Bounded(String::new());
    // The bound ends it with an error.
    let _ = text.write_fmt(*message);
    harmless(&text.0)
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        let fits = piece.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
        let fits = if piece.len() <= room { piece.len() } else { fits.unwrap_or(0) };
        self.0.push_str(&piece[..fits]);
        if fits < piece.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Leaves out the colours that Rocket puts into its messages, since visitors can switch those on (pear, which parses
/// `Accept`, does), and writes every other control character as its number.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match colour(c, rest) {
            Some(length) => rest = &rest[length..],
            None if is_harmful(c) => shown.extend(c.escape_default()),
            None => shown.push(c),
        }
    }
    shown
}

/// How long a colour is that begins here: `ESC [ 1;31 m`.
fn colour(c: char, rest: &str) -> Option<usize> {
    let code = rest.strip_prefix('[').filter(|_| c == '\u{1b}')?;
    let end = code.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    code[end..].starts_with('m').then_some(end + 2)
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logger(level: LogLevel, profile: &str) -> Logger {
        let figment = Figment::from(rocket::Config::debug_default()).merge(("log_level", level)).select(profile);
        Logger::new(&figment, &File::open("/dev/null").expect("a file"))
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

    #[test]
    fn nothing_in_a_message_has_power_over_a_terminal_or_begins_a_line() {
        assert_eq!(harmless("GET /ünïcode?a=%1b\t"), "GET /ünïcode?a=%1b\\t");
        assert_eq!(harmless("\u{1b}[1;31mred\u{1b}[0m"), "red", "Rocket's own colours");
        assert_eq!(harmless("a\nError: b\r\u{7}"), "a\\nError: b\\r\\u{7}");
        assert_eq!(harmless("\u{1b}[2J\u{1b}]0;title\u{1b}\\"), "\\u{1b}[2J\\u{1b}]0;title\\u{1b}\\");
        assert_eq!(harmless("\u{1b}[1\u{9b}31m\u{202e}\u{85}"), "\\u{1b}[1\\u{9b}31m\\u{202e}\\u{85}");
        assert_eq!(harmless("\u{1b}\u{1b}[31m"), "\\u{1b}");
    }

    #[test]
    fn a_message_of_any_length_is_put_into_words_up_to_a_bound() {
        let endless = "é".repeat(1 << 20);
        let shown = text(&format_args!("a{endless}{endless}"));
        assert!(shown.len() <= LONGEST && shown.len() > LONGEST - 4 && shown.starts_with("aé"));
        assert_eq!(text(&format_args!("{}", "b".repeat(LONGEST))).len(), LONGEST);
    }

    #[test]
    fn what_does_not_fit_into_memory_is_dropped_and_counted() {
        let logger = logger(LogLevel::Normal, "debug");
        let line = "a line\n".repeat(1000);
        for _ in 0..1000 {
            logger.send(&line);
        }
        let waiting = lock(&logger.waiting);
        assert!(waiting.lines.len() <= MOST && waiting.lines.len() > MOST - line.len());
        assert_eq!(waiting.dropped, 1000 - waiting.lines.len() / line.len());
    }

    #[test]
    fn each_level_is_told_as_each_reader_knows_it() {
        let style = |format, journal, colours| Style { format, journal, colours };
        let text = style(LogFormat::Text, false, false);
        assert_eq!(text.line(Level::Warn, "app", "a"), "Warning: a\n");
        assert_eq!(text.line(Level::Error, "app", "a"), "Error: a\n");
        assert_eq!(text.line(Level::Info, "app", "a"), "a\n");
        assert_eq!(text.line(Level::Warn, "rocket::server::_", "a"), "   >> a\n");
        assert_eq!(
            style(LogFormat::Text, false, true).line(Level::Warn, "app", "a"),
            "\u{1b}[33mWarning: a\u{1b}[0m\n"
        );
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        let prefix = |format| levels.map(|level| style(format, true, false).line(level, "app", "a")[..3].to_owned());
        assert_eq!(prefix(LogFormat::Text), ["<3>", "<4>", "<6>", "<7>", "<7>"]);
        assert_eq!(prefix(LogFormat::Json), ["<3>", "<4>", "<6>", "<7>", "<7>"]);
        let line = style(LogFormat::Json, false, false).line(Level::Warn, "app", "a \"b\"");
        let object: serde_json::Value = serde_json::from_str(&line).expect("one object");
        assert_eq!((&object["level"], &object["message"]), (&"warn".into(), &"a \"b\"".into()));
    }
}
