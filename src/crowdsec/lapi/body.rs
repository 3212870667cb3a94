//! How is the body of a long answer read while it still arrives?

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Instant;

use reqwest::Response;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::Error;
use super::answer::read_answer;
use super::error::transfer;
use crate::crowdsec::decisions::{Incoming, Scopes};
use crate::crowdsec::printable::printable;

/// 512 MiB hold four million decisions. A full answer also names decisions that have ended and are still in LAPI's
/// database.
pub const LONGEST_ANSWER: usize = 512 << 20;
const TOO_LONG: &str = "it is over 512 MiB. LAPI names what has ended, too, until it flushes that (`db_config.flush`)";

/// Takes over the answer's entries as they arrive. `Ok` means that the body is complete: to the reader a body that was cut
/// looks like one that ended, but a JSON object that was cut is never whole.
///
/// A thread for blocking work reads the entries while the transfer goes on, with a few pieces in flight at most, so that
/// LAPI does not send faster than we read.
pub async fn read_body(mut response: Response, scopes: Arc<Scopes>, mut answer: Incoming) -> Result<Incoming, Error> {
    let (pieces, body) = mpsc::channel(4);
    let reading = spawn_blocking(move || {
        let body = Body { pieces: body, current: Default::default() };
        let read = read_answer(body, &scopes, &mut |entry| {
            // LAPI 1.7.8 and newer writes its answer while it reads its database, and computes each duration as it writes.
            // For the last entries of a long answer that is much later than its head arrived.
            answer.now = Instant::now();
            answer.take(entry);
        });
        read.map(|()| answer)
    });
    let transferred: Result<(), Error> = async move {
        let mut left = LONGEST_ANSWER;
        while let Some(piece) = response.chunk().await.map_err(|error| transfer(&error, None))? {
            left = left.checked_sub(piece.len()).ok_or_else(|| Error::Unreadable(TOO_LONG.into()))?;
            // The reader hangs up where it finds no JSON; its own error says more.
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    }
    .await;
    let read = reading.await.map_err(|panic| Error::Panicked(panic.to_string()))?;
    transferred?;
    read.map_err(|error| Error::Unreadable(printable(&error.to_string())))
}

/// The body as a blocking reader.
struct Body<B> {
    pieces: mpsc::Receiver<B>,
    current: io::Cursor<B>,
}

impl<B: AsRef<[u8]>> Read for Body<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.fill_buf()?.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            self.current = io::Cursor::new(piece);
        }
        self.current.read(buffer)
    }
}
