//! How does the operator's page look, and does what it says about a refusal lift it?

use dev::{App, Lapi, Verdict, eventually};

use crate::at;
use crate::browser::Browser;
use crate::looks::look;
use crate::{word, words};

const OPERATOR: (&str, &str) = ("CROWDSEC_METRICS_FROM", "127.0.0.1");
const REFUSED: &str = "192.0.2.1";

#[test]
fn the_operators_page_shows_why_somebody_is_refused_and_the_lines_that_lift_it_do_lift_it() {
    let lapi = Lapi::start();
    let settings = [OPERATOR, ("CROWDSEC_CAPTCHA_PROVIDER", "altcha")];
    let app = App::polling(lapi.url(), &settings);
    // Nothing on the page needs a script.
    let browser = Browser::without_javascript();
    browser.open(&at(&app, "/crowdsec/status"));
    browser.shows(&word("status_in_step"));
    browser.shows(&word("status_no_refusals"));
    lapi.captcha(REFUSED);
    lapi.ban_range("192.0.2.0/24");
    app.eventually(REFUSED, Verdict::Ban);
    let page = app.get("/members/a?password=secret").from(REFUSED).send().text();
    browser.reload();
    browser.shows("/members/a");
    assert!(!browser.text().contains("secret"));
    let reference = page.split(['<', '>']).map(str::trim).find(|word| word.len() == 9 && word.as_bytes()[4] == b'-');
    let reference = reference.expect("a reference on the ban page").to_owned();
    for asked in [REFUSED, &reference.to_lowercase()] {
        browser.open(&at(&app, "/crowdsec/status"));
        browser.write("[name=address]", asked);
        browser.click("form button");
        browser.shows(&word("status_verdict_ban"));
        browser.shows(&reference);
    }
    let commands: Vec<String> =
        browser.text().lines().filter(|line| line.starts_with("cscli decisions ")).map(str::to_owned).collect();
    assert_eq!(commands.len(), 2, "{}", browser.text());
    for command in commands {
        lapi.cscli(&command.split(' ').skip(1).collect::<Vec<_>>());
    }
    app.eventually(REFUSED, Verdict::Welcome);
    browser.reload();
    browser.shows(&word("status_nothing"));
    lapi.kill();
    eventually("CrowdSec is missed", || {
        browser.reload();
        browser.text().contains(&word("status_stale"))
    });
}

#[test]
fn the_operators_page_in_each_of_its_states() {
    let lapi = Lapi::start();
    let settings = [
        OPERATOR,
        ("CROWDSEC_CAPTCHA_PROVIDER", "altcha"),
        ("CROWDSEC_DECISIONS", r#"[{ value = "192.0.2.0/24", type = "ban", reason = "an own reason" }]"#),
    ];
    let app = App::polling(lapi.url(), &settings);
    lapi.captcha(REFUSED);
    lapi.decide(&[
        "--ip",
        "2001:db8:1234:5678:9abc:def0:1234:5678",
        "--type",
        "ban",
        "--reason",
        "a-scenario/that-has-a-very-long-name-without-any-space-at-all-in-it",
    ]);
    app.eventually("2001:db8:1234:5678:9abc:def0:1234:5678", Verdict::Ban);
    for place in 0..30 {
        let target = format!("/members/{}{place}", "a-long-path/".repeat(place));
        app.get(&target).from(&format!("192.0.2.{place}")).send();
    }
    app.get("/wp-admin/admin-ajax.php").from("2001:db8:1234:5678:9abc:def0:1234:5678").send();
    let browser = Browser::start();
    for (name, query) in [
        ("status", ""),
        ("status-address", "?address=192.0.2.1"),
        ("status-ipv6", "?address=2001:db8:1234:5678:9abc:def0:1234:5678"),
        ("status-bad", "?address=192.0.2.0%2F24"),
    ] {
        browser.open(&at(&app, &format!("/crowdsec/status{query}")));
        browser.shows(&word("status_title"));
        look(&browser, name);
    }
    for language in ["fr", "de", "es"] {
        let browser = Browser::speaking(language);
        browser.open(&at(&app, "/crowdsec/status?address=192.0.2.1"));
        browser.shows(&words(language, "status_title"));
        look(&browser, &format!("status-{language}"));
    }
    let alone = App::start(&[OPERATOR]);
    browser.open(&at(&alone, "/crowdsec/status"));
    browser.shows(&word("status_alone"));
    look(&browser, "status-alone");
}
