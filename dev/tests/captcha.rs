//! Does a visitor who proves to be human get in, and nobody else? The provider's server is one of the tests' own.

use std::thread::sleep;
use std::time::Duration;

use dev::Verdict::{Ban, Captcha, Welcome};
use dev::{Answer, App, FakeServer, Lapi, Reply, Seen, closed_port};
use serde_json::json;

const VISITOR: &str = "198.51.100.9";
const SOLVED: &str = "a-solved-captcha";

/// What the provider says: yes to [`SOLVED`], no to everything else.
fn provider(seen: &Seen) -> Reply {
    match seen.form("response").as_deref() {
        Some(SOLVED) => {
            Reply::json(&json!({ "success": true, "challenge_ts": "2026-01-01T00:00:00Z", "hostname": "127.0.0.1" }))
        }
        _ => Reply::json(&json!({ "success": false, "error-codes": ["invalid-input-response"] })),
    }
}

/// An application that asks whole networks for a captcha.
fn asking(verify_url: &str, settings: &[(&str, &str)]) -> (Lapi, App) {
    let lapi = Lapi::start();
    lapi.decide(&["--range", "198.51.100.0/24", "--type", "captcha"]);
    lapi.decide(&["--range", "2001:db8::/32", "--type", "captcha"]);
    let app = App::polling(lapi.url(), &[settings, &[("CROWDSEC_CAPTCHA_VERIFY_URL", verify_url)]].concat());
    (lapi, app)
}

/// Posts the page's form as this visitor.
fn solve(app: &App, address: &str, response: Option<&str>, return_to: &str) -> Answer {
    let mut fields = vec![("return_to", return_to)];
    fields.extend(response.map(|response| ("g-recaptcha-response", response)));
    app.request("POST", "/crowdsec/captcha").from(address).form(&fields).send()
}

/// The cookie of a visitor who has solved the captcha.
#[track_caller]
fn cookie(app: &App, address: &str) -> String {
    let answer = solve(app, address, Some(SOLVED), "/");
    assert_eq!(answer.status, 303, "{}", answer.everything());
    answer.set_cookie()
}

/// The status of the index page for this visitor with this cookie.
fn status(app: &App, address: &str, cookie: &str) -> u16 {
    app.get("/").from(address).cookie(cookie).send().status
}

/// The value of the page's hidden field `return_to`.
#[track_caller]
fn return_to(page: &Answer) -> String {
    let text = page.text();
    let tag = text
        .split('<')
        .find(|tag| tag.starts_with("input") && tag.contains(r#"name="return_to""#))
        .expect("a return_to");
    let value = tag.split_once("value=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a value").0;
    value
        .replace("&#x2F;", "/")
        .replace("&#x27;", "'")
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

// --- the page ---

#[test]
fn the_page_stands_at_the_address_asked_for_and_leads_back_there() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    for target in ["/", "/members", "/no/such/page?q=a%20b&c=%22%3E", "/members?next=/x&y=1"] {
        let page = app.get(target).from(VISITOR).send();
        assert_eq!(page.status, 403);
        let text = page.text();
        let form = text.split('<').find(|tag| tag.starts_with("form")).expect("a form");
        assert!(form.contains(r#"method="post""#) && form.contains(r#"action="/crowdsec/captcha""#), "{form}");
        assert!(page.text().contains("end-to-end-site-key"), "the widget needs the site key");
        assert!(!page.text().contains("end-to-end-captcha-secret"));
        assert_eq!(return_to(&page), target);
    }
    assert!(verify.seen().is_empty(), "nothing is verified before there is an answer");
}

#[test]
fn a_form_that_met_the_captcha_leads_back_to_the_page_it_came_from() {
    let (_lapi, app) = asking("http://127.0.0.1:9/", &[]);
    let own = format!("http://{}/members?page=2", app.address());
    let referred = |referer: &str| {
        let request = app.request("POST", "/members/send").from(VISITOR).header("Referer", referer);
        return_to(&request.form(&[("text", "hello")]).send())
    };
    assert!(referred(&own).starts_with("/members"), "{}", referred(&own));
    assert_eq!(referred("http://elsewhere.example/members"), "/");
    assert_eq!(referred(&format!("http://{}.elsewhere.example/members", app.address())), "/");
    assert_eq!(referred(&format!("http://{}@elsewhere.example/members", app.address())), "/");
    assert_eq!(referred("nonsense"), "/");
    let without = app.request("POST", "/members/send").from(VISITOR).form(&[("text", "hello")]).send();
    assert_eq!(return_to(&without), "/");
}

// --- the answer ---

#[test]
fn who_solves_the_captcha_is_sent_to_where_they_were_going_and_let_in() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let answer = solve(&app, VISITOR, Some(SOLVED), "/members?page=2&q=a%20b");
    assert_eq!(answer.status, 303, "{}", answer.everything());
    assert_eq!(answer.header("Location"), Some("/members?page=2&q=a%20b"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    let cookie = answer.set_cookie();
    assert_eq!(status(&app, VISITOR, &cookie), 200);
    assert_eq!(app.get("/members").from(VISITOR).cookie(&cookie).send().status, 200, "guards let them in too");
    assert_eq!(app.verdict(VISITOR), Captcha, "without the cookie nothing has changed");
}

#[test]
fn each_provider_has_its_own_field() {
    let verify = FakeServer::start(provider);
    for (name, field) in [("hcaptcha", "h-captcha-response"), ("turnstile", "cf-turnstile-response")] {
        let (_lapi, app) = asking(&verify.url(), &[("CROWDSEC_CAPTCHA_PROVIDER", name)]);
        let post = |field: &str| {
            let form = [("return_to", "/members"), (field, SOLVED)];
            app.request("POST", "/crowdsec/captcha").from(VISITOR).form(&form).send()
        };
        assert_eq!(post("g-recaptcha-response").status, 403, "{name}");
        let solved = post(field);
        assert_eq!(solved.status, 303, "{name}: {}", solved.everything());
        assert_eq!(status(&app, VISITOR, &solved.set_cookie()), 200);
    }
}

#[test]
fn the_provider_is_told_secret_answer_and_address() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let odd = "&secret=other&remoteip=192.0.2.1 +%26ü";
    solve(&app, VISITOR, Some(odd), "/");
    let seen = verify.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].form("secret").as_deref(), Some("end-to-end-captcha-secret"));
    assert_eq!(seen[0].form("response").as_deref(), Some(odd));
    assert_eq!(seen[0].form("remoteip").as_deref(), Some(VISITOR));
    assert!(seen[0].header("Cookie").is_none());
}

#[test]
fn a_missing_answer_meets_the_captcha_again() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    for response in [None, Some("")] {
        let answer = solve(&app, VISITOR, response, "/members");
        assert_eq!(answer.status, 403);
        assert_eq!(return_to(&answer), "/members", "the way back is not lost");
        assert!(answer.header("Set-Cookie").is_none());
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
    assert!(verify.seen().is_empty(), "the provider need not be asked");
}

#[test]
fn a_wrong_answer_meets_the_captcha_again() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let answer = solve(&app, VISITOR, Some("made up"), "/members?x=1");
    assert_eq!(answer.status, 403);
    assert_eq!(return_to(&answer), "/members?x=1");
    assert!(answer.header("Set-Cookie").is_none());
    assert!(!answer.text().contains("made up"));
}

#[test]
fn a_form_without_a_way_back_leads_to_the_index_page() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let form = app.request("POST", "/crowdsec/captcha").from(VISITOR).form(&[("g-recaptcha-response", SOLVED)]).send();
    assert_eq!((form.status, form.header("Location")), (303, Some("/")));
}

#[test]
fn posts_that_are_no_form_of_ours_are_answered_sanely() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let post = || app.request("POST", "/crowdsec/captcha").from(VISITOR);
    let odd = [
        post(),
        post().body("application/x-www-form-urlencoded", "%%%=&&&==;"),
        post().body("application/x-www-form-urlencoded", "return_to=/a&return_to=/b&g-recaptcha-response="),
        post().body("multipart/form-data; boundary=x", "--x--"),
        post().body("application/json", r#"{"g-recaptcha-response":"a-solved-captcha"}"#),
        post().body("application/x-www-form-urlencoded", &format!("g-recaptcha-response={}", "x".repeat(300_000))),
    ];
    for request in odd {
        let answer = request.send();
        assert!((400..500).contains(&answer.status), "{}", answer.everything());
        assert!(answer.header("Set-Cookie").is_none());
    }
}

// --- the provider ---

/// The captcha stands, its page says that it cannot be checked now, and nobody is let in.
#[track_caller]
fn captcha_stands(verify_url: &str) {
    let (_lapi, app) = asking(verify_url, &[]);
    let answer = solve(&app, VISITOR, Some(SOLVED), "/members");
    assert_eq!(answer.status, 503, "{}", answer.everything());
    assert!(answer.header("Retry-After").is_some_and(|v| v.parse::<u32>().is_ok()), "{}", answer.everything());
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert!(answer.header("Set-Cookie").is_none());
    assert_eq!(return_to(&answer), "/members", "the visitor can try again");
    assert!(
        !answer.everything().contains("end-to-end-captcha-secret") && !app.log().contains("end-to-end-captcha-secret")
    );
}

#[test]
fn a_provider_that_cannot_be_reached_is_said_to_be_away() {
    captcha_stands(&format!("http://{}/", closed_port()));
}

#[test]
fn a_provider_that_never_answers_is_said_to_be_away() {
    captcha_stands(&FakeServer::start(|_| Reply::silence()).url());
}

#[test]
fn a_provider_that_fails_is_said_to_be_away() {
    captcha_stands(&FakeServer::start(|_| Reply::error(500)).url());
}

#[test]
fn a_provider_that_answers_html_is_said_to_be_away() {
    captcha_stands(&FakeServer::start(|_| Reply::html(r#"{"success": true}"#)).url());
}

#[test]
fn a_provider_whose_answer_is_cut_is_said_to_be_away() {
    captcha_stands(&FakeServer::start(|_| Reply::json(&json!({ "success": true })).cut()).url());
}

#[test]
fn a_provider_that_sends_elsewhere_is_not_followed() {
    let elsewhere = FakeServer::start(provider);
    let to = elsewhere.url();
    captcha_stands(&FakeServer::start(move |_| Reply::redirect(&to)).url());
    assert!(elsewhere.seen().is_empty(), "the secret must not travel: {:?}", elsewhere.seen());
}

#[test]
fn an_answer_that_does_not_say_yes_is_not_a_yes() {
    let no = [
        (200, r#"{}"#),
        (200, r#"{"success": "true"}"#),
        (200, r#"{"success": 1}"#),
        (200, r#"{"success": null}"#),
        (200, r#"{"success": true"#),
        (200, r#"[true]"#),
        (500, r#"{"success": true}"#),
    ];
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    for (status, body) in no {
        verify.answers(move |_| Reply::new(status, "application/json", body));
        let answer = solve(&app, VISITOR, Some(SOLVED), "/");
        assert!([403, 503].contains(&answer.status), "{status} {body}: {}", answer.everything());
        assert!(answer.header("Set-Cookie").is_none());
    }
}

#[test]
fn a_captcha_that_was_solved_on_another_site_does_not_count_where_the_operator_names_theirs() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[("CROWDSEC_CAPTCHA_HOSTNAMES", "www.example.org,example.org")]);
    assert_eq!(solve(&app, VISITOR, Some(SOLVED), "/").status, 403);
    let (_lapi, app) = asking(&verify.url(), &[("CROWDSEC_CAPTCHA_HOSTNAMES", "example.org,127.0.0.1")]);
    assert_eq!(solve(&app, VISITOR, Some(SOLVED), "/").status, 303);
}

// --- the session ---

#[test]
fn the_cookie_is_hidden_from_scripts_and_does_not_come_along_from_other_sites() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let answer = solve(&app, VISITOR, Some(SOLVED), "/");
    let attributes: Vec<&str> = answer.header("Set-Cookie").unwrap().split("; ").skip(1).collect();
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(attributes.contains(&attribute), "{attribute}: {attributes:?}");
    }
    assert!(!attributes.contains(&"Secure"), "plain HTTP: {attributes:?}");
    assert!(!attributes.iter().any(|a| a.starts_with("Domain")), "{attributes:?}");
    assert!(!answer.everything().contains(VISITOR), "the cookie is encrypted");
}

#[test]
fn behind_a_proxy_that_speaks_https_the_cookie_is_secure() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1/32")]);
    let post = |peer: &str, proto: &str| {
        let request =
            app.request("POST", "/crowdsec/captcha").peer(peer).from(VISITOR).header("X-Forwarded-Proto", proto);
        request.form(&[("g-recaptcha-response", SOLVED)]).send()
    };
    let secure = |answer: &Answer| answer.header("Set-Cookie").is_some_and(|cookie| cookie.contains("; Secure"));
    assert!(secure(&post("127.0.0.1", "https")));
    assert!(!secure(&post("127.0.0.1", "http")));
}

#[test]
fn a_cookie_does_not_work_from_another_address() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let cookie = cookie(&app, VISITOR);
    assert_eq!(status(&app, VISITOR, &cookie), 200);
    assert_eq!(status(&app, "198.51.100.10", &cookie), 403);
    assert_eq!(status(&app, "2001:db8::1", &cookie), 403);
}

#[test]
fn a_cookie_of_an_ipv6_address_works_in_its_64_and_not_beyond() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let cookie = cookie(&app, "2001:db8:1:2::3");
    assert_eq!(status(&app, "2001:db8:1:2::3", &cookie), 200);
    assert_eq!(status(&app, "2001:db8:1:2:ffff::1", &cookie), 200);
    assert_eq!(status(&app, "2001:db8:1:3::3", &cookie), 403);
}

#[test]
fn a_ban_that_comes_later_outweighs_the_solved_captcha() {
    let verify = FakeServer::start(provider);
    let (lapi, app) = asking(&verify.url(), &[]);
    let cookie = cookie(&app, VISITOR);
    assert_eq!(status(&app, VISITOR, &cookie), 200);
    lapi.ban(VISITOR);
    app.eventually(VISITOR, Ban);
    assert_eq!(status(&app, VISITOR, &cookie), 403);
    assert_eq!(solve(&app, VISITOR, Some(SOLVED), "/").status, 403, "and nothing is left to solve");
    lapi.revoke(&["--id", &lapi.ids(VISITOR)[0]]);
    app.eventually(VISITOR, Captcha);
    assert_eq!(status(&app, VISITOR, &cookie), 200);
}

#[test]
fn a_cookie_that_was_tampered_with_is_worth_nothing() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let cookie = cookie(&app, VISITOR);
    let (name, value) = cookie.split_once('=').unwrap();
    for at in (0..value.len()).step_by(5) {
        let mut bytes = value.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let forged = format!("{name}={}", String::from_utf8(bytes).unwrap());
        assert_eq!(status(&app, VISITOR, &forged), 403, "{forged}");
        assert_eq!(status(&app, VISITOR, &format!("{name}={}", &value[..at])), 403, "cut at {at}");
    }
    for forged in ["", "1", "true", VISITOR, "%00%ff", &"A".repeat(6000)] {
        assert_eq!(status(&app, VISITOR, &format!("{name}={forged}")), 403, "{forged}");
    }
    assert_eq!(status(&app, VISITOR, &format!("other={value}")), 403, "the value is bound to its name");
}

#[test]
fn a_solved_captcha_expires() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[("CROWDSEC_CAPTCHA_EXPIRATION", "3s")]);
    let cookie = cookie(&app, VISITOR);
    assert_eq!(status(&app, VISITOR, &cookie), 200);
    // A browser forgets the cookie in time; a cheat does not.
    sleep(Duration::from_secs(4));
    assert_eq!(status(&app, VISITOR, &cookie), 403);
}

#[test]
fn instances_that_share_the_secret_key_share_the_solved_captcha() {
    let verify = FakeServer::start(provider);
    let (ours, theirs) =
        ("hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=", "Gq7zXo3oSxrtw0j8CIkFk2hwmtbaIXjUTJZGXxGPSKA=");
    let (_lapi, one) = asking(&verify.url(), &[("ROCKET_SECRET_KEY", ours)]);
    let (_lapi, other) = asking(&verify.url(), &[("ROCKET_SECRET_KEY", ours)]);
    let (_lapi, stranger) = asking(&verify.url(), &[("ROCKET_SECRET_KEY", theirs)]);
    let cookie = cookie(&one, VISITOR);
    assert_eq!(status(&other, VISITOR, &cookie), 200);
    assert_eq!(status(&stranger, VISITOR, &cookie), 403);
}

#[test]
fn who_keeps_guessing_is_told_to_wait_and_others_are_not() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let guess = |address: &str| solve(&app, address, Some("made up"), "/members");
    let told =
        (0..200).map(|_| guess("2001:db8:1:2::3")).find(|answer| answer.status != 403).expect("an end of patience");
    assert_eq!(told.status, 429, "{}", told.everything());
    assert!(told.header("Retry-After").is_some_and(|v| v.parse::<u32>().is_ok()), "{}", told.everything());
    assert_eq!(guess("2001:db8:1:2::4").status, 429, "the whole /64 is one visitor");
    assert_eq!(guess("2001:db8:1:3::3").status, 403);
    assert_eq!(guess(VISITOR).status, 403);
}

// --- where it leads ---

/// Ways to make a browser leave the site, or to smuggle something into the answer.
const TRICKS: &[&str] = &[
    "https://evil.example/",
    "http://evil.example",
    "HTTPS://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "//evil.example/%2f..",
    "//evil.example@127.0.0.1/",
    "/\\evil.example",
    "/\\/evil.example",
    "/\\\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/ /evil.example",
    "\u{0}//evil.example",
    "/\u{0}/evil.example",
    "\u{8}//evil.example",
    "/x\r\nSet-Cookie: smuggled=1",
    "/x\r\n\r\n<script>alert(1)</script>",
    "/x\u{7f}",
    "javascript:alert(1)",
    "JaVaScRiPt://evil.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "mailto:a@evil.example",
    "evil.example",
    "@evil.example",
    ":80",
    ".evil.example",
    "?x=1",
    "#x",
    "",
    " ",
    "*",
    "127.0.0.1@evil.example",
    "http:127.0.0.1",
    "\u{2215}\u{2215}evil.example",
    "\u{ff0f}\u{ff0f}evil.example",
    "/\u{e9}\u{2028}",
    "/crowdsec/captcha",
    "/crowdsec/captcha?return_to=/x",
    "/crowdsec/health",
    "/crowdsec/",
    "/crowdsec",
    "/crowdsec?x",
    "/crowdsec#x",
];

#[test]
fn no_trick_leads_off_the_site_or_back_into_the_captcha() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    for (n, trick) in TRICKS.iter().enumerate() {
        // An address of its own for each, since tries are counted.
        let answer = solve(&app, &format!("198.51.100.{n}"), Some(SOLVED), trick);
        assert_eq!(answer.status, 303, "{trick:?}: {}", answer.everything());
        assert_eq!(answer.header("Location"), Some("/"), "{trick:?}");
        let cookie = answer.header("Set-Cookie");
        assert!(cookie.is_some_and(|cookie| !cookie.contains("smuggled")), "{trick:?}: {}", answer.everything());
        assert!(!answer.text().contains("evil") && !answer.text().contains("script"), "{trick:?}: {}", answer.text());
    }
}

/// Paths that look odd and lead nowhere but to this site.
const LOCAL: &[&str] = &[
    "/a/..//evil.example",
    "/.//evil.example",
    "/%2f%2fevil.example",
    "/%5cevil.example",
    "/%09/evil.example",
    "/%0d%0aSet-Cookie:%20smuggled=1",
    "/?next=//evil.example",
    "/?next=https://evil.example/",
    "/x?a=b?c=d&e=%26",
    "/@evil.example",
    "/:80",
    "/;//evil.example",
    "/x#//evil.example",
    "/./crowdsec/captcha",
    "/x/../crowdsec/captcha",
    "/crowdsec/../crowdsec/captcha",
    "/%63rowdsec/captcha",
    "//crowdsec/captcha",
    "/\u{e9}",
    "/x y",
    "/\"><script>alert(1)</script>",
];

#[test]
fn whatever_the_way_back_it_is_a_path_of_this_site() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    for (n, odd) in LOCAL.iter().enumerate() {
        let answer = solve(&app, &format!("198.51.100.{n}"), Some(SOLVED), odd);
        assert_eq!(answer.status, 303, "{odd:?}: {}", answer.everything());
        let location = answer.header("Location").expect("a Location");
        let second = location.as_bytes().get(1).copied();
        assert!(
            location.starts_with('/') && second != Some(b'/') && second != Some(b'\\'),
            "{odd:?} leads to {location:?}"
        );
        assert!(
            location.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'"'),
            "{odd:?} leads to {location:?}"
        );
        assert!(!location.contains("crowdsec/captcha"), "{odd:?} leads to {location:?}");
        let cookie = answer.header("Set-Cookie");
        assert!(cookie.is_some_and(|cookie| !cookie.contains("smuggled")), "{odd:?}: {}", answer.everything());
    }
}

#[test]
fn with_nothing_to_solve_the_captcha_leads_on() {
    let verify = FakeServer::start(provider);
    let (lapi, app) = asking(&verify.url(), &[]);
    let cookie = cookie(&app, VISITOR);
    for request in
        [app.get("/crowdsec/captcha").from(VISITOR).cookie(&cookie), app.get("/crowdsec/captcha").from("192.0.2.1")]
    {
        let answer = request.send();
        assert_eq!((answer.status, answer.header("Location")), (303, Some("/")));
    }
    let reloaded = app.request("POST", "/crowdsec/captcha").from(VISITOR).cookie(&cookie);
    let reloaded = reloaded.form(&[("return_to", "/members"), ("g-recaptcha-response", SOLVED)]).send();
    assert_eq!((reloaded.status, reloaded.header("Location")), (303, Some("/members")));
    lapi.revoke(&["--all"]);
    app.eventually(VISITOR, Welcome);
    assert_eq!(app.get("/crowdsec/captcha").from(VISITOR).send().status, 303);
}

#[test]
fn without_a_provider_a_captcha_becomes_the_fallback() {
    let lapi = Lapi::start();
    lapi.captcha(VISITOR);
    let none = [
        ("ROCKET_PROFILE", "release"),
        ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs="),
        ("CROWDSEC_CAPTCHA_PROVIDER", ""),
        ("CROWDSEC_CAPTCHA_SITE_KEY", ""),
        ("CROWDSEC_CAPTCHA_SECRET_KEY", ""),
    ];
    let app = App::polling(lapi.url(), &none);
    assert_eq!(app.verdict(VISITOR), Ban);
}
