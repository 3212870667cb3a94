//! Who is asking, behind real proxies? Visitors come from loopback addresses of their own, through Debian's nginx and
//! HAProxy, one and two deep; the attackers among them send every header that could name an address. `unnamed.rs` has the
//! visitors whom no proxy names.

use std::net::{Ipv6Addr, SocketAddr};

use dev::{App, Lapi, Proxy, Request, eventually};

const BANNED: &str = "127.66.0.1";
const INNOCENT: &str = "127.66.0.2";
/// Addresses to lie about: CrowdSec bans the first, and nobody has anything against the second.
const SOMEBODY_BANNED: &str = "203.0.113.50";
const SOMEBODY_INNOCENT: &str = "192.0.2.200";

const HEADERS: [&str; 4] = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"];

/// The proxies, from the visitor's side to ours.
#[derive(Clone, Copy, Debug)]
enum Chain {
    Nginx,
    HaProxy,
    NginxThenHaProxy,
    HaProxyThenNginx,
}

/// Whether the proxies talk IPv4 or IPv6 to each other.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

// --- the proxies' configurations, as an operator would write them ---

/// Where a proxy stands: alone, or as one of two.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Only,
    Edge,
    Inner,
}

/// An nginx that visitors meet throws their header away; an nginx behind another proxy adds to that proxy's header.
fn nginx(to: SocketAddr, header: &str, place: Place) -> Proxy {
    let value = match (header, place) {
        ("X-Forwarded-For", Place::Inner) => "$proxy_add_x_forwarded_for",
        ("Forwarded", Place::Inner) => "\"$http_forwarded, $me\"",
        ("Forwarded", _) => "$me",
        // The proxy before has written the one address.
        (_, Place::Inner) => return Proxy::nginx(to, "", ""),
        _ => "$remote_addr",
    };
    Proxy::nginx(to, NGINX_ME, &format!("proxy_set_header {header} {value};"))
}

/// The `for` of RFC 7239, in which IPv6 is quoted.
const NGINX_ME: &str = r#"map $remote_addr $me { ~^[0-9.]+$ "for=$remote_addr"; default "for=\"[$remote_addr]\""; }"#;

/// A HAProxy adds a line to a header that is a list, and replaces the others. Alone it keeps the visitors' lines of a list,
/// for us to see through. Before an nginx it throws them away, because nginx would join them and HAProxy's to one line.
fn haproxy(to: SocketAddr, header: &str, place: Place) -> Proxy {
    let add = match (header, place) {
        ("X-Forwarded-For", _) => "option forwardfor",
        ("Forwarded", _) => {
            "http-request add-header Forwarded 'for=%[src]' if { src 0.0.0.0/0 }\n\
             http-request add-header Forwarded 'for=\"[%[src]]\"' unless { src 0.0.0.0/0 }"
        }
        (_, Place::Inner) => "",
        _ => &format!("http-request set-header {header} %[src]"),
    };
    let clear = if place == Place::Edge { format!("http-request del-header {header}") } else { String::new() };
    Proxy::haproxy(&[to], &format!("{clear}\n{add}"), "")
}

/// The proxies in front of this server; visitors meet the last one of the list.
fn proxies(chain: Chain, to: SocketAddr, header: &str, between: Family) -> Vec<Proxy> {
    let address = |proxy: &Proxy| if between == Family::V6 { proxy.v6() } else { proxy.v4() };
    match chain {
        Chain::Nginx => vec![nginx(to, header, Place::Only)],
        Chain::HaProxy => vec![haproxy(to, header, Place::Only)],
        Chain::NginxThenHaProxy => {
            let inner = haproxy(to, header, Place::Inner);
            let edge = nginx(address(&inner), header, Place::Edge);
            vec![inner, edge]
        }
        Chain::HaProxyThenNginx => {
            let inner = nginx(to, header, Place::Inner);
            let edge = haproxy(address(&inner), header, Place::Edge);
            vec![inner, edge]
        }
    }
}

// --- the attackers ---

/// What an attacker writes into the header to be taken for `claim`.
fn lies(claim: &str) -> Vec<Vec<Vec<u8>>> {
    let one_line: Vec<Vec<u8>> = vec![
        claim.into(),
        format!("{claim}, 127.0.0.1").into(),
        format!("127.0.0.1, {claim}").into(),
        format!("{claim},{claim},{claim}").into(),
        format!("{claim}:4711").into(),
        format!("[::ffff:{claim}]:4711").into(),
        format!("::ffff:{claim}").into(),
        format!("for={claim}").into(),
        format!("for=\"{claim}:4711\";by=127.0.0.1;proto=https").into(),
        format!("for={claim}, for=\"").into(),
        format!("{claim}, \"").into(),
        format!("\"{claim}").into(),
        format!("{claim}, unknown").into(),
        format!("{claim} 127.0.0.1").into(),
        "127.0.0.1".into(),
        "::1".into(),
        "unknown".into(),
        ", , ,".into(),
        "\"".into(),
        "for=".into(),
        format!("{claim}, ").repeat(350).into(),
        "127.0.0.1, ".repeat(600).into(),
        [b"\xff\xfe\x80 ", claim.as_bytes()].concat(),
        [claim.as_bytes(), b", \xc3\x28"].concat(),
        [claim.as_bytes(), b"\t,\t127.0.0.1"].concat(),
    ];
    let mut lies: Vec<Vec<Vec<u8>>> = one_line.into_iter().map(|line| vec![line]).collect();
    lies.push(vec![claim.into(), claim.into()]);
    lies.push(vec!["127.0.0.1".into(), claim.into(), "unknown".into()]);
    lies.push(vec![b"\xff".to_vec(), claim.into()]);
    lies.push(vec![format!("{claim}, ").repeat(2000).into()]);
    lies.push(vec![claim.into(); 60]);
    lies
}

/// One visit without a lie, and one for each lie. A lie stands in every header at once: an attacker does not know which
/// header counts here.
fn visits(server: SocketAddr, visitor: Option<&str>, claim: &str, header: &str) -> Vec<Request> {
    let visit = Request::new(server, "GET", "/");
    let visit = visitor.map_or(visit.clone(), |address| visit.peer(address));
    let mut visits = vec![visit.clone()];
    for lie in lies(claim) {
        let mut lying = visit.clone();
        for line in &lie {
            lying = lying.header(header, line);
            // A long lie stands in one header only, or a proxy would refuse the sum of them.
            if line.len() < 100 && lie.len() < 10 {
                for other in HEADERS.into_iter().filter(|other| *other != header) {
                    lying = lying.header(other, line);
                }
            }
        }
        visits.push(lying);
    }
    visits
}

/// What a proxy or HTTP library answers by itself to a request that is too large or too odd.
const MALFORMED: [u16; 3] = [400, 413, 431];

/// None of these visits, with whatever lie, reaches the application's page.
#[track_caller]
fn all_refused(visits: &[Request]) {
    assert_eq!(visits[0].send().status, 403, "without a lie");
    for visit in visits {
        let status = visit.send().status;
        assert!(status == 403 || MALFORMED.contains(&status), "{status} for {visit:?}");
    }
}

/// Each of these visits reaches the page, except at most four that the proxy finds malformed.
#[track_caller]
fn none_refused(visits: &[Request]) {
    assert_eq!(visits[0].send().status, 200, "without a lie");
    let mut malformed = 0;
    for visit in visits {
        match visit.send().status {
            200 => {}
            status if MALFORMED.contains(&status) => malformed += 1,
            status => panic!("{status} for {visit:?}"),
        }
    }
    assert!(malformed <= 4, "{malformed} of {} were malformed", visits.len());
}

// --- the tests ---

fn lapi() -> Lapi {
    let lapi = Lapi::start();
    lapi.ban(BANNED);
    lapi.ban(SOMEBODY_BANNED);
    lapi
}

/// An application that listens on this family's loopback address, and believes proxies on `trusted`.
fn app(lapi: &Lapi, header: &str, family: Family, trusted: &str) -> (App, SocketAddr) {
    let host = if family == Family::V6 { "::1" } else { "127.0.0.1" };
    let settings =
        [("CROWDSEC_CLIENT_IP_HEADER", header), ("CROWDSEC_TRUSTED_PROXIES", trusted), ("ROCKET_ADDRESS", host)];
    let app = App::polling(lapi.url(), &settings);
    let mut address = app.address();
    if family == Family::V6 {
        address.set_ip(Ipv6Addr::LOCALHOST.into());
    }
    (app, address)
}

/// The visits whose headers are text, as every visit of a browser's is.
fn in_utf_8(visits: Vec<Request>) -> Vec<Request> {
    visits.into_iter().filter(Request::is_utf_8).collect()
}

/// IPv4 visitors through this chain, by each header in turn.
#[track_caller]
fn nobody_lies_their_way_through(chain: Chain, inside: Family) {
    let lapi = lapi();
    for header in HEADERS {
        let (_app, address) = app(&lapi, header, inside, "127.0.0.1,::1");
        let proxies = proxies(chain, address, header, inside);
        let server = proxies.last().expect("a proxy").v4();
        all_refused(&visits(server, Some(BANNED), SOMEBODY_INNOCENT, header));
        none_refused(&visits(server, Some(INNOCENT), SOMEBODY_BANNED, header));
    }
}

#[test]
fn behind_nginx_the_visitor_is_who_they_are() {
    nobody_lies_their_way_through(Chain::Nginx, Family::V4);
}

#[test]
fn behind_haproxy_the_visitor_is_who_they_are() {
    nobody_lies_their_way_through(Chain::HaProxy, Family::V6);
}

#[test]
fn behind_nginx_and_haproxy_the_visitor_is_who_they_are() {
    nobody_lies_their_way_through(Chain::NginxThenHaProxy, Family::V6);
}

#[test]
fn behind_haproxy_and_nginx_the_visitor_is_who_they_are() {
    nobody_lies_their_way_through(Chain::HaProxyThenNginx, Family::V4);
}

/// Every machine has one IPv6 address, `::1`. It is the visitor's, so the proxies talk IPv4 to each other and to us.
#[track_caller]
fn an_ipv6_visitor_is_who_they_are(chain: Chain) {
    let lapi = lapi();
    for header in HEADERS {
        let (app, address) = app(&lapi, header, Family::V4, "127.0.0.1");
        let proxies = proxies(chain, address, header, Family::V4);
        let server = proxies.last().expect("a proxy").v6();
        none_refused(&visits(server, None, SOMEBODY_BANNED, header));
        lapi.ban("::1");
        eventually("::1 is banned", || Request::new(server, "GET", "/").send().status == 403);
        all_refused(&visits(server, None, SOMEBODY_INNOCENT, header));
        lapi.revoke(&["--ip", "::1"]);
        drop(app);
    }
}

#[test]
fn behind_nginx_an_ipv6_visitor_is_who_they_are() {
    an_ipv6_visitor_is_who_they_are(Chain::Nginx);
}

#[test]
fn behind_haproxy_an_ipv6_visitor_is_who_they_are() {
    an_ipv6_visitor_is_who_they_are(Chain::HaProxy);
}

#[test]
fn behind_nginx_and_haproxy_an_ipv6_visitor_is_who_they_are() {
    an_ipv6_visitor_is_who_they_are(Chain::NginxThenHaProxy);
}

#[test]
fn behind_haproxy_and_nginx_an_ipv6_visitor_is_who_they_are() {
    an_ipv6_visitor_is_who_they_are(Chain::HaProxyThenNginx);
}

#[test]
fn a_proxy_that_nobody_trusts_is_the_visitor_itself() {
    let lapi = lapi();
    let (_app, address) = app(&lapi, "X-Forwarded-For", Family::V4, "10.0.0.0/8");
    let proxy = nginx(address, "X-Forwarded-For", Place::Only);
    none_refused(&visits(proxy.v4(), Some(BANNED), SOMEBODY_BANNED, "X-Forwarded-For"));
    lapi.ban("127.0.0.1");
    eventually("the proxy is banned", || Request::new(proxy.v4(), "GET", "/").send().status == 403);
}

#[test]
fn who_goes_round_the_proxy_is_who_they_are() {
    let lapi = lapi();
    for header in HEADERS {
        let (_app, address) = app(&lapi, header, Family::V4, "127.0.0.1");
        all_refused(&visits(address, Some(BANNED), SOMEBODY_INNOCENT, header));
        none_refused(&visits(address, Some(INNOCENT), SOMEBODY_BANNED, header));
    }
}

/// An nginx with the line of most guides, which adds to the visitor's own header, and with these further lines.
fn adding_nginx(to: SocketAddr, beside: &str) -> Proxy {
    Proxy::nginx(to, "", &format!("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n{beside}"))
}

#[test]
fn behind_an_nginx_that_adds_to_what_visitors_say_the_visitor_is_who_they_are() {
    let lapi = lapi();
    let (_app, address) = app(&lapi, "X-Forwarded-For", Family::V4, "127.0.0.1");
    for beside in ["", "proxy_set_header X-Forwarded-Proto $scheme;"] {
        let server = adding_nginx(address, beside);
        all_refused(&in_utf_8(visits(server.v4(), Some(BANNED), SOMEBODY_INNOCENT, "X-Forwarded-For")));
        none_refused(&in_utf_8(visits(server.v4(), Some(INNOCENT), SOMEBODY_BANNED, "X-Forwarded-For")));
    }
}
