//! How long does the launch wait for LAPI?

use std::time::{Duration, Instant};

use log::warn;
use tokio::time::{sleep, timeout};

use super::{Error, OnStartupFailure, Poller};

/// Waits for LAPI's first answer, as long as the operator said: `open` for one attempt, since visitors would be waiting;
/// the others ask again each second, since CrowdSec may need some seconds after a boot.
pub async fn first_answer(
    mut poller: Poller,
    startup_timeout: Duration,
    on_startup_failure: OnStartupFailure,
) -> Result<Poller, String> {
    if poller.recall() {
        return Ok(poller);
    }
    let (lapi, begin, mut told) = (poller.telling.address.clone(), Instant::now(), false);
    let left = || startup_timeout.saturating_sub(begin.elapsed());
    let error = loop {
        let asked = Instant::now();
        let result = timeout(left(), poller.try_poll()).await;
        let result = result.unwrap_or_else(|_| poller.give_up(asked));
        let Err(error) = result else { return Ok(poller) };
        // LAPI has answered, and no time will change what it says of this key.
        let is_final = matches!(error, Error::Forbidden);
        let pause = poller.pause();
        if on_startup_failure == OnStartupFailure::Open || is_final || left() <= pause {
            break error;
        }
        if !told {
            told = true;
            let seconds = startup_timeout.as_secs_f32();
            warn!(
                "CrowdSec's LAPI at {lapi} does not answer yet: {error}. The launch waits and asks again each second, for \
                 `startup_timeout` ({seconds} s) at most."
            );
        }
        sleep(pause).await;
    };
    if on_startup_failure == OnStartupFailure::Abort {
        return Err(format!("no first answer from LAPI at {lapi}: {error}. `on_startup_failure` is `abort`"));
    }
    poller.note(Err(error));
    Ok(poller)
}
