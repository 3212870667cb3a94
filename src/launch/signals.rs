//! What does each signal do, and how long may a stop take?

use std::io::{self, IsTerminal};
use std::time::Duration;
use std::{process, thread};

use rocket::futures::FutureExt;
use rocket::{Config, Shutdown};
use tokio::signal::unix::{SignalKind, signal};

/// Listens from now on. The future ends with the first SIGTERM or SIGINT.
pub fn stop() -> io::Result<impl Future<Output = ()> + Clone> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let asked = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    Ok(asked.boxed().shared())
}

/// By default, SIGHUP, SIGUSR1 and SIGUSR2 end a process. Log rotation and service managers that reload send them, and after
/// SIGHUP systemd would not start the process again.
pub fn stay_alive() -> io::Result<()> {
    let on_terminal = io::stdout().is_terminal();
    for (kind, name) in [
        (SignalKind::hangup(), "SIGHUP"),
        (SignalKind::user_defined1(), "SIGUSR1"),
        (SignalKind::user_defined2(), "SIGUSR2"),
    ] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // The terminal was closed: what a developer started in it ends with it.
                if kind == SignalKind::hangup() && on_terminal && !io::stdout().is_terminal() {
                    process::exit(128 + kind.as_raw_value());
                }
                log::warn!(
                    "{name} changes nothing: logs that were rotated are found by themselves, and the configuration is read at the launch alone. To read it again, restart."
                );
            }
        });
    }
    Ok(())
}

/// A stop takes Rocket's `grace` and `mercy` for what is under way, and three seconds for all the rest. What takes longer
/// (a handler that never returns, a disk that hangs) is left behind.
pub async fn end_in_time(shutdown: Shutdown, config: Config) {
    let most = Duration::from_secs(u64::from(config.shutdown.grace) + u64::from(config.shutdown.mercy) + 3);
    shutdown.await;
    log::info!(target: "launch", "Asked to stop, which takes {} s at most.", most.as_secs());
    // A thread and no task: all threads of the runtime may be busy.
    thread::spawn(move || {
        thread::sleep(most - Duration::from_secs(1));
        log::warn!("Stopped before all was done: something takes longer than the time for a stop.");
        log::logger().flush();
        process::exit(0);
    });
}
