//! Does `deploy/check` find what is wrong? It asks through the shipped proxies, as they are and with common mistakes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use dev::{App, FakeServer, Lapi, Proxy, Reply, closed_port, root};

use super::shipped::{ALL, INNOCENT, Kind, app, certificate, changed, protected, proxy};
use super::{plain, set, shipped_file};

/// What `deploy/check` says about a URL, asked from [`INNOCENT`], and whether it finds nothing wrong.
struct Checked {
    good: bool,
    said: String,
}

/// The folder of curl's settings file. The file is written once, because the tests run side by side.
static CURL_HOME: LazyLock<PathBuf> = LazyLock::new(|| {
    let home = std::env::temp_dir().join(format!("deploy-check-{}", std::process::id()));
    fs::create_dir_all(&home).expect("a folder for curl");
    fs::write(home.join(".curlrc"), format!("interface = {INNOCENT}\n")).expect("writing curl's settings");
    home
});

#[track_caller]
fn check(url: &str, cscli: &str) -> Checked {
    check_from(&CURL_HOME, url, cscli)
}

#[track_caller]
fn check_from(curl_home: &Path, url: &str, cscli: &str) -> Checked {
    let mut command = Command::new("sh");
    command.arg(shipped_file("check")).arg(url).env("CSCLI", cscli);
    command.env("CURL_HOME", curl_home).env("CURL_CA_BUNDLE", certificate());
    let output = command.output().expect("running deploy/check");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Checked { good: output.status.success(), said }
}

impl Checked {
    /// `deploy/check` finds this fault and nothing else.
    #[track_caller]
    fn wrong(&self, what: &str) {
        let wrong: Vec<_> = self.said.lines().filter(|line| line.starts_with("WRONG: ")).collect();
        assert!(!self.good && wrong.len() == 1 && wrong[0].contains(what), "not {what:?}, but:\n{}", self.said);
    }
}

fn https(proxy: &Proxy) -> String {
    format!("https://{}/", proxy.v4())
}

/// `cscli` of this LAPI, as CSCLI names it.
fn cscli(lapi: &Lapi) -> String {
    let folder = PathBuf::from(lapi.value("LAPI_DB"));
    let folder = folder.ancestors().nth(2).expect("LAPI's folder");
    format!("env LAPI_DIR={} {} cli", plain(folder), plain(&root().join("dev/lapi")))
}

const NO_CSCLI: &str = "no-such-cscli";

#[test]
fn behind_each_shipped_proxy_nothing_is_wrong_and_a_ban_is_proven() {
    let (lapi, app) = protected();
    for kind in ALL {
        let checked = check(&https(&proxy(kind, &[app.address()])), &cscli(&lapi));
        let proven = format!("ok: a decision of CrowdSec's (ban) on {INNOCENT} holds through the proxy");
        assert!(checked.good && checked.said.contains(&proven), "{kind:?}:\n{}", checked.said);
        assert!(!checked.said.contains("WRONG"), "{kind:?}:\n{}", checked.said);
        assert!(lapi.ids(INNOCENT).is_empty(), "the decision is lifted again");
        app.eventually(INNOCENT, dev::Verdict::Welcome);
    }
}

#[test]
fn where_a_firewall_bouncer_runs_it_proves_a_captcha_instead() {
    let (lapi, app) = protected();
    lapi.cscli(&["bouncers", "add", "cs-firewall-bouncer-1"]);
    let checked = check(&https(&proxy(Kind::Nginx, &[app.address()])), &cscli(&lapi));
    let proven = format!("ok: a decision of CrowdSec's (captcha) on {INNOCENT} holds through the proxy");
    assert!(checked.good && checked.said.contains(&proven), "{}", checked.said);
}

#[test]
fn without_cscli_it_says_that_no_ban_is_proven() {
    let (_lapi, app) = protected();
    let checked = check(&https(&proxy(Kind::HaProxy, &[app.address()])), NO_CSCLI);
    assert!(!checked.good && checked.said.contains("not checked: a ban through the proxy"), "{}", checked.said);
    assert!(!checked.said.contains("WRONG") && checked.said.contains("no ban was proven"), "{}", checked.said);
}

#[test]
fn it_tells_a_proxy_that_adds_to_what_visitors_say_from_one_that_hands_it_on() {
    let (_lapi, app) = protected();
    let line = "proxy_set_header X-Forwarded-For $remote_addr;";
    let to = [app.address()];
    let adding =
        changed(Kind::Nginx, &to, |text| set(text, line, &line.replace("$remote_addr", "$proxy_add_x_forwarded_for")));
    check(&https(&adding), NO_CSCLI).wrong("adds to the X-Forwarded-For that visitors send");
    // Through another proxy on the visitor's side, so that there is a header to hand on.
    let handing_on = changed(Kind::Nginx, &to, |text| {
        set(
            text,
            line,
            "set $said $http_x_forwarded_for; if ($said = '') { set $said $remote_addr; }\n\
                         proxy_set_header X-Forwarded-For $said;",
        )
    });
    let checked = check(&https(&handing_on), NO_CSCLI);
    assert!(
        !checked.good && checked.said.contains("WRONG: the proxy hands on the X-Forwarded-For"),
        "{}",
        checked.said
    );
}

#[test]
fn it_says_when_no_visitor_gets_in_because_the_proxy_names_none() {
    let (_lapi, app) = protected();
    let line = "proxy_set_header X-Forwarded-For $remote_addr;";
    let silent = changed(Kind::Nginx, &[app.address()], |text| set(text, line, "proxy_set_header X-Forwarded-For '';"));
    check(&https(&silent), NO_CSCLI).wrong("this machine itself is refused");
}

#[test]
fn on_the_proxys_own_machine_it_says_that_loopback_is_a_proxys_address() {
    let (_lapi, app) = protected();
    let checked = check_from(Path::new("/nowhere"), &https(&proxy(Kind::Nginx, &[app.address()])), NO_CSCLI);
    checked.wrong("this machine itself is refused");
    assert!(checked.said.contains("own loopback address"), "{}", checked.said);
}

#[test]
fn an_application_that_waits_for_crowdsec_behind_closed_doors_is_one_fault_and_not_two() {
    let settings = [("CROWDSEC_ON_STARTUP_FAILURE", "closed"), ("CROWDSEC_STARTUP_TIMEOUT", "1s")];
    let closed = super::shipped::app("http://127.0.0.1:1/", &settings);
    let checked = check(&https(&proxy(Kind::Nginx, &[closed.address()])), NO_CSCLI);
    checked.wrong("has not heard from CrowdSec");
    assert!(checked.said.contains("lets nobody in"), "{}", checked.said);
}

#[test]
fn it_finds_a_decision_that_does_not_hold_because_another_address_is_judged() {
    let lapi = Lapi::start();
    // The proxy is not trusted, so that each visitor counts as the proxy.
    let app = app(lapi.url(), &[("CROWDSEC_TRUSTED_PROXIES", "192.0.2.1")]);
    let proxy = proxy(Kind::Nginx, &[app.address()]);
    check(&https(&proxy), &cscli(&lapi)).wrong("half a minute later this machine still gets in");
    assert!(lapi.ids(INNOCENT).is_empty(), "the decision is lifted again");
}

#[test]
fn it_tells_what_is_wrong_with_health_https_and_the_build() {
    let (lapi, app) = protected();
    check(&format!("http://{}/", app.address()), NO_CSCLI).wrong("no HTTPS");

    let nobody = proxy(Kind::Nginx, &[closed_port()]);
    check(&https(&nobody), NO_CSCLI).wrong("the proxy does not reach the application (502)");
    let server = FakeServer::start(|_| Reply::html("another application"));
    let another = check(&https(&proxy(Kind::Nginx, &[server.address()])), NO_CSCLI);
    assert!(
        another.said.contains("WRONG: ") && another.said.contains("not as this application does"),
        "{}",
        another.said
    );

    let debug = App::polling(lapi.url(), &[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1")]);
    check(&https(&proxy(Kind::Nginx, &[debug.address()])), NO_CSCLI).wrong("a debug build is running");

    let alone = super::shipped::app("http://127.0.0.1:1/", &[]);
    check(&https(&proxy(Kind::Nginx, &[alone.address()])), NO_CSCLI).wrong("has not heard from CrowdSec");
    check(&format!("https://{}/", closed_port()), NO_CSCLI).wrong("does not answer");
}

#[test]
fn it_needs_an_address_and_explains_itself_without() {
    let output = Command::new("sh").arg(shipped_file("check")).output().expect("running deploy/check");
    assert!(
        output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("deploy/check https://")
    );
    let own = Command::new("sh").arg(shipped_file("check")).args(["https://example.org/", "127.0.0.1"]).output();
    let own = own.expect("running deploy/check");
    assert!(own.status.code() == Some(2) && String::from_utf8_lossy(&own.stderr).contains("trusted_proxies lacks"));
    let checked = check("example.org", NO_CSCLI);
    assert!(!checked.good && checked.said.contains("is no address such as https://example.org/"), "{}", checked.said);
}
