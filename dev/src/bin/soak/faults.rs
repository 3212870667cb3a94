//! What happens to polls on their way to LAPI and back? One fault at a time, or a LAPI that forgets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dev::{KEY, Reply, Seen};
use serde_json::Value;

/// A fault is for the next poll alone.
#[derive(Default)]
pub struct Faults {
    pub next: AtomicUsize,
    pub count: AtomicUsize,
    /// Which quarters of its decisions LAPI forgets: a bit for each.
    pub forgets: AtomicUsize,
    /// How many full answers were short for that.
    pub forgotten: AtomicUsize,
    /// When each poll came, and whether it got the whole of a full answer.
    polls: Mutex<Vec<(Instant, bool)>>,
}

impl Faults {
    pub const KINDS: usize = 7;
    /// All quarters.
    pub const ALL: usize = 15;

    pub fn answer(self: &Arc<Self>, lapi: SocketAddr, seen: &Seen) -> Reply {
        let forgets = self.forgets.load(SeqCst);
        if forgets > 0 {
            return self.forgetful(lapi, seen, forgets);
        }
        if seen.is_question() {
            let target = seen.target.clone();
            return Reply::script(move |client| hand_on(lapi, &target, client, usize::MAX).map(drop));
        }
        let kind = self.next.swap(0, SeqCst);
        self.count.fetch_add(usize::from(kind > 0), SeqCst);
        let number = self.came();
        let (target, full, faults) = (seen.target.clone(), seen.asks_for_all(), self.clone());
        let hand_on = move |client: &mut dyn Write, most: usize| {
            let whole = hand_on(lapi, &target, client, most)?;
            faults.polls.lock().unwrap()[number].1 = whole && full;
            Ok(())
        };
        match kind {
            0 => Reply::script(move |client| hand_on(client, usize::MAX)),
            1 => Reply::error(500),
            2 => Reply::error(403),
            3 => Reply::html("<h1>Please sign in</h1>"),
            // LAPI takes these for delivered.
            4 => Reply::script(move |client| hand_on(client, 150)),
            5 => Reply::script(move |_| hand_on(&mut io::sink(), 0)),
            6 => Reply::script(move |client| {
                sleep(Duration::from_secs(4));
                hand_on(client, usize::MAX)
            }),
            _ => Reply::new(200, "application/json", [0u8, 159, 146, 150].repeat(100)),
        }
    }

    /// As LAPI 1.7.8 answers while its database fails: 200 with a part of the list, nothing of what changed, and 500 to the
    /// question for one address.
    fn forgetful(&self, lapi: SocketAddr, seen: &Seen, forgets: usize) -> Reply {
        if seen.is_question() {
            return Reply::error(500);
        }
        self.came();
        if !seen.asks_for_all() {
            return Reply::decisions(&[], &[]);
        }
        self.forgotten.fetch_add(1, SeqCst);
        let mut answer = Vec::new();
        let whole = hand_on(lapi, &seen.target, &mut answer, usize::MAX).unwrap_or(false);
        let body = answer.split(|byte| *byte == b'{').next().map_or(0, <[u8]>::len);
        // Where LAPI is away or sends chunks, it forgets everything.
        let all: Value = serde_json::from_slice(&answer[body..]).unwrap_or_default();
        let new = all["new"].as_array().filter(|_| whole).into_iter().flatten();
        let is_left = |decision: &&Value| forgets & (1 << (decision["id"].as_u64().unwrap_or(0) % 4)) == 0;
        Reply::decisions(&new.filter(is_left).cloned().collect::<Vec<_>>(), &[])
    }

    fn came(&self) -> usize {
        let mut polls = self.polls.lock().unwrap();
        polls.push((Instant::now(), false));
        polls.len() - 1
    }

    /// What LAPI knew at this time, the application has to know: when the full answer before the last whole one was asked
    /// for. The next poll tells that they were taken over. No clock is asked for that, so that a busy machine makes nothing
    /// wrong.
    pub fn heard(&self) -> Option<Instant> {
        let polls = self.polls.lock().unwrap();
        let (_, before) = polls.split_last()?;
        before.iter().rev().filter(|(_, whole)| *whole).map(|(came, _)| *came).nth(1)
    }
}

/// Hands a poll on to LAPI, and so many bytes of its answer back. True if that was a good answer, and the whole of it.
fn hand_on(lapi: SocketAddr, target: &str, client: &mut dyn Write, most: usize) -> io::Result<bool> {
    let mut server = TcpStream::connect(lapi)?;
    // A LAPI that was frozen is killed, which closes the connection; this is for one that is forgotten.
    server.set_read_timeout(Some(Duration::from_secs(60)))?;
    let head = format!("GET {target} HTTP/1.1\r\nHost: lapi\r\nX-Api-Key: {KEY}\r\nUser-Agent: soak/v1.0.0\r\n");
    server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    // What came before LAPI died is handed on as well.
    let read = server.read_to_end(&mut answer);
    let part = &answer[..most.min(answer.len())];
    client.write_all(part)?;
    let ended = [b"}".as_slice(), b"}\r\n0\r\n\r\n"].iter().any(|end| part.ends_with(end));
    Ok(read.is_ok() && ended && part.starts_with(b"HTTP/1.1 200"))
}
