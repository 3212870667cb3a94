//! What changes where a proxy shows the application below a path of the site?

use rocket::http::{ContentType, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::serde::json::Value;

use crate::common::{Visitor, client, header, with_decisions};

const PROXY: &str = "10.0.0.1";

fn app() -> Client {
    let figment = with_decisions(&[("192.0.2.2", "captcha")]).merge(("crowdsec.trusted_proxies", [PROXY]));
    client(app::app(figment))
}

/// A visitor who has to solve a captcha, behind a proxy that takes this prefix off.
fn get<'c>(client: &'c Client, prefix: &'static str, accept: &'static str) -> LocalResponse<'c> {
    let request =
        client.get("/items?page=2").header(header("Accept", accept)).header(header("X-Forwarded-Prefix", prefix));
    request.header(header("X-Forwarded-For", "192.0.2.2")).visitor(PROXY).dispatch()
}

#[test]
fn forms_links_and_the_way_back_stay_below_the_path() {
    let client = app();
    for prefix in ["/shop", "/shop/", "/a/b-c_d.e~1"] {
        let below = prefix.trim_end_matches('/');
        let page = get(&client, prefix, "text/html").into_string().expect("a page");
        let escaped = below.replace('/', "&#x2F;");
        assert!(page.contains(&format!("action=\"{escaped}/crowdsec/captcha\"")), "{page}");
        assert!(page.contains(&format!("value=\"{escaped}&#x2F;items?page=2\"")), "{page}");
        let json: Value = get(&client, prefix, "application/json").into_json().expect("JSON");
        let back = format!("{below}/items?page=2").replace('/', "%2F").replace('?', "%3F").replace('=', "%3D");
        assert_eq!(json["captcha_url"], format!("{below}/crowdsec/captcha?return_to={back}"));
    }
}

/// Where there is nothing to solve, both GET and POST lead back.
#[test]
fn who_is_led_back_is_led_below_the_path() {
    let client = app();
    let lead = |return_to: &str, prefix: &'static str| {
        let visit = |request: rocket::local::blocking::LocalRequest<'_>| {
            let request = request.header(header("X-Forwarded-Prefix", prefix));
            let response = request.header(header("X-Forwarded-For", "192.0.2.9")).visitor(PROXY).dispatch();
            assert_eq!(response.status(), Status::SeeOther);
            response.headers().get_one("Location").expect("a place").to_owned()
        };
        let shown = visit(client.get(format!("/crowdsec/captcha?return_to={return_to}")));
        let sent =
            visit(client.post("/crowdsec/captcha").header(ContentType::Form).body(format!("return_to={return_to}")));
        assert_eq!(shown, sent);
        shown
    };
    assert_eq!(lead("/shop/items", "/shop"), "/shop/items");
    assert_eq!(lead("/shop", "/shop"), "/shop/");
    assert_eq!(lead("/shop?page=2", "/shop"), "/shop/?page=2");
    assert_eq!(lead("/items", "/shop"), "/shop/items", "the application's own address of it");
    assert_eq!(lead("/shopping", "/shop"), "/shop/shopping");
    assert_eq!(lead("/shop/crowdsec/captcha", "/shop"), "/shop/");
    assert_eq!(lead("/shop//evil.example", "/shop"), "/shop/");
    assert_eq!(lead("//evil.example", "/shop"), "/shop/");
    assert_eq!(lead("/items", ""), "/items");
}

#[test]
fn only_a_plain_path_of_a_trusted_proxys_is_believed() {
    let client = app();
    for prefix in [
        "shop",
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/a//b",
        "/..",
        "/a/../b",
        "/./a",
        "/%2e%2e",
        "/a?b",
        "/a#b",
        "/a b",
        "/\"><script>",
        "/a,/b",
        "/",
        "",
        "/ä",
    ] {
        let page = get(&client, prefix, "text/html").into_string().expect("a page");
        assert!(page.contains("action=\"/crowdsec/captcha\""), "{prefix}: {page}");
        assert!(page.contains("value=\"&#x2F;items?page=2\""), "{prefix}: {page}");
    }
    let stranger =
        client.get("/items?page=2").header(header("X-Forwarded-Prefix", "/shop")).visitor("192.0.2.2").dispatch();
    assert!(stranger.into_string().expect("a page").contains("action=\"/crowdsec/captcha\""));
}
