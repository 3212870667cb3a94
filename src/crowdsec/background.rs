//! Where does work run that no request waits for?

use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime of its own, of one thread. On Rocket's, each worker would have to arm a timer whenever it waits for a request,
/// and the memory of LAPI's answers would lie between that of requests, which makes both dearer to come by.
pub struct Background {
    pub runtime: Handle,
    /// The thread ends with it.
    _end: oneshot::Sender<()>,
}

impl Background {
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel());
        thread::Builder::new().name(name.into()).spawn(move || runtime.block_on(ended))?;
        Ok(Self { runtime: handle, _end: end })
    }
}
