//! Is every request of the refused refused, and none of the others? Whatever it asks for, and however it is written.

use std::fs;

use dev::Verdict::{Ban, Welcome};
use dev::{Answer, App, Lapi, Request, eventually, pipeline, root};
use serde_json::json;

const BANNED: &str = "203.0.113.7";
const CAPTCHA: &str = "203.0.113.9";
const FREE: &str = "203.0.113.11";

/// Every method that Rocket knows.
const METHODS: [&str; 9] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "TRACE", "CONNECT", "PATCH"];

/// Stands in each decision's scenario, so that a test can look for it where it must not be.
const REASON: &str = "acme/reason-nobody-may-read";

/// An application that bans one visitor and asks another for a captcha, and that knows so from its first request on.
fn protected(settings: &[(&str, &str)]) -> App {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", BANNED, "--reason", REASON]);
    lapi.decide(&["--ip", CAPTCHA, "--type", "captcha", "--reason", REASON]);
    // From here on LAPI is not needed any more.
    App::polling(lapi.url(), settings)
}

/// The settings of a launch outside the debug profile.
const RELEASE: [(&str, &str); 2] =
    [("ROCKET_PROFILE", "release"), ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=")];

/// The request as it stands is refused to the banned, with all that a refusal bears, and not to somebody else.
#[track_caller]
fn refused_to_the_banned_alone(request: Request) -> Answer {
    let banned = request.clone().from(BANNED).send();
    assert_eq!(banned.status, 403, "{request:?}: {}", banned.everything());
    assert_eq!(banned.header("Cache-Control"), Some("no-store"), "{request:?}");
    assert!(varies_by_accept(&banned), "{request:?}: {}", banned.everything());
    assert_eq!(banned.surplus, b"", "{request:?}");
    let free = request.clone().from(FREE).send();
    assert_ne!(free.status, 403, "{request:?}: {}", free.everything());
    banned
}

/// Caches are told that a page and a program's answer live at one address.
fn varies_by_accept(answer: &Answer) -> bool {
    answer.header("Vary").is_some_and(|names| names.split(',').any(|name| name.trim() == "Accept"))
}

// --- whatever is asked for ---

#[test]
fn every_method_is_refused() {
    let app = protected(&[]);
    for method in METHODS {
        refused_to_the_banned_alone(app.request(method, "/"));
    }
}

#[test]
fn every_method_is_refused_where_no_route_is() {
    let app = protected(&[]);
    for method in METHODS {
        refused_to_the_banned_alone(app.request(method, "/no/route/leads/here?x=1"));
    }
}

#[test]
fn every_method_meets_the_captcha_too() {
    let app = protected(&[]);
    for method in METHODS {
        let answer = app.request(method, "/no/route/leads/here").from(CAPTCHA).send();
        assert_eq!(answer.status, 403, "{method}: {}", answer.everything());
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert!(varies_by_accept(&answer), "{method}: {}", answer.everything());
    }
}

#[test]
fn what_rocket_answers_before_it_asks_any_fairing_is_refused_to_the_banned_too() {
    let app = protected(&[]);
    for (method, target) in [("PROPFIND", "/"), ("FOO", "/a/b?c"), ("get", "/"), ("CONNECT", "example.org:443")] {
        let ban = refused_to_the_banned_alone(app.request(method, target));
        assert!(ban.text().contains("<h1>"), "the ban page: {}", ban.everything());
        let captcha = app.request(method, target).from(CAPTCHA).send();
        assert!(captcha.text().contains(r#"action="/crowdsec/captcha""#), "{method}: {}", captcha.everything());
        let free = app.request(method, target).from(FREE).send();
        assert_eq!(free.status, 400, "{method}");
        assert!(free.text().contains("Bad Request"), "the application's own page: {}", free.text());
    }
}

#[test]
fn static_files_are_refused() {
    let app = protected(&[]);
    let files: Vec<_> =
        fs::read_dir(root().join("static")).expect("static files").map(|f| f.unwrap().file_name()).collect();
    assert!(!files.is_empty());
    for file in files {
        let target = format!("/static/{}", file.to_str().unwrap());
        assert_eq!(app.get(&target).from(FREE).send().status, 200, "{target}");
        refused_to_the_banned_alone(app.get(&target));
    }
}

#[test]
fn odd_targets_are_refused() {
    let app = protected(&[]);
    let absolute = format!("http://{}/", app.address());
    let odd = [
        ("OPTIONS", "*"),
        ("GET", &absolute),
        ("GET", "http://elsewhere.example/"),
        ("GET", "//"),
        ("GET", "//x"),
        ("GET", "//elsewhere.example/x"),
        ("GET", "/a/../x"),
        ("GET", "/../../etc/passwd"),
        ("GET", "/static/../Cargo.toml"),
        ("GET", "/%2e%2e/x"),
        ("GET", "/static/%2e%2e/%2e%2e/Rocket.toml"),
        ("GET", "/%00"),
        ("GET", "/%ff%fe"),
        ("GET", "/%zz"),
        ("GET", "/?"),
        ("GET", "/?a=b&a=%00"),
        ("GET", "/crowdsec"),
        ("GET", "/crowdsec/"),
        ("GET", "/crowdsec/nothing/here"),
        ("GET", "/crowdsec/captcha/"),
        ("GET", "/crowdsec//captcha"),
        ("GET", "/crowdsec/health/more"),
        ("GET", "/crowdsec/../crowdsec/../"),
        ("GET", "/.hidden"),
    ];
    for (method, target) in odd {
        refused_to_the_banned_alone(app.request(method, target));
    }
}

#[test]
fn the_captcha_route_is_exempt_from_the_captcha_and_never_from_a_ban() {
    let app = protected(&[]);
    refused_to_the_banned_alone(app.get("/crowdsec/captcha"));
    let ban = refused_to_the_banned_alone(app.request("POST", "/crowdsec/captcha").form(&[("return_to", "/")]));
    assert!(!ban.text().contains("<form"), "a ban is a ban: {}", ban.text());
    let nothing_to_solve = app.get("/crowdsec/captcha").from(FREE).send();
    assert_eq!((nothing_to_solve.status, nothing_to_solve.header("Location")), (303, Some("/")));
}

#[test]
fn a_body_changes_nothing() {
    let app = protected(&[]);
    refused_to_the_banned_alone(app.request("POST", "/").form(&[("_method", "put"), ("x", "1")]));
    refused_to_the_banned_alone(app.request("POST", "/").form(&[("_method", "head")]));
    refused_to_the_banned_alone(app.request("POST", "/").body("text/plain", "short"));
    refused_to_the_banned_alone(app.request("PUT", "/").body("application/octet-stream", &"x".repeat(300_000)));
}

#[test]
fn an_answer_to_head_has_the_length_of_the_page_and_no_body() {
    let app = protected(&[]);
    for address in [BANNED, CAPTCHA] {
        let (head, get) = (app.request("HEAD", "/").from(address).send(), app.get("/").from(address).send());
        assert_eq!((head.status, head.surplus.len()), (403, 0), "{address}");
        assert_eq!(head.header("Content-Type"), get.header("Content-Type"));
        assert_eq!(get.header("Content-Length"), Some(get.body.len().to_string().as_str()));
    }
}

#[test]
fn http_1_0_is_refused() {
    let app = protected(&[]);
    for method in ["GET", "HEAD", "POST"] {
        refused_to_the_banned_alone(app.request(method, "/").http_1_0());
    }
}

#[test]
fn each_request_on_a_kept_connection_is_judged_by_itself() {
    let app = protected(&[]);
    let requests = [
        app.get("/").from(FREE),
        app.get("/").from(BANNED),
        app.request("HEAD", "/").from(BANNED),
        app.request("POST", "/").from(BANNED).form(&[("x", "1")]),
        app.get("/").from(CAPTCHA),
        app.get("/").from(FREE),
        app.get("/static/nothing").from(BANNED),
    ];
    let statuses: Vec<u16> = pipeline(&requests).iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 403, 403, 403, 403, 200, 403]);
}

#[test]
fn excluded_paths_are_spared_by_whole_segments_alone() {
    let app = protected(&[("CROWDSEC_EXCLUDED_PATHS", "/robots.txt,/hooks/in")]);
    for spared in ["/robots.txt", "/hooks/in", "/hooks/in/", "/hooks/in/7?x=1"] {
        assert_ne!(app.get(spared).from(BANNED).send().status, 403, "{spared}");
        assert_ne!(app.get(spared).from(CAPTCHA).send().status, 403, "{spared}");
    }
    for refused in [
        "/",
        "/robots.txt.bak",
        "/hooks",
        "/hooks/inner",
        "/hooks/in/../../",
        "/hooks/in/%2e%2e/%2e%2e/",
        "/x/hooks/in",
    ] {
        assert_eq!(app.get(refused).from(BANNED).send().status, 403, "{refused}");
    }
}

#[test]
fn a_guarded_route_refuses_even_where_the_fairing_spares() {
    let app = protected(&[("CROWDSEC_EXCLUDED_PATHS", "/members")]);
    assert_eq!(app.get("/members").from(FREE).send().status, 200);
    refused_to_the_banned_alone(app.get("/members"));
    assert_eq!(app.get("/members").from(CAPTCHA).send().status, 403);
}

// --- who is asking ---

/// Everything that claims to know better than the socket where a request comes from.
fn claiming(request: Request, address: &str) -> Request {
    request
        .header("X-Real-IP", address)
        .header("X-Forwarded-For", address)
        .header("X-Client-IP", address)
        .header("Forwarded", format!("for={address}"))
        .header("True-Client-IP", address)
        .header("CF-Connecting-IP", address)
        .header("X-Cluster-Client-IP", address)
        .header("Client-IP", address)
}

/// An application that bans the peer 127.0.0.2 and trusts no proxy but 127.0.0.1.
fn behind_one_proxy() -> App {
    let lapi = Lapi::start();
    lapi.ban("127.0.0.2");
    lapi.ban(BANNED);
    App::polling(lapi.url(), &[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1/32")])
}

#[test]
fn a_banned_peer_does_not_walk_free_by_a_header() {
    let app = behind_one_proxy();
    assert_eq!(app.get("/").peer("127.0.0.2").send().status, 403);
    assert_eq!(claiming(app.get("/").peer("127.0.0.2"), FREE).send().status, 403);
    assert_eq!(app.get("/").peer("127.0.0.3").send().status, 200);
}

#[test]
fn nobody_is_framed_by_a_header() {
    let app = behind_one_proxy();
    assert_eq!(claiming(app.get("/").peer("127.0.0.3"), BANNED).send().status, 200);
}

#[test]
fn with_no_trusted_proxy_only_the_peer_counts() {
    let lapi = Lapi::start();
    lapi.ban(BANNED);
    lapi.ban("127.0.0.2");
    let app = App::polling(lapi.url(), &[("CROWDSEC_TRUSTED_PROXIES", "[]")]);
    assert_eq!(claiming(app.get("/"), BANNED).send().status, 200);
    assert_eq!(claiming(app.get("/").peer("127.0.0.2"), FREE).send().status, 403);
}

#[test]
fn behind_a_trusted_proxy_only_its_own_header_counts() {
    let app = behind_one_proxy();
    let request = app.get("/").header("X-Real-IP", BANNED).header("Forwarded", format!("for={BANNED}"));
    let request = request.header("CF-Connecting-IP", BANNED);
    assert_eq!(request.clone().from(FREE).send().status, 200);
    assert_eq!(request.from(BANNED).send().status, 403);
}

#[test]
fn a_forwarded_chain_is_read_from_the_right() {
    let app = behind_one_proxy();
    let verdict = |chain: &str| app.verdict(chain);
    assert_eq!(verdict(&format!("{FREE}, {BANNED}")), Ban);
    assert_eq!(verdict(&format!("{BANNED}, {FREE}")), Welcome, "the left is whatever the visitor wrote");
    assert_eq!(verdict(&format!("{FREE},{BANNED} , 127.0.0.1")), Ban, "trusted proxies are skipped");
    assert_eq!(verdict(&format!("{BANNED}, {FREE}, 127.0.0.1")), Welcome);
    let in_two_headers = app.get("/").from(FREE).from(BANNED).send();
    assert_eq!(in_two_headers.status, 403, "several headers are one list");
}

#[test]
fn addresses_with_a_port_are_understood_behind_a_proxy() {
    let lapi = Lapi::start();
    lapi.ban(BANNED);
    lapi.ban("2001:db8::7");
    let app = App::polling(lapi.url(), &[]);
    for spelling in [&format!("{BANNED}:443"), "[2001:db8::7]:443", "[2001:db8::7]", "2001:db8::7"] {
        assert_eq!(app.verdict(spelling), Ban, "{spelling}");
    }
}

#[test]
fn the_operator_may_name_another_header() {
    let lapi = Lapi::start();
    lapi.ban(BANNED);
    let app = App::polling(lapi.url(), &[("CROWDSEC_CLIENT_IP_HEADER", "CF-Connecting-IP")]);
    assert_eq!(app.get("/").header("CF-Connecting-IP", BANNED).send().status, 403);
    assert_eq!(app.get("/").from(BANNED).send().status, 200);
}

#[test]
fn an_ipv4_peer_is_known_by_its_ipv4_address_where_we_listen_on_ipv6() {
    let lapi = Lapi::start();
    lapi.ban("127.0.0.2");
    let app = App::polling(lapi.url(), &[("ROCKET_ADDRESS", "::"), ("CROWDSEC_TRUSTED_PROXIES", "[]")]);
    assert_eq!(app.get("/").peer("127.0.0.2").send().status, 403);
    assert_eq!(app.get("/").peer("127.0.0.3").send().status, 200);
}

// --- what the refused are told ---

#[test]
fn programs_get_json_with_three_members_and_no_more() {
    let app = protected(&[]);
    let problem = |request: Request| {
        let answer = request.send();
        assert_eq!(answer.status, 403);
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{}", answer.everything());
        assert!(varies_by_accept(&answer), "{}", answer.everything());
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        answer.json()
    };
    let members = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");

    for accept in [
        "application/json",
        "application/problem+json",
        "text/html;q=0.5, application/json",
        "application/vnd.api+json",
    ] {
        let ban = problem(app.get("/").from(BANNED).accept(accept));
        assert_eq!(members(&ban), "status title type", "{accept}");
        assert_eq!(ban["status"], 403);
        let captcha = problem(app.get("/").from(CAPTCHA).accept(accept));
        assert_eq!(members(&captcha), "captcha_url status title type", "{accept}");
        assert!(captcha["captcha_url"].as_str().is_some_and(|url| url.contains("/crowdsec/captcha")), "{captcha}");
    }
    // A program that does not say what it accepts is known by what it sends.
    problem(app.request("POST", "/").from(BANNED).body("application/json", r#"{"a": "longer than a few bytes"}"#));
    problem(app.request("POST", "/").from(BANNED).accept("*/*").body("application/json; charset=utf-8", "{}"));
}

#[test]
fn browsers_get_a_page() {
    let app = protected(&[]);
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    for accept in [
        browser,
        "text/html",
        "*/*",
        "text/html, application/json",
        "text/html, application/json;q=0.9",
        "image/png",
        "",
    ] {
        for address in [BANNED, CAPTCHA] {
            let answer = app.get("/").from(address).accept(accept).send();
            let kind = answer.header("Content-Type").unwrap_or_default();
            assert!(kind.starts_with("text/html"), "{accept:?}: {}", answer.everything());
            assert!(varies_by_accept(&answer), "{accept:?}: {}", answer.everything());
        }
    }
    let posted = app.request("POST", "/").from(BANNED).accept("text/html").body("application/json", "{}").send();
    assert!(posted.header("Content-Type").unwrap_or_default().starts_with("text/html"), "{}", posted.everything());
}

#[test]
fn no_refusal_tells_why() {
    for settings in [&[][..], &RELEASE] {
        let app = protected(settings);
        for address in [BANNED, CAPTCHA] {
            for accept in ["text/html", "application/json"] {
                for method in METHODS {
                    let answer = app.request(method, "/").from(address).accept(accept).send();
                    assert_eq!(answer.status, 403, "{method} {accept}: {}", answer.everything());
                    for secret in [REASON, "reason-nobody", "cscli", "scenario", "end-to-end-captcha-secret", dev::KEY]
                    {
                        assert!(!answer.everything().contains(secret), "{secret}: {}", answer.everything());
                    }
                }
            }
        }
        // The operator's log is the place for it.
        eventually("the refusal is told", || app.logged(REASON) > 0);
        assert!(!app.log().contains(dev::KEY));
    }
}

#[test]
fn the_health_check_is_answered_to_everybody() {
    let lapi = Lapi::start();
    lapi.ban(BANNED);
    lapi.captcha(CAPTCHA);
    let app = App::polling(lapi.url(), &[]);
    for address in [BANNED, CAPTCHA, FREE] {
        let health = app.get("/crowdsec/health").from(address).send();
        assert_eq!((health.status, health.json()), (200, json!({ "status": "ok" })), "{address}");
        assert_eq!(health.header("Cache-Control"), Some("no-store"));
        assert_eq!(app.request("HEAD", "/crowdsec/health").from(address).send().status, 200);
    }
    refused_to_the_banned_alone(app.request("POST", "/crowdsec/health"));
}

#[test]
fn the_pages_can_be_previewed_in_the_debug_profile_alone() {
    let (debug, release) = (protected(&[]), protected(&RELEASE));
    for page in ["/crowdsec/preview/ban", "/crowdsec/preview/captcha"] {
        let preview = debug.get(page).from(FREE).send();
        assert!(
            preview.header("Content-Type").is_some_and(|kind| kind.starts_with("text/html")),
            "{}",
            preview.everything()
        );
        assert_ne!(preview.status, 404);
        assert_eq!(debug.get(page).from(BANNED).send().status, 403);
        assert_eq!(release.get(page).from(FREE).send().status, 404, "{page}");
        assert_eq!(release.get(page).from(BANNED).send().status, 403);
    }
}

#[test]
fn the_place_where_refusals_are_made_does_not_exist_for_anybody_else() {
    let app = protected(&[]);
    for method in METHODS {
        assert_eq!(app.request(method, "/crowdsec/refused").from(FREE).send().status, 404, "{method}");
    }
    assert_eq!(app.get("/crowdsec/refused").from(BANNED).send().status, 403);
}

#[test]
fn the_release_profile_refuses_as_well() {
    let app = protected(&RELEASE);
    for method in METHODS {
        refused_to_the_banned_alone(app.request(method, "/"));
    }
}

/// Where templates are not read anew for each page.
#[test]
fn each_visitor_gets_a_page_of_their_own_in_the_release_profile() {
    let lapi = Lapi::start();
    lapi.ban_range("192.0.2.0/24");
    let app = App::polling(lapi.url(), &RELEASE);
    let mut nonces = Vec::new();
    for (visitor, language, title) in [
        ("192.0.2.1", "en", "<h1>You cannot enter here for now</h1>"),
        ("192.0.2.2", "en", "<h1>You cannot enter here for now</h1>"),
        ("192.0.2.3", "de", "<h1>Hier geht es für Sie gerade nicht weiter</h1>"),
        ("192.0.2.4", "en", "<h1>You cannot enter here for now</h1>"),
    ] {
        let answer = app.get("/").from(visitor).header("Accept-Language", language).send();
        let page = answer.text();
        assert!(page.contains(&format!("<dd>{visitor}</dd>")) && page.contains(title), "{page}");
        let (_, nonce) = page.split_once("<style nonce=\"").expect("a nonce");
        let nonce = nonce.split('"').next().expect("its end").to_owned();
        let policy = answer.header("Content-Security-Policy").expect("a policy").to_owned();
        assert!(policy.contains(&format!("style-src 'nonce-{nonce}'")), "{policy}");
        assert!(!nonces.contains(&nonce), "{nonce}");
        nonces.push(nonce);
    }
}
