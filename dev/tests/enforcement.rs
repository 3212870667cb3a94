//! Is every request of a refused visitor refused, and no other? Whatever the request asks for, and however it is written.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use dev::{Answer, App, Folder, Lapi, Request, eventually, pipeline, root};
use socket2::{Domain, Socket, Type};

const BANNED: &str = "203.0.113.7";
const CAPTCHA: &str = "203.0.113.9";
const FREE: &str = "203.0.113.11";

/// Every method that Rocket knows.
const METHODS: [&str; 9] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "TRACE", "CONNECT", "PATCH"];

/// Stands in each decision's scenario, so that a test can look for it where it must not be.
const REASON: &str = "acme/reason-nobody-may-read";

/// An application that bans one visitor and asks another for a captcha, from its first request on.
fn protected(settings: &[(&str, &str)]) -> App {
    let lapi = Lapi::start();
    lapi.decide(&["--ip", BANNED, "--reason", REASON]);
    lapi.decide(&["--ip", CAPTCHA, "--type", "captcha", "--reason", REASON]);
    // The application has its decisions at the launch, so LAPI may end with this function.
    App::polling(lapi.url(), settings)
}

/// The settings of a launch outside the debug profile.
const RELEASE: [(&str, &str); 2] =
    [("ROCKET_PROFILE", "release"), ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=")];

/// Checks that this request is refused to the banned, with all headers of a refusal, and not to a free visitor.
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

/// Whether caches learn that one URL has both a page and an answer for programs.
fn varies_by_accept(answer: &Answer) -> bool {
    answer.header("Vary").is_some_and(|names| names.split(',').any(|name| name.trim() == "Accept"))
}

// --- whatever is asked for ---

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
        assert!(
            free.text().contains(r#"<div class="symbol">400</div>"#),
            "the application's own page: {}",
            free.text()
        );
    }
}

#[test]
fn an_unknown_method_is_refused_to_the_banned_on_excluded_paths_too() {
    let app = protected(&[("CROWDSEC_EXCLUDED_PATHS", "/hooks")]);
    assert_eq!(app.get("/hooks/in").from(BANNED).send().status, 404, "what is known is spared there");
    for method in ["PROPFIND", "FOO", "get"] {
        let ban = refused_to_the_banned_alone(app.request(method, "/hooks/in"));
        assert!(ban.text().contains("<h1>"), "the ban page: {}", ban.everything());
        assert!(!ban.text().contains("Bad Request"), "not the application's catcher: {}", ban.text());
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

// --- who is asking ---

/// Adds all headers that claim to know the visitor's address better than the socket.
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
fn an_ipv4_peer_is_known_by_its_ipv4_address_where_we_listen_on_ipv6() {
    let lapi = Lapi::start();
    lapi.ban("127.0.0.2");
    let app = App::polling(lapi.url(), &[("ROCKET_ADDRESS", "::"), ("CROWDSEC_TRUSTED_PROXIES", "[]")]);
    assert_eq!(app.get("/").peer("127.0.0.2").send().status, 403);
    assert_eq!(app.get("/").peer("127.0.0.3").send().status, 200);
}

// --- what the refused are told ---

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
        // The reason belongs in the operator's log.
        eventually("the refusal is told", || app.logged(REASON) > 0);
        assert!(!app.log().contains(dev::KEY));
    }
}

#[test]
fn the_release_profile_refuses_as_well() {
    let app = protected(&RELEASE);
    for method in METHODS {
        refused_to_the_banned_alone(app.request(method, "/"));
    }
}

/// Rocket asks for a connection's peer after it has accepted the connection. A connection reset by then has no peer any more.
#[test]
fn a_connection_that_is_reset_at_once_is_nobodys_and_its_requests_meet_no_handler() {
    let folder = Folder::empty();
    let log = folder.path("access.log");
    let settings =
        [("CROWDSEC_ACCESS_LOG", log.to_str().expect("a plain path")), ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1")];
    let app = protected(&[RELEASE.as_slice(), &settings].concat());
    for request in [
        // A second request, or a body, makes Rocket begin the first request before it finds the connection broken.
        "GET /reset HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.66\r\n\r\nG",
        "POST /reset HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.66\r\nContent-Length: 1\r\n\r\nx",
    ] {
        for _ in 0..100 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::from(([127, 0, 0, 5], 0)).into()).expect("another address");
            socket.set_linger(Some(Duration::ZERO)).expect("no lingering");
            socket.connect(&app.address().into()).expect("a connection");
            socket.send(request.as_bytes()).expect("sent");
        }
    }
    assert_ne!(app.get("/told").from(FREE).send().status, 403);
    eventually("the last request is logged", || folder.count("access.log", "/told") == 1);
    // If Rocket asked before the reset, it knows the peer, which is no trusted proxy.
    let strange = |line: &String| !line.starts_with("127.0.0.5 ") && !line.contains("/told");
    assert_eq!(folder.lines("access.log").into_iter().find(strange), None);
}

/// The release profile does not read templates anew for each page.
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
        assert!(page.contains(&format!("<bdi>{visitor}</bdi>")) && page.contains(title), "{page}");
        let (_, nonce) = page.split_once("<style nonce=\"").expect("a nonce");
        let nonce = nonce.split('"').next().expect("its end").to_owned();
        let policy = answer.header("Content-Security-Policy").expect("a policy").to_owned();
        assert!(policy.contains(&format!("style-src 'nonce-{nonce}'")), "{policy}");
        assert!(!nonces.contains(&nonce), "{nonce}");
        nonces.push(nonce);
    }
}

/// An operator finds in the log the reference that a visitor quotes on the telephone.
#[test]
fn the_reference_on_a_refusals_page_stands_in_the_log_beside_the_decision_and_the_contact_on_the_page() {
    let app = protected(&[("CROWDSEC_SITE_NAME", "The Corner Bakery"), ("CROWDSEC_CONTACT", "help@example.org")]);
    let page = app.get("/").from(BANNED).send().text();
    assert!(page.contains("The Corner Bakery") && page.contains("href=\"mailto:help@example.org?"), "{page}");
    let is_letter = |c: char| c.is_ascii_digit() || c.is_ascii_uppercase();
    let is_reference = |word: &&str| {
        word.len() == 9
            && word.split_once('-').is_some_and(|(a, b)| a.chars().all(is_letter) && b.chars().all(is_letter))
    };
    let reference = page.split(['<', '>']).map(str::trim).find(is_reference).expect("a reference").to_owned();
    app.tells(&format!("reference {reference}."), 1);
    let line = app.log().lines().find(|line| line.contains(&reference)).map(str::to_owned).expect("the line");
    assert!(line.contains(&format!("Refused {BANNED}: ban by ")), "{line}");
    assert!(line.contains(", for GET /, reference "), "{line}");
    // All refusals of an address within a minute share one line and one reference.
    assert!(app.get("/other").from(BANNED).send().text().contains(&reference));
    app.tells(&format!("Refused {BANNED}: "), 1);
    for wrong in ["not a contact", "/contact", "javascript:alert(1)", "a@b?cc=c@d", "@"] {
        let ended = App::fails_to_start(&[("CROWDSEC_CONTACT", wrong)]);
        assert!(!ended.status.success() && ended.log.contains("`crowdsec.contact`"), "{wrong}: {}", ended.log);
    }
}
