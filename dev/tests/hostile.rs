//! How much memory does a hostile request cost? At most 4 MB plus 64 bytes for each byte sent.

use dev::{App, Proxy, Request};

const BANNED: &str = "203.0.113.7";
const CAPTCHA: &str = "198.51.100.9";
const FREE: &str = "233.252.0.1";

/// The application with the example decisions of the debug profile, and no LAPI.
fn app(settings: &[(&str, &str)]) -> App {
    let usual = [("CROWDSEC_TRUSTED_PROXIES", "127.0.0.0/8")];
    App::start(&[usual.as_slice(), settings].concat())
}

/// `unit` again and again, about `bytes` bytes long.
fn many(unit: &str, bytes: usize) -> String {
    unit.repeat(bytes / unit.len())
}

/// Sends a request, and fails if that took more memory than 4 MB plus 64 bytes for each byte sent.
#[track_caller]
fn costs_little(app: &App, what: &str, sent: usize, request: Request) {
    let before = app.peak_memory();
    let answer = request.send();
    let more = app.peak_memory().saturating_sub(before);
    let most = 4096 + sent as u64 * 64 / 1024;
    assert!(more <= most, "{what}: {sent} bytes sent took {more} kB, answered with {}", answer.status);
}

/// Each header that Rocket or the application parses, about `bytes` bytes long and in its worst form.
fn headers(bytes: usize) -> Vec<(&'static str, String)> {
    let cookies: String = (0..bytes / 8).map(|n| format!("{n:x}=1; ")).collect();
    vec![
        ("Accept", format!("a/json,{}a/b", many("a/b,", bytes))),
        ("Accept", format!("a/json,{}a/b", many("a/b;q=1,", bytes))),
        ("Accept", format!("a/json{}", many(";a=b", bytes))),
        ("Accept", format!("a/json,{}", many("\"", bytes))),
        ("Content-Type", format!("a/json{}", many(";a=b", bytes))),
        ("Content-Type", format!("multipart/form-data; boundary={}", many("b", bytes))),
        ("Cookie", cookies),
        ("Accept-Language", many("a;q=0.1,", bytes)),
        ("X-Forwarded-For", format!("{}{FREE}", many("127.0.0.1,", bytes))),
        ("X-Forwarded-For", many("\",", bytes)),
        ("Forwarded", many("for=127.0.0.1;proto=https,", bytes)),
        ("Referer", format!("http://a/{}", many("a/", bytes))),
        ("User-Agent", many("\"", bytes)),
        ("Expect", many("100-continue,", bytes)),
    ]
}

#[test]
fn no_header_costs_more_memory_than_in_proportion_to_its_length() {
    // Each length gets a new application, since a process keeps its peak of memory.
    for (bytes, targets) in [(40_000, &["/", "/no/such/page", "/crowdsec/captcha"][..]), (380_000, &["/"])] {
        let app = app(&[]);
        for address in [FREE, BANNED, CAPTCHA] {
            for target in targets {
                app.get(target).from(address).send();
                for (name, value) in headers(bytes) {
                    for method in ["GET", "POST"] {
                        let request = app.request(method, target).from(address).header(name, &value);
                        // With this `Accept` the application considers an answer in JSON.
                        let request = if name == "Accept" { request } else { request.accept("a/json") };
                        costs_little(&app, &format!("{method} {target} of {address} with {name}"), bytes, request);
                    }
                }
            }
        }
    }
}

#[test]
fn no_body_costs_more_memory_than_in_proportion_to_its_length() {
    let app = app(&[]);
    let multipart = "multipart/form-data; boundary=b";
    let part = "--b\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\n";
    let bodies = [
        ("application/x-www-form-urlencoded", many("user=&", 32_000)),
        ("application/x-www-form-urlencoded", many("user.", 32_000)),
        ("application/x-www-form-urlencoded", many("user[", 32_000)),
        ("application/x-www-form-urlencoded", many("%61=%61&", 2_000_000)),
        ("application/json", many("[", 1_000_000)),
        (multipart, format!("{}--b--\r\n", many(&format!("{part}\r\n"), 2_000_000))),
        (multipart, format!("{part}{}\r\n--b--\r\n", many("x", 2_000_000))),
        (multipart, format!("{}\"\r\n\r\n\r\n--b--\r\n", part.replace("user\"\r\n\r\n", &many("x", 2_000_000)))),
        (multipart, many("--b\r\nA: b\r\n", 2_000_000)),
    ];
    for address in [FREE, BANNED, CAPTCHA] {
        for target in ["/sign-in", "/crowdsec/captcha", "/no/such/page"] {
            app.get("/sign-in").from(address).send();
            for (kind, body) in &bodies {
                let request = app.request("POST", target).from(address).body(kind, body);
                costs_little(&app, &format!("POST {target} of {address} with {kind}"), body.len(), request);
            }
        }
    }
}

#[test]
fn an_accept_that_is_too_dear_to_read_is_431_and_the_banned_get_the_ban() {
    let app = app(&[]);
    let ask = |address, method: &str, accept: &str| {
        let answer = app.request(method, "/").from(address).accept(accept).send();
        assert_eq!(answer.surplus, b"", "{method}: {}", answer.everything());
        answer
    };
    let dear = many("application/json,", 8_000);
    for method in ["GET", "HEAD", "POST", "OPTIONS"] {
        assert_eq!(ask(FREE, method, &dear).status, 431, "{method}");
        assert_eq!(ask(BANNED, method, &dear).status, 403, "{method}");
        assert_eq!(ask(CAPTCHA, method, &dear).status, 403, "{method}");
    }
    assert!(ask(BANNED, "GET", &dear).text().contains("<h1>"), "the page, for nobody reads what is wanted");
    // A program may well send this.
    let long = many("application/vnd.example+json;q=0.5, ", 1_000) + "*/*;q=0.1";
    assert_eq!(ask(FREE, "GET", &long).status, 200);
    assert_eq!(ask(BANNED, "GET", &long).header("Content-Type"), Some("application/problem+json"));
}

#[test]
fn what_is_too_long_is_414_or_431_before_any_handler_and_the_banned_get_the_ban() {
    let app = app(&[("CROWDSEC_EXCLUDED_PATHS", "/sign-in")]);
    let longer = many("x", 9_000);
    let targets = [
        format!("/{longer}"),
        format!("/?{longer}"),
        format!("/sign-in?{longer}"),
        format!("/static/style.css?{longer}"),
        format!("/{}?{}", &longer[..4_500], &longer[..4_500]),
    ];
    for target in &targets {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(app.request(method, target).from(FREE).send().status, 414, "{method} {}", &target[..20]);
        }
        let spared = target.starts_with("/sign-in");
        let banned = app.get(target).from(BANNED).send().status;
        assert_eq!(banned, if spared { 414 } else { 403 }, "{}", &target[..20]);
    }
    let large = [("A", 66_000), ("Referer", 5_000), ("User-Agent", 3_000)];
    for (name, bytes) in large {
        let ask = |address| app.get("/").from(address).header(name, many("x", bytes)).send().status;
        assert_eq!((ask(FREE), ask(BANNED)), (431, 403), "{name}");
        let unknown = app.request("PROPFIND", "/").from(FREE).header(name, many("x", bytes)).send();
        assert_eq!(unknown.status, 431, "{name} with an unknown method");
    }
    let many_small =
        (0..90).fold(app.get("/").from(FREE), |request, n| request.header(&format!("A{n}"), many("x", 800)));
    assert_eq!(many_small.send().status, 431);
    assert_eq!(app.get(&format!("/?{}", &longer[..8_000])).from(FREE).send().status, 200);
    assert_eq!(app.get("/").from(FREE).header("A", many("x", 60_000)).send().status, 200);
}

/// Lines of deploy/nginx.conf and deploy/haproxy.cfg.
const NGINX: &str = "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Accept $http_accept;
    if ($request_method !~ ^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$) { return 405; }";
const HAPROXY: &str = "option forwardfor
    http-request deny deny_status 400 if { req.fhdr_cnt(Accept) gt 1 }
    http-request deny deny_status 405 unless { method GET HEAD POST PUT PATCH DELETE OPTIONS }";

/// Before it asks any fairing, Rocket reads the first of two `Accept` lines, and requests with a method that it does not know.
#[test]
fn the_proxies_lines_keep_away_what_rocket_reads_before_it_asks_any_fairing() {
    // The visitor comes from another address than the proxies, and only the proxies' address is trusted.
    let app = app(&[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1")]);
    let nginx = Proxy::nginx_among(&[app.address()], "max_fails=0", "", NGINX);
    let haproxy = Proxy::haproxy(&[app.address()], HAPROXY, "");
    let dear = format!("a/json,{}a/b", many("a/b,", 7_500));
    for proxy in [nginx.v4(), haproxy.v4()] {
        let ask = |method| Request::new(proxy, method, "/").peer("127.0.0.9").accept("text/html");
        assert_eq!(ask("GET").send().status, 200);
        let twice = ask("GET").accept(&dear).accept("a/b");
        costs_little(&app, "a long Accept of three", dear.len(), twice.clone());
        let twice = Request::new(proxy, "GET", "/").peer("127.0.0.9").accept(&dear).accept("a/b");
        costs_little(&app, "a long Accept of two", dear.len(), twice.clone());
        assert_ne!(twice.send().status, 200);
        let unknown = Request::new(proxy, "PROPFIND", "/").accept(&dear);
        costs_little(&app, "an unknown method", dear.len(), unknown.clone());
        assert_eq!(unknown.send().status, 405);
    }
}
