//! Whatever LAPI, or somebody in its place, sends: what is taken for a whole answer is one, however it arrives.
//!
//! The input is the body of the answer.
#![no_main]

/// The application's own reader, which is private there: compiled from the same files once more.
#[path = "../../../src/crowdsec"]
#[allow(dead_code, unused_imports)]
mod crowdsec {
    #[path = "lapi/answer.rs"]
    pub mod answer;
    pub mod decisions;
    mod printable;
}

use std::collections::HashMap;
use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

use crowdsec::answer::read_answer;
use crowdsec::decisions::{Decision, Entry, Scopes};

fuzz_target!(|body: &[u8]| {
    let (heard, whole) = read(body, usize::MAX);
    for size in [1, 7, 4096] {
        let (again, whole_again) = read(body, size);
        assert!(heard == again && whole == whole_again, "in pieces of {size} bytes it is another answer");
    }
    if whole {
        // Checks only the shape: a number too large for Rust, or text that is no UTF-8, costs only the entry that it stands in.
        let fields = serde_json::from_slice::<HashMap<String, IgnoredAny>>(body).expect("what is whole is well-formed");
        assert!(["new", "deleted"].iter().any(|list| fields.contains_key(*list)), "what is whole has one of the lists");
        let length = body.trim_ascii_end().len();
        for cut in [length / 2, length - 1] {
            assert!(!read(&body[..cut], usize::MAX).1, "cut after {cut} bytes it is taken for whole");
        }
    }
});

/// What was heard of an answer that arrives `size` bytes at a time, and whether it was taken for whole.
fn read(body: &[u8], size: usize) -> (Heard, bool) {
    let mut heard = Heard::default();
    let scopes = Scopes::new(&["ip", "range", "country", "as", "username"].map(str::to_owned)).expect("scopes");
    let whole = read_answer(Pieces(body, size), &scopes, &mut |entry| heard.take(entry)).is_ok();
    (heard, whole)
}

#[derive(Default, PartialEq)]
struct Heard {
    added: Vec<Decision>,
    deleted: Vec<Decision>,
    unreadable: Vec<String>,
}

impl Heard {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::New(decision) => self.added.push(decision),
            Entry::Deleted(decision) => self.deleted.push(decision),
            Entry::Unread(unread) => self.unreadable.push(unread.reason),
        }
    }
}

struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}
