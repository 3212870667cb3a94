//! Do CrowdSec's decisions reach the visitors? `cscli` makes and deletes each decision at a real LAPI.

use std::thread::sleep;
use std::time::Duration;

use dev::Verdict::{Ban, Captcha, Welcome};
use dev::{App, Lapi, Verdict, eventually};

/// Makes a decision and deletes it. Meanwhile the addresses in `struck` meet the verdict; those in `spared` never do.
#[track_caller]
fn stands_until_deleted(add: &[&str], delete: &[&str], verdict: Verdict, struck: &[&str], spared: &[&str]) {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    struck.iter().for_each(|address| assert_eq!(app.verdict(address), Welcome, "{address}, before"));
    lapi.decide(add);
    struck.iter().for_each(|address| app.eventually(address, verdict));
    spared.iter().for_each(|address| assert_eq!(app.verdict(address), Welcome, "{address}, beside it"));
    lapi.revoke(delete);
    struck.iter().for_each(|address| app.eventually(address, Welcome));
}

#[test]
fn a_banned_address_is_refused_until_the_ban_is_deleted() {
    let ban = ["--ip", "192.0.2.1"];
    stands_until_deleted(&ban, &ban, Ban, &["192.0.2.1"], &["192.0.2.0", "192.0.2.2", "2001:db8::1"]);
}

#[test]
fn a_banned_range_is_refused_from_its_first_address_to_its_last() {
    let ban = ["--range", "198.51.100.64/27"];
    let struck = ["198.51.100.64", "198.51.100.77", "198.51.100.95"];
    stands_until_deleted(&ban, &ban, Ban, &struck, &["198.51.100.63", "198.51.100.96"]);
}

#[test]
fn a_banned_ipv6_address_is_refused_in_every_spelling() {
    let ban = ["--ip", "2001:db8::1"];
    let struck = ["2001:db8::1", "2001:DB8:0:0:0:0:0:1", "2001:0db8::0001"];
    stands_until_deleted(&ban, &ban, Ban, &struck, &["2001:db8::2", "2001:db8:0:1::1"]);
}

#[test]
fn a_banned_ipv6_range_is_refused() {
    let ban = ["--range", "2001:db8:1::/48"];
    let struck = ["2001:db8:1::", "2001:db8:1:ffff:ffff:ffff:ffff:ffff"];
    stands_until_deleted(&ban, &ban, Ban, &struck, &["2001:db8:0:ffff::1", "2001:db8:2::"]);
}

#[test]
fn an_ipv6_ban_in_an_odd_spelling_is_understood() {
    let ban = ["--ip", "2001:DB8:0:0::0:7"];
    stands_until_deleted(&ban, &ban, Ban, &["2001:db8::7"], &["2001:db8::8"]);
}

#[test]
fn a_ban_on_an_ipv4_mapped_address_is_a_ban_on_the_ipv4_address() {
    let ban = ["--ip", "::ffff:192.0.2.77"];
    stands_until_deleted(&ban, &ban, Ban, &["192.0.2.77", "::ffff:192.0.2.77"], &["192.0.2.78"]);
}

#[test]
fn a_ban_on_an_ipv4_address_holds_for_its_ipv4_mapped_spelling() {
    let ban = ["--ip", "192.0.2.77"];
    stands_until_deleted(&ban, &ban, Ban, &["::ffff:192.0.2.77", "::FFFF:c000:24d"], &["::ffff:192.0.2.78"]);
}

#[test]
fn a_range_that_was_given_with_host_bits_is_the_whole_range() {
    let ban = ["--range", "203.0.113.77/24"];
    stands_until_deleted(&ban, &ban, Ban, &["203.0.113.0", "203.0.113.77", "203.0.113.255"], &["203.0.112.255"]);
    let ban = ["--range", "2001:db8:1::5/48"];
    stands_until_deleted(&ban, &ban, Ban, &["2001:db8:1::", "2001:db8:1:2::3"], &["2001:db8:2::5"]);
}

#[test]
fn a_single_address_may_stand_in_scope_range() {
    let ban = ["--scope", "range", "--value", "192.0.2.9"];
    stands_until_deleted(&ban, &["--value", "192.0.2.9"], Ban, &["192.0.2.9"], &["192.0.2.8", "192.0.2.10"]);
}

#[test]
fn a_range_may_stand_in_scope_ip_as_imports_write_it() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    lapi.import(&["duration,scope,type,value", "4h,range,ban,198.51.100.0/24"]);
    app.eventually("198.51.100.200", Ban);
    assert_eq!(app.verdict("198.51.101.1"), Welcome);
    lapi.revoke(&["--value", "198.51.100.0/24"]);
    app.eventually("198.51.100.200", Welcome);
}

#[test]
fn a_captcha_decision_asks_for_a_captcha_until_it_is_deleted() {
    let captcha = ["--ip", "192.0.2.3", "--type", "captcha"];
    stands_until_deleted(&captcha, &["--ip", "192.0.2.3"], Captcha, &["192.0.2.3"], &["192.0.2.4"]);
}

#[test]
fn a_type_that_nobody_knows_is_a_ban() {
    let throttle = ["--ip", "192.0.2.5", "--type", "throttle"];
    stands_until_deleted(&throttle, &["--ip", "192.0.2.5"], Ban, &["192.0.2.5"], &["192.0.2.6"]);
}

#[test]
fn a_type_that_nobody_knows_is_a_captcha_where_the_operator_says_so() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.5", "--type", "throttle"]);
    lapi.ban("192.0.2.6");
    let app = App::polling(lapi.url(), &[("CROWDSEC_FALLBACK_REMEDIATION", "captcha")]);
    assert_eq!(app.verdict("192.0.2.5"), Captcha);
    assert_eq!(app.verdict("192.0.2.6"), Ban);
}

#[test]
fn types_become_what_the_operator_says() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.5", "--type", "throttle"]);
    lapi.decide(&["--ip", "192.0.2.6", "--type", "mfa"]);
    lapi.ban("192.0.2.7");
    let mapped = r#"{ Throttle = "throttle", mfa = "pass", "cscli/ban" = "captcha" }"#;
    let app = App::polling(lapi.url(), &[("CROWDSEC_REMEDIATIONS", mapped), ("CROWDSEC_THROTTLE", "2/1h")]);
    let status = || app.get("/").from("192.0.2.5").send().status;
    assert_eq!([status(), status(), status()], [200, 200, 429]);
    assert_eq!(app.verdict("192.0.2.6"), Welcome);
    assert_eq!(app.verdict("192.0.2.7"), Captcha);
    lapi.revoke(&["--ip", "192.0.2.5"]);
    eventually("who is no longer throttled is served", || status() == 200);
}

#[test]
fn types_are_read_without_regard_to_case() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.5", "--type", "Ban"]);
    lapi.decide(&["--ip", "192.0.2.6", "--type", "CAPTCHA"]);
    let app = App::polling(lapi.url(), &[("CROWDSEC_FALLBACK_REMEDIATION", "captcha")]);
    assert_eq!(app.verdict("192.0.2.5"), Ban);
    assert_eq!(app.verdict("192.0.2.6"), Captcha);
}

#[test]
fn an_allow_from_crowdsec_exempts_nobody() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.5", "--type", "allow"]);
    lapi.decide(&["--ip", "192.0.2.6", "--type", "allow"]);
    lapi.ban_range("192.0.2.5/32");
    let app = App::polling(lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.5"), Ban);
    assert_eq!(app.verdict("192.0.2.6"), Welcome);
}

#[test]
fn an_allow_of_the_operators_own_lets_in_whom_crowdsec_bans() {
    let lapi = Lapi::start();
    lapi.ban_range("192.0.2.0/24");
    let own = r#"[{ value = "192.0.2.128/25", type = "allow", reason = "our office" }]"#;
    let app = App::polling(lapi.url(), &[("CROWDSEC_DECISIONS", own)]);
    assert_eq!(app.verdict("192.0.2.127"), Ban);
    assert_eq!(app.verdict("192.0.2.128"), Welcome);
}

#[test]
fn decisions_of_the_operators_own_stand_beside_those_of_crowdsec() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let own = r#"[{ value = "192.0.2.2", type = "ban" }, { value = "2001:db8::/32", type = "captcha" }]"#;
    let app = App::polling(lapi.url(), &[("CROWDSEC_DECISIONS", own), ("CROWDSEC_RESYNC_FREQUENCY", "2s")]);
    sleep(Duration::from_secs(3));
    app.catch_up(&lapi);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
    assert_eq!(app.verdict("2001:db8::7"), Captcha);
    assert_eq!(app.verdict("192.0.2.3"), Welcome);
}

#[test]
fn decisions_on_countries_and_users_disturb_nobody() {
    let lapi = Lapi::start();
    lapi.decide(&["--scope", "Country", "--value", "FR"]);
    lapi.decide(&["--scope", "username", "--value", "192.0.2.1"]);
    let app = App::polling(lapi.url(), &[]);
    lapi.decide(&["--scope", "AS", "--value", "64500"]);
    app.catch_up(&lapi);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
}

#[test]
fn decisions_made_before_the_launch_hold_at_the_first_request() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.captcha("192.0.2.2");
    let app = App::polling(lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.verdict("192.0.2.2"), Captcha);
}

#[test]
fn a_ban_ends_when_its_time_is_over() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    lapi.decide(&["--ip", "192.0.2.1", "--duration", "10s"]);
    app.eventually("192.0.2.1", Ban);
    app.eventually("192.0.2.1", Welcome);
}

#[test]
fn a_ban_ends_by_our_own_clock_while_lapi_is_away() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.1", "--duration", "15s"]);
    lapi.ban("192.0.2.2");
    let app = App::polling(lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.stop();
    app.eventually("192.0.2.1", Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
}

/// Makes two bans of these durations on one address. Deletes the ban at the index `first_to_go`, then the other.
#[track_caller]
fn the_other_ban_stands(durations: [&str; 2], first_to_go: usize) {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    for duration in durations {
        lapi.decide(&["--ip", "192.0.2.1", "--duration", duration]);
    }
    app.catch_up(&lapi);
    let ids = lapi.ids("192.0.2.1");
    assert_eq!(ids.len(), 2);
    lapi.revoke(&["--id", &ids[first_to_go]]);
    app.catch_up(&lapi);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.revoke(&["--id", &ids[1 - first_to_go]]);
    app.eventually("192.0.2.1", Welcome);
}

#[test]
fn of_two_bans_the_shorter_stands_after_the_longer_was_deleted() {
    the_other_ban_stands(["8h", "4h"], 0);
}

#[test]
fn of_two_bans_the_longer_stands_after_the_shorter_was_deleted() {
    the_other_ban_stands(["8h", "4h"], 1);
}

#[test]
fn of_two_bans_the_older_shorter_one_stands_after_the_newer_longer_was_deleted() {
    the_other_ban_stands(["4h", "8h"], 1);
}

#[test]
fn of_two_bans_the_newer_longer_one_stands_after_the_older_shorter_was_deleted() {
    the_other_ban_stands(["4h", "8h"], 0);
}

#[test]
fn of_two_bans_the_longer_stands_after_the_shorter_ended() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.1", "--duration", "15s"]);
    lapi.decide(&["--ip", "192.0.2.1", "--duration", "4h"]);
    let app = App::polling(lapi.url(), &[]);
    assert_eq!(lapi.ids("192.0.2.1").len(), 2, "the application has seen both");
    eventually("LAPI has one ban left", || lapi.ids("192.0.2.1").len() == 1);
    app.catch_up(&lapi);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

#[test]
fn a_ban_that_is_replaced_by_a_shorter_one_between_two_polls_stands() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.1", "--duration", "8h"]);
    let app = App::polling(lapi.url(), &[]);
    lapi.revoke(&["--ip", "192.0.2.1"]);
    lapi.decide(&["--ip", "192.0.2.1", "--duration", "10m"]);
    app.catch_up(&lapi);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

#[test]
fn a_captcha_on_an_address_never_hides_the_ban_on_the_range_around_it() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    lapi.ban_range("198.51.0.0/16");
    app.eventually("198.51.100.7", Ban);
    lapi.captcha("198.51.100.7");
    app.catch_up(&lapi);
    assert_eq!(app.verdict("198.51.100.7"), Ban);
    // Deletes the ban by its id: LAPI would also delete the captcha if it deleted by range.
    lapi.revoke(&["--id", &lapi.ids("198.51.0.0/16")[0]]);
    app.eventually("198.51.100.8", Welcome);
    assert_eq!(app.verdict("198.51.100.7"), Captcha);
}

#[test]
fn a_ban_on_an_address_counts_inside_a_range_that_meets_the_captcha() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    lapi.decide(&["--range", "198.51.0.0/16", "--type", "captcha"]);
    lapi.ban("198.51.100.7");
    app.eventually("198.51.100.7", Ban);
    assert_eq!(app.verdict("198.51.100.8"), Captcha);
    lapi.revoke(&["--id", &lapi.ids("198.51.100.7")[0]]);
    app.eventually("198.51.100.7", Captcha);
}

#[test]
fn a_ban_and_a_captcha_on_one_address_are_two_decisions() {
    let lapi = Lapi::start();
    lapi.captcha("192.0.2.1");
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.revoke(&["--id", &lapi.ids("192.0.2.1")[1]]);
    app.eventually("192.0.2.1", Captcha);
    lapi.revoke(&["--id", &lapi.ids("192.0.2.1")[0]]);
    app.eventually("192.0.2.1", Welcome);
}

#[test]
fn a_ban_whose_alert_was_deleted_ends_at_the_next_resync() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.ban("192.0.2.2");
    let app = App::polling(lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "3s")]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    // LAPI never tells bouncers about deleted alerts.
    lapi.cscli(&["alerts", "delete", "--ip", "192.0.2.1"]);
    app.eventually("192.0.2.1", Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
}

#[test]
fn thousands_that_are_imported_at_once_are_refused_to_the_last() {
    let lapi = Lapi::start();
    // During an import LAPI leaves some decisions out of its answers; the resync brings them.
    let app = App::polling(lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "3s")]);
    let addresses: Vec<String> = (0..3000).map(|n| format!("198.18.{}.{}", n / 250, n % 250)).collect();
    let lines: Vec<String> = addresses.iter().map(|address| format!("4h,ban,{address}")).collect();
    lapi.import(&[&["duration,type,value"], lines.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    for address in addresses.iter().step_by(59).chain(addresses.last()) {
        app.eventually(address, Ban);
    }
    assert_eq!(app.verdict("198.18.0.250"), Welcome);
}

#[test]
fn only_the_origins_that_the_operator_names_count() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.import(&["duration,type,value", "4h,ban,192.0.2.2"]);
    let app = App::polling(lapi.url(), &[("CROWDSEC_ORIGINS", "cscli-import")]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
}

#[test]
fn only_the_scenarios_that_the_operator_names_count() {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", "192.0.2.1", "--reason", "acme/ssh-bf"]);
    lapi.decide(&["--ip", "192.0.2.2", "--reason", "acme/http-probing"]);
    lapi.decide(&["--ip", "192.0.2.3", "--reason", "acme/http-crawl"]);
    let app = App::polling(
        lapi.url(),
        &[("CROWDSEC_SCENARIOS_CONTAINING", "http"), ("CROWDSEC_SCENARIOS_NOT_CONTAINING", "crawl,cve")],
    );
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
    assert_eq!(app.verdict("192.0.2.3"), Welcome);
}
