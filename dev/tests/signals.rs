//! What does each signal do, and how long may a stop take, whoever is connected and whatever hangs?

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use dev::{App, FakeServer, Folder, KEY, Process, Reply, closed_port, command, eventually, signal};

#[test]
fn sigterm_and_sigint_end_it_with_status_0() {
    for name in ["TERM", "INT"] {
        let app = App::start(&[]);
        app.signal(name);
        assert_eq!(app.wait().status.code(), Some(0), "SIG{name}");
    }
}

#[test]
fn sigterm_and_sigint_end_a_launch_that_waits_for_lapi() {
    for name in ["TERM", "INT"] {
        let lapi = FakeServer::start(|_| Reply::silence());
        let mut process = Process::start(&mut command(&[("CROWDSEC_API_URL", &lapi.url()), ("CROWDSEC_API_KEY", KEY)]));
        eventually("it asks LAPI", || !lapi.seen().is_empty());
        assert_eq!(process.stop(name).code(), Some(0), "SIG{name}");
    }
}

#[test]
fn sighup_sigusr1_and_sigusr2_change_nothing_and_say_so() {
    for name in ["HUP", "USR1", "USR2"] {
        let app = App::start(&[]);
        app.signal(name);
        eventually("it says so", || app.logged(&format!("SIG{name} changes nothing")) == 1);
        app.signal(name);
        eventually("it says so each time", || app.logged(&format!("SIG{name} changes nothing")) == 2);
        assert_eq!(app.get("/").send().status, 200, "after SIG{name}");
        assert_eq!(app.stop().status.code(), Some(0));
    }
}

#[test]
fn sighup_does_not_end_a_launch_that_waits_for_lapi() {
    let lapi = FakeServer::start(|_| Reply::silence());
    let mut process = Process::start(&mut command(&[("CROWDSEC_API_URL", &lapi.url()), ("CROWDSEC_API_KEY", KEY)]));
    eventually("it asks LAPI", || !lapi.seen().is_empty());
    signal(process.id(), "HUP");
    assert_eq!(process.stop("TERM").code(), Some(0), "SIGHUP came first, and SIGTERM was what ended it");
}

#[test]
fn sigpipe_changes_nothing() {
    let app = App::start(&[]);
    app.signal("PIPE");
    assert_eq!(app.get("/").send().status, 200);
    assert_eq!(app.stop().status.code(), Some(0));
}

#[test]
fn sigquit_ends_it_at_once() {
    // Whoever runs the tests may ignore SIGQUIT (a shell does in background jobs), and the application would inherit that.
    let app = command(&[]);
    let mut quits = Command::new("env");
    quits.arg("--default-signal=QUIT").arg(app.get_program()).current_dir(app.get_current_dir().unwrap()).env_clear();
    quits.envs(app.get_envs().filter_map(|(name, value)| Some((name, value?))));
    quits.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let app = App::launched(quits).expect("it launches");
    app.signal("QUIT");
    assert_eq!(app.wait().status.signal(), Some(3));
}

#[test]
fn a_terminal_that_is_closed_takes_the_application_with_it() {
    let port = closed_port();
    let app = command(&[("ROCKET_PORT", &port.port().to_string())]);
    // Gives a shell a terminal, which is closed when `script` dies. The shell itself dies with `script` in any case.
    // Whoever runs the tests may ignore SIGHUP (`nohup` does), and what they start would inherit that.
    let mut script = Command::new("env");
    script
        .args(["--default-signal=HUP", "script", "--quiet", "--command"])
        .arg(format!("{} & wait", app.get_program().display()))
        .arg("/dev/null");
    script.current_dir(app.get_current_dir().unwrap()).env_clear();
    script.envs(app.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.stdin(Stdio::null()).stdout(Stdio::null());
    let mut script = Process::start(&mut script);
    eventually("it listens", || TcpStream::connect(port).is_ok());
    script.kill();
    eventually("it is gone", || TcpStream::connect(port).is_err());
}

fn connect(app: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(app).expect("a connection");
    stream.write_all(bytes).expect("sending");
    stream
}

#[test]
fn a_stop_waits_for_nobody_who_only_holds_a_connection() {
    let folder = Folder::of_the_application();
    // A sparse file, far larger than the buffers of a connection.
    File::create(folder.path("static/large")).unwrap().set_len(1 << 30).unwrap();
    let mut command = command(&[]);
    command.current_dir(&folder);
    let app = App::launched(command).expect("it launches");
    let mut idle = connect(app.address(), b"GET /members HTTP/1.1\r\nHost: a\r\n\r\n");
    idle.read_exact(&mut [0; 12]).expect("an answer");
    let _silent = connect(app.address(), b"");
    let _half_a_head = connect(app.address(), b"GET / HTTP/1.1\r\nHost: ");
    let upload = b"POST /sign-in HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nuser=somebody";
    let _slow_upload = connect(app.address(), upload);
    let _first_bytes_missing = connect(app.address(), &upload[..upload.len() - 13]);
    let mut slow_download = connect(app.address(), b"GET /static/large HTTP/1.1\r\nHost: a\r\n\r\n");
    slow_download.read_exact(&mut [0; 12]).expect("the beginning of an answer");
    // A visitor who takes a little of the file all the time, and never has all of it.
    let address = app.address();
    thread::spawn(move || {
        let mut streaming = connect(address, b"GET /static/large HTTP/1.1\r\nHost: a\r\n\r\n");
        while streaming.read(&mut [0; 1024]).is_ok_and(|bytes| bytes > 0) {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let ended = app.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(ended.log.contains("takes 8 s at most"), "{}", ended.log);
    assert!(!ended.log.contains("Stopped before all was done"), "Rocket's own bounds are enough: {}", ended.log);
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_end() {
    let app = App::start(&[]);
    let head = b"POST /sign-in HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 24\r\n\r\n";
    let mut upload = connect(app.address(), &[&head[..], b"user=demo&passw"].concat());
    eventually("it is being read", || app.logged("Matched: (sign_in)") == 1);
    app.signal("TERM");
    eventually("it is stopping", || app.logged("Asked to stop") == 1);
    upload.write_all(b"ord=wrong").expect("sending the rest");
    let mut answer = String::new();
    upload.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(app.wait().status.code(), Some(0));
}

#[test]
fn a_handler_that_never_returns_does_not_hold_up_the_end() {
    let folder = Folder::of_the_application();
    // Opening this pipe for reading waits for a writer, on a thread that nobody can end.
    let pipe = Command::new("mkfifo").arg(folder.path("static/pipe")).status();
    assert!(pipe.expect("mkfifo").success());
    for shutdown in ["{grace=0,mercy=1}", "{grace=0,mercy=1,force=false}"] {
        let mut command = command(&[("ROCKET_SHUTDOWN", shutdown)]);
        command.current_dir(&folder);
        let app = App::launched(command).expect("it launches");
        let _visitor = connect(app.address(), b"GET /static/pipe HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it is being opened", || app.logged("Matched: (FileServer: static)") == 1);
        let ended = app.stop();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
        assert!(ended.log.contains("takes 4 s at most"), "{}", ended.log);
        let left_behind = ended.log.contains("Stopped before all was done");
        assert_eq!(left_behind, shutdown.contains("force=false"), "{}", ended.log);
    }
}

#[test]
fn a_stop_ends_where_standard_output_is_stuck_with_both_logs_on_it() {
    let port = closed_port();
    let mut process =
        Process::start(&mut command(&[("ROCKET_PORT", &port.port().to_string()), ("CROWDSEC_ACCESS_LOG", "stdout")]));
    eventually("it listens", || TcpStream::connect(port).is_ok());
    // Nobody reads the application's output, which is a pipe of 64 KiB.
    for _ in 0..1500 {
        assert_eq!(dev::Request::new(port, "GET", "/nothing-here").send().status, 404);
    }
    assert_eq!(process.stop("TERM").code(), Some(0));
}
