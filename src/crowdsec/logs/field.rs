//! How is a field of a log's line written, so that nothing in it ends the field or the line?

use std::io::Write;

use crate::crowdsec::printable::is_plain;

/// Writes a text with nginx's escapes, cut after `most` bytes; the last escape stays whole.
pub fn escaped(line: &mut Vec<u8>, text: &str, most: usize) {
    // Most texts are plain. The processor compares sixteen bytes at once, because this loop never ends early.
    if text.bytes().fold(true, |all, byte| all & is_plain(&byte)) {
        return line.extend_from_slice(&text.as_bytes()[..text.len().min(most)]);
    }
    let end = line.len() + most;
    for byte in text.bytes() {
        match byte {
            _ if line.len() >= end => return,
            plain if is_plain(&plain) => line.push(plain),
            odd => _ = write!(line, "\\x{odd:02X}"),
        }
    }
}

/// How many UTF-16 units of a name are written: a name in a form may be as long as the form, but the account of a
/// decision has at most 256 bytes.
pub const TEXT: usize = 256;

/// A text as JSON, all in ASCII: what could move a terminal's cursor is escaped too. It is cut after `most` UTF-16
/// units, each of which takes up to six bytes, and never within a character. `null` where there is no text.
pub fn json(text: Option<&str>, most: usize) -> String {
    let Some(text) = text else { return "null".into() };
    let mut json = String::from('"');
    let mut length = 0;
    let fits = text.chars().take_while(|letter| {
        length += letter.len_utf16();
        length <= most
    });
    for unit in fits.collect::<String>().encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if is_plain(&byte) => json.push(byte.into()),
            _ => json += &format!("\\u{unit:04x}"),
        }
    }
    json + "\""
}

/// Whatever a visitor sends, one line is one event of the true address.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crowdsec::printable::escaped_length;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = b"before ".to_vec();
        write(&mut line);
        String::from_utf8(line).expect("plain text").strip_prefix("before ").expect("what was there before").to_owned()
    }

    /// Undoes what nginx's escaping does.
    fn unescaped(mut text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((plain, escaped)) = text.split_once("\\x") {
            bytes.extend(plain.bytes());
            bytes.push(u8::from_str_radix(&escaped[..2], 16).expect("two digits"));
            text = &escaped[2..];
        }
        bytes.extend(text.bytes());
        bytes
    }

    /// Any text, and texts made of the pieces of forgeries.
    fn texts() -> impl Strategy<Value = String> {
        let forged = "\n198.51.100.66 - - [22/Nov/2026:14:54:27 +0000] \"GET /x HTTP/1.1\" 404 153 \"-\" \"-\"\n";
        prop_oneof![any::<String>(), "[\"\\\\x0-9\u{0}-\u{20}\u{7f}-\u{a0}\u{2028}]{0,40}", Just(forged.to_owned())]
    }

    proptest! {
        #[test]
        fn no_text_ends_a_field_or_a_line(text in texts()) {
            let field = written(|line| escaped(line, &text, usize::MAX / 2));
            prop_assert!(field.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"'), "{}", field);
            prop_assert_eq!(unescaped(&field), text.as_bytes());
            prop_assert_eq!(field.len(), escaped_length(&text));
        }

        #[test]
        fn a_field_is_cut_and_begins_as_the_text_does(text in texts(), most in 0..100_usize) {
            let (cut, whole) = (written(|line| escaped(line, &text, most)), written(|line| escaped(line, &text, 1 << 20)));
            prop_assert!(cut.len() < most + 4 && whole.starts_with(&cut), "{}", cut);
            prop_assert!(cut == whole || cut.len() >= most);
        }

        #[test]
        fn an_event_is_one_line_of_json_whatever_it_says(text in texts(), most in 0..300_usize) {
            let json = json(Some(&text), most);
            prop_assert!(json.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{}", json);
            let read = serde_json::from_str::<String>(&json).expect("JSON");
            let units = read.encode_utf16().count();
            prop_assert!(text.starts_with(&read) && units <= most, "{}", json);
            prop_assert!(read == text || units + 2 > most, "cut too soon: {}", json);
        }
    }
}
