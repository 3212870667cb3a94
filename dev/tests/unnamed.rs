//! What becomes of a request whose visitor no trusted proxy names? Through real nginx and HAProxy: it is refused, whatever
//! else it says, and the operator is told why and what to write.

use std::net::SocketAddr;
use std::{env, fs, process};

use dev::{App, Lapi, Proxy, Request, eventually};

const BANNED: &str = "127.66.0.1";
const INNOCENT: &str = "127.66.0.2";

/// An application that trusts the proxies on 127.0.0.1.
fn app(settings: &[(&str, &str)]) -> (Lapi, App) {
    let lapi = Lapi::start();
    lapi.ban(BANNED);
    let app = App::polling(lapi.url(), &[&[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1")], settings].concat());
    (lapi, app)
}

/// An nginx with the line of most guides, which joins the visitor's value and its own.
fn adding(to: SocketAddr) -> Proxy {
    Proxy::nginx(to, "", "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;")
}

fn status(server: SocketAddr, visitor: &str, target: &str) -> u16 {
    Request::new(server, "GET", target).peer(visitor).send().status
}

/// The operator was told this many times of requests without a name, for this reason.
#[track_caller]
fn tells(app: &App, why: &str, times: usize) {
    app.tells(&format!("Your proxy at 127.0.0.1 handed on requests that name nobody: {why}"), times);
}

/// Values that are not UTF-8: Rocket drops them whole.
const STRAY: [&[u8]; 4] = [b"\xff", b"192.0.2.1, \xc3\x28", b"127.0.0.1\x80", b"\xf0\x9f, 192.0.2.1"];

/// A stray byte lets nobody in, banned or not. Without one, each visitor is judged by their own address.
#[track_caller]
fn a_stray_byte_lets_nobody_in(app: &App, server: SocketAddr) {
    assert_eq!((status(server, BANNED, "/"), status(server, INNOCENT, "/")), (403, 200));
    for stray in STRAY {
        for visitor in [BANNED, INNOCENT] {
            for method in ["GET", "POST", "HEAD", "OPTIONS"] {
                let request = Request::new(server, method, "/").peer(visitor).header("X-Forwarded-For", stray);
                assert_eq!(request.send().status, 403, "{method} by {visitor}");
                // Other headers of the visitor's change nothing.
                let request = request.header("X-Real-IP", "192.0.2.1").header("Forwarded", "for=192.0.2.1");
                assert_eq!(request.header("CF-Connecting-IP", "192.0.2.1").send().status, 403, "{method} by {visitor}");
            }
            let health = Request::new(server, "GET", "/crowdsec/health").peer(visitor).header("X-Forwarded-For", stray);
            assert_eq!(health.send().status, 200);
        }
    }
    assert_eq!(status(server, INNOCENT, "/"), 200);
    eventually("it is told", || app.logged("Refused a visitor whom the proxy 127.0.0.1 does not name") > 0);
}

#[test]
fn behind_an_nginx_that_adds_and_sets_nothing_else_a_stray_byte_lets_nobody_in() {
    let (_lapi, app) = app(&[]);
    a_stray_byte_lets_nobody_in(&app, adding(app.address()).v4());
    tells(&app, "X-Forwarded-For does not arrive", 1);
    app.tells("`proxy_set_header X-Forwarded-For $remote_addr;`", 1);
}

#[test]
fn behind_a_haproxy_before_an_nginx_a_stray_byte_lets_nobody_in() {
    let (_lapi, app) = app(&[]);
    let inner = adding(app.address());
    a_stray_byte_lets_nobody_in(&app, Proxy::haproxy(&[inner.v4()], "option forwardfor", "").v4());
    tells(&app, "X-Forwarded-For does not arrive", 1);
}

#[test]
fn behind_two_nginx_that_add_a_stray_byte_lets_nobody_in() {
    let (_lapi, app) = app(&[]);
    let inner = adding(app.address());
    a_stray_byte_lets_nobody_in(&app, adding(inner.v4()).v4());
    tells(&app, "X-Forwarded-For does not arrive", 1);
}

/// HAProxy's own line arrives, and names the nginx alone.
#[test]
fn behind_an_nginx_before_a_haproxy_a_stray_byte_lets_nobody_in() {
    let (_lapi, app) = app(&[]);
    let inner = Proxy::haproxy(&[app.address()], "option forwardfor", "");
    a_stray_byte_lets_nobody_in(&app, adding(inner.v4()).v4());
    tells(&app, "X-Forwarded-For names only trusted proxies", 1);
}

#[test]
fn behind_a_proxy_that_sets_another_header_everybody_is_refused_until_that_one_is_named() {
    let set = "proxy_set_header X-Real-IP $remote_addr;";
    let (_lapi, app) = app(&[]);
    let proxy = Proxy::nginx(app.address(), "", set);
    for _ in 0..3 {
        assert_eq!((status(proxy.v4(), BANNED, "/"), status(proxy.v4(), INNOCENT, "/")), (403, 403));
    }
    tells(&app, "X-Forwarded-For does not arrive", 1);
    app.tells("`crowdsec.client_ip_header`", 1);
    let (_lapi, app) = self::app(&[("CROWDSEC_CLIENT_IP_HEADER", "X-Real-IP")]);
    let proxy = Proxy::nginx(app.address(), "", set);
    assert_eq!((status(proxy.v4(), BANNED, "/"), status(proxy.v4(), INNOCENT, "/")), (403, 200));
    tells(&app, "", 0);
}

#[test]
fn behind_a_proxy_that_sets_nothing_everybody_is_refused_and_the_operator_told_once() {
    for nginx in [true, false] {
        let (_lapi, app) = app(&[]);
        let to = app.address();
        let proxy = if nginx { Proxy::nginx(to, "", "") } else { Proxy::haproxy(&[to], "", "") };
        for _ in 0..3 {
            assert_eq!((status(proxy.v4(), BANNED, "/"), status(proxy.v4(), INNOCENT, "/")), (403, 403));
            assert_eq!(status(proxy.v4(), INNOCENT, "/crowdsec/health"), 200);
        }
        tells(&app, "X-Forwarded-For does not arrive", 1);
        app.tells("in HAProxy `http-request set-header X-Forwarded-For %[src]`", 1);
    }
}

/// On a unix socket nginx knows no visitor's address, and writes `unix:` until its realip module is told otherwise.
#[test]
fn behind_an_nginx_on_a_unix_socket_everybody_is_refused_and_the_operator_told_once() {
    let (_lapi, app) = app(&[]);
    let socket = env::temp_dir().join(format!("nginx-{}.sock", process::id()));
    let (socket, to) = (socket.to_str().expect("a plain path"), app.address());
    let set = "proxy_set_header X-Forwarded-For $remote_addr;";
    let realip = "set_real_ip_from unix:; real_ip_header X-Forwarded-For;";
    for (beside, innocent) in [("", 403), (realip, 200)] {
        let _ = fs::remove_file(socket);
        let server =
            format!("server {{ listen unix:{socket}; location / {{ proxy_pass http://{to}; {set} {beside} }} }}");
        let _inner = Proxy::nginx(to, &server, "");
        let edge = Proxy::haproxy(&[], &format!("option forwardfor\nserver nginx unix@{socket}"), "");
        for _ in 0..3 {
            assert_eq!((status(edge.v4(), BANNED, "/"), status(edge.v4(), INNOCENT, "/")), (403, innocent));
        }
        tells(&app, "X-Forwarded-For ends in no address", 1);
    }
    let _ = fs::remove_file(socket);
}

/// On a unix socket HAProxy knows no address either. It adds an empty line: the visitor's own line must not count instead.
#[test]
fn behind_a_haproxy_on_a_unix_socket_nobody_is_who_they_say() {
    for does in ["set-header", "add-header"] {
        let (_lapi, app) = app(&[]);
        let socket = env::temp_dir().join(format!("haproxy-{}-{does}.sock", process::id()));
        let socket = socket.to_str().expect("a plain path");
        let _ = fs::remove_file(socket);
        let inner = format!(
            "server inner unix@{socket}\nlisten inner\nbind unix@{socket}\nhttp-request {does} X-Forwarded-For %[src]"
        );
        let edge = Proxy::haproxy(&[app.address()], &inner, "");
        for _ in 0..3 {
            let answer = Request::new(edge.v4(), "GET", "/").header("X-Forwarded-For", "192.0.2.77").send();
            assert_eq!(answer.status, 403, "{does}");
        }
        assert_eq!(
            app.logged(if does == "add-header" { "ends in no address" } else { "does not arrive" }),
            1,
            "{}",
            app.log()
        );
        let _ = fs::remove_file(socket);
    }
}

/// Behind another proxy `$remote_addr` is that proxy's address; nginx's realip module makes it the visitor's.
#[test]
fn behind_an_nginx_that_names_the_proxy_before_it_everybody_is_refused_until_it_names_the_visitor() {
    let (_lapi, app) = app(&[]);
    let set = "proxy_set_header X-Forwarded-For $remote_addr;";
    let inner = Proxy::nginx(app.address(), "", set);
    let edge = Proxy::haproxy(&[inner.v4()], "option forwardfor", "");
    for _ in 0..3 {
        assert_eq!((status(edge.v4(), BANNED, "/"), status(edge.v4(), INNOCENT, "/")), (403, 403));
    }
    tells(&app, "X-Forwarded-For names only trusted proxies", 1);
    app.tells("`set_real_ip_from`", 1);
    let realip = "set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For; real_ip_recursive on;";
    let inner = Proxy::nginx(app.address(), "", &format!("{realip} {set}"));
    let edge = Proxy::haproxy(&[inner.v4()], "option forwardfor", "");
    for stray in STRAY {
        let status = |visitor| {
            let request = Request::new(edge.v4(), "GET", "/").peer(visitor).header("X-Forwarded-For", stray);
            request.send().status
        };
        assert_eq!((status(BANNED), status(INNOCENT)), (403, 200), "a stray byte takes nothing along here");
    }
}

#[test]
fn a_proxys_own_probe_is_answered_at_the_health_check_and_at_excluded_paths_alone() {
    let (_lapi, app) = app(&[("CROWDSEC_EXCLUDED_PATHS", "/sign-in")]);
    for method in ["GET", "HEAD"] {
        assert_eq!(app.request(method, "/crowdsec/health").send().status, 200);
        assert_eq!(app.request(method, "/sign-in").send().status, 200);
    }
    tells(&app, "", 0);
    for target in ["/", "/members", "/static/style.css", "/crowdsec/captcha", "/crowdsec/preview/ban", "/nowhere"] {
        assert_eq!(app.get(target).send().status, 403, "{target}");
    }
    tells(&app, "X-Forwarded-For does not arrive", 1);
}
