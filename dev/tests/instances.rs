//! Do several instances work as one? Three instances behind a real HAProxy share `ROCKET_SECRET_KEY` and nothing else. Each
//! has a key of its own for the one LAPI.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dev::{Answer, App, FakeServer, Lapi, Proxy, Reply, Request, eventually, eventually_within};
use serde_json::json;

const SECRET: &str = "bm90LWEtc2VjcmV0LWJ1dC1zaGFyZWQtYnktdGhyZWU=";
const SOLVED: &str = "a-solved-captcha";
/// HAProxy names in a header the instance that has answered.
const BALANCED: &str = "option forwardfor\n\
                        option httpchk\n\
                        http-check send meth GET uri /crowdsec/health\n\
                        http-check expect status 200\n\
                        option redispatch 1\n\
                        retries 3\n\
                        http-response set-header X-Instance %s";

struct Farm {
    lapi: Lapi,
    apps: Vec<App>,
    proxy: Proxy,
    _provider: FakeServer,
}

impl Farm {
    fn start() -> Self {
        let lapi = Lapi::start();
        let provider = FakeServer::start(|seen| {
            Reply::json(&json!({ "success": seen.form("response").as_deref() == Some(SOLVED), "error-codes": [] }))
        });
        let apps: Vec<App> = (0..3)
            .map(|n| {
                let key = format!("the-key-of-instance-{n}-alone");
                lapi.cscli(&["bouncers", "add", &format!("instance-{n}"), "-k", &key]);
                let own = [
                    ("CROWDSEC_API_KEY", key.as_str()),
                    ("ROCKET_SECRET_KEY", SECRET),
                    ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1"),
                    ("CROWDSEC_CAPTCHA_VERIFY_URL", &provider.url()),
                ];
                App::polling(lapi.url(), &own)
            })
            .collect();
        let addresses: Vec<_> = apps.iter().map(App::address).collect();
        let proxy = Proxy::haproxy(&addresses, BALANCED, "check inter 200ms fall 1 rise 1");
        Self { lapi, apps, proxy, _provider: provider }
    }

    fn get(&self, visitor: &str) -> Request {
        Request::new(self.proxy.v4(), "GET", "/").peer(visitor)
    }

    /// Asks HAProxy six times, and thus each of three instances twice.
    fn round(&self, request: &Request) -> Vec<(String, Answer)> {
        let answer = |_| {
            let answer = request.send();
            (answer.header("X-Instance").unwrap_or("nobody").to_string(), answer)
        };
        (0..6).map(answer).collect()
    }

    /// Whether every instance in service answers this request with this status.
    fn all_say(&self, request: &Request, status: u16) -> bool {
        self.round(request).iter().all(|(_, answer)| answer.status == status)
    }

    /// The instances that answer.
    fn in_service(&self) -> BTreeSet<String> {
        self.round(&self.get("127.66.0.9")).into_iter().map(|(instance, _)| instance).collect()
    }
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| name.to_string()).collect()
}

#[test]
fn a_decision_reaches_every_instance_and_its_end_too() {
    let farm = Farm::start();
    eventually("three instances in service", || farm.in_service() == names(&["s0", "s1", "s2"]));
    let visit = farm.get("127.66.0.1");
    assert!(farm.all_say(&visit, 200));
    farm.lapi.ban("127.66.0.1");
    eventually("each instance refuses", || farm.all_say(&visit, 403));
    assert!(farm.all_say(&farm.get("127.66.0.2"), 200));
    farm.lapi.revoke(&["--ip", "127.66.0.1"]);
    eventually("each instance admits", || farm.all_say(&visit, 200));
}

#[test]
fn single_decisions_in_quick_succession_reach_every_instance() {
    let farm = Farm::start();
    eventually("three instances in service", || farm.in_service().len() == 3);
    // With a shared key, each instance would get only a part of the decisions.
    let visitors: Vec<String> = (1..=12).map(|n| format!("127.66.1.{n}")).collect();
    visitors.iter().for_each(|visitor| farm.lapi.ban(visitor));
    for visitor in &visitors {
        eventually(visitor, || farm.all_say(&farm.get(visitor), 403));
    }
}

#[test]
fn a_captcha_solved_on_one_instance_counts_on_all() {
    let farm = Farm::start();
    eventually("three instances in service", || farm.in_service().len() == 3);
    let (visit, stranger) = (farm.get("127.66.0.3"), farm.get("127.66.0.4"));
    farm.lapi.captcha("127.66.0.3");
    farm.lapi.captcha("127.66.0.4");
    eventually("each instance asks", || farm.all_say(&visit, 403) && farm.all_say(&stranger, 403));
    let form = [("return_to", "/"), ("g-recaptcha-response", SOLVED)];
    let solved = Request::new(farm.proxy.v4(), "POST", "/crowdsec/captcha").peer("127.66.0.3").form(&form).send();
    assert_eq!(solved.status, 303, "{}", solved.everything());
    let cookie = solved.set_cookie();
    let round = farm.round(&visit.cookie(&cookie));
    let met: BTreeSet<String> = round.iter().map(|(instance, _)| instance.clone()).collect();
    assert_eq!(met, names(&["s0", "s1", "s2"]));
    round.iter().for_each(|(instance, answer)| assert_eq!(answer.status, 200, "{instance}"));
    assert!(farm.all_say(&stranger.cookie(&cookie), 403), "it is not theirs");
}

#[test]
fn an_instance_that_dies_takes_nothing_with_it() {
    let mut farm = Farm::start();
    farm.lapi.captcha("127.66.0.3");
    farm.lapi.ban("127.66.0.1");
    eventually("three instances in service", || farm.in_service().len() == 3);
    let (banned, innocent) = (farm.get("127.66.0.1"), farm.get("127.66.0.2"));
    eventually("each instance refuses", || farm.all_say(&banned, 403) && farm.all_say(&farm.get("127.66.0.3"), 403));
    let form = [("return_to", "/"), ("g-recaptcha-response", SOLVED)];
    let solve = Request::new(farm.proxy.v4(), "POST", "/crowdsec/captcha").peer("127.66.0.3").form(&form);
    let solved = solve.send();
    assert_eq!(solved.status, 303, "{}", solved.everything());
    // Ends the instance that has seen the captcha solved.
    let name = solved.header("X-Instance").expect("an instance").to_string();
    let number: usize = name[1..].parse().expect("its number");
    drop(farm.apps.remove(number));
    for _ in 0..20 {
        // When a connection is refused, HAProxy itself asks another instance, so that no visitor notices the gap.
        assert_eq!((banned.send().status, innocent.send().status), (403, 200));
    }
    eventually("it is out of service", || farm.in_service().len() == 2 && !farm.in_service().contains(&name));
    assert!(farm.all_say(&farm.get("127.66.0.3").cookie(&solved.set_cookie()), 200));
    farm.lapi.ban("127.66.0.5");
    eventually("the others go on", || farm.all_say(&farm.get("127.66.0.5"), 403));
}

#[test]
fn an_instance_that_lapi_no_longer_knows_leaves_the_load_balancer_until_it_does() {
    let farm = Farm::start();
    eventually("three instances in service", || farm.in_service().len() == 3);
    farm.lapi.cscli(&["bouncers", "delete", "instance-1"]);
    // Its health check fails when LAPI has not answered it for three polls and two seconds.
    eventually("it is out of service", || farm.in_service() == names(&["s0", "s2"]));
    farm.lapi.ban("127.66.0.1");
    eventually("the others refuse", || farm.all_say(&farm.get("127.66.0.1"), 403));
    farm.lapi.cscli(&["bouncers", "add", "instance-1", "-k", "the-key-of-instance-1-alone"]);
    eventually("it is back in service", || farm.in_service().len() == 3);
    assert!(farm.all_say(&farm.get("127.66.0.1"), 403), "it comes back with what it has missed");
}

#[test]
fn two_instances_that_share_a_key_are_told_and_one_that_does_not_is_not() {
    const HINT: &str = "Does another instance use the same key?";
    let lapi = Lapi::start();
    lapi.cscli(&["bouncers", "add", "alone", "-k", "the-key-of-one-instance-alone"]);
    let app = |settings: &[(&str, &str)]| {
        App::polling(lapi.url(), &[settings, &[("CROWDSEC_RESYNC_FREQUENCY", "3s")]].concat())
    };
    let (one, other, alone) = (app(&[]), app(&[]), app(&[("CROWDSEC_API_KEY", "the-key-of-one-instance-alone")]));
    // Decisions keep coming: each delta that one of the two gets is missing from the other's deltas.
    let mut batches =
        (0..=u16::MAX).map(u16::to_be_bytes).map(|[x, y]| (1..=12).map(move |n| format!("4h,ban,10.{x}.{y}.{n}")));
    let mut storm = || {
        let batch: Vec<String> = batches.next().expect("one of 65,536").collect();
        let lines: Vec<&str> = ["duration,type,value"].into_iter().chain(batch.iter().map(String::as_str)).collect();
        lapi.import(&lines);
    };
    eventually_within(Duration::from_secs(200), "both are told", || {
        storm();
        one.logged(HINT) > 0 && other.logged(HINT) > 0
    });
    // 15 s more, in which the instance with a key of its own must not tell the hint either.
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        storm();
    }
    assert_eq!(alone.logged(HINT), 0, "{}", alone.log());
    eventually("it has heard of the same decisions", || alone.logged(" added, ") > 0);
}
