//! Does live mode judge each visitor by a real LAPI's word, and what does it do where LAPI is killed, hangs or is slow?

use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::Duration;

use dev::{App, FakeServer, KEY, Lapi, Reply, Request, Verdict, eventually};

const LIVE: (&str, &str) = ("CROWDSEC_MODE", "live");
/// The shortest cache: a visitor whose decision is lifted gets in a second later.
const CACHE: (&str, &str) = ("CROWDSEC_LIVE_CACHE", "1s");
/// Longer than a busy machine takes.
const PATIENT: (&str, &str) = ("CROWDSEC_LIVE_TIMEOUT", "5s");

#[test]
fn a_decision_counts_at_once_and_until_it_is_deleted() {
    let lapi = Lapi::start();
    let hour = ("CROWDSEC_UPDATE_FREQUENCY", "1h");
    let app = App::polling(lapi.url(), &[LIVE, CACHE, PATIENT, hour]);
    app.tells("LIVE MODE: CrowdSec's LAPI at", 1);
    lapi.ban("192.0.2.1");
    lapi.captcha("192.0.2.2");
    lapi.ban_range("198.51.100.0/24");
    lapi.captcha("198.51.100.7");
    lapi.ban("2001:db8::7");
    // LAPI was asked about nobody before, so each visitor meets the current decision at the first request.
    for (address, verdict) in [
        ("192.0.2.1", Verdict::Ban),
        ("192.0.2.2", Verdict::Captcha),
        // A captcha on the address hides no ban on its network.
        ("198.51.100.7", Verdict::Ban),
        ("198.51.100.8", Verdict::Ban),
        ("2001:db8::7", Verdict::Ban),
        ("2001:db8::8", Verdict::Welcome),
        ("203.0.113.1", Verdict::Welcome),
    ] {
        assert_eq!(app.verdict(address), verdict, "{address}");
    }
    lapi.ban("203.0.113.1");
    app.eventually("203.0.113.1", Verdict::Ban);
    lapi.revoke(&["--ip", "192.0.2.1"]);
    lapi.revoke(&["--range", "198.51.100.0/24"]);
    app.eventually("192.0.2.1", Verdict::Welcome);
    app.eventually("198.51.100.8", Verdict::Welcome);
    app.eventually("198.51.100.7", Verdict::Captcha);
}

/// Rocket answers unknown methods and targets before it asks any fairing.
#[test]
fn lapi_is_asked_about_a_visitor_whose_method_or_target_rocket_does_not_know() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[LIVE, PATIENT]);
    for (n, (method, target)) in [("FOO", "/"), ("CONNECT", "example.org:443"), ("get", "/")].into_iter().enumerate() {
        let (banned, other) = (format!("192.0.2.{n}"), format!("198.51.100.{n}"));
        lapi.ban(&banned);
        let status = |address: &str| app.request(method, target).from(address).send().status;
        assert_eq!((status(&banned), status(&other)), (403, 400), "{method}");
    }
}

#[test]
fn countries_systems_and_accounts_count_in_whatever_spelling_they_were_decided() {
    let lapi = Lapi::start();
    let app = App::polling(
        lapi.url(),
        &[
            LIVE,
            CACHE,
            PATIENT,
            ("CROWDSEC_SCOPES", "ip,range,country,as,username"),
            ("CROWDSEC_COUNTRY_HEADER", "CF-IPCountry"),
            ("CROWDSEC_AS_HEADER", "CF-ASN"),
        ],
    );
    let at = |country: &str, system: &str| {
        let request = app.get("/members").from("192.0.2.1");
        request.header("CF-IPCountry", country).header("CF-ASN", system).send().status
    };
    let sign_in = |account: &str| {
        let form = [("user", account), ("password", "demo"), ("nickname", "")];
        app.request("POST", "/sign-in").from("192.0.2.9").form(&form).send().status
    };
    lapi.decide(&["--scope", "Country", "--value", "fr"]);
    lapi.decide(&["--scope", "as", "--value", "AS64500"]);
    lapi.decide(&["--scope", "username", "--value", "Alice B"]);
    eventually("France is refused", || at("FR", "1") == 403);
    eventually("the system is refused", || at("DE", "64500") == 403);
    eventually("the account is refused", || sign_in("Alice B") == 403);
    assert_eq!(at("DE", "1"), 200);
    lapi.revoke(&["--value", "fr"]);
    eventually("France is let in", || at("FR", "1") == 200);
    assert_eq!((at("DE", "64500"), sign_in("Alice B")), (403, 403));
}

/// What the operator sets for a LAPI that does not answer, and what an unknown visitor then meets.
const ACTIONS: [(&str, Verdict); 3] =
    [("passthrough", Verdict::Welcome), ("captcha", Verdict::Captcha), ("ban", Verdict::Ban)];

#[test]
fn where_lapi_is_killed_or_hangs_visitors_meet_what_the_operator_said_and_the_banned_stay_banned() {
    for is_killed in [true, false] {
        let mut lapi = Lapi::start();
        lapi.ban("192.0.2.1");
        let apps = ACTIONS.map(|(action, _)| {
            let app = App::polling(lapi.url(), &[LIVE, CACHE, ("CROWDSEC_LIVE_FAILURE_ACTION", action)]);
            // A busy machine may be late with the first answers.
            app.eventually("192.0.2.1", Verdict::Ban);
            app
        });
        if is_killed {
            lapi.kill()
        } else {
            lapi.freeze()
        }
        // The cached answers, which count for 1 s, have expired by then.
        sleep(Duration::from_millis(1500));
        for (app, (action, verdict)) in apps.iter().zip(ACTIONS) {
            assert_eq!(app.verdict("192.0.2.1"), Verdict::Ban, "{action}");
            assert_eq!(app.verdict("203.0.113.1"), verdict, "{action}");
            app.tells("did not answer a question about a visitor", 1);
            let line = format!("Refused 203.0.113.1: {action} by live, no decision of LAPI's, for GET /");
            app.tells(&line, usize::from(verdict != Verdict::Welcome));
        }
        if is_killed {
            lapi.start_again();
            for app in &apps {
                app.eventually("203.0.113.1", Verdict::Welcome);
                assert_eq!(app.verdict("192.0.2.1"), Verdict::Ban);
            }
        }
    }
}

#[test]
fn a_slow_lapi_is_asked_once_about_each_address_and_a_crowd_of_them_is_judged() {
    let lapi = Arc::new(Lapi::start());
    lapi.ban_range("192.0.2.0/25");
    let slow = {
        let lapi = lapi.clone();
        FakeServer::start(move |seen| {
            sleep(Duration::from_millis(100));
            let answer = Request::new(lapi.address(), "GET", &seen.target).header("X-Api-Key", KEY).send();
            Reply::new(answer.status, "application/json", answer.body)
        })
    };
    let app = App::polling(&slow.url(), &[LIVE, PATIENT, ("CROWDSEC_UPDATE_FREQUENCY", "1h")]);
    let met = |n: u8| app.verdict(&format!("192.0.2.{n}"));
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).flat_map(|_| (118..138).map(|n| (n, scope.spawn(move || met(n)))).collect::<Vec<_>>()).collect();
        for (n, thread) in threads {
            let verdict = if n < 128 { Verdict::Ban } else { Verdict::Welcome };
            assert_eq!(thread.join().expect("a verdict"), verdict, "192.0.2.{n}");
        }
    });
    for n in 118..138 {
        let about = format!("ip=192.0.2.{n}");
        let asked = slow.seen().iter().filter(|seen| seen.target.split(['?', '&']).any(|pair| pair == about)).count();
        assert_eq!(asked, 1, "{about}");
    }
}

#[test]
fn filters_count_in_live_mode_as_in_stream_mode() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[LIVE, CACHE, PATIENT, ("CROWDSEC_ORIGINS", "crowdsec")]);
    lapi.ban("192.0.2.1");
    assert_eq!(app.verdict("192.0.2.1"), Verdict::Welcome, "its origin is cscli");
    let app = App::polling(lapi.url(), &[LIVE, CACHE, PATIENT, ("CROWDSEC_ORIGINS", "cscli")]);
    assert_eq!(app.verdict("192.0.2.1"), Verdict::Ban);
}
