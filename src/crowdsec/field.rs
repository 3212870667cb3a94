//! How is a field of a log's line written, so that nothing in it ends the field or the line?
//!
//! Every request is such a line: std's formatting, many times as dear, is only for what is rare.

use std::io::Write;
use std::net::IpAddr;
use std::ops::Range;

#[cfg(test)]
mod properties;

pub fn number(line: &mut Vec<u8>, number: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// An address in the form that std gives it, which is RFC 5952's. It is canonical: none is mapped into IPv6.
pub fn address(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for octet in v4.octets() {
                let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                match octet {
                    0..10 => line.extend_from_slice(&[ones, b'.']),
                    10..100 => line.extend_from_slice(&[tens, ones, b'.']),
                    100.. => line.extend_from_slice(&[hundreds, tens, ones, b'.']),
                }
            }
            line.pop();
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            let zeros = zeros(&segments);
            joined(line, &segments[..zeros.start]);
            if !zeros.is_empty() {
                line.extend_from_slice(b"::");
                joined(line, &segments[zeros.end..]);
            }
        }
    }
}

/// The first of the longest runs of zeros, for which `::` stands. A single zero is written.
fn zeros(segments: &[u16; 8]) -> Range<usize> {
    let (mut longest, mut run) = (8..8, 0..0);
    for (at, segment) in segments.iter().enumerate() {
        run = if *segment == 0 { run.start..at + 1 } else { at + 1..at + 1 };
        if run.len() > longest.len().max(1) {
            longest = run.clone();
        }
    }
    longest
}

fn joined(line: &mut Vec<u8>, segments: &[u16]) {
    for (at, segment) in segments.iter().enumerate() {
        if at > 0 {
            line.push(b':');
        }
        let [a, b, c, d] = [12, 8, 4, 0].map(|shift| b"0123456789abcdef"[usize::from(segment >> shift & 15)]);
        match segment {
            0..0x10 => line.push(d),
            0x10..0x100 => line.extend_from_slice(&[c, d]),
            0x100..0x1000 => line.extend_from_slice(&[b, c, d]),
            0x1000.. => line.extend_from_slice(&[a, b, c, d]),
        }
    }
}

/// A text with nginx's escapes.
pub fn escaped(line: &mut Vec<u8>, text: &str, most: usize) {
    let (end, text) = (line.len() + most, text.as_bytes());
    if text.len() <= most && are_plain(text) {
        return line.extend_from_slice(text);
    }
    for byte in text {
        let [high, low] = [byte >> 4, byte & 15].map(|digit| b"0123456789ABCDEF"[usize::from(digit)]);
        match line.len() < end {
            true if is_plain(byte) => line.push(*byte),
            true => line.extend_from_slice(&[b'\\', b'x', high, low]),
            false => return,
        }
    }
}

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

/// Nearly all texts are. Sixteen bytes at a time are looked at by one instruction; the last sixteen may overlap those
/// before.
fn are_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<16>() else { return text.iter().all(is_plain) };
    let mut plain = [true; 16];
    for chunk in text.as_chunks::<16>().0.iter().chain([last]) {
        for (plain, byte) in plain.iter_mut().zip(chunk) {
            *plain &= is_plain(byte);
        }
    }
    plain == [true; 16]
}
