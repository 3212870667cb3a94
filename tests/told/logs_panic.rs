//! What does a panic of the logger cost the access log? A line about the log, and no line of the log.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

use rocket::local::asynchronous::Client;

use crate::common::logger::{PANICS, logger, panic_at};
use crate::common::{eventually, figment};

#[rocket::async_test]
async fn an_access_log_goes_on_where_it_cannot_be_told_that_its_disk_was_full() {
    let _turn = logger().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (path, file) = (folder.path().join("access.log"), folder.path().join("with-room.log"));
    symlink("/dev/full", &path).expect("a full disk");
    let figment = figment().merge(("crowdsec.access_log", &path));
    let client = Client::tracked(app::app(figment)).await.expect("a launch");
    // The line begins with the path.
    panic_at("/");
    client.get("/").dispatch().await;
    eventually(async || PANICS.load(Ordering::SeqCst) > 0).await;
    fs::remove_file(&path).expect("another disk");
    symlink(&file, &path).expect("a disk with room");
    eventually(async || fs::read_to_string(&file).is_ok_and(|log| log.contains("GET / "))).await;
}
