//! What does a panic in one of our threads or tasks cost? The piece of work that panicked, and no more.
//!
//! Writing a log line is such a piece too: a logger that writes by `println!`, as Rocket's does, panics where standard
//! output is a closed pipe or a full disk.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::futures::FutureExt;

/// Does the work. If it panics, gives the panic's words. State that the work has changed must be usable then: change state
/// first, log afterwards.
pub async fn survive<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(words)
}

/// `survive` for work that is not async.
pub fn survive_now<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(words)
}

/// Locks, even if somebody panicked under the lock. What our locks guard is whole after each step, and refusing would take
/// the application down.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast::<String>().map(|text| *text);
    text.unwrap_or_else(|panic| panic.downcast_ref::<&str>().copied().unwrap_or("without words").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rocket::async_test]
    async fn work_that_panics_is_over_and_says_why() {
        assert_eq!(survive(async { 1 }).await, Ok(1));
        assert_eq!(survive(async { panic!("number {}", 2) }).await, Err::<(), _>("number 2".into()));
        assert_eq!(survive_now(|| panic!("three")), Err::<(), _>("three".into()));
        assert_eq!(survive_now(|| std::panic::panic_any(4)), Err::<(), _>("without words".into()));
    }
}
