//! What does the process log say, to whom, and what does it cost? Nobody ever waits for the log, and no visitor writes it.

use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use dev::{App, FakeServer, Folder, KEY, Process, Reply, Request, closed_port, command, eventually};
use serde_json::{Value, json};

/// Runs the application with this standard output, and waits until it listens.
fn with_output(settings: &[(&str, &str)], output: Stdio) -> (Process, SocketAddr) {
    let port = closed_port();
    let port_text = port.port().to_string();
    let mut command = command(&[settings, &[("ROCKET_PORT", port_text.as_str())]].concat());
    let process = Process::start(command.stdout(output).stderr(Stdio::null()));
    eventually("it listens", || TcpStream::connect(port).is_ok());
    (process, port)
}

#[track_caller]
fn stop(mut process: Process) {
    assert_eq!(process.stop("TERM").code(), Some(0));
}

const SECRET_KEY: (&str, &str) = ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=");

/// The release profile, and a log as it comes.
fn release(lapi_url: &str) -> Vec<(&str, &str)> {
    let proxies = ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.0/8");
    let poll = ("CROWDSEC_UPDATE_FREQUENCY", "1s");
    let level = ("ROCKET_LOG_LEVEL", "critical");
    let lapi = [("CROWDSEC_API_URL", lapi_url), ("CROWDSEC_API_KEY", KEY)];
    [&lapi[..], &[("ROCKET_PROFILE", "release"), SECRET_KEY, proxies, poll, level]].concat()
}

fn banned() -> Value {
    json!({ "id": 1, "duration": "4h", "origin": "cscli", "scenario": "test", "scope": "Ip", "type": "ban", "value": "192.0.2.1" })
}

#[test]
fn a_standard_output_that_nobody_reads_stops_no_answer_and_what_is_dropped_is_told() {
    let (mut process, port) = with_output(&[], Stdio::piped());
    let get = |target: &str| Request::new(port, "GET", target);
    // In the debug profile the target is logged twice. The pipe holds 64 KiB, and some 4 MiB wait in memory.
    let long = format!("/nothing-here/{}", "x".repeat(3000));
    for _ in 0..1200 {
        assert_eq!(get(&long).send().status, 404);
    }
    assert_eq!(get("/crowdsec/health").send().status, 200);
    assert_eq!(get("/").from("203.0.113.7").send().status, 403);
    // Somebody reads again, from the beginning.
    let mut output = process.output();
    let reader = std::thread::spawn(move || {
        let mut log = String::new();
        output.read_to_string(&mut log).map(|_| log).expect("text")
    });
    stop(process);
    let log = reader.join().unwrap();
    let dropped = log.lines().find(|line| line.contains("lines did not get there")).expect("it is told");
    let number: usize = dropped.split_whitespace().find_map(|word| word.parse().ok()).expect("how many");
    let written = log.lines().filter(|line| line.contains("/nothing-here")).count();
    assert!(number > 100 && written > 100, "{number} dropped, {written} written");
}

#[test]
fn a_closed_pipe_and_a_full_disk_end_neither_the_polling_nor_the_stop() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("a full disk"));
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    for output in [full(), closed()] {
        let lapi = FakeServer::start(|_| Reply::decisions(&[], &[]));
        let url = lapi.url();
        let (process, port) = with_output(&App::usual(&url, &[]), output);
        // Each loss of LAPI and each return writes a line.
        lapi.answers(|_| Reply::error(500));
        let asked = lapi.seen().len();
        eventually("it polls on", || lapi.seen().len() > asked + 1);
        lapi.answers(|seen| {
            Reply::decisions(if seen.asks_for_all() { vec![banned()] } else { vec![] }.as_slice(), &[])
        });
        eventually("a ban arrives", || Request::new(port, "GET", "/").from("192.0.2.1").send().status == 403);
        stop(process);
    }
}

#[test]
fn outside_the_debug_profile_no_visitor_writes_a_line() {
    let lapi = FakeServer::start(|_| Reply::decisions(&[banned()], &[]));
    for level in ["critical", "normal"] {
        let url = lapi.url();
        // This server takes no usage metrics: the warning of that would come in the middle of the visitors' requests.
        let usage = ("CROWDSEC_USAGE_METRICS", "off");
        let app = App::start(&[release(&url), vec![("ROCKET_LOG_LEVEL", level), usage]].concat());
        let before = app.log();
        for (method, target) in [
            ("GET", "/"),
            ("GET", "/nothing-here"),
            ("FOO", "/"),
            ("PUT", "/"),
            ("GET", "/crowdsec/captcha?return_to=%ff"),
            ("HEAD", "/nothing"),
            ("OPTIONS", "*"),
        ] {
            let request = app.request(method, target).from("192.0.2.2").header("X-Broken", b"a\xff");
            request.accept(";;;").header("Content-Type", ";;;").send();
        }
        for form in ["user=a", "user=%ff&password=\u{1b}", "&&&", "user=a&password=b&nickname=c&d=e"] {
            app.request("POST", "/sign-in").from("192.0.2.2").body("application/x-www-form-urlencoded", form).send();
        }
        app.request("POST", "/sign-in").from("192.0.2.2").body("text/plain", "a").send();
        std::io::Write::write_all(&mut TcpStream::connect(app.address()).unwrap(), b"no HTTP at all\r\n\r\n").unwrap();
        assert_eq!(app.get("/members").from("192.0.2.1").send().status, 403);
        eventually("a refusal is told", || app.logged("Refused 192.0.2.1") == 1);
        let log = app.log();
        let new: Vec<&str> = log[before.len()..].lines().collect();
        assert!(new.iter().all(|line| line.contains("Refused 192.0.2.1")), "{level}: {new:?}");
        let ended = app.stop();
        assert!(ended.log.contains("Asked to stop"), "our own lines are there: {}", ended.log);
    }
}

#[test]
fn a_request_is_not_put_into_words_where_no_line_is_written() {
    let lapi = FakeServer::start(|_| Reply::decisions(&[], &[]));
    let url = lapi.url();
    let (process, port) = with_output(&release(&url), Stdio::null());
    // No fairing sees an unknown method. Rocket's line about it would copy the header once for each type in the header.
    let bomb = ["a/json", &",a/b".repeat(6_000)].concat();
    Request::new(port, "FOO", "/").accept(&bomb).send();
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let kilobytes: u64 = peak.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(kilobytes < 100 << 10, "24 kB of header took {kilobytes} kB");
    stop(process);
}

#[test]
fn the_debug_profile_shows_each_request_and_no_visitor_switches_colours_on() {
    let app = App::start(&[("ROCKET_CLI_COLORS", "true")]);
    app.get("/").accept(";;;").send();
    app.get("/crowdsec/captcha").accept("text/\u{9b}31m").send();
    app.get("/members").accept("a/b;x=\u{202e}\u{85}").send();
    eventually("each request is shown", || app.logged("Matched: (members)") == 1);
    let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    let log = app.stop().log;
    assert!(!log.contains(harmful), "{:?}", log.lines().find(|line| line.contains(harmful)));
}

/// Runs the application in a terminal until it has launched, and gives what the terminal showed.
fn on_a_terminal(settings: &[(&str, &str)]) -> String {
    let folder = Folder::empty();
    let (port, shown) = (closed_port(), folder.path("typescript"));
    let port_text = port.port().to_string();
    let app = command(&[settings, &[("ROCKET_PORT", port_text.as_str())]].concat());
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--command"]).arg(format!("exec {}", app.get_program().display())).arg(&shown);
    script.current_dir(app.get_current_dir().unwrap()).env_clear();
    script.envs(app.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.stdin(Stdio::null()).stdout(Stdio::null());
    let mut script = Process::start(&mut script);
    eventually("it listens", || TcpStream::connect(port).is_ok());
    Request::new(port, "GET", "/").accept(";;;").header("X-Forwarded-For", "203.0.113.7\u{9b}31m").send();
    Request::new(port, "GET", "/members").accept(";;;").send();
    eventually("its lines are there", || folder.read("typescript").contains("GET /members"));
    script.kill();
    folder.read("typescript")
}

#[test]
fn a_terminal_gets_text_with_our_own_colours_and_nothing_else_that_moves_it() {
    let shown = on_a_terminal(&[("ROCKET_CLI_COLORS", "true")]);
    assert!(shown.contains("\u{1b}[33mWarning: "), "{shown:?}");
    let ours = ["\u{1b}[33m", "\u{1b}[1;31m", "\u{1b}[0m"].iter().fold(shown, |shown, code| shown.replace(code, ""));
    assert!(!ours.contains(|c: char| c.is_control() && !"\r\n".contains(c)), "{ours:?}");
    assert!(!on_a_terminal(&[("ROCKET_CLI_COLORS", "false")]).contains('\u{1b}'));
}

#[test]
fn journald_gets_the_level_of_each_line_and_nobody_else_does() {
    let folder = Folder::empty();
    for (format, is_the_journal) in [("text", true), ("json", true), ("text", false)] {
        let output = File::create(folder.path("journal")).expect("a file");
        let id = output.metadata().map(|file| format!("{}:{}", file.dev(), file.ino())).expect("its number");
        let stream = if is_the_journal { id.as_str() } else { "1:1" };
        let settings = [("JOURNAL_STREAM", stream), ("CROWDSEC_LOG_FORMAT", format)];
        let (process, port) = with_output(&settings, output.into());
        Request::new(port, "GET", "/nothing-here").send();
        stop(process);
        let log = folder.read("journal");
        let level =
            |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
        if !is_the_journal {
            assert!(!log.contains('<') || !log.lines().any(|line| line.starts_with('<')), "{log}");
            continue;
        }
        assert!(log.lines().all(|line| line.starts_with('<') && line[2..].starts_with('>')), "{log}");
        assert!(level("NOT CONNECTED TO CROWDSEC").starts_with("<4>"), "{log}");
        assert!(level("Rocket has launched").starts_with("<6>"), "{log}");
        assert!(level("No matching routes").starts_with("<3>"), "{log}");
    }
}

#[test]
fn in_json_each_line_is_an_object_with_time_level_and_message_also_where_the_launch_fails() {
    let app = App::start(&[("CROWDSEC_LOG_FORMAT", "json")]);
    app.get("/%0a%1b%22?a='b").accept("a/b;c=\u{9b}").send();
    eventually("it is told", || app.logged("No matching routes") == 1);
    let lines = app.stop().log;
    let folder = Folder::empty();
    folder.write("Rocket.toml", "[default]\nport = no\n");
    let file = folder.path("Rocket.toml").display().to_string();
    let failed = App::fails_to_start(&[("CROWDSEC_LOG_FORMAT", "json"), ("ROCKET_CONFIG", &file)]).log;
    for line in lines.lines().chain(failed.lines()) {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(["error", "warn", "info"].contains(&object["level"].as_str().expect("a level")), "{line}");
        let time = object["time"].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        assert!(!object["message"].as_str().expect("a message").contains(|c: char| c.is_control()), "{line}");
    }
    assert!(failed.contains("line 2, column 8") && failed.lines().count() == 1, "{failed}");
}

#[test]
fn off_is_off() {
    let (mut process, port) = with_output(&[("ROCKET_LOG_LEVEL", "off")], Stdio::piped());
    Request::new(port, "GET", "/nothing-here").send();
    Request::new(port, "GET", "/").from("203.0.113.7").send();
    let mut output = process.output();
    stop(process);
    let mut log = String::new();
    output.read_to_string(&mut log).expect("text");
    assert_eq!(log, "");
}

#[test]
fn the_access_log_on_the_same_output_has_whole_lines() {
    let app = App::start(&[
        ("CROWDSEC_ACCESS_LOG", "stdout"),
        ("CROWDSEC_LOG_FORMAT", "json"),
        ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1"),
    ]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let many: Vec<Request> = (0..20).map(|_| app.get("/nothing-here").from("192.0.2.2")).collect();
                    dev::pipeline(&many);
                }
            });
        }
    });
    let log = app.stop().log;
    let (access, process): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with("192.0.2.2 - - ["));
    assert_eq!(access.len(), 4 * 20 * 20);
    assert!(access.iter().all(|line| line.ends_with("\"-\" \"-\"")), "a line is torn");
    for line in process {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("a line is torn ({error}): {line}"));
    }
}

#[test]
fn both_logs_have_whole_lines_on_a_standard_output_that_does_not_wait() {
    let (reader, writer) = UnixStream::pair().expect("a pair");
    writer.set_nonblocking(true).expect("an option");
    let access = [("CROWDSEC_ACCESS_LOG", "stdout"), ("CROWDSEC_REFUSAL_LOG", "stdout")];
    let (process, port) = with_output(&access, Stdio::from(OwnedFd::from(writer)));
    let long = "x".repeat(3000);
    for n in 0..300 {
        let target = format!("/{n}/{long}");
        assert_eq!(Request::new(port, "GET", &target).from("192.0.2.2").send().status, 404);
        assert_eq!(Request::new(port, "GET", &target).from("203.0.113.7").send().status, 403);
    }
    // Somebody reads only now, and slowly: the socket is full again and again.
    let reading = std::thread::spawn(move || {
        let (mut log, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match (&reader).read(&mut piece).expect("the log") {
                0 => return String::from_utf8(log).expect("text"),
                read => log.extend_from_slice(&piece[..read]),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    stop(process);
    let log = reading.join().expect("the log");
    let whole = |line: &&str| line.starts_with("192.0.2.2 - - [") && line.ends_with("\"-\" \"-\"");
    assert_eq!(log.lines().filter(whole).count(), 300);
    let refusals = log.lines().filter(|line| line.starts_with("{\"crowdsec_refusal\""));
    assert_eq!(refusals.filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 300);
}

#[test]
fn a_trial_run_tells_who_would_have_been_refused() {
    let decisions = r#"[{ value = "192.0.2.1", type = "ban", reason = "why not" }]"#;
    let app = App::start(&[("CROWDSEC_DECISIONS", decisions), ("CROWDSEC_ENFORCE", "false")]);
    assert!(app.log().contains("A TRIAL RUN"), "{}", app.log());
    for _ in 0..2 {
        assert_eq!(app.get("/").from("192.0.2.1").send().status, 200);
    }
    app.tells("Would have refused 192.0.2.1: ban by config (why not), decision of your own", 1);
    assert_eq!(app.logged("Refused 192.0.2.1"), 0);
}

#[test]
fn a_trial_tells_of_nobody_who_would_have_been_served_all_the_same() {
    let decisions = r#"[{ value = "192.0.2.0/24", type = "ban" }]"#;
    let excluded = ("CROWDSEC_EXCLUDED_PATHS", "/sign-in,/members");
    let app = App::start(&[("CROWDSEC_DECISIONS", decisions), ("CROWDSEC_ENFORCE", "false"), excluded]);
    let ask = |path, address| assert_eq!(app.get(path).from(address).send().status, 200);
    ask("/crowdsec/health", "192.0.2.1");
    ask("/sign-in", "192.0.2.1");
    assert_eq!(app.logged("Would have refused"), 0);
    ask("/", "192.0.2.1");
    app.tells("Would have refused 192.0.2.1: ban by config, decision of your own, for GET /", 1);
    // The guard would have refused this visitor, whether or not the path is excluded.
    ask("/members", "192.0.2.2");
    app.tells("Would have refused 192.0.2.2: ban by config, decision of your own, for GET /members", 1);
}

#[test]
fn a_trial_run_by_guards_tells_whom_a_guard_would_have_refused() {
    let decisions = r#"[{ value = "192.0.2.0/24", type = "ban" }]"#;
    let by_guards = ("CROWDSEC_ENFORCE_BY", "guards");
    let app = App::start(&[("CROWDSEC_DECISIONS", decisions), ("CROWDSEC_ENFORCE", "false"), by_guards]);
    assert!(app.log().contains("A TRIAL RUN") && app.log().contains("BY GUARDS ALONE"), "{}", app.log());
    let ask = |path, address| assert_eq!(app.get(path).from(address).send().status, 200);
    ask("/sign-in", "192.0.2.1");
    ask("/members", "192.0.2.2");
    app.tells("Would have refused 192.0.2.2: ban by config, decision of your own, for GET /members", 1);
    app.tells("Would have refused", 1);
}

/// The log names the decision, so that an operator can lift it.
#[test]
fn a_guards_refusal_is_told_with_the_decision_behind_it() {
    let decisions = r#"[{ value = "192.0.2.1", type = "ban", reason = "why not" }]"#;
    let app = App::start(&[("CROWDSEC_DECISIONS", decisions), ("CROWDSEC_ENFORCE_BY", "guards")]);
    assert!(app.log().contains("BY GUARDS ALONE"), "{}", app.log());
    assert_eq!(app.get("/").from("192.0.2.1").send().status, 200);
    assert_eq!(app.logged("Refused 192.0.2.1"), 0);
    assert_eq!(app.get("/members").from("192.0.2.1").send().status, 403);
    app.tells("Refused 192.0.2.1: ban by config (why not), decision of your own, for GET /members", 1);
}
