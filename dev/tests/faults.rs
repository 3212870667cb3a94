//! What do visitors notice when CrowdSec fails? Nothing: whoever is banned stays banned, and nobody waits. Each test has one
//! fault, of a LAPI of the tests' own or of the real LAPI.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dev::Verdict::{Ban, Welcome};
use dev::{App, FakeServer, KEY, Lapi, Reply, ban, closed_port, eventually, standing};
use serde_json::{Value, json};

/// Answers polls with faults that last some time, and knows whether such a fault goes on now.
#[derive(Clone, Default)]
struct GoingOn(Arc<AtomicUsize>);

impl GoingOn {
    fn script(&self, script: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send + 'static) -> Reply {
        let count = self.0.clone();
        Reply::script(move |stream| {
            count.fetch_add(1, SeqCst);
            let result = script(stream);
            count.fetch_sub(1, SeqCst);
            result
        })
    }

    fn is(&self) -> bool {
        self.0.load(SeqCst) > 0
    }
}

/// Keeps the connection until the client or the test has had enough.
fn hang(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    io::Read::read(stream, &mut [0]).map(drop)
}

/// Makes a hundred visits, each of which must get the right answer.
#[track_caller]
fn all_are_answered(app: &App, banned: &str, innocent: &str) {
    for _ in 0..50 {
        assert_eq!((app.verdict(banned), app.verdict(innocent)), (Ban, Welcome));
    }
}

/// While the script runs instead of a poll's answer, visitors notice nothing.
#[track_caller]
fn nobody_waits_while(script: impl Fn(&mut TcpStream) -> io::Result<()> + Clone + Send + Sync + 'static) {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    let app = App::polling(&lapi.url(), &[]);
    let going_on = GoingOn::default();
    let (fault, broken) = (going_on.clone(), AtomicBool::new(false));
    lapi.answers(move |seen| {
        if !broken.swap(true, SeqCst) {
            return fault.script(script.clone());
        }
        standing(vec![ban(1, "192.0.2.1"), ban(2, "192.0.2.2")])(seen)
    });
    eventually("a poll", || going_on.is());
    all_are_answered(&app, "192.0.2.1", "192.0.2.2");
    assert!(going_on.is(), "all were answered while LAPI did not answer");
}

/// While LAPI answers every poll with this fault, visitors notice nothing and the log says `told`. Afterwards changes arrive.
#[track_caller]
fn bans_outlive(fault: impl Fn() -> Reply + Send + Sync + 'static, told: &str) {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1"), ban(2, "192.0.2.2")]));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "4s")]);
    lapi.answers(move |_| fault());
    eventually("the log tells of the loss", || app.logged(" is lost: ") > 0);
    let lost = app.log().lines().find(|line| line.contains(" is lost: ")).map(str::to_string).expect("the line");
    assert!(lost.contains(told), "{told}: {lost}");
    all_are_answered(&app, "192.0.2.1", "192.0.2.3");
    lapi.answers(standing(vec![ban(2, "192.0.2.2"), ban(3, "192.0.2.3")]));
    app.eventually("192.0.2.3", Ban);
    app.eventually("192.0.2.1", Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
    assert!(!app.log().contains(KEY), "a key never stands in the log");
}

// --- nobody there ---

#[test]
fn a_refused_connection_at_the_launch_is_told_and_holds_nobody_up() {
    let app = App::polling(&format!("http://{}", closed_port()), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    app.tells("nobody listens there", 1);
}

#[test]
fn bans_outlive_a_refused_connection() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[]);
    lapi.stop();
    eventually("the log tells of the loss", || app.logged("nobody listens there") > 0);
    all_are_answered(&app, "192.0.2.1", "192.0.2.2");
}

// --- slow ---

#[test]
fn a_black_hole_at_the_launch_costs_the_startup_timeout_and_is_told() {
    let lapi = FakeServer::start(|_| Reply::silence());
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "2s")]);
    app.tells("startup_timeout", 1);
    let own =
        [("CROWDSEC_STARTUP_TIMEOUT", "2s"), ("CROWDSEC_DECISIONS", r#"[{ value = "192.0.2.9", type = "ban" }]"#)];
    let app = App::polling(&lapi.url(), &own);
    let before = lapi.seen().len();
    eventually("a poll is in the hole", || lapi.seen().len() > before);
    all_are_answered(&app, "192.0.2.9", "192.0.2.2");
}

#[test]
fn nobody_waits_while_lapi_is_a_black_hole() {
    nobody_waits_while(hang);
}

#[test]
fn nobody_waits_while_lapi_stops_in_the_middle_of_an_answer() {
    nobody_waits_while(|stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{\"deleted\":",
        )?;
        hang(stream)
    });
}

#[test]
fn nobody_waits_while_an_answer_of_lapi_drips() {
    nobody_waits_while(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{")?;
        for _ in 0..600 {
            stream.write_all(b" ")?;
            sleep(Duration::from_millis(100));
        }
        Ok(())
    });
}

#[test]
fn a_first_answer_that_drips_counts_when_it_is_complete() {
    let lapi = FakeServer::start(|_| {
        Reply::script(|stream| {
            let body = json!({ "deleted": null, "new": [ban(1, "192.0.2.1")] }).to_string();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ";
            stream.write_all(format!("{head}{}\r\n\r\n", body.len()).as_bytes())?;
            for byte in body.as_bytes() {
                stream.write_all(&[*byte])?;
                sleep(Duration::from_millis(30));
            }
            Ok(())
        })
    });
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "2s")]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome, "the launch did not wait for the end of it");
    app.eventually("192.0.2.1", Ban);
}

/// LAPI 1.7.8 and newer write an answer while they read their database. They write each decision with the time that is left
/// of it at that moment.
#[test]
fn what_is_left_of_a_decision_counts_from_when_it_was_written() {
    let lapi = FakeServer::start(|_| {
        Reply::script(|stream| {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n{\"new\":[",
            )?;
            sleep(Duration::from_secs(12));
            let mut late = ban(1, "192.0.2.1");
            late["duration"] = json!("11s");
            stream.write_all(format!("{late}],\"deleted\":null}}").as_bytes())
        })
    });
    let app = App::polling(&lapi.url(), &[("CROWDSEC_UPDATE_FREQUENCY", "1h")]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    app.eventually("192.0.2.1", Welcome);
}

#[test]
fn a_slow_first_byte_within_the_startup_timeout_is_waited_for() {
    let lapi = FakeServer::start(|_| Reply::decisions(&[ban(1, "192.0.2.1")], &[]).after(Duration::from_secs(3)));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "60s")]);
    all_are_answered(&app, "192.0.2.1", "192.0.2.2");
}

#[test]
fn a_first_byte_slower_than_the_startup_timeout_counts_when_it_comes() {
    let lapi = FakeServer::start(|_| Reply::decisions(&[ban(1, "192.0.2.1")], &[]).after(Duration::from_secs(5)));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "2s")]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    app.eventually("192.0.2.1", Ban);
}

// --- wrong ---

#[test]
fn bans_outlive_an_answer_that_is_cut_in_the_middle_of_a_chunk() {
    bans_outlive(
        || {
            Reply::script(|stream| {
                let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream.write_all(&[head.as_slice(), b"1f\r\n{\"deleted\":null,"].concat())
            })
        },
        "failed",
    );
}

#[test]
fn bans_outlive_an_answer_that_lacks_its_last_chunk() {
    bans_outlive(
        || {
            Reply::script(|stream| {
                let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                let whole = b"1b\r\n{\"deleted\":null,\"new\":null}\r\n";
                stream.write_all(&[head.as_slice(), whole].concat())
            })
        },
        "failed",
    );
}

#[test]
fn bans_outlive_an_answer_403_that_names_key_and_database() {
    bans_outlive(|| Reply::error(403), "403: LAPI refuses the key (or its database fails");
}

#[test]
fn bans_outlive_an_answer_500_that_names_the_status() {
    bans_outlive(|| Reply::error(500), "status 500");
}

#[test]
fn bans_outlive_a_page_of_html_that_is_told() {
    bans_outlive(|| Reply::html("<h1>Please sign in to the hotel's network</h1>"), "not JSON");
}

#[test]
fn bans_outlive_html_that_is_called_json() {
    bans_outlive(|| Reply::new(200, "application/json", "<h1>Please sign in</h1>"), "cannot be read");
}

#[test]
fn bans_outlive_garbage_in_place_of_json() {
    let garbage: Vec<u8> = (0..10_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    bans_outlive(move || Reply::new(200, "application/json", garbage.clone()), "cannot be read");
}

#[test]
fn bans_outlive_garbage_in_place_of_http() {
    bans_outlive(|| Reply::script(|stream| stream.write_all(&[0, 255, 7, 13, 10, 13, 10, 200])), "failed");
}

#[test]
fn bans_outlive_json_that_is_nested_without_end() {
    bans_outlive(
        || Reply::new(200, "application/json", format!("{{\"new\":[{}", "[".repeat(200_000))),
        "cannot be read",
    );
    bans_outlive(
        || Reply::new(200, "application/json", format!("{{\"x\":{}", "{\"a\":".repeat(100_000))),
        "cannot be read",
    );
}

/// When their database fails half-way, newer LAPIs close their JSON properly, with status 200.
#[test]
fn a_full_answer_that_lost_most_decisions_counts_as_a_failure_which_the_log_tells() {
    let all: Vec<Value> = (0..2000).map(|n| ban(n + 1, &format!("198.18.{}.{}", n / 250, n % 250))).collect();
    let lapi = FakeServer::start(standing(all.clone()));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "3s")]);
    let lied = AtomicUsize::new(0);
    lapi.answers(move |seen| {
        // Every second full answer lacks the rest of the list.
        let short = seen.asks_for_all() && lied.fetch_add(1, SeqCst).is_multiple_of(2);
        standing(if short { all[..900].to_vec() } else { all.clone() })(seen)
    });
    eventually("two short answers", || {
        assert_eq!(app.verdict("198.18.7.249"), Ban);
        app.logged(" is lost: its full answer lacks 1100 of 2000 decisions") >= 2
    });
    all_are_answered(&app, "198.18.7.249", "192.0.2.3");
}

// --- without end ---

/// An answer over the size limit, of the same piece again and again, is an error, and its bytes do not fill the memory.
#[track_caller]
fn an_endless_answer_ends(start: &'static str, piece: String, told: &str) {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    // Resyncs each second to get full answers: the application would give up a delta sooner.
    let app = App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "1s")]);
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let block = Arc::new(piece.repeat((1 << 18) / piece.len() + 1));
    lapi.answers(move |seen| {
        if !seen.asks_for_all() {
            return Reply::decisions(&[], &[]);
        }
        let (count, block) = (count.clone(), block.clone());
        Reply::script(move |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
            stream.write_all(start.as_bytes())?;
            // 4 GiB: eight times the size limit.
            for _ in 0..(4 << 30) / block.len() {
                stream.write_all(block.as_bytes())?;
                count.fetch_add(block.len(), SeqCst);
            }
            Ok(())
        })
    });
    let (mut most, end) = (0, Instant::now() + Duration::from_secs(600));
    while app.logged(" is lost: ") == 0 {
        most = most.max(app.memory());
        assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.99")), (Ban, Welcome));
        assert!(most < 150, "{most} MB of memory after {} MB", sent.load(SeqCst) >> 20);
        assert!(Instant::now() < end, "no end after {} MB", sent.load(SeqCst) >> 20);
        sleep(Duration::from_millis(100));
    }
    eventually("the log tells why", || app.logged(told) > 0);
    assert!(most.max(app.memory()) < 150, "{most} MB of memory");
}

#[test]
fn an_answer_of_endless_decisions_ends_with_an_error_and_takes_no_memory() {
    let again: String = (1..=50).map(|n| format!("{},", ban(n, &format!("192.0.2.{n}")))).collect();
    // Most of the piece is whitespace, which is read fastest.
    an_endless_answer_ends("{\"deleted\":null,\"new\":[", again + &" ".repeat(500_000), "512 MiB");
}

#[test]
fn an_answer_of_one_endless_entry_ends_with_an_error_and_takes_no_memory() {
    an_endless_answer_ends("{\"deleted\":null,\"new\":[{\"value\":\"", "a".repeat(1000), "cannot be read");
}
