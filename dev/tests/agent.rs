//! Does the loop close? An attack on the application is written down, detected by a real agent, decided, and refused.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, process};

use dev::{Answer, App, KEY, Lapi, PATIENCE, Request, closed_port, eventually, pipeline};
use serde_json::Value;

/// A folder for logs, gone with the test.
struct Logs(PathBuf);

impl Logs {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("logs-{}-{}", process::id(), COUNT.fetch_add(1, SeqCst));
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a folder for logs");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8(bytes).expect("a log is text").lines().map(str::to_owned).collect()
    }

    /// How many lines hold this text.
    fn count(&self, name: &str, text: &str) -> usize {
        self.lines(name).iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An application that faces the internet by itself: the address of a connection is the visitor's.
#[track_caller]
fn facing_everybody(lapi_url: &str, access_log: &Path, event_log: &Path) -> App {
    let [access_log, event_log] = [access_log, event_log].map(|path| path.to_str().expect("a plain path"));
    let settings = [
        ("CROWDSEC_TRUSTED_PROXIES", "192.0.2.0/24"),
        ("CROWDSEC_ACCESS_LOG", access_log),
        ("CROWDSEC_EVENT_LOG", event_log),
    ];
    App::polling(lapi_url, &settings)
}

/// The same without a CrowdSec.
#[track_caller]
fn alone(access_log: &str, event_log: &str) -> App {
    App::start(&[
        ("CROWDSEC_DECISIONS", r#"[{ value = "127.0.0.66", type = "ban" }]"#),
        ("CROWDSEC_TRUSTED_PROXIES", "192.0.2.0/24"),
        ("CROWDSEC_ACCESS_LOG", access_log),
        ("CROWDSEC_EVENT_LOG", event_log),
    ])
}

/// A CrowdSec with an agent, and the application whose logs it reads as the shipped acquisition file says. Neither log is
/// there when the agent starts.
struct Site {
    app: App,
    lapi: Lapi,
    logs: Logs,
}

impl Site {
    fn start() -> Self {
        Self::with_events_in("events.log")
    }

    fn with_events_in(name: &str) -> Self {
        let logs = Logs::new();
        let lapi = Lapi::start_with_agent(&logs.0);
        let app = facing_everybody(lapi.url(), &logs.path("access.log"), &logs.path(name));
        Self { app, lapi, logs }
    }

    /// The scenarios for which LAPI holds a ban against this address.
    fn bans(&self, address: &str) -> Vec<String> {
        let target = format!("/v1/decisions?ip={address}");
        let answer = Request::new(self.lapi.address(), "GET", &target).header("X-Api-Key", KEY).send();
        let decisions = answer.json();
        let scenario = |decision: &Value| decision["scenario"].as_str().expect("a scenario").to_owned();
        decisions.as_array().into_iter().flatten().map(scenario).collect()
    }

    fn is_refused(&self, address: &str) -> bool {
        let answer = self.app.get("/members").peer(address).send();
        assert!(matches!(answer.status, 200 | 403), "{}", answer.everything());
        answer.status == 403
    }
}

/// How an attack of one kind goes about it: its requests, the last of which is one too many.
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

/// Waits, looking often, and says how long it took.
#[track_caller]
fn took(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Tells the visitor beside to stop, also where the test fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

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
            // Six sign-ins that fail are one of CrowdSec's own scenarios too, by their status in the access log.
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
    // The agent has read all that a later attacker's ban rests on, and thus everything before it.
    let rotated = site.logs.path("access.log.1");
    probe(&site, "127.7.0.2", 0);
    eventually("the second scanner is banned", || site.is_refused("127.7.0.2"));
    assert_eq!(site.logs.count("access.log", scanner), written, "a refusal is not written");
    assert_eq!(site.lapi.ids(scanner), banned_by, "and bans nobody anew");

    site.lapi.revoke(&["--ip", scanner]);
    eventually("the scanner is let in again", || !site.is_refused(scanner));
    // An agent that starts anew, and a log that is rotated under both.
    site.lapi.stop();
    site.lapi.start_again();
    fs::rename(site.logs.path("access.log"), rotated).expect("rotating the log");
    site.app.get("/after-the-rotation").peer("127.8.0.1").send();
    eventually("the new log is there", || site.logs.count("access.log", "after-the-rotation") == 1);
    // What follows is too few by itself to be banned again for.
    assert!(!site.is_refused(scanner));
    eventually("the agent reads the new log", || {
        probe(&site, "127.7.0.3", 0);
        !site.bans("127.7.0.3").is_empty()
    });
    assert_eq!(site.bans(scanner), [""; 0], "old lines ban nobody anew");
    assert!(!site.is_refused(scanner));
}

impl Site {
    /// Waits for what was asked for so far to be written.
    fn logs_settle(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let marker = format!("/static/favicon.svg?{}", COUNT.fetch_add(1, SeqCst));
        self.app.get(&marker).peer("127.8.0.2").send();
        eventually("the marker is written", || self.logs.count("access.log", &format!("{marker} ")) == 1);
    }
}

/// Numbers by chance, the same ones each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    /// Up to `most` pieces of what forgeries are made of.
    fn nasty(&mut self, pieces: &[&[u8]], most: usize) -> Vec<u8> {
        (0..self.roll(most + 1)).flat_map(|_| pieces[self.roll(pieces.len())].to_vec()).collect()
    }
}

/// A whole line of another address, as a forger would like to have it written.
const FORGED: &str = r#"198.51.100.66 - - [22/Nov/2026:14:54:27 +0000] "GET /x HTTP/1.1" 404 153 "-" "-""#;
const FORGED_EVENT: &str = r#"{"crowdsec_event":"honeypot","time":"2026-11-22T20:19:56Z","address":"198.51.100.66"}"#;

/// Sends bytes as they are from 127.0.0.1, and gives the status.
fn raw(app: &App, bytes: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(app.address()).expect("connecting");
    stream.set_read_timeout(Some(PATIENCE)).expect("setting a timeout");
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn no_visitor_can_forge_a_line_or_a_field() {
    let site = Site::with_events_in("access.log");
    let forged_line = format!("\n{FORGED}\n");
    let long = "a\"\\\u{1}".repeat(25_000);
    let texts = [
        "\"",
        "\\",
        "\\\"",
        "' '",
        " ",
        "\t",
        "\u{b}",
        "\u{7f}",
        "\u{1b}[2J",
        "ü",
        "\u{2028}",
        "\u{85}",
        "%0a",
        "%22",
        "%",
        "] \"GET /",
        "\" 200 1 \"-\" \"-\"",
        "a",
        "-",
        "/",
        "..",
        "{",
        "}",
        "[",
        "]",
        "\\x22",
        FORGED,
        FORGED_EVENT,
    ];
    let bytes: [&[u8]; 4] = [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\x80"];
    let in_headers: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).chain(bytes).collect();
    let in_forms: Vec<&[u8]> =
        in_headers.iter().copied().chain([b"\n".as_slice(), b"\r\n", forged_line.as_bytes(), b"\0"]).collect();
    let in_paths: Vec<&[u8]> = in_headers.iter().copied().filter(|piece| !piece.contains(&b' ')).collect();

    let (mut dice, mut lines, mut events) = (Dice(0x5eed), HashMap::new(), HashMap::new());
    let mut expect = |n: usize, from: &str, status: u16| {
        // With 400 Rocket answers by itself what it cannot read; no fairing sees that.
        if status != 400 {
            lines.insert(n, from.to_owned());
        }
    };
    for n in 0..150 {
        let from = format!("127.6.0.{}", n + 1);
        let [agent, referer, user] = [&in_headers, &in_headers, &in_forms].map(|pieces| dice.nasty(pieces, 6));
        let mut request = match n % 3 {
            0 => app_form(&site.app, n, &user),
            _ => site.app.get(&format!("/missing?n={n}&")),
        };
        request = request.header("User-Agent", &agent).header("Referer", &referer);
        if n % 50 == 7 {
            request = request.header("User-Agent", &long);
        }
        let status = request.peer(&from).send().status;
        if n % 3 == 0 && status == 401 {
            events.insert(n, from.clone());
        }
        expect(n, &from, status);
    }
    for n in 150..300 {
        let path = if n % 50 == 7 { b"%41".repeat(20_000) } else { dice.nasty(&in_paths, 2) };
        let start = format!("GET /missing?n={n}&");
        let end = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        expect(n, "127.0.0.1", raw(&site.app, &[start.as_bytes(), &path, end].concat()));
    }
    site.logs_settle();
    assert!(lines.len() > 150 && events.len() > 25, "{} lines, {} events", lines.len(), events.len());

    let text = fs::read(site.logs.path("access.log")).expect("the log");
    assert!(text.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')), "nothing but plain text");
    assert!(text.split(|byte| *byte == b'\n').all(|line| line.len() < 16 << 10), "every line has a bounded length");

    // What the agent reads in each line. The markers of `logs_settle` are not among what was expected.
    let log = site.logs.path("access.log");
    let said = site.lapi.cscli(&["explain", "-v", "--type", "nginx", "--file", log.to_str().expect("a plain path")]);
    let blocks: Vec<&str> =
        format!("\n{said}").leak().split("\nline: ").skip(1).filter(|b| !b.contains("favicon")).collect();
    assert_eq!(blocks.len(), lines.len() + events.len(), "one line for each request and each event");
    let mut seen = HashSet::new();
    for block in blocks {
        let line = block.lines().next().expect("a line");
        assert!(block.contains("parser success"), "not understood: {block}");
        let value = |name: &str| {
            let at = format!(" {name} : ");
            let mut values = block.lines().skip(1).filter_map(|line| Some(line.split_once(&at)?.1.trim()));
            (values.next().unwrap_or_else(|| panic!("no {name}: {block}")), values.next())
        };
        let number =
            |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok();
        let expected = if line.starts_with('{') {
            assert_eq!(value("evt.Meta.log_type").0, "application_event", "{block}");
            assert_eq!(value("evt.Meta.event").0, "failed-sign-in", "{block}");
            let user = value("evt.Meta.user").0;
            &events[&number(user.strip_prefix("user").expect("the name it began with")).expect("a number")]
        } else {
            assert_eq!(value("evt.Meta.log_type").0, "http_access-log", "{block}");
            let path = value("evt.Meta.http_path").0;
            &lines[&number(path.split_once("?n=").expect("the number it was asked with").1).expect("a number")]
        };
        assert_eq!(value("evt.Meta.source_ip"), (expected.as_str(), None), "{block}");
        assert!(seen.insert((line.starts_with('{'), line.to_owned())), "twice: {line}");
    }
}

/// A sign-in by a user of this name, sent as bytes.
fn app_form(app: &App, n: usize, user: &[u8]) -> Request {
    let user: String = user.iter().map(|byte| format!("%{byte:02X}")).collect();
    let body = format!("user=user{n}+{user}&password=x");
    app.request("POST", &format!("/sign-in?n={n}&")).body("application/x-www-form-urlencoded", &body)
}

#[test]
fn the_log_has_the_status_and_size_that_the_visitor_got() {
    let logs = Logs::new();
    let log = logs.path("access.log");
    let app = alone(log.to_str().expect("a plain path"), "");
    let form = app.request("POST", "/sign-in").form(&[("user", "demo"), ("password", "demo")]);
    let requests = [
        app.get("/"),
        app.request("HEAD", "/"),
        app.get("/static/style.css"),
        app.request("HEAD", "/static/style.css"),
        app.get("/no/such/page?a=b"),
        app.request("DELETE", "/"),
        app.get("/static/../../etc/passwd"),
        form,
        app.request("POST", "/sign-in"),
        app.get("/crowdsec/no-such-page"),
    ];
    let answers: Vec<Answer> = requests.iter().map(Request::send).collect();
    for refused in ["/", "/no/such/page", "/static/style.css"] {
        assert_eq!(app.get(refused).peer("127.0.0.66").send().status, 403);
    }
    for of_ours in ["/crowdsec/health", "/crowdsec/captcha", "/crowdsec/preview/ban"] {
        assert_ne!(app.get(of_ours).send().status, 404);
    }
    // Ending it writes what is left.
    assert!(app.stop().status.success());
    let lines = logs.lines("access.log");
    assert_eq!(lines.len(), answers.len(), "{lines:#?}");
    for (line, answer) in lines.iter().zip(&answers) {
        let rest = line.split("\" ").nth(1).expect("what follows the request");
        assert_eq!(rest, format!("{} {} \"-", answer.status, answer.body.len()), "{line}");
    }
    assert!(
        lines[1].contains("\"HEAD / HTTP/1.1\"") && lines[6].contains("GET /static/../../etc/passwd "),
        "{lines:#?}"
    );
}

#[test]
fn visitors_side_by_side_have_lines_of_their_own() {
    let logs = Logs::new();
    let log = logs.path("access.log");
    let app = alone(log.to_str().expect("a plain path"), "");
    // Now and then a long one.
    let name =
        |visitor: usize, n: usize| format!("{visitor}-{n}-{}", "x".repeat(if n.is_multiple_of(9) { 600 } else { n }));
    let request = |visitor, n| {
        let name = name(visitor, n);
        app.get(&format!("/{name}?{name}")).header("User-Agent", &name).peer(&format!("127.0.7.{visitor}"))
    };
    thread::scope(|scope| {
        for visitor in 1..=40 {
            scope.spawn(move || pipeline(&(0..50).map(|n| request(visitor, n)).collect::<Vec<_>>()));
        }
    });
    assert!(app.stop().status.success());
    let without_time = |line: &String| {
        let (before, after) =
            line.split_once('[').and_then(|(before, rest)| Some((before, rest.split_once(']')?.1)))?;
        Some([before, after.split_once(" HTTP/1.1")?.0, after.rsplit_once(' ')?.1].concat())
    };
    let lines: HashSet<_> = logs.lines("access.log").iter().map(|line| without_time(line).expect("a line")).collect();
    let expected = (1..=40).flat_map(|visitor| {
        let line = move |name| format!("127.0.7.{visitor} - -  \"GET /{name}?{name}\"{name}\"");
        (0..50).map(move |n| line(name(visitor, n)))
    });
    let expected: HashSet<String> = expected.collect();
    let wrong: Vec<&String> = lines.symmetric_difference(&expected).take(4).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(logs.lines("access.log").len(), 40 * 50);
}

#[test]
fn at_first_look_your_own_visits_are_logged_and_what_a_proxy_you_named_asks_for_itself_is_refused() {
    for (proxies, status, count) in [(None, 200, 1), (Some("127.0.0.1"), 403, 0)] {
        let logs = Logs::new();
        let log = logs.path("access.log");
        let mut settings = vec![("CROWDSEC_ACCESS_LOG", log.to_str().expect("a plain path"))];
        settings.extend(proxies.map(|proxies| ("CROWDSEC_TRUSTED_PROXIES", proxies)));
        let app = App::start(&settings);
        assert_eq!(app.get("/").send().status, status);
        assert!(app.stop().status.success());
        assert_eq!(logs.lines("access.log").len(), count, "{proxies:?}");
    }
}

#[test]
fn lines_on_standard_output_are_whole() {
    let app = alone("stdout", "stdout");
    let requests: Vec<Request> = (0..200).map(|n| app.get(&format!("/page{n}/{}", "a".repeat(3000)))).collect();
    requests.chunks(50).for_each(|some| drop(pipeline(some)));
    app_form(&app, 1, b"root").send();
    let ended = app.stop();
    let whole = |line: &&str| line.starts_with("127.0.0.1 - - [") && line.ends_with("\" 404 613 \"-\" \"-\"");
    let not_whole = |line: &&str| line.contains("HTTP/1.1\"") && !whole(line) && !line.contains("POST");
    let lines: Vec<&str> = ended.log.lines().collect();
    assert_eq!(lines.iter().filter(|line| whole(line)).count(), 200);
    assert_eq!(lines.iter().find(|line| not_whole(line)), None);
    assert_eq!(lines.iter().filter(|line| line.starts_with("{\"crowdsec_event\":\"failed-sign-in\"")).count(), 1);
}

#[test]
fn a_disk_that_hangs_holds_nobody_up_and_what_was_dropped_is_told() {
    let logs = Logs::new();
    let fifo = logs.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let app = alone(fifo.to_str().expect("a plain path"), "");
    // As much as a line has room for.
    let (path, agent) = ("a".repeat(8000), "a".repeat(2000));
    let requests: Vec<Request> = (0..50).map(|_| app.get(&format!("/{path}")).header("User-Agent", &agent)).collect();
    for _ in 0..12 {
        assert!(pipeline(&requests).iter().all(|answer| answer.status == 404));
    }
    eventually("it is told", || app.logged("lines did not get there") == 1);
    assert_eq!(app.get("/").send().status, 200);
    // Once somebody reads, the log goes on; the visits since then are in it.
    let mut reader = File::open(&fifo).expect("the pipe");
    let read = thread::spawn(move || {
        let mut text = String::new();
        let mut part = [0; 1 << 16];
        while !text.contains("GET /at-last ") {
            let count = reader.read(&mut part).expect("reading the pipe");
            text.push_str(std::str::from_utf8(&part[..count]).expect("a log is text"));
        }
        text
    });
    eventually("there is room again", || {
        app.get("/at-last").send();
        thread::sleep(Duration::from_millis(200));
        read.is_finished()
    });
    let text = read.join().expect("the reader");
    assert!(text.lines().all(|line| line.starts_with("127.0.0.1 - - [") && line.ends_with('"')), "no line is torn");
    assert!(app.stop().status.success());
}

#[test]
fn a_full_disk_is_told_once_and_holds_up_neither_visitors_nor_the_end() {
    let app = alone("/dev/full", "");
    for _ in 0..30 {
        assert_eq!(app.get("/").send().status, 200);
        thread::sleep(Duration::from_millis(20));
    }
    app.tells("/dev/full cannot be written", 1);
    let ended = app.stop();
    assert!(ended.status.success());
    assert!(ended.log.contains("at least 30 lines did not get there"), "{}", ended.log);
}

#[test]
fn a_log_that_is_rotated_goes_on_in_a_new_file() {
    let logs = Logs::new();
    let log = logs.path("access.log");
    let app = alone(log.to_str().expect("a plain path"), "");
    let visit = |target: &str| {
        app.get(target).send();
        eventually(target, || logs.count("access.log", &format!("GET {target} ")) == 1);
    };
    visit("/one");
    fs::rename(&log, logs.path("access.log.1")).expect("renaming");
    visit("/two");
    assert_eq!(logs.count("access.log", "/one"), 0);
    assert_eq!((logs.count("access.log.1", "/one"), logs.count("access.log.1", "/two")), (1, 0));
    // As `copytruncate` does it.
    OpenOptions::new().write(true).truncate(true).open(&log).expect("truncating");
    visit("/three");
    assert_eq!(logs.lines("access.log").len(), 1);
    fs::remove_file(&log).expect("removing");
    visit("/four");
}

#[test]
fn a_log_that_cannot_be_opened_stops_the_launch() {
    for key in ["access_log", "event_log"] {
        let url = format!("http://{}", closed_port());
        let variable = format!("CROWDSEC_{}", key.to_uppercase());
        let ended = App::fails_to_start(&App::usual(&url, &[(&variable, "/no-such-folder/a.log")]));
        assert!(!ended.status.success());
        let named = |line: &str| [key, "/no-such-folder/a.log", "folder"].iter().all(|word| line.contains(word));
        assert!(ended.log.lines().any(named), "{}", ended.log);
    }
}
