//! Does an attack end in a ban? The application logs it, a real agent detects it, LAPI decides, the application refuses.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use dev::{App, PATIENCE, Request, Site, eventually};

#[test]
fn an_attack_is_detected_decided_and_refused_while_nobody_beside_notices() {
    let site = Site::start();
    let (bystander, stop) = ("127.8.0.1", AtomicBool::new(false));
    thread::scope(|scope| {
        let _stop = AtTheEnd(&stop);
        let visits = scope.spawn(|| {
            let mut visits = 0;
            while !stop.load(SeqCst) {
                for target in ["/", "/members", "/static/style.css"] {
                    assert_eq!(site.app.get(target).peer(bystander).send().status, 200);
                    visits += 1;
                }
                thread::sleep(Duration::from_millis(50));
            }
            visits
        });
        println!("from the offending request to the first refusal, in milliseconds: log, agent, poll, application");
        for (n, attack) in attacks(&site.app).into_iter().enumerate() {
            let scanner = format!("127.7.0.{}", n + 1);
            let (last, before) = attack.requests.split_last().expect("requests");
            for request in before {
                assert_ne!(request.clone().peer(&scanner).send().status, 403);
            }
            site.logs_settle();
            let lines = || site.logs.count("access.log", &scanner);
            let written = lines();
            assert_eq!(site.bans(&scanner), [""; 0], "banned too early");
            let sent = Instant::now();
            last.clone().peer(&scanner).send();
            took("it is written", || lines() > written);
            let log = sent.elapsed();
            let agent = took("it is decided", || !site.bans(&scanner).is_empty());
            let poll = took("it is known", || site.is_refused(&scanner));
            let start = Instant::now();
            assert!(site.is_refused(&scanner));
            let application = start.elapsed();
            let [log, agent, poll, application] = [log, agent, poll, application].map(|took| took.as_millis());
            println!("{:44}{log:6}{agent:6}{poll:6}{application:6}", attack.scenario);
            // Six failed sign-ins also match a scenario of CrowdSec's own, by their status 401 in the access log.
            eventually("it is decided why", || site.bans(&scanner).iter().any(|scenario| scenario == attack.scenario));
            assert!(
                site.bans(&scanner)
                    .iter()
                    .all(|s| [attack.scenario, "LePresidente/http-generic-401-bf"].contains(&&**s))
            );
            let page = site.app.get("/").peer(&scanner).send();
            assert!(page.status == 403 && page.text().contains(&scanner), "the ban page: {}", page.everything());
        }
        stop.store(true, SeqCst);
        assert!(visits.join().expect("a visitor who notices nothing") > 0);
    });
    assert_eq!(site.bans(bystander), [""; 0]);
}

/// The requests of one kind of attack. Only the last request overflows the scenario.
struct Attack {
    scenario: &'static str,
    requests: Vec<Request>,
}

fn attacks(app: &App) -> Vec<Attack> {
    let get = |count: usize, target: &dyn Fn(usize) -> String| (0..count).map(|n| app.get(&target(n))).collect();
    let sign_in = |count, nickname| {
        let form = |user: &str| [("user", user), ("password", "guess"), ("nickname", nickname)].map(own);
        let post = |n| {
            let form = form(&format!("root{n}"));
            app.request("POST", "/sign-in").form(&form.each_ref().map(|(name, value)| (name.as_str(), value.as_str())))
        };
        (0..count).map(post).collect()
    };
    let with_agent = |_| app.get("/").header("User-Agent", "Mozilla/5.00 (Nikto/2.1.6)");
    vec![
        Attack { scenario: "crowdsecurity/http-probing", requests: get(11, &|n| format!("/admin{n}.php")) },
        Attack { scenario: "crowdsecurity/http-sensitive-files", requests: get(5, &|n| format!("/dump{n}.sql")) },
        Attack {
            scenario: "crowdsecurity/http-path-traversal-probing",
            requests: get(4, &|n| format!("/static/{}etc/passwd", "../".repeat(n + 1))),
        },
        Attack { scenario: "crowdsecurity/http-bad-user-agent", requests: (0..2).map(with_agent).collect() },
        Attack { scenario: "application/failed-sign-ins", requests: sign_in(6, "") },
        Attack { scenario: "application/honeypot", requests: sign_in(2, "Bob") },
    ]
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Waits until the condition holds, which it checks every 5 ms, and gives the time that this took.
#[track_caller]
fn took(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Tells the bystander to stop, also when the test fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn scanning_on_does_not_lengthen_a_ban_and_a_ban_that_is_lifted_stays_lifted() {
    let mut site = Site::start();
    let scanner = "127.7.0.1";
    let probe = |site: &Site, scanner: &str, from: usize| {
        for n in from..from + 11 {
            site.app.get(&format!("/wp-content{n}.php")).peer(scanner).send();
        }
    };
    probe(&site, scanner, 0);
    site.logs_settle();
    eventually("the scanner is banned", || site.is_refused(scanner));
    site.logs_settle();
    let (written, banned_by) = (site.logs.count("access.log", scanner), site.lapi.ids(scanner));
    for round in 1..6 {
        probe(&site, scanner, 100 * round);
    }
    // Once a later attacker is banned, the agent has read that attacker's lines, and thus all lines before them.
    let rotated = site.logs.path("access.log.1");
    probe(&site, "127.7.0.2", 0);
    eventually("the second scanner is banned", || site.is_refused("127.7.0.2"));
    assert_eq!(site.logs.count("access.log", scanner), written, "a refusal is not written");
    assert_eq!(site.lapi.ids(scanner), banned_by, "and bans nobody anew");

    site.lapi.revoke(&["--ip", scanner]);
    eventually("the scanner is let in again", || !site.is_refused(scanner));
    // The agent starts anew, and the log is rotated while the application writes it.
    site.lapi.stop();
    site.lapi.start_again();
    fs::rename(site.logs.path("access.log"), rotated).expect("rotating the log");
    site.app.get("/after-the-rotation").peer("127.8.0.1").send();
    eventually("the new log is there", || site.logs.count("access.log", "after-the-rotation") == 1);
    // The few requests from here on are not enough for another ban.
    assert!(!site.is_refused(scanner));
    eventually("the agent reads the new log", || {
        probe(&site, "127.7.0.3", 0);
        !site.bans("127.7.0.3").is_empty()
    });
    assert_eq!(site.bans(scanner), [""; 0], "old lines ban nobody anew");
    assert!(!site.is_refused(scanner));
}
