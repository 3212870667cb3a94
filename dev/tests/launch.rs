//! What is an operator told where the application cannot start? One sentence that helps, and nothing that was secret.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use dev::{App, Ended, FakeServer, Folder, KEY, Reply, command};

/// The launch ends with status 1 and without a panic, and its log is this many errors, one sentence each, and nothing else.
#[track_caller]
fn told_in(sentences: usize, command: Command) -> String {
    let Ended { status, log } = App::launched(command).err().expect("the application launched");
    assert_eq!(status.code(), Some(1), "{log}");
    assert_eq!(log.lines().filter(|line| line.starts_with("Error: ")).count(), sentences, "{log}");
    assert_eq!(log.lines().count(), sentences, "something else is said: {log}");
    assert!(!log.contains("panicked"), "{log}");
    log
}

/// The application in a folder with this Rocket.toml.
fn with_file(folder: &Folder, rocket_toml: &[u8]) -> Command {
    folder.write("Rocket.toml", rocket_toml);
    let mut command = command(&[]);
    command.current_dir(folder).env_remove("ROCKET_LOG_LEVEL");
    command
}

#[test]
fn a_file_that_is_no_toml_is_told_by_line_and_column_and_shows_no_value() {
    let folder = Folder::of_the_application();
    let folder_name = folder.path("Rocket.toml").display().to_string();
    for (text, place) in [
        (&b"[default.crowdsec]\napi_key = s3cret\n"[..], "line 2, column 11"),
        (b"# a key\n\n[default]\nsecret_key = \"s3cret\n", "line 4, column"),
        (b"[default.crowdsec]\napi_key = \"\"\"s3cret", "line 2, column"),
        (b"[default.crowdsec]\ns3cret\n", "line 2, column"),
        (b"api_key = \"s3cret\"\n", "line 1, column"),
        (b"[default]\nport = 1\nport = \"s3cret\"\n", "line 3, column"),
        (b"[default]\nsecret_key = \"s3cret\xff\"\n", "line 2, column 21"),
    ] {
        let log = told_in(1, with_file(&folder, text));
        assert!(log.contains(place) && log.contains(&folder_name) && !log.contains("s3cret"), "{log}");
    }
}

#[test]
fn a_value_that_rocket_cannot_use_is_told_by_its_key_and_file_and_does_not_show() {
    let folder = Folder::of_the_application();
    for (line, key) in [
        ("secret_key = [\"s3cret\", \"s3cret\"]", "`secret_key.0`"),
        ("secret_key = \"s3cret\"", "`secret_key`"),
        ("secret_key = { a = \"s3cret\" }", "`secret_key`"),
        ("address = \"s3cret\"", "`address`"),
        ("port = \"s3cret\"", "`port`"),
        ("limits = \"s3cret\"", "`limits`"),
        ("shutdown = { signals = [\"s3cret\"] }", "`shutdown.signals.0`"),
        ("log_level = \"s3cret\"", "`log_level`"),
        ("ident = \"s3cret\\u0001\"", "`ident`"),
        ("template_dir = [\"s3cret\"]", "`template_dir`"),
        ("workers = 0", "`workers`"),
        ("workers = 99999999", "`workers`"),
        ("max_blocking = 0", "`max_blocking`"),
    ] {
        let mut command = with_file(&folder, format!("[default]\n{line}\n").as_bytes());
        if line.starts_with("port") {
            command.env_remove("ROCKET_PORT");
        }
        let log = told_in(1, command);
        assert!(log.contains(key) && log.contains(": write ") && !log.contains("s3cret"), "{log}");
    }
}

#[test]
fn a_variable_that_rocket_cannot_use_is_named_and_its_value_does_not_show() {
    for name in
        ["ADDRESS", "PORT", "SECRET_KEY", "LIMITS", "SHUTDOWN", "LOG_LEVEL", "WORKERS", "KEEP_ALIVE", "CLI_COLORS"]
    {
        for value in ["s3cret", "[s3cret]", "{s3cret=s3cret", "\"s3cret"] {
            let name = format!("ROCKET_{name}");
            let log = told_in(1, command(&[(&name, value)]));
            assert!(log.contains(&name) && !log.contains("s3cret"), "{name}={value}: {log}");
        }
    }
    // Another variable of ours must not hide this error.
    for beside in [&[][..], &[("CROWDSEC_UPDATE_FREQUENCY", "1s")], &[("CROWDSEC_CAPTCHA_PROVIDER", "altcha")]] {
        for value in ["s3cret", "{api_key=s3cret", "[s3cret]", "{captcha=s3cret}"] {
            let log = told_in(1, command(&[&[("ROCKET_CROWDSEC", value)], beside].concat()));
            assert!(log.contains("ROCKET_CROWDSEC") && !log.contains("s3cret"), "{log}");
        }
    }
}

#[test]
fn an_empty_variable_of_rockets_is_an_unset_one_and_keeps_nobody_from_launching() {
    // Compose hands on an empty variable where its user has set none: `ROCKET_WORKERS: ${ROCKET_WORKERS:-}`.
    for name in ["WORKERS", "MAX_BLOCKING", "SHUTDOWN", "KEEP_ALIVE", "LIMITS", "LOG_LEVEL"] {
        let name = format!("ROCKET_{name}");
        let app = App::start(&[(&name, "")]);
        assert_eq!(app.get("/").send().status, 200, "{name}: {}", app.log());
    }
}

#[test]
fn words_that_are_no_toml_are_told_by_line_and_column() {
    let folder = Folder::of_the_application();
    folder.write("templates/texts.toml", "[default]\nban_title = \"a\"\nban_text = a\n");
    let mut command = command(&[]);
    command.current_dir(&folder);
    let log = told_in(1, command);
    assert!(log.contains("texts.toml") && log.contains("line 3, column 12"), "{log}");
}

#[test]
fn a_port_that_is_taken_is_told_and_lapi_is_not_even_asked() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, lapi) = (taken.local_addr().unwrap(), FakeServer::start(|_| Reply::decisions(&[], &[])));
    let port = address.port().to_string();
    let settings = [("ROCKET_PORT", port.as_str()), ("CROWDSEC_API_URL", &lapi.url()), ("CROWDSEC_API_KEY", KEY)];
    let log = told_in(1, command(&settings));
    for part in [address.to_string().as_str(), "already in use", "ROCKET_PORT"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(lapi.seen().is_empty(), "the running application's changes were taken from it");
    // Whoever starts the application by hand learns this even where the log is off.
    let ended = App::fails_to_start(&[("ROCKET_PORT", &port), ("ROCKET_LOG_LEVEL", "off")]);
    assert!(ended.log.contains("already in use"), "{}", ended.log);
}

/// For a minute the system keeps the connections that the process before has closed.
#[test]
fn a_port_that_was_in_use_a_moment_ago_is_listened_on_at_once() {
    let before = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = before.local_addr().unwrap();
    let mut visitor = TcpStream::connect(address).expect("a connection");
    drop(before.accept().expect("a connection"));
    assert_eq!(visitor.read(&mut [0]).expect("its end"), 0);
    drop((visitor, before));
    App::start(&[("ROCKET_PORT", &address.port().to_string())]);
}

#[test]
fn a_port_below_1024_and_an_address_of_others_are_told_with_the_remedy() {
    let low = command(&[("ROCKET_PORT", "1")]);
    let mut without = Command::new("setpriv");
    without.args(["--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]).arg(low.get_program());
    without.current_dir(low.get_current_dir().unwrap()).env_clear();
    without.envs(low.get_envs().filter_map(|(name, value)| Some((name, value?))));
    without.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let log = told_in(1, without);
    for part in ["127.0.0.1:1", "Permission denied", "CAP_NET_BIND_SERVICE", "ROCKET_PORT"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let log = told_in(1, command(&[("ROCKET_ADDRESS", "192.0.2.1")]));
    assert!(log.contains("192.0.2.1") && log.contains("Cannot assign") && log.contains("ROCKET_ADDRESS"), "{log}");
}

#[test]
fn a_wrong_working_directory_and_a_missing_folder_are_told_with_their_path() {
    let empty = Folder::empty();
    let mut command = command(&[]);
    command.current_dir(&empty);
    let log = told_in(1, command);
    assert!(log.contains(&empty.path("templates").display().to_string()) && log.contains("WorkingDirectory="), "{log}");
    for missing in ["templates", "static"] {
        let folder = Folder::of_the_application();
        std::fs::remove_dir_all(folder.path(missing)).unwrap();
        let mut command = dev::command(&[]);
        command.current_dir(&folder);
        let log = told_in(1, command);
        let path = folder.path(missing).display().to_string();
        assert!(log.contains(&path) && log.contains("No such file"), "{path}: {log}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_told_at_the_launch() {
    let folder = Folder::empty();
    folder.write("file", "");
    for key in ["SNAPSHOT", "ACCESS_LOG", "EVENT_LOG", "REFUSAL_LOG"] {
        for path in ["missing/file", "file/file", ""] {
            let path = folder.path(path).display().to_string();
            let log = told_in(1, command(&[(&format!("CROWDSEC_{key}"), &path)]));
            let key = format!("`crowdsec.{}`", key.to_lowercase());
            assert!(log.contains(&key) && log.contains(&path) && log.contains("Make its folder"), "{log}");
        }
    }
    // The socket stands for a device, such as /dev/null, which a snapshot would replace.
    let socket = std::os::unix::net::UnixListener::bind(folder.path("socket")).expect("a socket");
    let path = folder.path("socket").display().to_string();
    let log = told_in(1, command(&[("CROWDSEC_SNAPSHOT", &path)]));
    assert!(log.contains("`crowdsec.snapshot`") && log.contains("it is no file"), "{log}");
    drop(socket);
    std::fs::remove_file(folder.path("socket")).unwrap();
    let path = folder.path("decisions.snapshot").display().to_string();
    App::start(&[("CROWDSEC_SNAPSHOT", &path)]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "the trial leaves nothing behind");
}

const SECRET_KEY: (&str, &str) = ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=");

/// Slips in a file: its path, the text before, the text after, and a word of what is told.
const SLIPS: [(&str, &str, &str, &str); 6] = [
    ("templates/texts.toml", "ban_why = \"This", "ban_wy = \"This", "ban_why"),
    ("templates/texts.toml", "wait_minutes = \"Please", "wait_mintes = \"Please", "wait_minutes"),
    ("templates/ban.html.tera", "{{ address }}", "{{ adress }}", "adress"),
    (
        "templates/ban.html.tera",
        "<h1>",
        "{% if decision %}{{ decision.scenarios }}{% endif %}<h1>",
        "decision.scenarios",
    ),
    (
        "templates/captcha.html.tera",
        "{% if captcha.provider == \"altcha\" -%}",
        "{% if captcha.providr == \"altcha\" -%}",
        "providr",
    ),
    ("templates/starting.html.tera", "{{ return_to }}", "{{ return_to | nofilter }}", "nofilter"),
];

#[test]
fn a_page_that_cannot_be_made_stops_the_launch_in_the_release_profile() {
    let lapi = FakeServer::start(|_| Reply::decisions(&[], &[]));
    let release = [
        ("ROCKET_PROFILE", "release"),
        SECRET_KEY,
        ("CROWDSEC_API_URL", &lapi.url()),
        ("CROWDSEC_API_KEY", KEY),
        ("ROCKET_LOG_LEVEL", "critical"),
    ];
    for (file, from, to, told) in SLIPS {
        let folder = Folder::of_the_application();
        folder.replace(file, from, to);
        let mut command = command(&release);
        command.current_dir(&folder);
        let log = told_in(1, command);
        assert!(log.contains(told) && log.contains("at /crowdsec/preview/"), "{told}: {log}");
    }
}

#[test]
fn a_page_that_cannot_be_made_is_a_warning_in_the_debug_profile() {
    for (file, from, to, told) in &SLIPS[..5] {
        let folder = Folder::of_the_application();
        folder.replace(file, from, to);
        let mut command = command(&[]);
        command.current_dir(&folder);
        let app = App::launched(command).expect("it launches");
        app.tells(told, 1);
        assert!(app.log().lines().any(|line| line.starts_with("Warning: ") && line.contains(told)), "{}", app.log());
        assert_eq!(app.get("/").from("203.0.113.7").send().status, 403, "a refusal stays a refusal");
    }
}

#[test]
fn a_template_that_is_missing_or_no_template_stops_the_launch() {
    for (file, text) in [("ban.html.tera", None), ("refusal.html.tera", None), ("ban.html.tera", Some("{% if %}"))] {
        let folder = Folder::of_the_application();
        let path = format!("templates/{file}");
        match text {
            Some(text) => folder.write(&path, text),
            None => std::fs::remove_file(folder.path(&path)).unwrap(),
        }
        let lapi = FakeServer::start(|_| Reply::decisions(&[], &[]));
        let release = [
            ("ROCKET_PROFILE", "release"),
            SECRET_KEY,
            ("CROWDSEC_API_URL", &lapi.url()),
            ("CROWDSEC_API_KEY", KEY),
            ("ROCKET_LOG_LEVEL", "critical"),
        ];
        let mut command = command(&release);
        command.current_dir(&folder);
        let log = told_in(1, command);
        let name = file.split('.').next().unwrap();
        assert!(log.contains(name) && log.contains("at /crowdsec/preview/"), "{name}: {log}");
    }
}

#[test]
fn what_was_tried_at_the_launch_is_free_again_for_the_next_one() {
    let port = dev::closed_port().port().to_string();
    for _ in 0..2 {
        let app = App::start(&[("ROCKET_PORT", &port)]);
        TcpStream::connect(app.address()).expect("it listens");
        assert_eq!(app.stop().status.code(), Some(0));
    }
}
