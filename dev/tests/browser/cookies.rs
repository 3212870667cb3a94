//! Is a solved captcha remembered, whatever is wrong with the visitor's cookies? And does the page say where it cannot be?

use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use dev::{App, FakeServer, Proxy, Reply, closed_port};
use serde_json::json;

use crate::browser::Browser;
use crate::providers::{PROVIDERS, answer, asking_with, script_of};
use crate::{asking, at, word};

const WANTED: &str = "/members?page=2";

#[track_caller]
fn solve(browser: &Browser, url: &str) {
    browser.open(url);
    browser.shows(&word("captcha_title"));
    browser.click("#start");
    browser.arrives_at(url);
    browser.shows("You have been let in");
}

#[test]
fn a_browser_that_keeps_no_cookies_is_told_so_before_anything_is_solved() {
    let browser = Browser::without_cookies();
    let app = asking(&[]);
    browser.open(&at(&app, WANTED));
    browser.shows(&word("problem_no_cookie"));
    // The page is no dead end for a visitor who allows cookies now: its button leads back to the page that was wanted.
    browser.click("#start");
    browser.arrives_at(&at(&app, WANTED));
    browser.shows(&word("problem_no_cookie"));
    let server = PROVIDERS[0].start();
    let app = asking_with(&PROVIDERS[0], &script_of(&server), &server.url());
    browser.open(&at(&app, WANTED));
    browser.shows(&word("problem_no_cookie"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_browser_that_keeps_cookies_hears_nothing_of_them() {
    let (browser, app) = (Browser::start(), asking(&[]));
    // Another visitor at the same address has solved the captcha, and this browser has kept nothing.
    for _ in 0..2 {
        solve(&browser, &at(&app, WANTED));
        browser.forget_cookies();
        browser.open(&at(&app, WANTED));
        browser.shows(&word("captcha_title"));
        assert!(!browser.text().contains(&word("problem_no_cookie")));
        assert!(!browser.text().contains(&word("problem_cookie_lost")));
    }
}

/// A neighbour on the same host has set a cookie that is no UTF-8. Cookies know no ports.
fn spoil(browser: &Browser) {
    use std::io::Write;
    let neighbour = FakeServer::start(|_| {
        Reply::script(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nSet-Cookie: spoilt=\xff\xfe; Path=/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        })
    });
    browser.open(&neighbour.url());
}

#[test]
fn whose_cookies_do_not_arrive_is_told_so_and_gets_in_once_they_are_deleted() {
    let browser = Browser::start();
    let app = asking(&[]);
    spoil(&browser);
    browser.open(&at(&app, WANTED));
    browser.click("#start");
    browser.shows(&word("problem_cookie_lost"));
    // The page says so at every try.
    browser.click("#start");
    browser.shows(&word("problem_cookie_lost"));
    browser.forget_cookies();
    browser.click("#start");
    browser.arrives_at(&at(&app, WANTED));
    browser.shows("You have been let in");

    let server = PROVIDERS[2].start();
    let app = asking_with(&PROVIDERS[2], &script_of(&server), &server.url());
    browser.forget_cookies();
    spoil(&browser);
    browser.open(&at(&app, WANTED));
    answer(&browser);
    browser.shows(&word("problem_cookie_lost"));
}

/// A HAProxy that takes plain HTTP and HTTPS, and the address of the latter.
fn with_tls(app: &App) -> (Proxy, String, PathBuf) {
    let (file, key) = (env::temp_dir().join(format!("shop-{}.pem", process::id())), "/dev/stdout");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.example"]);
    let made = openssl.args(["-keyout", key, "-out", "-"]).stderr(Stdio::null()).output().expect("openssl");
    fs::write(&file, made.stdout).expect("writing the certificate");
    let port = closed_port().port();
    let lines = format!(
        "bind 127.0.0.1:{port} ssl crt {}\nhttp-request set-header X-Forwarded-For 192.0.2.7\n\
         http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]",
        file.display()
    );
    (Proxy::haproxy(&[app.address()], &lines, ""), format!("https://shop.example:{port}"), file)
}

#[test]
fn after_https_a_visit_of_the_same_host_by_plain_http_gets_in_too_and_back() {
    let browser = Browser::at_a_shop();
    let app = asking(&[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1"), ("CROWDSEC_DECISIONS", EVERYBODY)]);
    let (proxy, https, certificate) = with_tls(&app);
    let http = format!("http://shop.example:{}", proxy.v4().port());
    solve(&browser, &format!("{https}{WANTED}"));
    solve(&browser, &format!("{http}{WANTED}"));
    for site in [&https, &http, &https] {
        browser.open(&format!("{site}{WANTED}"));
        browser.shows("You have been let in");
    }
    let names = names(&browser);
    assert_eq!(names.iter().filter(|name| name.starts_with("__Host-")).count(), 1, "{names:?}");
    let _ = fs::remove_file(certificate);
}

/// The visitor whom the proxy names. The browser's own address is also the proxy's, and so would name nobody.
const EVERYBODY: &str = r#"[{ value = "192.0.2.7", type = "captcha" }]"#;

/// The names of the passes that the browser keeps.
fn names(browser: &Browser) -> Vec<String> {
    let cookies = browser.devtools("Network.getAllCookies", json!({}));
    let names = cookies["cookies"].as_array().expect("cookies").iter().map(|cookie| cookie["name"].as_str());
    names.map(|name| name.expect("a name").to_owned()).filter(|name| name.contains("-captcha-")).collect()
}

#[test]
fn what_a_neighbour_on_the_same_domain_sets_locks_nobody_out() {
    let browser = Browser::at_a_shop();
    let app = asking(&[]);
    let shop = format!("http://shop.example:{}{WANTED}", app.address().port());
    solve(&browser, &shop);
    let pass = names(&browser).remove(0);
    for path in ["/", "/members"] {
        let junk = format!("document.cookie = '{pass}=junk; Domain=shop.example; Path={path}'");
        let neighbour = FakeServer::start(move |_| Reply::html(&format!("<script>{junk}</script>")));
        browser.open(&format!("http://evil.shop.example:{}/", neighbour.address().port()));
        assert_ne!(names(&browser).iter().filter(|name| **name == pass).count(), 1, "the neighbour's is there");
        browser.open(&shop);
        browser.shows("You have been let in");
    }
}

/// The page waits until its probe cookie changes, and must not take a neighbour's probe cookie for that change.
#[test]
fn a_probe_that_a_neighbour_has_set_takes_nobodys_answer_away() {
    let browser = Browser::at_a_shop();
    let provider = &PROVIDERS[0];
    let server = provider.start();
    // The answer takes longer than the page needs to look at its cookies a few times.
    let judge = FakeServer::start(|_| Reply::json(&json!({ "success": true })).after(Duration::from_millis(700)));
    let app = asking_with(provider, &script_of(&server), &judge.url());
    let neighbour = "document.cookie = 'captcha-probe=2; Domain=shop.example; Path=/'";
    let neighbour = FakeServer::start(move |_| Reply::html(&format!("<script>{neighbour}</script>")));
    browser.open(&format!("http://evil.shop.example:{}/", neighbour.address().port()));
    let shop = format!("http://www.shop.example:{}{WANTED}", app.address().port());
    browser.open(&shop);
    browser.shows(&word("captcha_title"));
    answer(&browser);
    browser.shows("You have been let in");
    browser.arrives_at(&shop);
}

#[test]
fn two_deployments_on_one_host_leave_each_other_their_passes() {
    let browser = Browser::start();
    let (ours, theirs) = (asking(&[]), asking(&[]));
    solve(&browser, &at(&ours, WANTED));
    solve(&browser, &at(&theirs, WANTED));
    for app in [&ours, &theirs] {
        browser.open(&at(app, WANTED));
        browser.shows("You have been let in");
    }
}
