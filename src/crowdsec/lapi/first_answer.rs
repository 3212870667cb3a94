//! How long does the launch wait for LAPI?

use std::time::{Duration, Instant};

use log::warn;
use tokio::time::{sleep, timeout};

use super::{Error, OnStartupFailure, Poller};

impl Poller {
    /// Waits for LAPI's first answer, for which a snapshot stands in. With `open` it waits for one attempt, since visitors
    /// would be waiting; otherwise it asks again each second, since CrowdSec may need some seconds after a boot.
    pub async fn first_answer(mut self, startup_timeout: Duration) -> Result<Self, String> {
        if self.saving.recall() {
            self.contact.recalled();
            return Ok(self);
        }
        let (begin, mut told, on_failure) = (Instant::now(), false, self.telling.on_startup_failure);
        let left = || startup_timeout.saturating_sub(begin.elapsed());
        let error = loop {
            let asked = Instant::now();
            let result = timeout(left(), self.try_poll()).await;
            let result = result.unwrap_or_else(|_| {
                let too_slow = Err(Error::Transfer("LAPI took longer than startup_timeout".into()));
                self.contact.polls.count(&too_slow, asked.elapsed());
                too_slow
            });
            let Err(error) = result else { return Ok(self) };
            // LAPI has answered, and no time will change what it says of this key.
            let is_final = matches!(error, Error::Forbidden);
            let pause = self.pause();
            if on_failure == OnStartupFailure::Open || is_final || left() <= pause {
                break error;
            }
            if !told {
                told = true;
                warn!(
                    "CrowdSec's LAPI at {} does not answer yet: {error}. The launch waits and asks again each second, for \
                     `startup_timeout` ({} s) at most.",
                    self.telling.address,
                    startup_timeout.as_secs_f32()
                );
            }
            sleep(pause).await;
        };
        if on_failure == OnStartupFailure::Abort {
            let lapi = &self.telling.address;
            return Err(format!("no first answer from LAPI at {lapi}: {error}. `on_startup_failure` is `abort`"));
        }
        self.telling.of_poll(Err(error));
        Ok(self)
    }
}
