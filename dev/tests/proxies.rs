//! Who is asking, behind real proxies? Visitors come from loopback addresses of their own, through Debian's nginx and
//! HAProxy, one and two deep; the attackers among them send every header that could name an address.

use std::net::{Ipv6Addr, SocketAddr};

use dev::{App, Lapi, Proxy, Request};

const BANNED: &str = "127.66.0.1";
const INNOCENT: &str = "127.66.0.2";
/// Addresses to lie about: CrowdSec bans the first, and nobody has anything against the second.
const SOMEBODY_BANNED: &str = "203.0.113.50";
const SOMEBODY_INNOCENT: &str = "192.0.2.200";

const HEADERS: [&str; 4] = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"];

/// From the visitor's side to ours.
#[derive(Clone, Copy, Debug)]
enum Chain {
    Nginx,
    HaProxy,
    NginxThenHaProxy,
    HaProxyThenNginx,
}

/// Which of the proxies' addresses are used between them.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

// --- the proxies' configurations, as an operator would write them ---

/// The proxy that visitors meet throws away what they say, but for the list of `X-Forwarded-For`, to which it adds.
fn nginx(to: SocketAddr, header: &str, edge: bool) -> Proxy {
    let value = match header {
        "X-Forwarded-For" if edge => "$remote_addr",
        "X-Forwarded-For" => "$proxy_add_x_forwarded_for",
        "Forwarded" if edge => "$me",
        "Forwarded" => "\"$http_forwarded, $me\"",
        _ if edge => "$remote_addr",
        // The one address was named by the proxy before us.
        _ => return Proxy::nginx(to, "", ""),
    };
    Proxy::nginx(to, NGINX_ME, &format!("proxy_set_header {header} {value};"))
}

/// The `for` of RFC 7239, in which IPv6 is quoted.
const NGINX_ME: &str = r#"map $remote_addr $me { ~^[0-9.]+$ "for=$remote_addr"; default "for=\"[$remote_addr]\""; }"#;

/// HAProxy adds a line to what visitors send, and leaves theirs standing before it.
fn haproxy(to: SocketAddr, header: &str, edge: bool) -> Proxy {
    let lines = match header {
        "X-Forwarded-For" => "option forwardfor".into(),
        "Forwarded" => "http-request add-header Forwarded 'for=%[src]' if { src 0.0.0.0/0 }\n\
                        http-request add-header Forwarded 'for=\"[%[src]]\"' unless { src 0.0.0.0/0 }"
            .into(),
        _ if edge => format!("http-request set-header {header} %[src]"),
        _ => String::new(),
    };
    Proxy::haproxy(&[to], &lines, "")
}

/// The proxies in front of this server, the one that visitors meet last.
fn proxies(chain: Chain, to: SocketAddr, header: &str, between: Family) -> Vec<Proxy> {
    let address = |proxy: &Proxy| if between == Family::V6 { proxy.v6() } else { proxy.v4() };
    match chain {
        Chain::Nginx => vec![nginx(to, header, true)],
        Chain::HaProxy => vec![haproxy(to, header, true)],
        Chain::NginxThenHaProxy => {
            let inner = haproxy(to, header, false);
            let edge = nginx(address(&inner), header, true);
            vec![inner, edge]
        }
        Chain::HaProxyThenNginx => {
            let inner = nginx(to, header, false);
            let edge = haproxy(address(&inner), header, true);
            vec![inner, edge]
        }
    }
}

// --- the attackers ---

/// What an attacker puts into the header who would like to be taken for `claim`.
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

/// One visit without a lie, and one for each of them. The same lie stands in every header at once: which one counts
/// here is nothing that an attacker knows.
fn visits(server: SocketAddr, visitor: Option<&str>, claim: &str, header: &str) -> Vec<Request> {
    let visit = Request::new(server, "GET", "/");
    let visit = visitor.map_or(visit.clone(), |address| visit.peer(address));
    let mut visits = vec![visit.clone()];
    for lie in lies(claim) {
        let mut lying = visit.clone();
        for line in &lie {
            lying = lying.header(header, line);
            // Long ones only once, so that it is not the sum of them that a proxy refuses.
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

/// Each of these visits reaches the page, unless the proxy found it malformed, as it does with few.
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
    let settings = [
        ("CROWDSEC_CLIENT_IP_HEADER", header),
        ("CROWDSEC_TRUSTED_PROXIES", trusted),
        ("ROCKET_ADDRESS", host),
        ("ROCKET_LOG_LEVEL", "critical"),
        ("CROWDSEC_UPDATE_FREQUENCY", "1s"),
    ];
    // The launch is read from the log, so that it cannot be silenced further.
    let settings: Vec<_> = settings.into_iter().filter(|(name, _)| *name != "ROCKET_LOG_LEVEL").collect();
    let app = App::polling(lapi.url(), &settings);
    let mut address = app.address();
    if family == Family::V6 {
        address.set_ip(Ipv6Addr::LOCALHOST.into());
    }
    (app, address)
}

/// IPv4 visitors through this chain, by each header in turn.
#[track_caller]
fn nobody_lies_their_way_through(chain: Chain, inside: Family) {
    let lapi = lapi();
    for header in HEADERS {
        let (_app, address) = app(&lapi, header, inside, "127.0.0.1,::1");
        let proxies = proxies(chain, address, header, inside);
        let server = proxies.last().expect("a proxy").v4();
        eprintln!("{header}");
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

/// The one IPv6 address that every machine has is the visitor's, so that the proxies talk IPv4 to each other and to us.
#[track_caller]
fn an_ipv6_visitor_is_who_they_are(chain: Chain) {
    let lapi = lapi();
    for header in HEADERS {
        let (app, address) = app(&lapi, header, Family::V4, "127.0.0.1");
        let proxies = proxies(chain, address, header, Family::V4);
        let server = proxies.last().expect("a proxy").v6();
        eprintln!("{header}");
        none_refused(&visits(server, None, SOMEBODY_BANNED, header));
        lapi.ban("::1");
        dev::eventually("::1 is banned", || Request::new(server, "GET", "/").send().status == 403);
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
    let proxy = nginx(address, "X-Forwarded-For", true);
    none_refused(&visits(proxy.v4(), Some(BANNED), SOMEBODY_BANNED, "X-Forwarded-For"));
    lapi.ban("127.0.0.1");
    dev::eventually("the proxy is banned", || Request::new(proxy.v4(), "GET", "/").send().status == 403);
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
