//! How is an answer of LAPI's read while it still arrives? Entry by entry, with little more than one of them in memory.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::mem;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::decision::{Decision, go_duration, network};

/// Where the entries of an answer go while it is still being read.
pub trait Receive {
    fn added(&mut self, decision: Decision);
    fn deleted(&mut self, decision: Decision);
    /// An entry that says nothing to us: it costs itself, never the answer around it.
    fn unreadable(&mut self, reason: String);
}

/// Reads `{"new": […], "deleted": […]}` entry by entry.
///
/// LAPI sends the two lists in either order, and `null` for an empty one.
pub fn read_answer<R: Receive>(answer: impl Read, receiver: &mut R) -> io::Result<()> {
    let mut json = Json { source: answer, before: 0, piece: Vec::new(), at: 0, ended: false };
    let mut lists = 0;
    json.items(b'{', b'}', |json| {
        let key: String = serde_json::from_str(json.value()?)?;
        json.expect(b':')?;
        let hand_over = match key.as_str() {
            "new" => R::added,
            "deleted" => R::deleted,
            _ => return json.value().map(drop),
        };
        lists += 1;
        if json.peek()? != Some(b'[') {
            return match json.value()? {
                "null" => Ok(()),
                _ => Err(io::Error::other(format!("`{key}` is no list"))),
            };
        }
        json.items(b'[', b']', |json| {
            match read_entry(json.value()?) {
                Ok(Some(decision)) => hand_over(receiver, decision),
                Ok(None) => {}
                Err(reason) => receiver.unreadable(reason),
            }
            Ok(())
        })
    })?;
    if json.peek()?.is_some() {
        return Err(io::Error::other("something follows its end"));
    }
    // An object without either list is some other server's answer. Believed, it would be an empty CrowdSec's, and end
    // every decision.
    if lists == 0 { Err(io::Error::other("neither `new` nor `deleted` in it")) } else { Ok(()) }
}

/// The most that one entry may take. LAPI's are of some hundred bytes; one that never ends would be held as a whole.
const LARGEST_ENTRY: usize = 1 << 20;
const TOO_LARGE: &str = "one entry is over 1 MiB";
/// So much is read at a time, at most.
const PIECE: usize = 16 << 10;

/// JSON of which a piece is at hand. serde_json could read it all from a reader, but byte by byte, which takes twice as
/// long as from memory; so it reads each value, and only what stands around them is read here.
struct Json<S> {
    source: S,
    /// How many bytes came before the piece.
    before: usize,
    piece: Vec<u8>,
    /// What lies before in the piece is read.
    at: usize,
    /// Whether the source has.
    ended: bool,
}

impl<S: Read> Json<S> {
    /// Reads what stands between two brackets, item by item.
    fn items(&mut self, open: u8, close: u8, mut item: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.expect(open)?;
        if self.peek()? == Some(close) {
            return self.expect(close);
        }
        loop {
            item(self)?;
            if self.peek()? != Some(b',') {
                return self.expect(close);
            }
            self.expect(b',')?;
        }
    }

    /// The text of the next value.
    fn value(&mut self) -> io::Result<&str> {
        self.peek()?;
        let end = loop {
            let rest = &self.piece[self.at..];
            let mut values = Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
            // A number may go on in the next piece, and the half of one can be no number at all. Where something else is
            // wrong, that is told a piece later.
            let in_number =
                rest.last().is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
            match values.next() {
                Some(Ok(_)) if values.byte_offset() < rest.len() || self.ended => break self.at + values.byte_offset(),
                Some(Err(error)) if !(error.is_eof() || in_number) || self.ended => return Err(self.wrong(error)),
                None if self.ended => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => self.more()?,
            }
        };
        if end - self.at > LARGEST_ENTRY {
            return Err(self.wrong(TOO_LARGE));
        }
        let start = mem::replace(&mut self.at, end);
        str::from_utf8(&self.piece[start..end]).map_err(io::Error::other)
    }

    fn expect(&mut self, byte: u8) -> io::Result<()> {
        match self.peek()? {
            Some(found) if found == byte => self.at += 1,
            Some(found) => {
                let (byte, found) = (char::from(byte), char::from(found).escape_default());
                return Err(self.wrong(format!("`{byte}` should stand where `{found}` does")));
            }
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    /// The next byte that is no white space; `None` at the end.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let is_white = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            self.at += self.piece[self.at..].iter().take_while(is_white).count();
            match self.piece.get(self.at) {
                None if !self.ended => self.more()?,
                next => return Ok(next.copied()),
            }
        }
    }

    /// Reads on: at least as much again as an entry has that has not ended yet, since that is looked at anew.
    fn more(&mut self) -> io::Result<()> {
        self.before += self.at;
        self.piece.drain(..self.at);
        self.at = 0;
        let rest = self.piece.len();
        if rest > LARGEST_ENTRY {
            return Err(self.wrong(TOO_LARGE));
        }
        let (mut filled, enough) = (rest, 2 * rest.max(1));
        self.piece.resize(enough.max(PIECE), 0);
        while filled < enough && !self.ended {
            let read = self.source.read(&mut self.piece[filled..])?;
            self.ended = read == 0;
            filled += read;
        }
        self.piece.truncate(filled);
        Ok(())
    }

    fn wrong(&self, what: impl fmt::Display) -> io::Error {
        io::Error::other(format!("{what}, after {} bytes of it", self.before + self.at))
    }
}

/// An entry on the wire. The id is read as any JSON, since only a positive whole number can serve as a key.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    #[serde(borrow)]
    scenario: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    duration: Cow<'a, str>,
}

/// `Ok(None)` for a scope that is no address (a country, a user name): such decisions are not for us.
fn read_entry(json: &str) -> Result<Option<Decision>, String> {
    let wire: Wire = serde_json::from_str(json).map_err(|e| format!("{e} in {json:.200}"))?;
    if !["ip", "range"].iter().any(|scope| wire.scope.eq_ignore_ascii_case(scope)) {
        return Ok(None);
    }
    Ok(Some(Decision {
        id: wire.id.as_u64().filter(|id| *id > 0),
        value: network(&wire.value).ok_or_else(|| format!("`{:.100}` is no address or network", wire.value))?,
        duration: go_duration(&wire.duration).ok_or_else(|| format!("`{:.100}` is no duration", wire.duration))?,
        origin: wire.origin.into_owned(),
        scenario: wire.scenario.into_owned(),
        scope: wire.scope.into_owned(),
        kind: wire.kind.into_owned(),
    }))
}

#[cfg(test)]
mod properties;
