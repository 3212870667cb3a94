//! What drives the browsers, and how many may run at once?

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex};

/// A chromedriver of our own, and the free port that it has chosen. On a machine under load chromedriver may get no port in
/// time, and ends: it gets three tries.
pub fn chromedriver() -> (Child, u16) {
    (0..3).find_map(|_| try_chromedriver()).expect("a chromedriver that starts, which dev/setup installs")
}

fn try_chromedriver() -> Option<(Child, u16)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().expect("chromedriver, which dev/setup installs");
    let out = BufReader::new(process.stdout.take().expect("its stdout"));
    let port = out
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok());
    if port.is_none() {
        let _ = process.kill();
        let _ = process.wait();
    }
    Some((process, port?))
}

/// The right to run a browser: at most three run at once, so that small machines are not overwhelmed.
pub struct Seat;

static SEATS: Mutex<u32> = Mutex::new(3);
static FREED: Condvar = Condvar::new();

impl Seat {
    pub fn take() -> Self {
        let seats = SEATS.lock().unwrap();
        *FREED.wait_while(seats, |seats| *seats == 0).unwrap() -= 1;
        Self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *SEATS.lock().unwrap() += 1;
        FREED.notify_one();
    }
}
