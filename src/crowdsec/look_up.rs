//! How many threads may wait until a host's address is found? A look-up blocks its thread, and nobody can break it off.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::{io, vec};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Finds the addresses of a host, with a few look-ups at once. Otherwise, while DNS hangs, each question that gives up
/// would leave one of Rocket's threads blocked, until none is left to open the files that Rocket serves.
#[derive(Clone)]
pub struct LookUp(Arc<Semaphore>);

const AT_ONCE: usize = 4;

impl Default for LookUp {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl LookUp {
    pub async fn addresses(self, host: String) -> io::Result<vec::IntoIter<SocketAddr>> {
        self.in_turn(move || (host.as_str(), 0).to_socket_addrs()).await
    }

    /// A turn lasts as long as the work, even if nobody waits for that any more.
    async fn in_turn<T: Send + 'static>(self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let turn = self.0.acquire_owned().await.map_err(io::Error::other)?;
        let working = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        working.await.map_err(io::Error::other)?
    }
}

impl Resolve for LookUp {
    fn resolve(&self, host: Name) -> Resolving {
        let found = self.clone().addresses(host.as_str().to_owned());
        Box::pin(async { Ok(Box::new(found.await?) as Addrs) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[rocket::async_test]
    async fn a_look_up_that_hangs_keeps_its_turn_when_nobody_waits_for_it_any_more() {
        let (look_up, (end, ended)) = (LookUp(Arc::new(Semaphore::new(1))), mpsc::channel::<()>());
        let hangs = look_up.clone().in_turn(move || ended.recv().map_err(io::Error::other));
        assert!(timeout(Duration::from_millis(20), hangs).await.is_err());
        let next = || look_up.clone().in_turn(|| Ok(()));
        assert!(timeout(Duration::from_millis(20), next()).await.is_err(), "a second thread hangs");
        drop(end);
        assert!(timeout(Duration::from_secs(5), next()).await.is_ok_and(|done| done.is_ok()));
    }

    #[rocket::async_test]
    async fn a_host_is_found_and_one_that_is_none_is_not() {
        let found = |host: &str| LookUp::default().addresses(host.into());
        assert!(found("localhost").await.expect("an address").all(|address| address.ip().is_loopback()));
        assert!(found("no-such-host.invalid").await.is_err());
    }
}
