//! What is told of requests that are under way when the application ends?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rocket::fairing::AdHoc;

use super::*;

/// Whether one request from this machine, over TCP, was refused.
fn is_refused(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.starts_with("HTTP/1.1 403"))
    };
    ask().unwrap_or(false)
}

/// Whoever is answered while the application ends may be told or not; everybody before is told, and nobody twice.
#[test]
fn a_shutdown_in_the_middle_of_requests_tells_all_that_came_before_it_and_none_twice() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    let _turn = runtime.block_on(logger());
    let lapi = Lapi::new(Mode::Good, &[decision(1, "CAPI", "127.0.0.1", "ban")]);
    let figment = figment_of(&lapi).merge(("port", 0)).merge(("shutdown.ctrlc", false));
    let (launched, port) = std::sync::mpsc::channel();
    install();
    let app = app::app(figment).attach(AdHoc::on_liftoff("port", move |rocket| {
        let _ = launched.send(rocket.config().port);
        Box::pin(async {})
    }));
    let app = runtime.block_on(app.ignite()).expect("the application ignites");
    let shutdown = app.shutdown();
    let running = runtime.spawn(app.launch());
    let port = port.recv().expect("a port");
    let (refused, is_over) = (AtomicI64::new(0), AtomicBool::new(false));
    let before = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    if is_refused(port) {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        while refused.load(Ordering::SeqCst) < 200 {
            std::thread::yield_now();
        }
        let before = refused.load(Ordering::SeqCst);
        shutdown.notify();
        let ended = runtime.block_on(running);
        is_over.store(true, Ordering::SeqCst);
        // On a busy machine requests may be cut off when the time for a stop is over. That does not matter here, but Rocket's
        // error panics unless it is looked at.
        let _ = ended.expect("it ends").as_ref().map_err(rocket::Error::kind).is_ok();
        before
    });
    let (told, answered) = (number(&lapi, "CAPI", "dropped"), refused.load(Ordering::SeqCst));
    // Each of the eight may have been counted and cut off before its answer arrived.
    assert!((before..=answered + 8).contains(&told), "{told} were told, {before} came before, {answered} in all");
}
