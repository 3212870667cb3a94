//! Where does work run that no request waits for?

use std::time::Duration;
use std::{io, thread};

use rocket::fairing::AdHoc;
use rocket::futures::FutureExt;
use rocket::{Build, Rocket, Shutdown};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A runtime of its own, with one thread. On Rocket's runtime, LAPI's work would slow requests: each idle worker would have
/// to arm a timer, and LAPI's large buffers would lie between the memory of requests.
pub struct Background {
    pub runtime: Handle,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl Background {
    pub fn start(name: &str) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("the thread `{name}` cannot be started: {error}");
        let runtime = Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel());
        thread::Builder::new().name(name.into()).spawn(move || runtime.block_on(ended)).map_err(cannot)?;
        Ok(Self { runtime: handle, _end: end })
    }

    /// Does the work from liftoff on. The shutdown waits until the work has ended, but no longer than `patience`.
    pub fn work<W: Future<Output = ()> + Send + 'static>(
        self,
        rocket: Rocket<Build>,
        name: &'static str,
        patience: Duration,
        work: impl FnOnce(Shutdown) -> W + Send + Sync + 'static,
    ) -> Rocket<Build> {
        let (runtime, (ends, ended)) = (self.runtime.clone(), oneshot::channel::<()>());
        let rocket = rocket.attach(AdHoc::on_liftoff(name, move |rocket| {
            runtime.spawn(work(rocket.shutdown()).map(|()| drop(ends)));
            Box::pin(async {})
        }));
        rocket.attach(AdHoc::on_shutdown(name, move |_| {
            Box::pin(async move {
                let _ = timeout(patience, ended).await;
                drop(self);
            })
        }))
    }
}
