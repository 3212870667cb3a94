//! How is an answer of LAPI's read while it still arrives? Entry by entry, with one entry in memory at a time.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufReader, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::crowdsec::decisions::{
    Decision, Entry, LARGEST_ID, Scopes, Source, Unread, Value, go_duration, known_scope,
};
use crate::crowdsec::printable::printable;

/// The most bytes of one entry, which is held as a whole. LAPI's entries have some hundred bytes.
const LARGEST_ENTRY: usize = 8 << 20;
/// The most bytes of a scope or a type: both are kept as they came.
const LONGEST_FIELD: usize = 64;
/// An answer in live mode with more unreadable entries than this is refused: each of them takes time and memory.
const MOST_UNREAD: usize = 1_000;
/// The most characters kept of an origin or a scenario, which only tell where a decision comes from.
const LONGEST_LABEL: usize = 256;

/// Reads `{"new": […], "deleted": […]}` and hands each entry of these scopes on.
///
/// LAPI sends the two lists in either order, and `null` for an empty one.
pub fn read_answer(answer: impl Read, scopes: &Scopes, hand_on: &mut impl FnMut(Entry)) -> io::Result<()> {
    let left = Cell::new(LARGEST_ENTRY);
    let bounded = BufReader::new(Bounded { source: answer, left: &left });
    let mut json = serde_json::Deserializer::from_reader(bounded);
    let lists = json.deserialize_map(Lists(&mut |entry, is_new| {
        left.set(LARGEST_ENTRY);
        entry_of(entry, is_new, scopes).into_iter().for_each(&mut *hand_on);
    }))?;
    json.end()?;
    // An object with neither list is some other server's answer. It would pass for an empty CrowdSec's, and could end every
    // decision.
    if lists == 0 { Err(io::Error::other("neither `new` nor `deleted` in it")) } else { Ok(()) }
}

/// Reads what LAPI says of one value, or of one scope: a list, or `null`. If an id is `asked` about, entries with other ids
/// are skipped. An entry that cannot be read is an error, since it may be the one asked about.
pub fn read_list(json: &[u8], scopes: &Scopes, asked: Option<u64>) -> Result<Vec<Decision>, String> {
    let is_asked = |entry: &&RawValue| match (asked, serde_json::from_str::<Id>(entry.get())) {
        (Some(asked), Ok(entry)) => entry.id == asked,
        _ => true,
    };
    let read = |entry| read_entry(entry, scopes).map_err(|unread| unread.reason).transpose();
    let entries: Option<Vec<&RawValue>> =
        serde_json::from_slice(json).map_err(|error| printable(&error.to_string()))?;
    entries.into_iter().flatten().filter(is_asked).filter_map(read).collect()
}

/// Reads what LAPI says in live mode: a list, or `null`.
pub fn read_entries(json: &[u8], scopes: &Scopes) -> Result<Vec<Entry>, String> {
    let (mut entries, mut unread) = (Vec::new(), 0);
    let hand_on: HandOn<'_> = &mut |entry, is_new| {
        if unread <= MOST_UNREAD
            && let Some(entry) = entry_of(entry, is_new, scopes)
        {
            unread += usize::from(matches!(&entry, Entry::Unread(unread) if !unread.is_unfit));
            entries.push(entry);
        }
    };
    let mut json = serde_json::Deserializer::from_slice(json);
    let read = List { is_new: true, hand_on }.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| printable(&error.to_string()))?;
    if unread > MOST_UNREAD { Err(format!("over {MOST_UNREAD} entries cannot be read")) } else { Ok(entries) }
}

/// Takes each entry as raw text, and whether it stands in `new`, not in `deleted`.
type HandOn<'a> = &'a mut dyn FnMut(&RawValue, bool);

/// `None` for an entry of a scope that is not ours, and for an unreadable one in `deleted`.
fn entry_of(json: &RawValue, is_new: bool, scopes: &Scopes) -> Option<Entry> {
    match read_entry(json, scopes).transpose()? {
        Ok(decision) if is_new => Some(Entry::New(decision)),
        Ok(decision) => Some(Entry::Deleted(decision)),
        Err(unread) if is_new => Some(Entry::Unread(unread)),
        // A decision that cannot be read is hardly ever held, and if it is, it ends by its own time. Nor is it worth a
        // warning: LAPI has deleted it already.
        Err(_) => None,
    }
}

#[derive(Deserialize)]
struct Id {
    id: u64,
}

/// A reader that fails if one entry is over `LARGEST_ENTRY`.
struct Bounded<'a, S> {
    source: S,
    left: &'a Cell<usize>,
}

impl<S: Read> Read for Bounded<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other("one entry is over 8 MiB"));
        }
        let most = buffer.len().min(self.left.get());
        let read = self.source.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read);
        Ok(read)
    }
}

/// The object around the lists. Gives how many lists there were.
struct Lists<'a>(HandOn<'a>);

impl<'de> Visitor<'de> for Lists<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `new` and `deleted`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut lists = 0;
        while let Some(key) = map.next_key::<String>()? {
            if !["new", "deleted"].contains(&key.as_str()) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            map.next_value_seed(List { is_new: key == "new", hand_on: &mut *self.0 })?;
            lists += 1;
        }
        Ok(lists)
    }
}

/// One of the two lists, or `null`. Each entry is taken as raw text first, so that a bad entry costs itself alone.
struct List<'a> {
    is_new: bool,
    hand_on: HandOn<'a>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of decisions")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<Box<RawValue>>()? {
            (self.hand_on)(&entry, self.is_new);
        }
        Ok(())
    }
}

/// An entry on the wire. A ban holds whatever its id, origin and scenario: these are taken as raw JSON first, so that a
/// strange one does not drop it.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Wire<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    origin: Option<&'a RawValue>,
    #[serde(borrow)]
    scenario: Option<&'a RawValue>,
    scope: String,
    #[serde(rename = "type")]
    kind: String,
    value: String,
    duration: String,
}

/// `Ok(None)` for a scope that nobody asked for: such decisions are not for us.
fn read_entry(json: &RawValue, scopes: &Scopes) -> Result<Option<Decision>, Unread> {
    let broken = |reason| Unread { reason, is_unfit: false };
    let wire: Wire = serde_json::from_str(json.get())
        .map_err(|error| broken(format!("{} in {}", printable(&error.to_string()), printable(json.get()))))?;
    if !scopes.have(&wire.scope) {
        return Ok(None);
    }
    let shown = || printable(&wire.value);
    if wire.scope.len().max(wire.kind.len()) > LONGEST_FIELD {
        return Err(broken(format!("the decision on `{}` has a scope or type over {LONGEST_FIELD} bytes", shown())));
    }
    let no_duration = || format!("`{}`, of the decision on `{}`, is no duration", printable(&wire.duration), shown());
    let duration = go_duration(&wire.duration).ok_or_else(|| broken(no_duration()))?;
    let value = Value::read(&wire.scope, &wire.value).map_err(|what| {
        let is_address = matches!(known_scope(&wire.scope), Some("ip" | "range"));
        let scope = if is_address { String::new() } else { format!(" (scope {})", printable(&wire.scope)) };
        Unread { reason: format!("`{}` is {what}{scope}", shown()), is_unfit: !is_address }
    })?;
    let id = wire.id.and_then(|id| id.get().parse().ok()).filter(|id| (1..=LARGEST_ID).contains(id));
    let (origin, scenario) = (label(wire.origin), label(wire.scenario));
    let source = Source { origin, scenario, scope: wire.scope, kind: wire.kind };
    Ok(Some(Decision { id, source, value, duration }))
}

fn label(json: Option<&RawValue>) -> String {
    let label: String = json.and_then(|json| serde_json::from_str(json.get()).ok()).unwrap_or_default();
    if label.len() > LONGEST_LABEL { label.chars().take(LONGEST_LABEL).collect() } else { label }
}
