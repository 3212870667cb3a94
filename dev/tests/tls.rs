//! Does the bouncer reach the right LAPI, and only that one, over HTTPS with a key or a certificate, and over a unix socket?
//! And what does the log say where it cannot?

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::{env, fs, process, thread};

use dev::Verdict::{Ban, Welcome};
use dev::{App, FakeServer, KEY, Lapi, Reply, closed_port, eventually};
use serde_json::json;

/// A LAPI with TLS that bans 192.0.2.1.
fn lapi() -> Lapi {
    let lapi = Lapi::start_with_tls();
    lapi.ban("192.0.2.1");
    lapi
}

/// The application ends with a failure and a line that says this.
#[track_caller]
fn aborts(lapi_url: &str, settings: &[(&str, &str)], remedy: &str) {
    let abort = [("CROWDSEC_ON_STARTUP_FAILURE", "abort"), ("CROWDSEC_STARTUP_TIMEOUT", "1s")];
    let settings = [settings, &abort].concat();
    let ended = App::fails_to_start(&App::usual(lapi_url, &settings));
    assert!(!ended.status.success());
    assert!(ended.log.contains(remedy), "{remedy}: {}", ended.log);
}

#[test]
fn a_lapi_whose_own_ca_is_named_is_reached_with_a_key() {
    let lapi = lapi();
    let app = App::polling(lapi.url(), &[("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT"))]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
    assert_eq!(app.verdict("192.0.2.3"), Welcome);
}

#[test]
fn a_client_certificate_stands_for_a_key() {
    let lapi = lapi();
    let certificate = [
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT")),
        ("CROWDSEC_CERT_PATH", lapi.value("LAPI_CERT")),
        ("CROWDSEC_KEY_PATH", lapi.value("LAPI_CERT_KEY")),
    ];
    let app = App::polling(lapi.url(), &certificate);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
}

#[test]
fn a_certificate_of_a_unit_that_lapi_does_not_allow_is_refused() {
    let lapi = lapi();
    let certificate = [
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT")),
        ("CROWDSEC_CERT_PATH", lapi.value("LAPI_WRONG_CERT")),
        ("CROWDSEC_KEY_PATH", lapi.value("LAPI_WRONG_CERT_KEY")),
    ];
    aborts(lapi.url(), &certificate, "bouncers_allowed_ou");
}

#[test]
fn a_lapi_whose_ca_nobody_knows_is_not_trusted() {
    aborts(lapi().url(), &[], "ca_cert_path");
}

#[test]
fn plain_http_to_a_lapi_with_tls_is_no_answer() {
    let lapi = lapi();
    aborts(&lapi.url().replace("https://", "http://"), &[], "400");
}

// --- messages tell the reasons apart ---

/// Without `abort` the application launches, and its log says this, and none of the `others`, which fit other faults.
#[track_caller]
fn warns(lapi_url: &str, settings: &[(&str, &str)], remedy: &str) {
    let app = App::polling(lapi_url, settings);
    let log = app.log();
    let lost: Vec<&str> = log.lines().filter(|line| line.contains(" has not answered yet: ")).collect();
    // The warning, and the line of the launch.
    assert_eq!(lost.len(), 2, "{log}");
    assert!(lost[0].contains(remedy), "{remedy}: {}", lost[0]);
    let others = ["403", "ca_cert_path to the CA's", "another CA", "nobody listens", "status 400"];
    for other in others.iter().filter(|other| !remedy.contains(**other)) {
        assert!(!lost[0].contains(other), "{other}, which is another fault: {}", lost[0]);
    }
    assert!(!log.contains(KEY) && !log.contains("not-the-key"), "a key never stands in the log");
}

#[test]
fn each_reason_why_lapi_cannot_be_reached_has_its_own_message() {
    let (lapi, other) = (lapi(), Lapi::start_with_tls());
    let ca = ("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT"));
    warns(lapi.url(), &[ca, ("CROWDSEC_API_KEY", "not-the-key")], "403");
    warns(lapi.url(), &[("CROWDSEC_CA_CERT_PATH", other.value("LAPI_CA_CERT"))], "another CA");
    warns(lapi.url(), &[], "ca_cert_path to the CA's");
    warns(&lapi.url().replace("https://", "http://"), &[], "status 400");
    warns(&format!("https://{}", closed_port()), &[ca], "nobody listens");
}

#[test]
fn a_certificate_of_an_authority_that_lapi_does_not_know_is_refused_and_told() {
    let (lapi, other) = (lapi(), Lapi::start_with_tls());
    let certificate = [
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT")),
        ("CROWDSEC_CERT_PATH", other.value("LAPI_CERT")),
        ("CROWDSEC_KEY_PATH", other.value("LAPI_CERT_KEY")),
    ];
    warns(lapi.url(), &certificate, "LAPI refuses our certificate");
}

#[test]
fn a_certificate_outlives_a_restart_of_lapi() {
    let mut lapi = lapi();
    let ca = lapi.value("LAPI_CA_CERT").to_string();
    let app = App::polling(lapi.url(), &[("CROWDSEC_CA_CERT_PATH", &ca)]);
    lapi.stop();
    eventually("the log tells of the loss", || app.logged("nobody listens there") > 0);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.start_again();
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
}

// --- the key in a file, and the unix socket ---

/// A folder of a test's own, deleted at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("{name}-{}", process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_key_may_lie_in_a_file() {
    let (lapi, folder) = (Lapi::start(), Folder::new("key-file"));
    lapi.ban("192.0.2.1");
    // Editors and `echo` end a file with a line break.
    fs::write(folder.file("key"), format!("{KEY}\n")).expect("writing the key");
    let app = App::polling(lapi.url(), &[("CROWDSEC_API_KEY", ""), ("CROWDSEC_API_KEY_FILE", &folder.file("key"))]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

#[test]
fn a_key_file_that_is_missing_stops_the_launch_and_is_named() {
    let file = Folder::new("no-key-file").file("key");
    let settings = [("CROWDSEC_API_KEY", ""), ("CROWDSEC_API_KEY_FILE", file.as_str())];
    let ended = App::fails_to_start(&App::usual("http://127.0.0.1:9/", &settings));
    assert!(ended.log.contains("api_key_file") || ended.log.contains("CROWDSEC_API_KEY_FILE"), "{}", ended.log);
    assert!(ended.log.contains(&file), "{}", ended.log);
}

/// A unix socket that hands everything on to this server. It ends with the process of the test.
fn socket_to(server: SocketAddr, path: &str) {
    let listener = UnixListener::bind(Path::new(path)).expect("a socket");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(server) else { continue };
            let (from, to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            thread::spawn(move || {
                pass(from, to);
            });
            thread::spawn(move || {
                pass(server, &client);
                let _: Result<(), _> = UnixStream::shutdown(&client, Shutdown::Both);
            });
        }
    });
}

fn pass(mut from: impl Read, mut to: impl Write) {
    let _ = std::io::copy(&mut from, &mut to);
}

#[test]
fn a_lapi_behind_a_unix_socket_is_polled() {
    let folder = Folder::new("socket");
    let ban = |id: u32, address: &str| json!({ "duration": "3h59m59s", "id": id, "origin": "cscli", "scenario": "x", "scope": "Ip", "type": "ban", "value": address });
    let lapi = FakeServer::start(move |_| Reply::decisions(&[ban(1, "192.0.2.1")], &[]));
    socket_to(lapi.address(), &folder.file("lapi.sock"));
    let app = App::polling(&folder.file("lapi.sock"), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.verdict("192.0.2.2"), Welcome);
    lapi.answers(move |_| Reply::decisions(&[ban(1, "192.0.2.1"), ban(2, "192.0.2.2")], &[]));
    app.eventually("192.0.2.2", Ban);
    let seen = lapi.seen();
    assert_eq!(seen[0].header("X-Api-Key"), Some(KEY));
    assert!(seen[0].target.starts_with("/v1/decisions/stream?"), "{}", seen[0].target);
}

#[test]
fn the_real_lapi_is_reached_through_a_unix_socket() {
    let (lapi, folder) = (Lapi::start(), Folder::new("real-socket"));
    lapi.ban("192.0.2.1");
    socket_to(lapi.address(), &folder.file("lapi.sock"));
    let app = App::polling(&folder.file("lapi.sock"), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
}

#[test]
fn a_unix_socket_that_is_not_there_is_told() {
    let folder = Folder::new("no-socket");
    warns(&folder.file("lapi.sock"), &[], "nobody listens");
    // A socket that an ended process has left behind.
    drop(UnixListener::bind(folder.file("old.sock")).expect("a socket"));
    warns(&folder.file("old.sock"), &[], "nobody listens");
}
