//! Is every visit one whole line of the access log, and does no visitor wait for the log when its disk fails?

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dev::{Answer, App, Folder, Lapi, Request, Verdict, eventually, pipeline};
use serde_json::{Value, json};

/// An application that faces the internet by itself, without a CrowdSec: a connection's address is the visitor's.
#[track_caller]
fn alone(access_log: &str, event_log: &str) -> App {
    App::start(&[
        ("CROWDSEC_DECISIONS", r#"[{ value = "127.0.0.66", type = "ban" }]"#),
        ("CROWDSEC_TRUSTED_PROXIES", "192.0.2.0/24"),
        ("CROWDSEC_ACCESS_LOG", access_log),
        ("CROWDSEC_EVENT_LOG", event_log),
    ])
}

/// An operator looks the reference up when a visitor asks "why was I refused?".
#[test]
fn the_refusal_log_answers_why_somebody_was_refused_by_the_reference_on_their_page() {
    let logs = Folder::empty();
    let log = logs.path("refusals.log");
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[("CROWDSEC_REFUSAL_LOG", log.to_str().expect("a plain path"))]);
    lapi.ban("192.0.2.66");
    app.eventually("192.0.2.66", Verdict::Ban);
    let [id] = lapi.ids("192.0.2.66").try_into().expect("one decision");
    let page = app.request("POST", "/sign-in?password=secret").from("192.0.2.66").send().text();
    app.get("/members").from("192.0.2.67").send();
    assert!(app.stop().status.success());
    let lines = logs.lines("refusals.log");
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let asked = lines.iter().find(|line| line["path"] == "/sign-in").expect("the refusal");
    assert!(page.contains(asked["reference"].as_str().expect("a reference")), "{asked}");
    assert_eq!((&asked["method"], &asked["status"]), (&json!("POST"), &json!(403)));
    assert_eq!((&asked["crowdsec_refusal"], &asked["origin"]), (&json!("ban"), &json!("cscli")));
    assert_eq!(asked["decision"].to_string(), id);
    assert!(lines.iter().all(|line| line["address"] == "192.0.2.66"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.to_string().contains("secret")), "{lines:#?}");
}

#[test]
fn the_log_has_the_status_and_size_that_the_visitor_got() {
    let logs = Folder::empty();
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
    // When the application ends, it writes the lines that still wait.
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
    let logs = Folder::empty();
    let log = logs.path("access.log");
    let app = alone(log.to_str().expect("a plain path"), "");
    // Every ninth name is long.
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
        let logs = Folder::empty();
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
    let app = alone("stdout", "STDOUT");
    let size = app.get("/nowhere").send().text().len();
    let requests: Vec<Request> = (0..200).map(|n| app.get(&format!("/page{n}/{}", "a".repeat(3000)))).collect();
    requests.chunks(50).for_each(|some| drop(pipeline(some)));
    app.request("POST", "/sign-in").form(&[("user", "root"), ("password", "x")]).send();
    let ended = app.stop();
    // All these requests get the same page.
    let whole =
        |line: &&str| line.starts_with("127.0.0.1 - - [") && line.ends_with(&format!("\" 404 {size} \"-\" \"-\""));
    let not_whole = |line: &&str| line.contains("HTTP/1.1\"") && !whole(line) && !line.contains("POST");
    let lines: Vec<&str> = ended.log.lines().collect();
    assert_eq!(lines.iter().filter(|line| whole(line)).count(), 1 + 200);
    assert_eq!(lines.iter().find(|line| not_whole(line)), None);
    assert_eq!(lines.iter().filter(|line| line.starts_with("{\"crowdsec_event\":\"failed-sign-in\"")).count(), 1);
}

#[test]
fn a_disk_that_hangs_holds_nobody_up_and_what_was_dropped_is_told() {
    let logs = Folder::empty();
    let fifo = logs.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let (app, begun) = (alone(fifo.to_str().expect("a plain path"), ""), Instant::now());
    // Long lines fill the pipe and the queue sooner.
    let (path, agent) = ("a".repeat(8000), "a".repeat(2000));
    let requests: Vec<Request> = (0..50).map(|_| app.get(&format!("/{path}")).header("User-Agent", &agent)).collect();
    for _ in 0..12 {
        assert!(pipeline(&requests).iter().all(|answer| answer.status == 404));
    }
    eventually("it is told", || app.logged("lines did not get there") > 0);
    // The log tells of lost lines once in ten seconds at most. A busy machine may need more than ten seconds for this.
    assert!(app.logged("lines did not get there") as u64 <= 1 + begun.elapsed().as_secs() / 10, "{}", app.log());
    assert_eq!(app.get("/").send().status, 200);
    // Once somebody reads the pipe, the log goes on with the visits from then on.
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
    let logs = Folder::empty();
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
    // Cuts the file to nothing, as logrotate's `copytruncate` does.
    OpenOptions::new().write(true).truncate(true).open(&log).expect("truncating");
    visit("/three");
    assert_eq!(logs.lines("access.log").len(), 1);
    fs::remove_file(&log).expect("removing");
    visit("/four");
}
