//! How is a field of a log's line written, so that nothing in it ends the field or the line?

use std::io::Write;

/// A text with nginx's escapes, cut where it is longer than `most`.
pub fn escaped(line: &mut Vec<u8>, text: &str, most: usize) {
    let end = line.len() + most;
    for byte in text.bytes() {
        if line.len() >= end {
            return;
        }
        let _ = match is_plain(&byte) {
            true => line.write_all(&[byte]),
            false => write!(line, "\\x{byte:02X}"),
        };
    }
}

/// How many bytes a text takes with those escapes.
pub fn escaped_length(text: &str) -> usize {
    text.bytes().map(|byte| if is_plain(&byte) { 1 } else { LONGEST_ESCAPE }).sum()
}

/// How many bytes one byte takes at most, as `\x22`.
pub const LONGEST_ESCAPE: usize = 4;

/// A text as JSON has it, all in ASCII: what could move a terminal's cursor is escaped too. It is cut, since a name in a
/// form may be as long as the form.
pub fn json(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    for unit in text.encode_utf16().take(200) {
        let _ = match u8::try_from(unit) {
            Ok(byte) if is_plain(&byte) => line.write_all(&[byte]),
            _ => write!(line, "\\u{unit:04x}"),
        };
    }
    line.push(b'"');
}

fn is_plain(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}
