//! Does the distributed engine hold? Three instances behind the shipped HAProxy, each with a key of its own for one of two
//! LAPIs, which share one PostgreSQL. Visitors come all the time while a LAPI, an instance or PostgreSQL dies and returns.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Scope};
use std::time::Duration;
use std::{fs, iter};

use dev::Verdict::{Ban, Welcome};
use dev::{App, Lapi, Postgres, Proxy, Request, Verdict, command, eventually, root, server_command};

const SECRET: &str = "bm90LWEtc2VjcmV0LWJ1dC1zaGFyZWQtYnktdGhyZWU=";
const BANNED: &str = "127.66.0.1";
const INNOCENT: &str = "127.66.0.2";
const FORGIVEN: &str = "127.66.0.3";
const ATTACKER: &str = "127.66.0.4";
const LATECOMER: &str = "127.66.0.5";
/// Which of the two LAPIs each instance names.
const LAPI_OF: [usize; 3] = [0, 1, 1];

struct Cluster {
    // Dropped in this order: a client ends before its server.
    proxy: Proxy,
    /// `None` stands for a dead instance.
    apps: [Option<App>; 3],
    lapis: [Lapi; 2],
    postgres: Postgres,
}

impl Cluster {
    /// A cluster that refuses two addresses. One ban was made at each LAPI.
    fn start() -> Self {
        let postgres = Postgres::start();
        let lapis = [Lapi::start_on(&postgres), Lapi::start_on(&postgres)];
        for n in 0..3 {
            lapis[0].cscli(&["bouncers", "add", &format!("instance-{n}"), "-k", &key(n)]);
        }
        let apps = [0, 1, 2].map(|n| launched(&lapis, n, "0").expect("a launch"));
        let proxy = shipped_haproxy(&apps.each_ref().map(|app| app.address().to_string()));
        let cluster = Self { proxy, apps: apps.map(Some), lapis, postgres };
        eventually("three instances in service", || cluster.in_service() == names(&["s0", "s1", "s2"]));
        cluster.lapis[0].ban(BANNED);
        cluster.lapis[1].ban(FORGIVEN);
        cluster.everywhere(BANNED, Ban);
        cluster.everywhere(FORGIVEN, Ban);
        cluster
    }

    #[track_caller]
    fn app(&self, n: usize) -> &App {
        self.apps[n].as_ref().expect("an instance that lives")
    }

    /// Ends an instance as a power cut does, and gives its port. First stops it for 500 ms, so that it dies with requests that
    /// it has taken and not answered.
    fn kill_instance(&mut self, n: usize) -> String {
        let app = self.apps[n].take().expect("an instance that lives");
        app.signal("STOP");
        thread::sleep(Duration::from_millis(500));
        app.signal("KILL");
        let port = app.address().port().to_string();
        app.wait();
        port
    }

    /// Starts an instance on the port at which HAProxy looks for it. Another process may hold that port for a moment.
    fn restart_instance(&mut self, n: usize, port: &str) {
        eventually("the instance is back", || {
            self.apps[n] = launched(&self.lapis, n, port);
            self.apps[n].is_some()
        });
    }

    /// Waits until each living instance, asked directly, gives this verdict.
    #[track_caller]
    fn everywhere(&self, address: &str, verdict: Verdict) {
        self.apps.iter().flatten().for_each(|app| app.eventually(address, verdict));
    }

    #[track_caller]
    fn is_well(&self, n: usize, health: (u16, &str)) {
        eventually(&format!("instance {n} says {health:?}"), || {
            let answer = self.app(n).get("/crowdsec/health").send();
            (answer.status, answer.json()["status"].as_str().expect("a status")) == health
        });
    }

    /// The instances that answer an innocent visitor through HAProxy.
    fn in_service(&self) -> BTreeSet<String> {
        let visit = visit(&self.proxy, INNOCENT);
        (0..24).filter_map(|_| visit.send().header("X-Instance").map(str::to_owned)).collect()
    }
}

const OK: (u16, &str) = (200, "ok");
const STALE: (u16, &str) = (503, "stale");

fn key(n: usize) -> String {
    format!("the-key-of-instance-{n}-alone")
}

fn launched(lapis: &[Lapi; 2], n: usize, port: &str) -> Option<App> {
    let key = key(n);
    let own = [
        ("ROCKET_PROFILE", "release"),
        ("ROCKET_PORT", port),
        ("ROCKET_SECRET_KEY", SECRET),
        ("CROWDSEC_API_KEY", &key),
        ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    App::launched(command(&App::usual(lapis[LAPI_OF[n]].url(), &own))).ok()
}

/// HAProxy in front of these instances, with the file in deploy/, but on a port of its own, without TLS, and with a health
/// check each 500 ms. A header names the instance that has answered.
fn shipped_haproxy(instances: &[String]) -> Proxy {
    let shipped = fs::read_to_string(root().join("deploy/haproxy.cfg")).expect("deploy/haproxy.cfg");
    let one = shipped.lines().find(|line| line.contains("127.0.0.1:8000")).expect("a line for an instance");
    let line = |(n, address): (usize, &String)| {
        one.replace("127.0.0.1:8000", address).replace("server one ", &format!("server s{n} ")).replace("5s", "500ms")
    };
    let lines: Vec<String> = instances.iter().enumerate().map(line).collect();
    let text = shipped.replace(one, &format!("    http-response set-header X-Instance %s\n{}", lines.join("\n")));
    let leave_out = |line: &&str| !line.contains(" ssl crt ") && !line.contains("redirect scheme https");
    let text: String = text.lines().filter(leave_out).flat_map(|line| [line, "\n"]).collect();
    let configuration = |_: &std::path::Path, port: u16| {
        let text = text.replace("bind :80\n", &format!("bind 127.0.0.1:{port}\n"));
        text.replace("bind [::]:80 v6only\n", &format!("bind [::1]:{port}\n"))
    };
    Proxy::start(configuration, |_, file| {
        let mut command = server_command("haproxy");
        command.arg("-db").arg("-q").arg("-f").arg(file);
        command
    })
}

fn visit(proxy: &Proxy, address: &str) -> Request {
    Request::new(proxy.v4(), "GET", "/").peer(address)
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| name.to_string()).collect()
}

/// Visitors who come all the time until this is dropped. Each has to get the same status every time.
struct Load<'a> {
    over: &'a AtomicBool,
    visits: &'a [AtomicUsize; 4],
}

impl<'a> Load<'a> {
    /// A wrong answer to a visitor ends the scope with a panic.
    fn start<'scope>(
        scope: &'scope Scope<'scope, 'a>,
        over: &'a AtomicBool,
        visits: &'a [AtomicUsize; 4],
        proxy: &Proxy,
    ) -> Self
    where
        'a: 'scope,
    {
        let expected = [(BANNED, 403), (INNOCENT, 200), (BANNED, 403), (INNOCENT, 200)];
        for ((address, status), count) in iter::zip(expected, visits) {
            let visit = visit(proxy, address);
            scope.spawn(move || {
                while !over.load(SeqCst) {
                    let answer = visit.send();
                    assert_eq!(answer.status, status, "{address}, visit {count:?}: {}", answer.everything());
                    count.fetch_add(1, SeqCst);
                }
            });
        }
        Self { over, visits }
    }

    /// Waits until each visitor has come this many times more.
    #[track_caller]
    fn goes_on(&self, times: usize) {
        for visits in self.visits {
            let before = visits.load(SeqCst);
            eventually("visitors are answered as they ought to be", || visits.load(SeqCst) >= before + times);
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

#[test]
fn a_lapi_and_an_instance_that_die_under_load_lose_no_ban_and_refuse_nobody_else() {
    let mut cluster = Cluster::start();
    let (over, visits) = (AtomicBool::new(false), Default::default());
    thread::scope(|scope| {
        let load = Load::start(scope, &over, &visits, &cluster.proxy);
        load.goes_on(50);
        (0..3).for_each(|n| cluster.is_well(n, OK));

        cluster.lapis[0].kill();
        let port = cluster.kill_instance(1);
        load.goes_on(50);
        eventually("one instance is out of service", || cluster.in_service() == names(&["s0", "s2"]));
        cluster.is_well(0, STALE);
        cluster.is_well(2, OK);
        // The other LAPI and its instance go on.
        cluster.lapis[1].ban(ATTACKER);
        cluster.lapis[1].revoke(&["--ip", FORGIVEN]);
        cluster.app(2).eventually(ATTACKER, Ban);
        cluster.app(2).eventually(FORGIVEN, Welcome);
        // The instance whose LAPI is dead enforces what it knew, and says that it is stale.
        assert_eq!([ATTACKER, FORGIVEN, BANNED].map(|a| cluster.app(0).verdict(a)), [Welcome, Ban, Ban]);
        eventually("stale is good enough", || cluster.in_service() == names(&["s0", "s2"]));
        load.goes_on(50);

        cluster.lapis[0].start_again();
        cluster.restart_instance(1, &port);
        cluster.everywhere(ATTACKER, Ban);
        cluster.everywhere(FORGIVEN, Welcome);
        (0..3).for_each(|n| cluster.is_well(n, OK));
        eventually("three instances in service", || cluster.in_service() == names(&["s0", "s1", "s2"]));
        cluster.lapis[0].ban(LATECOMER);
        cluster.everywhere(LATECOMER, Ban);
        load.goes_on(50);
    });
}

#[test]
fn a_database_that_dies_under_load_lifts_no_ban_and_is_caught_up_with() {
    let mut cluster = Cluster::start();
    let (over, visits) = (AtomicBool::new(false), Default::default());
    thread::scope(|scope| {
        let load = Load::start(scope, &over, &visits, &cluster.proxy);
        load.goes_on(50);
        cluster.postgres.kill();
        // Both LAPIs answer, but without the database they find no key.
        (0..3).for_each(|n| cluster.is_well(n, STALE));
        eventually("stale is good enough", || cluster.in_service() == names(&["s0", "s1", "s2"]));
        cluster.everywhere(FORGIVEN, Ban);
        load.goes_on(50);

        cluster.postgres.start_again();
        (0..3).for_each(|n| cluster.is_well(n, OK));
        cluster.lapis[0].revoke(&["--ip", FORGIVEN]);
        cluster.lapis[1].ban(ATTACKER);
        cluster.everywhere(FORGIVEN, Welcome);
        cluster.everywhere(ATTACKER, Ban);
        load.goes_on(50);
    });
}
