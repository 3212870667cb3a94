//! How is a stranger's text written into a log? On one line, without power over a terminal, and cut to a length.

use std::error::Error;
use std::iter;

/// At most this many characters of a text are shown.
const SHOWN: usize = 200;

/// A text that a visitor, a proxy or LAPI chose, safe to print: control characters (C0, C1, line and paragraph separators,
/// and those that turn the direction of writing) become U+FFFD, and what is longer than 200 characters is cut. Double quotes
/// become single ones: CrowdSec's parser would find a forged line of an access log within a line of ours.
pub fn printable(text: &str) -> String {
    let shown = text.chars().take(SHOWN).map(|c| match c {
        '"' => '\'',
        c if is_harmful(c) => '\u{fffd}',
        c => c,
    });
    let mut shown: String = shown.collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// An error with its causes, which Rust leaves out where an error is printed.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let errors = iter::successors(Some(error), |&error: &&(dyn Error + 'static)| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// `1 decision`, `2 decisions`.
pub fn decisions(count: usize) -> String {
    format!("{count} decision{}", if count == 1 { "" } else { "s" })
}

/// Whether a character has power over a terminal, or over the order of the text around it.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many bytes a text takes with nginx's escapes.
pub fn escaped_length(text: &str) -> usize {
    text.bytes().map(|byte| if is_plain(&byte) { 1 } else { LONGEST_ESCAPE }).sum()
}

/// The most bytes that one byte takes, as in `\x22`.
pub const LONGEST_ESCAPE: usize = 4;

/// Whether a byte stands in the access log as it is.
pub fn is_plain(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_a_line_moves_a_cursor_or_runs_on() {
        assert_eq!(printable("crowdsecurity/ssh-bf (ünïcode)"), "crowdsecurity/ssh-bf (ünïcode)");
        assert_eq!(printable("x 192.0.2.1 - - [t] \"GET / HTTP/1.1\""), "x 192.0.2.1 - - [t] 'GET / HTTP/1.1'");
        assert_eq!(
            printable("a\nb\rc\x1b[31m\x07\u{9b}\u{202e}\u{61c}\u{2028}"),
            "a\u{fffd}b\u{fffd}c\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(printable(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(printable(&"é".repeat(1_000_000)).chars().count(), 201);
    }
}
