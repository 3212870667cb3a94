//! Is the set exactly what LAPI holds, after storms of changes, a reinstallation, and the loss of the key?

use std::collections::BTreeSet;

use dev::Verdict::{Ban, Welcome};
use dev::{App, KEY, Lapi, Request, eventually, pipeline};

#[test]
fn bans_outlive_a_key_that_is_revoked_and_new_ones_arrive_when_it_is_restored() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[]);
    lapi.cscli(&["bouncers", "delete", "test"]);
    eventually("the log tells of the loss", || app.logged(" is lost: 403: LAPI refuses the key") > 0);
    lapi.ban("192.0.2.2");
    assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.3")), (Ban, Welcome));
    lapi.cscli(&["bouncers", "add", "test", "-k", KEY]);
    app.eventually("192.0.2.2", Ban);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    eventually("the log tells of the return", || app.logged(" is back after ") > 0);
}

#[test]
fn a_lapi_that_was_reinstalled_frees_whom_it_does_not_know_and_bans_whom_it_knows() {
    let mut lapi = Lapi::start();
    let lines: Vec<String> = (0..150).map(|n| format!("4h,ban,198.18.0.{n}")).collect();
    lapi.import(&[&["duration,type,value"], lines.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    let app = App::polling(lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "5s")]);
    assert_eq!(app.verdict("198.18.0.149"), Ban);
    lapi.reset();
    // These decisions get ids that others had before.
    lapi.ban("192.0.2.1");
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
    app.eventually("198.18.0.149", Welcome);
    assert_eq!(known(&app), 2);
    app.tells("full answer lacks 150 of 15", 1);
    assert_eq!((app.verdict("192.0.2.1"), app.verdict("198.18.0.0")), (Ban, Welcome));
}

#[test]
fn two_storms_of_decisions_converge_to_exactly_what_lapi_holds() {
    const OTHER_KEY: &str = "a-second-bouncer-that-only-lists";
    let lapi = Lapi::start();
    lapi.cscli(&["bouncers", "add", "second", "-k", OTHER_KEY]);
    // While LAPI imports, it leaves a few decisions out of its answers; the resync brings them.
    let app = App::polling(lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "8s")]);
    let import = |from: usize, to: usize| {
        let lines: Vec<String> = (from..to).map(|n| format!("4h,ban,{}", storm_address(n))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lapi.import(&[&["duration,type,value"], lines.as_slice()].concat());
    };
    // Every decision's address. It stands there twice if LAPI was too busy to confirm the decision, and was sent it again.
    let held = || -> Vec<String> {
        let list = Request::new(lapi.address(), "GET", "/v1/decisions?dedup=false").header("X-Api-Key", OTHER_KEY);
        let list = list.send().json();
        let values = list.as_array().into_iter().flatten().filter_map(|decision| decision["value"].as_str());
        let mut values: Vec<String> = values.map(str::to_string).collect();
        values.sort();
        values
    };
    let converges = || {
        let held = held();
        eventually(&format!("{} decisions are known", held.len()), || known(&app) == held.len());
        held
    };

    import(0, 20_000);
    let first = converges();
    assert!(first.len() >= 20_000, "{} were imported", first.len());

    // A part of the first storm's decisions is deleted.
    for third in 0..8u8 {
        lapi.revoke(&["--contained", "--range", &format!("198.18.{}.0/24", third * 3)]);
    }
    // Then single decisions come and go as fast as LAPI takes them. (Its database does not take both at once.)
    let (mut machine, single) = (lapi.machine(), |n: usize| format!("100.64.{}.{}", n / 250, n % 250));
    for round in 0..100 {
        let some: Vec<String> = (0..8).map(|n| single(round * 8 + n)).collect();
        machine.add(&some.iter().map(String::as_str).collect::<Vec<_>>(), "4h");
        some.iter().step_by(2).for_each(|address| machine.delete(address));
    }
    import(20_000, 40_000);
    let second = converges();
    // A sample of the storm's addresses, all single ones, and some that never had a decision.
    let sample: Vec<String> = (0..42_000).step_by(19).map(storm_address).chain((0..850).map(single)).collect();
    let expected: Vec<&str> = sample.iter().filter(|a| second.binary_search(a).is_ok()).map(String::as_str).collect();
    assert_eq!(refused(&app, &sample), expected);
    assert!(second.binary_search(&storm_address(0)).is_err(), "these were deleted");
    let singles: BTreeSet<_> = second.iter().filter(|address| address.starts_with("100.64.")).collect();
    assert_eq!(singles.len(), 400, "half of the single ones");
}

/// How many decisions the application says that it knows, on the first page of the debug profile.
#[track_caller]
fn known(app: &App) -> usize {
    let page = app.get("/").send().text();
    let rest = page.split_once("<dt>Decisions known</dt>").and_then(|(_, rest)| rest.split_once("<dd>"));
    let digits: String =
        rest.map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect()).unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("no number of decisions: {page}"))
}

/// Which of these addresses the application refuses, asked over a few connections.
#[track_caller]
fn refused<'a>(app: &App, addresses: &'a [String]) -> Vec<&'a str> {
    let mut refused = vec![];
    for some in addresses.chunks(200) {
        let requests: Vec<Request> = some.iter().map(|address| app.request("HEAD", "/members").from(address)).collect();
        for (address, answer) in some.iter().zip(pipeline(&requests)) {
            match answer.status {
                200 => {}
                403 => refused.push(address.as_str()),
                status => panic!("{status} for {address}"),
            }
        }
    }
    refused
}

fn storm_address(n: usize) -> String {
    format!("198.{}.{}.{}", 18 + n / 62_500, n / 250 % 250, n % 250)
}
