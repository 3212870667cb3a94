//! How is a record written? As one line that cannot control a terminal, in the form that the reader of standard output wants.

use std::env;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use figment::Figment;
use log::Level;
use rocket::time::OffsetDateTime;
use serde_json::json;

use crate::crowdsec::{LogFormat, is_harmful};

/// No message is longer than this many bytes; the rest of a longer one is not even put into words.
const LONGEST_MESSAGE: usize = 8 << 10;

/// How a line looks.
#[derive(Clone, Copy)]
pub struct Style {
    format: LogFormat,
    /// Whether journald reads the line, and wants the level as a number in front.
    journald: bool,
    colours: bool,
}

impl Style {
    pub fn of(figment: &Figment) -> Self {
        let output = io::stdout().as_fd().try_clone_to_owned().and_then(|output| File::from(output).metadata());
        let id = output.map(|file| format!("{}:{}", file.dev(), file.ino()));
        // Where Rocket.toml cannot be parsed, the variable still says in which format to say so.
        let variable =
            || env::var("CROWDSEC_LOG_FORMAT").is_ok_and(|format| format == "json").then_some(LogFormat::Json);
        let format = figment.extract_inner("crowdsec.log_format").ok().or_else(variable).unwrap_or_default();
        Self {
            format,
            journald: env::var("JOURNAL_STREAM").is_ok_and(|stream| id.is_ok_and(|id| id == stream)),
            colours: io::stdout().is_terminal() && figment.extract_inner("cli_colors").unwrap_or(true),
        }
    }

    /// One record is one line.
    pub fn line(self, level: Level, target: &str, text: &str) -> String {
        let (number, word, colour) = match level {
            Level::Error => ("<3>", "Error: ", "\u{1b}[1;31m"),
            Level::Warn => ("<4>", "Warning: ", "\u{1b}[33m"),
            Level::Info => ("<6>", "", ""),
            Level::Debug | Level::Trace => ("<7>", "", ""),
        };
        let mut line = String::from(if self.journald { number } else { "" });
        if self.format == LogFormat::Json {
            let now = OffsetDateTime::now_utc();
            let (date, (h, m, s, ms)) = (now.date(), now.to_hms_milli());
            let time = format!("{date}T{h:02}:{m:02}:{s:02}.{ms:03}Z");
            let level = level.as_str().to_lowercase();
            let json = json!({ "time": time, "level": level, "target": target, "message": text });
            let _ = writeln!(line, "{json}");
            return line;
        }
        let _ = match self.colours && !colour.is_empty() {
            _ if target.ends_with("::_") => writeln!(line, "   >> {text}"),
            true => writeln!(line, "{colour}{word}{text}\u{1b}[0m"),
            false => writeln!(line, "{word}{text}"),
        };
        line
    }
}

/// A message in words, with nothing in it that has power over a terminal or begins a new line.
pub fn text(message: &fmt::Arguments<'_>) -> String {
    let mut text = Bounded(String::new());
    // Writing ends with an error where the bound is reached.
    let _ = text.write_fmt(*message);
    harmless(&text.0)
}

struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let mut fits = piece.len().min(LONGEST_MESSAGE - self.0.len());
        while !piece.is_char_boundary(fits) {
            fits -= 1;
        }
        self.0.push_str(&piece[..fits]);
        if fits < piece.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Leaves out the colours that Rocket puts into its messages (`ESC [ 1;31 m`), since visitors can switch those on (pear, which
/// parses `Accept`, does so), and writes every other control character as an escape.
fn harmless(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let behind_the_code = piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match behind_the_code.strip_prefix('m') {
            Some(rest) => plain += rest,
            None => plain.extend(["\u{1b}[", piece]),
        }
    }
    // Most messages have nothing of the kind.
    if !plain.contains(is_harmful) {
        return plain;
    }
    let show = |c: char| if is_harmful(c) { c.escape_default().to_string() } else { c.to_string() };
    plain.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(shown.len() <= LONGEST_MESSAGE && shown.len() > LONGEST_MESSAGE - 4 && shown.starts_with("aé"));
        assert_eq!(text(&format_args!("{}", "b".repeat(LONGEST_MESSAGE))).len(), LONGEST_MESSAGE);
    }

    #[test]
    fn each_level_is_told_as_each_reader_knows_it() {
        let style = |format, journald, colours| Style { format, journald, colours };
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
