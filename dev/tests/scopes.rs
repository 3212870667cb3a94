//! Do decisions count that are about no address? Each is made and taken back with `cscli`, at a real LAPI, or by a real agent.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};

use dev::{Answer, App, FakeServer, KEY, Lapi, Reply, Request, Site, eventually, root};
use serde_json::json;

const SETTINGS: [(&str, &str); 4] = [
    ("CROWDSEC_SCOPES", "ip,range,country,as,username"),
    ("CROWDSEC_COUNTRY_HEADER", "CF-IPCountry"),
    ("CROWDSEC_AS_HEADER", "CF-ASN"),
    ("CROWDSEC_RESYNC_FREQUENCY", "2s"),
];

/// What a visitor meets who comes from this country and autonomous system.
fn at(app: &App, country: &str, system: &str) -> Answer {
    let request = app.get("/members").from("192.0.2.1");
    request.header("CF-IPCountry", country).header("CF-ASN", system).send()
}

/// What a visitor meets who signs in to this account with the right password of another account.
fn sign_in(app: &App, peer: &str, account: &str) -> Answer {
    let form = [("user", account), ("password", "demo"), ("nickname", "")];
    app.request("POST", "/sign-in").from(peer).form(&form).send()
}

/// Each scope, a value as an operator types it, who is struck by it, and who is not.
type Case = (&'static str, &'static str, fn(&App) -> u16, fn(&App) -> u16);

const CASES: [Case; 4] = [
    ("Country", "fr", |app| at(app, "FR", "1").status, |app| at(app, "DE", "1").status),
    ("country", "DE", |app| at(app, "de", "1").status, |app| at(app, "XX", "1").status),
    ("AS", "AS64500", |app| at(app, "US", "64500").status, |app| at(app, "US", "64501").status),
    (
        "username",
        "Alice B",
        |app| sign_in(app, "192.0.2.9", "Alice B").status,
        // Refused by the application itself: it knows no such account.
        |app| match sign_in(app, "192.0.2.9", "alice b").status {
            401 => 200,
            status => status,
        },
    ),
];

#[test]
fn a_country_a_system_and_an_account_are_refused_until_the_decision_is_deleted() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &SETTINGS);
    for (scope, value, struck, spared) in CASES {
        assert_ne!(struck(&app), 403, "{scope}, before");
        lapi.decide(&["--scope", scope, "--value", value]);
        eventually(&format!("{scope} {value} is refused"), || struck(&app) == 403);
        assert_eq!(spared(&app), 200, "{scope}, beside it");
        lapi.revoke(&["--value", value]);
        eventually(&format!("{scope} {value} is let in again"), || struck(&app) != 403);
    }
}

#[test]
fn of_what_a_short_answer_lacks_lapi_is_asked_in_its_own_spelling_and_nobody_is_let_go() {
    let (lapi, forgets) = (Arc::new(Lapi::start()), Arc::new(AtomicBool::new(false)));
    let relay = {
        let (lapi, forgets) = (lapi.clone(), forgets.clone());
        FakeServer::start(move |seen| {
            if forgets.load(SeqCst) && !seen.is_question() {
                return Reply::json(&json!({ "new": [], "deleted": [] }));
            }
            let answer = Request::new(lapi.address(), "GET", &seen.target).header("X-Api-Key", KEY).send();
            Reply::new(answer.status, "application/json", answer.body)
        })
    };
    let app = App::polling(&relay.url(), &SETTINGS);
    for (scope, value, struck, _) in CASES {
        lapi.decide(&["--scope", scope, "--value", value]);
        eventually(&format!("{scope} {value} is refused"), || struck(&app) == 403);
        forgets.store(true, SeqCst);
        let questions = || relay.seen().iter().filter(|seen| seen.is_question()).count();
        let before = questions();
        eventually("LAPI is asked, again and again", || {
            assert_eq!(struck(&app), 403, "{scope} {value} was let go");
            questions() >= before + 3
        });
        // LAPI does not tell of this deletion: the decision ends with the second answer that LAPI confirms.
        lapi.cscli(&["alerts", "delete", "--all"]);
        eventually(&format!("{scope} {value} is let in again"), || struck(&app) != 403);
        forgets.store(false, SeqCst);
        app.catch_up(&lapi);
    }
}

#[test]
fn who_guesses_at_one_account_from_many_addresses_brings_it_a_captcha_and_not_before_that_is_installed() {
    // The log writes `m\\u00fcller`, and the decision has to be on the name itself.
    const NAME: &str = "CORP\\m\u{fc}ller \"x\"";
    let mut site = Site::start();
    let guess = |site: &Site| (0..11).for_each(|_| _ = sign_in_as(site, NAME));
    let standing = |site: &Site| {
        let request =
            Request::new(site.lapi.address(), "GET", "/v1/decisions?scopes=username").header("X-Api-Key", KEY);
        let decisions = request.send().json();
        let of = |name: &str| decisions[0][name].as_str().unwrap_or_default().to_owned();
        [of("value"), of("type"), of("scenario")]
    };
    guess(&site);
    site.logs_settle();
    // Installs the scenario and the profile as docs/scopes.md says.
    let folder = Path::new(site.lapi.value("LAPI_DB")).ancestors().nth(2).expect("LAPI's folder").to_path_buf();
    let shipped = root().join("deploy/sensor/accounts");
    fs::copy(shipped.join("account-guessing.yaml"), folder.join("scenarios/account-guessing.yaml"))
        .expect("a scenario");
    fs::copy(shipped.join("profile.yaml"), folder.join("profiles.yaml.local")).expect("a profile");
    site.lapi.stop();
    assert_eq!(sign_in_as(&site, NAME), 401, "nothing is decided before it is installed");
    site.lapi.start_again();
    let decided = [NAME, "captcha", "application/account-guessing"].map(str::to_owned);
    eventually("it is decided", || {
        // An agent that has just started may miss the first lines.
        guess(&site);
        standing(&site) == decided
    });
    eventually("the account is refused", || sign_in_as(&site, NAME) == 403);
    assert_eq!((sign_in_as(&site, "bob"), site.app.get("/").peer("127.10.0.1").send().status), (401, 200));
}

/// From another address each time: six failed sign-ins from one address are a ban.
fn sign_in_as(site: &Site, account: &str) -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let [first, last] = COUNT.fetch_add(1, SeqCst).to_be_bytes();
    let form = [("user", account), ("password", "guess"), ("nickname", "")];
    site.app.request("POST", "/sign-in").peer(&format!("127.10.{first}.{last}")).form(&form).send().status
}
