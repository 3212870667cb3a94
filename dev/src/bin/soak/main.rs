//! Does the application still know right from wrong after a long time of changes and faults? `dev/soak` runs it.
//!
//! A model beside it knows what each address has to meet. Two things are wrong answers: one that turns without a
//! decision, and one that has not turned although LAPI's full answer was heard twice since the decision. Meanwhile
//! somebody banned tries to come in behind two proxies, one of which adds to what he says.

mod chance;
mod faults;
mod model;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chance::Chance;
use dev::{App, FakeServer, KEY, Lapi, Machine, Proxy, Request, Seen, pipeline};
use faults::Faults;
use model::{Address, BLUR};

/// How many addresses are ever banned; as many again never are.
const ADDRESSES: usize = 4000;
const RESYNC: &str = "10s";
/// Without changes and faults everything comes to rest with the next resync; this is for a busy machine.
const AT_REST_AFTER: Duration = Duration::from_secs(180);
/// Who is banned behind the proxies, and who is not.
const ATTACKER: &str = "127.66.0.1";
const INNOCENT: &str = "127.66.0.2";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let seconds = arguments.next().expect("how many seconds");
    let seed = arguments.next().unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    println!("soak: {seconds} s, seed {seed}");
    let mut soak = Soak::start(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut next_word = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        soak.step();
        if Instant::now() > next_word {
            next_word += Duration::from_secs(30);
            println!("soak: {}", soak.summary());
        }
    }
    soak.come_to_rest();
    println!("soak: {}", soak.summary());
    soak.wrong.iter().take(20).for_each(|wrong| println!("soak: wrong: {wrong}"));
    // Where nobody was refused, nothing was put to the test.
    if soak.wrong.is_empty() && soak.refused > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Soak {
    lapi: Lapi,
    relay: FakeServer,
    app: App,
    /// From the visitor's side to ours.
    proxies: [Proxy; 2],
    faults_of_relay: Arc<Faults>,
    machine: Machine,
    chance: Chance,
    model: Vec<Address>,
    next_fault: Instant,
    next_break: Instant,
    /// When LAPI begins to forget, or remembers again.
    next_turn: Instant,
    /// What it did, in the order of the summary.
    added: usize,
    deleted: usize,
    faults_of_lapi: usize,
    refused: usize,
    admitted: usize,
    wrong: Vec<String>,
}

impl Soak {
    fn start(seed: u64) -> Self {
        let lapi = Lapi::start();
        let faults_of_relay = Arc::new(Faults::default());
        let (faults, server) = (faults_of_relay.clone(), lapi.address());
        let relay = FakeServer::start(move |seen| faults.answer(server, seen));
        lapi.decide(&["--ip", ATTACKER, "--duration", "240h"]);
        let settings = [
            ("CROWDSEC_RESYNC_FREQUENCY", RESYNC),
            ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1"),
            ("ROCKET_LOG_LEVEL", "normal"),
        ];
        let app = App::polling(&relay.url(), &settings);
        let adds = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
        let inner = Proxy::nginx(app.address(), "", adds);
        let proxies = [Proxy::haproxy(&[inner.v4()], "option forwardfor", ""), inner];
        let name = |n: usize| format!("198.{}.{}.{}", 18 + n / 62_500, n / 250 % 250, n % 250);
        let machine = lapi.machine();
        Self {
            lapi,
            relay,
            app,
            proxies,
            faults_of_relay,
            machine,
            chance: Chance(seed | 1),
            model: (0..2 * ADDRESSES).map(|n| Address::new(name(n))).collect(),
            next_fault: Instant::now() + Duration::from_secs(10),
            next_break: Instant::now() + Duration::from_secs(60),
            next_turn: Instant::now() + Duration::from_secs(30),
            added: 0,
            deleted: 0,
            faults_of_lapi: 0,
            refused: 0,
            admitted: 0,
            wrong: vec![],
        }
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..30 => self.add_some(),
            30..60 => self.delete_some(),
            60..70 => self.add_short_ones(),
            70..75 => self.import(),
            _ => sleep(Duration::from_millis(300)),
        }
        // Faults keep a distance. If every poll met one, the application would only wait longer and longer, and if LAPI
        // never had a quiet minute, the model could not say of anything that it has to have arrived.
        if Instant::now() > self.next_fault {
            self.faults_of_relay.next.store(1 + self.chance.below(Faults::KINDS), SeqCst);
            self.next_fault = self.in_seconds(1, 15);
        }
        if Instant::now() > self.next_break {
            self.break_lapi();
            self.next_break = self.in_seconds(20, 140);
        }
        if Instant::now() > self.next_turn {
            let forgot = self.faults_of_relay.forgets.load(SeqCst) > 0;
            let forgets = if forgot { 0 } else { 1 + self.chance.below(Faults::ALL) };
            self.faults_of_relay.forgets.store(forgets, SeqCst);
            self.next_turn = if forgot { self.in_seconds(30, 120) } else { self.in_seconds(5, 30) };
        }
        self.probe_some();
    }

    fn in_seconds(&mut self, least: usize, most: usize) -> Instant {
        Instant::now() + Duration::from_secs((least + self.chance.below(most - least)) as u64)
    }

    // --- changes ---

    fn add_some(&mut self) {
        for _ in 0..1 + self.chance.below(20) {
            let some: Vec<usize> = (0..1 + self.chance.below(8)).map(|_| self.chance.below(ADDRESSES)).collect();
            self.add(&some, "4h");
            some.iter().for_each(|n| self.model[*n].turn(true, None));
        }
    }

    fn add_short_ones(&mut self) {
        let seconds = 8 + self.chance.below(8) as u64;
        let some: Vec<usize> = (0..1 + self.chance.below(20)).map(|_| self.chance.below(ADDRESSES)).collect();
        let until = Instant::now() + Duration::from_secs(seconds);
        self.add(&some, &format!("{seconds}s"));
        some.iter().for_each(|n| self.model[*n].turn(true, Some(until)));
    }

    fn add(&mut self, addresses: &[usize], duration: &str) {
        let names: Vec<&str> = addresses.iter().map(|n| self.model[*n].name.as_str()).collect();
        self.machine.add(&names, duration);
        self.added += addresses.len();
    }

    fn delete_some(&mut self) {
        for _ in 0..1 + self.chance.below(60) {
            let n = self.chance.below(ADDRESSES);
            self.machine.delete(&self.model[n].name);
            self.model[n].turn(false, None);
            self.deleted += 1;
        }
    }

    fn import(&mut self) {
        let (first, count) = (self.chance.below(ADDRESSES), 200 + self.chance.below(800));
        let some: Vec<usize> = (first..first + count).map(|n| n % ADDRESSES).collect();
        let mut lines = vec!["duration,type,value".to_string()];
        lines.extend(some.iter().map(|n| format!("4h,ban,{}", self.model[*n].name)));
        self.lapi.import(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        some.iter().for_each(|n| self.model[*n].turn(true, None));
        self.added += some.len();
    }

    // --- faults ---

    fn break_lapi(&mut self) {
        self.faults_of_lapi += 1;
        match self.chance.below(4) {
            0 => self.lapi.stop(),
            1 => self.lapi.kill(),
            2 => {
                self.lapi.freeze();
                self.probe_for(Duration::from_secs(3));
                self.lapi.kill();
            }
            _ => {
                self.lapi.cscli(&["bouncers", "delete", "test"]);
                self.probe_for(Duration::from_secs(3));
                self.lapi.cscli(&["bouncers", "add", "test", "-k", KEY]);
                return;
            }
        }
        let pause = Duration::from_secs(self.chance.below(5) as u64);
        self.probe_for(pause);
        self.lapi.start_again();
    }

    // --- what visitors meet ---

    fn probe_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.probe_some();
            sleep(Duration::from_millis(100));
        }
    }

    /// Whatever the attacker says, he meets no page; and the innocent, who says nothing, meets it.
    fn attack(&mut self) {
        const BYTES: &[u8] = b"\xff\xc3\x28\x80\t ,;:=\"[]for127.0.0.1";
        let edge = self.proxies[0].v4();
        let request = |visitor| Request::new(edge, "GET", "/members").peer(visitor);
        let lie: Vec<u8> = (0..self.chance.below(16)).map(|_| BYTES[self.chance.below(BYTES.len())]).collect();
        let header = ["X-Forwarded-For", "Forwarded", "X-Real-IP"][self.chance.below(3)];
        let attack = request(ATTACKER).header("X-Forwarded-For", &lie).header(header, &lie);
        // Some lies are no header's, which the proxies say.
        let (attacker, innocent) = (attack.send().status, request(INNOCENT).send().status);
        if ![400, 403].contains(&attacker) || innocent != 200 {
            self.wrong.push(format!("behind two proxies: {attacker} for {lie:?}, {innocent} for the innocent"));
        }
        self.refused += 1;
        self.admitted += 1;
    }

    fn probe_some(&mut self) {
        self.attack();
        let mut some: Vec<usize> = (0..80).map(|_| self.chance.below(2 * ADDRESSES)).collect();
        // Those that changed last are the interesting ones.
        some.extend((0..ADDRESSES).filter(|n| !self.model[*n].settled).take(60));
        self.probe(&some);
    }

    fn probe(&mut self, some: &[usize]) {
        let (before, heard) = (Instant::now(), self.faults_of_relay.heard());
        let asked: Vec<Request> =
            some.iter().map(|n| self.app.request("HEAD", "/members").from(&self.model[*n].name)).collect();
        let answers = pipeline(&asked);
        let late = before.elapsed() > BLUR / 2;
        for (n, answer) in some.iter().zip(answers) {
            let refused = match answer.status {
                403 => true,
                200 => false,
                status => {
                    self.wrong.push(format!("status {status} for {}", self.model[*n].name));
                    continue;
                }
            };
            if refused {
                self.refused += 1
            } else {
                self.admitted += 1
            }
            let address = &mut self.model[*n];
            let Some(banned) = address.is_banned(before).filter(|_| !late || address.until.is_none()) else { continue };
            let has_to_know = heard.is_some_and(|heard| address.changed < heard);
            match refused == banned {
                true => address.settled |= has_to_know || !address.hasty,
                false if address.settled || has_to_know => {
                    let why = if address.settled { "it turned by itself" } else { "it never turned" };
                    let (name, until) = (&address.name, address.until.map(|until| until - before));
                    let since = address.changed.elapsed();
                    let wrong = format!("{name} refused: {refused}; {why}; changed {since:?} ago, ends in {until:?}");
                    self.wrong.push(wrong);
                    address.settled = false;
                    address.changed = Instant::now();
                }
                false => {}
            }
        }
    }

    /// Without changes and faults, every address has to meet in the end what LAPI holds.
    fn come_to_rest(&mut self) {
        self.faults_of_relay.forgets.store(0, SeqCst);
        let end = Instant::now() + AT_REST_AFTER;
        loop {
            let now = Instant::now();
            self.model.iter_mut().for_each(|address| _ = address.is_banned(now));
            let open: Vec<usize> = (0..2 * ADDRESSES).filter(|n| !self.model[*n].settled).collect();
            if open.is_empty() || now > end {
                self.wrong.extend(open.iter().map(|n| format!("{} never came to rest", self.model[*n].name)));
                break;
            }
            open.chunks(200).for_each(|some| self.probe(some));
            sleep(Duration::from_millis(500));
        }
        let all: Vec<usize> = (0..2 * ADDRESSES).collect();
        all.chunks(200).for_each(|some| self.probe(some));
    }

    fn summary(&self) -> String {
        let polls: Vec<Seen> = self.relay.seen().into_iter().filter(|seen| !seen.is_question()).collect();
        let full = polls.iter().filter(|poll| poll.asks_for_all()).count();
        format!(
            "{} polls ({full} for everything, {} of a LAPI that forgot), {} decisions added, {} deleted, {} faults on the way, {} of LAPI; \
             {} requests refused, {} admitted; {} wrong answers",
            polls.len(),
            self.faults_of_relay.forgotten.load(SeqCst),
            self.added,
            self.deleted,
            self.faults_of_relay.count.load(SeqCst),
            self.faults_of_lapi,
            self.refused,
            self.admitted,
            self.wrong.len()
        )
    }
}
