//! What does a panic cost? The piece of work that it came from. The logger of this file panics where it is told to, as one
//! does that prints to a standard output that is a closed pipe or a full disk.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use common::{Answer, FakeLapi, answer, decision, eventually};
use log::{LevelFilter, Log, Metadata, Record};
use rocket::http::Status;
use rocket::local::asynchronous::Client;

struct Logger {
    panics_at: Mutex<&'static str>,
    lines: Mutex<Vec<String>>,
}

static LOGGER: Logger = Logger { panics_at: Mutex::new(""), lines: Mutex::new(Vec::new()) };

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let (line, panics_at) = (record.args().to_string(), *lock(&self.panics_at));
        if !panics_at.is_empty() && line.starts_with(panics_at) {
            PANICS.fetch_add(1, Ordering::SeqCst);
            panic!("failed printing to stdout: {line}");
        }
        lock(&self.lines).push(line);
    }

    fn flush(&self) {}
}

/// Puts the logger in its place, before Rocket's. One test at a time has it.
async fn logger() -> tokio::sync::MutexGuard<'static, ()> {
    static SET: Once = Once::new();
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    SET.call_once(|| {
        log::set_logger(&LOGGER).expect("no other logger");
        log::set_max_level(LevelFilter::Info);
    });
    let turn = TURN.lock().await;
    panic_at("");
    lock(&LOGGER.lines).clear();
    PANICS.store(0, Ordering::SeqCst);
    turn
}

/// From now on the logger panics at lines that begin with these words.
fn panic_at(words: &'static str) {
    *lock(&LOGGER.panics_at) = words;
}

fn logged(words: &str) -> usize {
    lock(&LOGGER.lines).iter().filter(|line| line.contains(words)).count()
}

async fn is_banned(client: &Client, visitor: &str) -> bool {
    let remote = std::net::SocketAddr::new(visitor.parse().unwrap(), 4711);
    client.get("/crowdsec/captcha").remote(remote).dispatch().await.status() == Status::Forbidden
}

#[rocket::async_test]
async fn a_panic_in_a_poll_costs_that_poll_and_is_told_once() {
    let _turn = logger().await;
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), answer(&[], &[])]).await;
    let client = Client::tracked(app::app(lapi.figment())).await.expect("a launch");
    let asked_for_everything = || lapi.asked().iter().filter(|asked| asked.startup == "true").count();
    let before = asked_for_everything();
    // The line that tells of what a delta brought, in the middle of the poll.
    panic_at("CrowdSec: 1 new decisions");
    lapi.then(answer(&[decision(2, "192.0.2.2", "ban")], &[]));
    let all = [decision(1, "192.0.2.1", "ban"), decision(2, "192.0.2.2", "ban"), decision(3, "192.0.2.3", "ban")];
    lapi.then(answer(&all, &[]));
    lapi.then(answer(&[], &[]));
    eventually(async || logged("a poll of ours panicked") > 0).await;
    panic_at("");
    eventually(async || is_banned(&client, "192.0.2.3").await).await;
    assert!(asked_for_everything() > before, "{:?}", lapi.asked());
    eventually(async || logged("is back after") == 1).await;
    assert_eq!(logged("a poll of ours panicked"), 1);
    assert_eq!(logged("failed printing to stdout"), 1, "in its own words");
}

#[rocket::async_test]
async fn where_nothing_can_be_told_polling_goes_on_and_the_shutdown_ends() {
    let busy = || Answer(Status::InternalServerError, "".into());
    let _turn = logger().await;
    let lapi = FakeLapi::answering([answer(&[], &[])]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let figment = lapi.figment().merge(("port", 0)).merge(("shutdown.ctrlc", false));
    let figment = figment.merge(("crowdsec.snapshot", folder.path().join("decisions")));
    let rocket = app::app(figment).ignite().await.expect("an ignition");
    let shutdown = rocket.shutdown();
    let running = tokio::spawn(rocket.launch());
    eventually(async || logged("Listening on") > 0).await;
    panic_at("CrowdSec");
    // Lost and back, and lost again: each would be told.
    for round in 0..2 {
        let asked = lapi.asked().len();
        lapi.then(busy());
        lapi.then(answer(&[decision(round + 1, "192.0.2.1", "ban")], &[]));
        lapi.then(answer(&[], &[]));
        eventually(async || lapi.asked().len() > asked + 4).await;
    }
    assert_eq!(logged(" is lost: ") + logged(" is back after "), 0);
    shutdown.notify();
    running.await.expect("no panic").expect("an end");
}

#[cfg(target_os = "linux")]
#[rocket::async_test]
async fn an_access_log_goes_on_where_it_cannot_be_told_that_its_disk_was_full() {
    use std::{fs, os::unix::fs::symlink};
    let _turn = logger().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (path, file) = (folder.path().join("access.log"), folder.path().join("with-room.log"));
    symlink("/dev/full", &path).expect("a full disk");
    let figment = common::figment().merge(("crowdsec.access_log", &path));
    let client = Client::tracked(app::app(figment)).await.expect("a launch");
    // The line begins with the path.
    panic_at("/");
    client.get("/").dispatch().await;
    eventually(async || PANICS.load(Ordering::SeqCst) > 0).await;
    fs::remove_file(&path).expect("another disk");
    symlink(&file, &path).expect("a disk with room");
    eventually(async || fs::read_to_string(&file).is_ok_and(|log| log.contains("GET / "))).await;
}
