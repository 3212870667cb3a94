//! What is known after a restart, a crash, or a jump of the clock? The decisions of a snapshot, whose time has run on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::{env, fs, process};

use dev::Verdict::{Ban, Captcha, NotYet, Welcome};
use dev::{App, FakeServer, KEY, Lapi, Reply, Seen, command, eventually};
use serde_json::{Value, json};

/// A decision as LAPI writes it. `until` is its end by LAPI's clock, which newer LAPIs send; here it is long past.
fn ban(id: u32, address: &str, duration: &str) -> Value {
    json!({ "duration": duration, "id": id, "origin": "cscli", "scenario": "end-to-end", "scope": "Ip", "type": "ban",
            "until": "2001-01-01T00:00:00Z", "value": address })
}

/// A LAPI that knows these bans and in which nothing ever changes.
fn standing(bans: Vec<Value>) -> impl Fn(&Seen) -> Reply {
    move |seen| Reply::standing(seen, &bans)
}

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("restarts-{}-{}", process::id(), COUNT.fetch_add(1, SeqCst));
        let folder = Self(env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder for the test");
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// --- crashes ---

#[test]
fn bans_outlive_a_crash_while_lapi_is_dead() {
    let folder = Folder::new();
    let path = folder.path("decisions.snapshot");
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.captcha("192.0.2.2");
    lapi.ban_range("2001:db8::/32");
    lapi.decide(&["--ip", "192.0.2.9", "--duration", "10s"]);
    let settings = [("CROWDSEC_SNAPSHOT", path.as_str())];
    let app = App::polling(lapi.url(), &settings);
    eventually("a snapshot", || Path::new(&path).exists());
    lapi.kill();
    // As when the kernel is short of memory and ends the application: none of its code runs any more.
    drop(app);
    fs::write(folder.path("decisions.snapshot.new"), "half of one that a crash left behind").expect("writing");
    // The second launch has nothing but the snapshot that the first one left.
    for _ in 0..2 {
        let app = App::polling(lapi.url(), &settings);
        assert_eq!(app.verdict("192.0.2.1"), Ban, "{}", app.log());
        assert_eq!(app.verdict("192.0.2.2"), Captcha);
        assert_eq!(app.verdict("2001:db8::7"), Ban);
        assert_eq!(app.verdict("192.0.2.3"), Welcome);
        app.eventually("192.0.2.9", Welcome);
        eventually("the log tells of the loss", || app.logged("nobody listens there") > 0);
        assert_eq!(app.verdict("192.0.2.1"), Ban);
    }
}

#[test]
fn the_snapshot_is_written_at_the_launch_and_not_only_at_the_next_poll() {
    let folder = Folder::new();
    let path = folder.path("decisions.snapshot");
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1", "4h")]));
    let settings = [("CROWDSEC_SNAPSHOT", path.as_str()), ("CROWDSEC_UPDATE_FREQUENCY", "1h")];
    let app = App::polling(&lapi.url(), &settings);
    eventually("a snapshot", || Path::new(&path).exists());
    drop(app);
    lapi.answers(|_| Reply::error(500));
    let settings = [settings[0], ("ROCKET_LOG_LEVEL", "critical")];
    let app = App::polling(&lapi.url(), &settings);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.logged("has answered: "), 0);
    // LAPI's first answer stands in the release profile's log too: until then only the snapshot counts.
    lapi.answers(standing(vec![ban(1, "192.0.2.1", "4h"), ban(2, "192.0.2.2", "4h")]));
    app.tells("has answered: 2 decisions in force", 1);
}

/// A shell's limit on the size of files stands in for the full disk.
#[test]
fn a_snapshot_that_a_full_disk_does_not_take_leaves_no_half_behind() {
    let folder = Folder::new();
    let path = folder.path("decisions.snapshot");
    let bans = (0..3000).map(|id| ban(id + 1, &format!("10.0.{}.{}", id / 250, id % 250), "4h")).collect();
    let lapi = FakeServer::start(standing(bans));
    let url = lapi.url();
    let usual = command(&App::usual(&url, &[("CROWDSEC_SNAPSHOT", &path)]));
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"trap "" XFSZ; ulimit -f 64; exec "$0""#]).arg(usual.get_program());
    limited.env_clear().envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(usual.get_current_dir().expect("a folder")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let app = App::launched(limited).expect("it launches");
    app.tells("decisions.snapshot cannot be written", 1);
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 0);
}

// --- the launch, with and without a snapshot ---

/// How LAPI fails at the launch.
const FAULTS: [&str; 3] = ["refuses the connection", "is a black hole", "answers 403"];

#[test]
fn on_startup_failure_decides_unless_a_valid_snapshot_stands_in() {
    for fault in FAULTS {
        let folder = Folder::new();
        let path = folder.path("decisions.snapshot");
        let bans = || standing(vec![ban(1, "192.0.2.1", "4h")]);
        let snapshot_of = |lapi: &FakeServer| {
            let app = App::polling(&lapi.url(), &[("CROWDSEC_SNAPSHOT", path.as_str())]);
            eventually("a snapshot", || Path::new(&path).exists());
            drop(app);
            let bytes = fs::read(&path).expect("the snapshot");
            fs::remove_file(&path).expect("removing it");
            bytes
        };
        let foreign = snapshot_of(&FakeServer::start(bans()));
        let lapi = FakeServer::start(bans());
        let whole = snapshot_of(&lapi);
        let (url, torn) = (lapi.url(), whole[..whole.len() / 2].to_vec());
        let lapi = match fault {
            "is a black hole" => {
                lapi.answers(|_| Reply::silence());
                Some(lapi)
            }
            "answers 403" => {
                lapi.answers(|_| Reply::error(403));
                Some(lapi)
            }
            _ => {
                drop(lapi);
                None
            }
        };
        let snapshots = [
            (None, ""),
            (Some(&whole), ""),
            (Some(&torn), "is not used: it was cut or changed"),
            (Some(&foreign), "or written with another secret_key, api_url or filters"),
        ];
        for (snapshot, told) in snapshots {
            for word in ["open", "closed", "abort"] {
                let _ = fs::remove_file(&path);
                snapshot.inspect(|bytes| fs::write(&path, bytes).expect("writing the snapshot"));
                let case = format!("LAPI {fault}, {word}, a snapshot of {:?} bytes", snapshot.map(Vec::len));
                let settings = [
                    ("CROWDSEC_SNAPSHOT", path.as_str()),
                    ("CROWDSEC_ON_STARTUP_FAILURE", word),
                    ("CROWDSEC_STARTUP_TIMEOUT", "1s"),
                ];
                let settings = App::usual(&url, &settings);
                let believed = snapshot == Some(&whole);
                let log = if word == "abort" && !believed {
                    let ended = App::fails_to_start(&settings);
                    assert!(!ended.status.success(), "{case}");
                    assert!(ended.log.contains("`on_startup_failure` is `abort`"), "{case}: {}", ended.log);
                    ended.log
                } else {
                    let app = App::start(&settings);
                    let met = (app.verdict("192.0.2.1"), app.verdict("192.0.2.2"), health(&app));
                    let expected = match word {
                        _ if believed => (Ban, Welcome, (200, "ok".into())),
                        "closed" => (NotYet, NotYet, (503, "starting".into())),
                        _ => (Welcome, Welcome, (503, "starting".into())),
                    };
                    assert_eq!(met, expected, "{case}: {}", app.log());
                    let from_snapshot = app.logged("1 decision from the snapshot");
                    assert_eq!(from_snapshot, usize::from(believed), "{case}: {}", app.log());
                    // Nor does the line about what is connected say that LAPI was heard.
                    let at_the_launch = app.logged("the others from the snapshot until CrowdSec's LAPI");
                    assert_eq!(at_the_launch, usize::from(believed), "{case}: {}", app.log());
                    app.log()
                };
                let warnings = log.lines().filter(|line| line.contains("is not used: ")).collect::<Vec<_>>();
                assert_eq!(warnings.len(), usize::from(!told.is_empty()), "{case}: {log}");
                assert!(warnings.iter().all(|line| line.contains(told)), "{case}: {log}");
                assert!(!log.contains(KEY), "a key never stands in the log");
            }
        }
        drop(lapi);
    }
}

#[test]
fn a_forged_snapshot_is_not_believed_and_keeps_a_closed_application_closed() {
    let folder = Folder::new();
    let path = folder.path("decisions.snapshot");
    let lapi = FakeServer::start(standing(vec![]));
    let (ours, theirs) =
        ("b3VycyBvdXJzIG91cnMgb3VycyBvdXJzIG91cnMhISE=", "dGhlaXJzIHRoZWlycyB0aGVpcnMgdGhlaXJzISEhISE=");
    let closed = [
        ("CROWDSEC_SNAPSHOT", path.as_str()),
        ("CROWDSEC_ON_STARTUP_FAILURE", "closed"),
        ("CROWDSEC_STARTUP_TIMEOUT", "1s"),
    ];
    let with = |key: &'static str| [closed.as_slice(), &[("ROCKET_SECRET_KEY", key)]].concat();
    // An attacker who writes the file lacks only the key. They write that nobody is banned, without a key and with another one.
    for (settings, told) in [
        (closed.to_vec(), "is not used: it was cut or changed, or written with another secret_key"),
        (with(theirs), "is not used: it was cut or changed, or written with another secret_key"),
        (with(ours), ""),
    ] {
        lapi.answers(standing(vec![]));
        let _ = fs::remove_file(&path);
        let app = App::polling(&lapi.url(), &settings);
        eventually("a snapshot", || Path::new(&path).exists());
        drop(app);
        lapi.answers(|_| Reply::error(500));
        let app = App::polling(&lapi.url(), &with(ours));
        let expected = if told.is_empty() { Welcome } else { NotYet };
        assert_eq!(app.verdict("192.0.2.1"), expected, "{}", app.log());
        app.tells("is not used: ", usize::from(!told.is_empty()));
        eventually("the log tells why", || app.log().contains(told));
    }
}

fn health(app: &App) -> (u16, String) {
    let answer = app.get("/crowdsec/health").send();
    (answer.status, answer.json()["status"].as_str().expect("a status").to_string())
}

// --- a clock that jumps ---

/// The wall clock of one process, by Debian's libfaketime. The monotonic clock stays as it is, as it does when somebody
/// sets the time of a machine.
struct Clock {
    folder: Folder,
    library: String,
}

impl Clock {
    fn start() -> Self {
        let folders = fs::read_dir("/usr/lib").expect("/usr/lib").map_while(Result::ok);
        let library =
            folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
        let library = library.expect("Debian's libfaketime").to_str().expect("a plain path").to_string();
        let clock = Self { folder: Folder::new(), library };
        clock.jump_to("+0");
        clock
    }

    /// Sets the clock this far from the true time.
    fn jump_to(&self, offset: &str) {
        // Renamed, so that the process never reads half a file.
        fs::write(self.folder.path("new"), offset).expect("writing the time");
        fs::rename(self.folder.path("new"), self.folder.path("time")).expect("setting the time");
    }

    /// An application with this clock.
    fn app(&self, url: &str, settings: &[(&str, &str)]) -> App {
        let time = self.folder.path("time");
        let own = [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &time),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        App::polling(url, &[settings, &own].concat())
    }
}

#[test]
fn decisions_neither_end_early_nor_live_on_when_the_clock_jumps() {
    for jump in ["+1d", "-1d"] {
        let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1", "4h"), ban(2, "192.0.2.2", "8s")]));
        let clock = Clock::start();
        let app = clock.app(&lapi.url(), &[]);
        assert_eq!(app.verdict("192.0.2.1"), Ban);
        clock.jump_to(jump);
        app.eventually("192.0.2.2", Welcome);
        let polls = lapi.seen().len();
        eventually("polls go on", || lapi.seen().len() > polls + 2);
        assert_eq!(app.verdict("192.0.2.1"), Ban, "{jump}");
        assert_eq!(lapi.seen().iter().filter(|poll| poll.asks_for_all()).count(), 1, "LAPI has not said it again");
        assert_eq!(health(&app), (200, "ok".into()), "{jump}");
    }
}

#[test]
fn a_solved_captcha_ends_by_the_wall_clock_forth_and_back() {
    let mut captcha = ban(1, "192.0.2.1", "4h");
    captcha["type"] = json!("captcha");
    let lapi = FakeServer::start(standing(vec![captcha]));
    let provider = FakeServer::start(|_| Reply::json(&json!({ "success": true, "error-codes": [] })));
    let clock = Clock::start();
    let app = clock.app(&lapi.url(), &[("CROWDSEC_CAPTCHA_VERIFY_URL", &provider.url())]);
    let solve = || {
        let form = [("return_to", "/"), ("g-recaptcha-response", "solved")];
        let answer = app.request("POST", "/crowdsec/captcha").from("192.0.2.1").form(&form).send();
        assert_eq!(answer.status, 303, "{}", answer.everything());
        answer.set_cookie()
    };
    let cookie = solve();
    let status = |cookie: &str| app.get("/").from("192.0.2.1").cookie(cookie).send().status;
    assert_eq!(status(&cookie), 200);
    // A clock that is set forward costs the visitor another captcha, and never brings a ban.
    clock.jump_to("+2h");
    assert_eq!(status(&cookie), 403);
    let later = solve();
    assert_eq!(status(&later), 200);
    // After it is set back, an old solution counts again, and a new one longer by the jump. The decision's end bounds both.
    clock.jump_to("+0");
    assert_eq!((status(&cookie), status(&later)), (200, 200));
}

#[test]
fn a_snapshot_takes_off_what_passed_by_the_wall_clock_and_nothing_if_it_went_back() {
    let folder = Folder::new();
    let path = folder.path("decisions.snapshot");
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1", "30m"), ban(2, "192.0.2.2", "12h")]));
    let settings = [("CROWDSEC_SNAPSHOT", path.as_str())];
    let clock = Clock::start();
    let app = clock.app(&lapi.url(), &settings);
    eventually("a snapshot", || Path::new(&path).exists());
    drop(app);
    let whole = fs::read(&path).expect("the snapshot");
    lapi.answers(|_| Reply::error(500));
    for (offset, shorter, longer) in [
        ("+0", Ban, Ban),
        ("-1d", Ban, Ban),
        ("+1h", Welcome, Ban),
        ("+20h", Welcome, Welcome),
        ("+2d", Welcome, Welcome),
    ] {
        fs::write(&path, &whole).expect("writing the snapshot");
        clock.jump_to(offset);
        let app = clock.app(&lapi.url(), &settings);
        assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.2")), (shorter, longer), "{offset}: {}", app.log());
        app.tells("is older than a day", usize::from(offset == "+2d"));
    }
    // LAPI's answer corrects all of this.
    lapi.answers(standing(vec![ban(1, "192.0.2.1", "30m"), ban(2, "192.0.2.2", "12h")]));
    clock.jump_to("+2d");
    clock.app(&lapi.url(), &settings).eventually("192.0.2.2", Ban);
}

/// A key is rotated by a second bouncer in CrowdSec: as long as CrowdSec knows both, both instances are in step.
#[test]
fn a_bouncers_key_is_rotated_without_a_moment_in_which_the_banned_get_in() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let folder = Folder::new();
    let (key, snapshot) = (folder.path("key"), folder.path("decisions.snapshot"));
    fs::write(&key, KEY).expect("a file");
    let settings = [
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_API_KEY_FILE", key.as_str()),
        ("CROWDSEC_SNAPSHOT", snapshot.as_str()),
        ("CROWDSEC_ON_STARTUP_FAILURE", "closed"),
    ];
    let old = App::polling(lapi.url(), &settings);
    assert_eq!(old.verdict("192.0.2.1"), Ban);
    lapi.cscli(&["bouncers", "add", "rotated", "-k", "another-key-of-the-tests"]);
    fs::write(&key, "another-key-of-the-tests").expect("a file");
    // Both instances run for a while, as in a rolling restart.
    let new = App::polling(lapi.url(), &settings);
    assert_eq!((old.verdict("192.0.2.1"), new.verdict("192.0.2.1")), (Ban, Ban));
    lapi.ban("192.0.2.2");
    old.eventually("192.0.2.2", Ban);
    new.eventually("192.0.2.2", Ban);
    old.stop();
    lapi.cscli(&["bouncers", "delete", "test"]);
    lapi.ban("192.0.2.3");
    new.eventually("192.0.2.3", Ban);
    assert_eq!((new.verdict("192.0.2.1"), new.logged(" is lost: ")), (Ban, 0), "{}", new.log());
    // An instance that still has the old key learns nothing new, and forgets nobody.
    fs::write(&key, KEY).expect("a file");
    let forgotten = App::polling(lapi.url(), &settings);
    assert_eq!((forgotten.verdict("192.0.2.1"), forgotten.verdict("192.0.2.9")), (Ban, Welcome));
    eventually("it is told", || forgotten.logged("403: LAPI refuses the key") > 0);
}
