//! Do systemd, Docker Compose and logrotate understand what is shipped for them?

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dev::{App, Lapi, eventually};

use super::shipped::app;
use super::{plain, set, shipped_file, shipped_text};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("deploy-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the test");
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("making the folder");
        fs::write(&file, text).expect("writing a file");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?} (dev/setup comes first): {e}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    // A folder stands for a machine on which the application is installed.
    let machine = Folder::new("machine");
    let unit = "etc/systemd/system/application.service";
    machine.write(unit, &shipped_text("application.service"));
    let binary = machine.write("opt/application/application", "");
    fs::set_permissions(binary, fs::Permissions::from_mode(0o755)).expect("making it a program");
    let folder = machine.write("usr/lib/systemd/empty", "").with_file_name("");
    let copied = Command::new("cp").arg("-r").arg("/usr/lib/systemd/system").arg(folder).status();
    assert!(copied.expect("cp").success());
    let complaints = |machine: &Folder| {
        let root = format!("--root={}", plain(&machine.0));
        let output = run(Command::new("systemd-analyze").args([&root, "verify", "application.service"]));
        text(&output.stdout) + &text(&output.stderr)
    };
    assert_eq!(complaints(&machine), "");
    // A misspelt setting is complained of, so silence means something.
    machine.write(unit, &set(shipped_text("application.service"), "LimitNOFILE=", "LimitNOFILES="));
    assert!(complaints(&machine).contains("LimitNOFILES"));
}

#[test]
fn the_unit_exposes_little() {
    let output = run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=12"])
        .arg(shipped_file("application.service")));
    // systemd-analyze fails above the threshold, which counts tenths: 12 is an exposure of 1.2.
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("Overall exposure level"), "{}", text(&output.stdout));
}

/// What systemd's own parser makes of a file of settings.
fn read_by_systemd(settings: &str) -> BTreeMap<String, String> {
    let home = Folder::new("environment");
    home.write("environment.d/1.conf", settings);
    let generator = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator";
    let output = run(Command::new(generator).env_clear().env("XDG_CONFIG_HOME", &home.0));
    assert_eq!(text(&output.stderr), "");
    // The generator writes what a shell would read: a value with quotes inside stands in quotes.
    let value = |value: &str| match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\\\"", "\"").replace("\\$", "$"),
        None => value.to_string(),
    };
    let lines = text(&output.stdout);
    lines.lines().filter_map(|line| line.split_once('=')).map(|(name, v)| (name.to_string(), value(v))).collect()
}

#[test]
fn the_application_starts_with_the_settings_that_systemd_reads_in_the_example() {
    let lapi = Lapi::start();
    let mut example = set(shipped_text("env"), "\n#CROWDSEC_DECISIONS=", "\nCROWDSEC_DECISIONS=");
    example = set(example, "http://127.0.0.1:8080/", lapi.url());
    let read = read_by_systemd(&example);
    // Every line that is no comment is a setting that has arrived.
    let written = example.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    let ours = read.keys().filter(|name| name.starts_with("ROCKET_") || name.starts_with("CROWDSEC_")).count();
    assert_eq!(ours, written, "{read:?}");
    let mut settings: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // The secrets that the unit has systemd load, from files as the checklist makes them.
    let (key, secret) = (Folder::new("key"), Folder::new("secret"));
    key.write("crowdsec_api_key", &format!("{}\n", dev::KEY));
    secret.write("rocket_secret_key", "k7yIT0EZQYsJYOvR2VtMZQzZtZ2wQ6zv0M8J2m3uT1Y=\n");
    let unit = shipped_text("application.service");
    let credential = |variable: &str, folder: &Folder, name: &str| {
        assert!(unit.contains(&format!("\nLoadCredential={name}:/etc/application/{name}\n")), "{unit}");
        assert!(unit.contains(&format!("\nEnvironment={variable}=%d/{name}\n")), "{unit}");
        folder.0.join(name).display().to_string()
    };
    let key = credential("CROWDSEC_API_KEY_FILE", &key, "crowdsec_api_key");
    let secret = credential("CROWDSEC_ROCKET_SECRET_KEY_FILE", &secret, "rocket_secret_key");
    settings.extend([
        ("ROCKET_PROFILE", "release"),
        ("CROWDSEC_API_KEY_FILE", key.as_str()),
        ("CROWDSEC_ROCKET_SECRET_KEY_FILE", secret.as_str()),
    ]);
    let app = App::start(&settings);
    lapi.ban_range("192.0.2.0/24");
    app.catch_up(&lapi);
    assert_eq!(app.verdict("192.0.2.9"), dev::Verdict::Welcome, "the example's own decision lets its office in");
    assert_eq!(app.logged("is called CROWDSEC_"), 0, "no setting is unknown: {}", app.log());
}

#[test]
fn docker_compose_understands_the_file_and_every_path_in_it_is_there() {
    let folder = Folder::new("compose");
    let compose = shipped_text("compose.yaml");
    // The first Docker Compose, which some Debians have, does not know this line.
    folder.write("deploy/compose.yaml", &set(compose.clone(), "\nname: application\n", "\n"));
    folder.write("deploy/Dockerfile", "FROM scratch");
    let keys = [("ROCKET_SECRET_KEY", "secret"), ("CROWDSEC_API_KEY", "key")];
    let check = |keys: &[(&str, &str)]| {
        let mut command = Command::new("docker-compose");
        command.arg("-f").arg(folder.0.join("deploy/compose.yaml")).args(["config", "-q"]);
        run(command.envs(keys.iter().copied()).env_remove("COMPOSE_FILE"))
    };
    let output = check(&keys);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = check(&[]);
    assert!(!output.status.success() && text(&output.stderr).contains("see the top of compose.yaml"), "no keys");

    let here: Vec<_> = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split_once(':')).collect();
    assert!(here.len() >= 4, "{here:?}");
    for (path, there) in here {
        assert!(shipped_file(path).is_file(), "deploy/{path}");
        assert!(there.starts_with(&format!("/etc/crowdsec/{}", path.trim_start_matches("sensor/"))), "{path}: {there}");
    }
    for file in files(&shipped_file("sensor")) {
        assert!(compose.contains(&format!("- ./{}:", plain(&file))), "{} is not mounted", file.display());
    }
}

/// The files below a folder of deploy/, by their paths from there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let found = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    found.map(|path| path.strip_prefix(shipped_file("")).map(Path::to_path_buf).unwrap_or(path)).collect()
}

#[test]
fn the_application_knows_every_setting_of_the_unit_and_of_compose() {
    let lapi = Lapi::start();
    let logs = Folder::new("settings");
    for (name, separator) in [("application.service", "="), ("compose.yaml", ": ")] {
        let text = shipped_text(name);
        let lines = text.lines().map(|line| line.trim().trim_start_matches("Environment="));
        let settings: Vec<_> = lines
            .filter_map(|line| line.split_once(separator))
            .filter(|(name, _)| name.starts_with("CROWDSEC_") && !name.contains("KEY"))
            .map(|(name, value)| (name, value.split(" #").next().unwrap_or(value)))
            // LAPI is on the other machine.
            .filter(|(name, _)| *name != "CROWDSEC_API_URL")
            .map(|(name, value)| match value.rsplit_once('/') {
                Some((_, file)) => (name, plain(&logs.0.join(file)).to_string()),
                None => (name, value.to_string()),
            })
            .collect();
        assert!(settings.len() >= 4, "{name}: {settings:?}");
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let app = app(lapi.url(), &settings);
        assert_eq!(app.get("/").from("198.51.100.1").send().status, 200);
        assert_eq!(app.logged("is called CROWDSEC_"), 0, "{name}: {}", app.log());
        assert!(app.stop().status.success());
        assert!(logs.0.join("decisions.snapshot").exists(), "{name} has a snapshot");
        fs::remove_file(logs.0.join("decisions.snapshot")).expect("removing the snapshot");
    }
}

#[test]
fn logrotate_takes_the_log_away_and_the_application_goes_on_in_a_new_one() {
    let lapi = Lapi::start();
    let logs = Folder::new("logs");
    let log = logs.0.join("access.log");
    let app = app(lapi.url(), &[("CROWDSEC_ACCESS_LOG", plain(&log))]);
    let lines = |file: &str, target: &str| {
        fs::read_to_string(logs.0.join(file)).unwrap_or_default().matches(&format!("GET {target} ")).count()
    };
    app.get("/one").from("198.51.100.1").send();
    eventually("the first line", || lines("access.log", "/one") == 1);

    let configuration = set(shipped_text("logrotate"), "/var/log/application/", &format!("{}/", plain(&logs.0)));
    let configuration = logs.write("configuration/logrotate", &configuration);
    let mut command = dev::server_command("logrotate");
    let output = run(command.arg("--force").arg("--state").arg(logs.0.join("state")).arg(configuration));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    assert_eq!(lines("access.log.1", "/one"), 1);

    app.get("/two").from("198.51.100.1").send();
    eventually("the second line", || lines("access.log", "/two") == 1);
    assert_eq!((lines("access.log", "/one"), lines("access.log.1", "/two")), (0, 0));
}
