//! Can a page on another site have its visitors banned here? It can send forms in their name, but none is logged as an event.

use dev::{App, Folder, KEY, Lapi, Request, Site, eventually};

/// An application that faces the internet by itself, and writes its access log and its event log into this folder.
fn facing_everybody(lapi_url: &str, logs: &Folder) -> App {
    let path = |name: &str| logs.path(name).to_str().expect("a plain path").to_owned();
    App::polling(
        lapi_url,
        &[
            ("CROWDSEC_TRUSTED_PROXIES", "192.0.2.0/24"),
            ("CROWDSEC_ACCESS_LOG", &path("access.log")),
            ("CROWDSEC_EVENT_LOG", &path("events.log")),
        ],
    )
}

/// The headers that a browser sends with a form from another origin.
const FOREIGN: [&[(&str, &str)]; 8] = [
    &[("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")],
    &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://127.0.0.1:1")],
    &[("Sec-Fetch-Site", "cross-site")],
    &[("Sec-Fetch-Site", "cross-site"), ("Origin", "null")],
    // Browsers send these on plain HTTP, or if they do not know `Sec-Fetch-Site`.
    &[("Origin", "https://evil.example")],
    &[("Origin", "http://127.0.0.1:1")],
    &[("Origin", "http://localhost")],
    &[("Origin", "null")],
];

fn sign_in(app: &App, peer: &str, nickname: &str, headers: &[(&str, &str)]) -> Request {
    let form = [("user", "root"), ("password", "guess"), ("nickname", nickname)];
    let request = app.request("POST", "/sign-in").peer(peer).form(&form);
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// LAPI's answer about this address: its decisions in JSON, or `null`.
fn bans(lapi: &Lapi, address: &str) -> String {
    let target = format!("/v1/decisions?ip={address}");
    Request::new(lapi.address(), "GET", &target).header("X-Api-Key", KEY).send().text()
}

#[test]
fn forms_of_other_sites_have_nobody_banned() {
    let Site { app, lapi, .. } = &Site::start();
    // Each visitor has opened a page that sends twelve forms.
    for (n, headers) in FOREIGN.iter().enumerate() {
        let visitor = format!("127.80.0.{n}");
        for nickname in ["", "Bob"].repeat(6) {
            let answer = sign_in(app, &visitor, nickname, headers).send();
            assert_eq!(answer.status, 422, "{headers:?}: {}", answer.everything());
        }
    }
    // A failed sign-in on our own page, or by a program, is still reported to CrowdSec.
    let own = format!("http://{}", app.address());
    let at_home: [&[(&str, &str)]; 3] = [&[], &[("Sec-Fetch-Site", "same-origin")], &[("Origin", &own)]];
    for (n, headers) in at_home.iter().enumerate() {
        let guesser = format!("127.80.1.{n}");
        (0..6).for_each(|_| assert_eq!(sign_in(app, &guesser, "", headers).send().status, 401));
        eventually("the guesser is banned", || bans(lapi, &guesser).contains("failed-sign-ins"));
    }
    // The agent reads each log in order, so it has read the visitors' lines in the event log. The next requests are an attack
    // that only the access log shows: once the scanner is banned, the agent has read that log to its end.
    (0..11).for_each(|n| assert_eq!(app.get(&format!("/admin{n}.php")).peer("127.80.2.1").send().status, 404));
    eventually("the scanner is banned", || bans(lapi, "127.80.2.1").contains("http-probing"));
    for n in 0..FOREIGN.len() {
        assert_eq!(bans(lapi, &format!("127.80.0.{n}")), "null");
    }
}

#[test]
fn a_form_of_another_site_is_not_noted_and_stands_in_the_access_log_all_the_same() {
    let logs = Folder::empty();
    let lapi = Lapi::start();
    let app = facing_everybody(lapi.url(), &logs);
    for headers in FOREIGN {
        let right = [("user", "demo"), ("password", "demo"), ("nickname", "")];
        let request = app.request("POST", "/sign-in").form(&right);
        let answer = headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send();
        assert_eq!((answer.status, answer.header("Location")), (422, None), "a right password helps nobody");
        assert_eq!(sign_in(&app, "127.0.0.1", "Bob", headers).send().status, 422);
    }
    let posts = || logs.count("access.log", "\"POST /sign-in HTTP/1.1\" 422");
    eventually("each of them is in the access log", || posts() == 2 * FOREIGN.len());
    assert_eq!(sign_in(&app, "127.0.0.1", "Bob", &[]).send().status, 401);
    eventually("an event", || !logs.lines("events.log").is_empty());
    assert_eq!(logs.lines("events.log").len(), 1, "that one alone");
    // A missing page is logged whatever the headers say; otherwise a scanner would send these headers.
    let missing = app.get("/missing").header("Sec-Fetch-Site", "cross-site").header("Origin", "null").send();
    assert_eq!(missing.status, 404);
    eventually("it is in the log", || logs.count("access.log", "/missing") == 1);
}
