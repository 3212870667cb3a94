//! How does the stub read and write HTTP? As Go's server does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::{PATIENCE, Seen, State, Version};

/// What goes out: the status to the bouncer, the body, and whether it goes in pieces without a length.
pub struct Reply(pub u16, pub String, pub bool);

impl State {
    /// A question, and the status by which Go's server would refuse it.
    pub(super) fn read(
        &self,
        reader: &mut BufReader<TcpStream>,
        writer: &mut TcpStream,
    ) -> Option<(Seen, Result<(), u16>)> {
        let mut seen = Seen::default();
        loop {
            let mut line = Vec::new();
            if reader.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            seen.raw.extend_from_slice(&line);
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            if line.is_empty() {
                break;
            }
            match line.split_once(':').filter(|_| !seen.method.is_empty()) {
                Some((name, value)) => seen.headers.push((name.to_owned(), value.trim().to_owned())),
                None => {
                    let mut words = line.split(' ');
                    seen.method = words.next()?.to_owned();
                    seen.target = words.next()?.to_owned();
                }
            }
        }
        let is_bad = seen.all("Content-Length").len() > 1
            || seen.all("Host").len() != 1
            || seen.headers.iter().any(|(_, value)| value.chars().any(|c| c.is_control() && c != '\t'));
        let fit = match (seen.header("Expect"), seen.header("Transfer-Encoding")) {
            _ if is_bad => Err(400),
            (Some(wish), _) if !wish.eq_ignore_ascii_case("100-continue") => Err(417),
            (_, Some(coding)) if coding != "chunked" => Err(501),
            _ if seen.target != "/appsec" => Err(404),
            _ => Ok(()),
        };
        if fit.is_err() {
            return Some((seen, fit));
        }
        if seen.header("Expect").is_some() {
            let _ = writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if seen.header("Transfer-Encoding").is_some() {
            let body = chunked(reader)?;
            // The length is unknown, and an old engine judges as many bytes as it knows of.
            if *self.version.lock().unwrap() == Version::New {
                seen.body = body;
            }
        } else if let Some(length) = seen.header("Content-Length").and_then(|length| length.parse().ok()) {
            let is_new = *self.version.lock().unwrap() == Version::New;
            let until = Instant::now() + if is_new { self.body_timeout } else { PATIENCE };
            seen.body = vec![0; length];
            let read = read_until(reader, &mut seen.body, until);
            seen.body.truncate(read);
            seen.raw.extend_from_slice(&seen.body);
            if read < length && !is_new {
                return Some((seen, Err(500)));
            }
        }
        Some((seen, Ok(())))
    }
}

/// Reads into `body` what comes before `until`, and gives the number of bytes.
fn read_until(reader: &mut BufReader<TcpStream>, body: &mut [u8], until: Instant) -> usize {
    let mut read = 0;
    while read < body.len() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || reader.get_ref().set_read_timeout(Some(left)).is_err() {
            break;
        }
        match reader.read(&mut body[read..]) {
            Ok(0) | Err(_) => break,
            Ok(more) => read += more,
        }
    }
    read
}

fn chunked(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut piece = vec![0; size + 2];
        reader.read_exact(&mut piece).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&piece[..size]);
    }
}

/// Answers as Go does: as plain text, and in pieces without a length where the body is long.
pub fn send(writer: &mut TcpStream, Reply(status, body, in_pieces): &Reply, is_head: bool) -> std::io::Result<()> {
    let mut out = format!("HTTP/1.1 {status} X\r\nContent-Type: text/plain; charset=utf-8\r\n");
    let body = if is_head || *status == 204 { "" } else { body };
    if *in_pieces && body.len() > 2048 {
        out += "Transfer-Encoding: chunked\r\n\r\n";
        for piece in body.as_bytes().chunks(1000) {
            out += &format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
        }
        out += "0\r\n\r\n";
    } else if *status == 204 {
        out += "\r\n";
    } else {
        out += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    }
    writer.write_all(out.as_bytes())
}
