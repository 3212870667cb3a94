//! What does the application's log tell, and what becomes of a panic of its logger? A process has one logger, so each test
//! here takes its turn at it, before it launches an application.

#[path = "../common/mod.rs"]
mod common;

mod appsec_log;
mod launch;
mod live;
mod logs_panic;
mod panics;
mod process_log;
mod scopes;
