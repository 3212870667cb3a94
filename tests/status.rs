//! What does the operator see at `/crowdsec/status`, and nobody else? How things stand, who was refused, and why.

mod common;

use app::crowdsec::{Cleared, Human};
use common::{Answer, FakeLapi, Visitor, answer, client, decision, eventually, header, with_decisions};
use rocket::figment::Figment;
use rocket::http::{Accept, Header, RawStr, Status};
use rocket::local::asynchronous;
use rocket::local::blocking::Client;
use rocket::{get, routes};
use serde_json::{Value, json};

/// Where the operator connects from.
const OPERATOR: &str = "192.0.2.200";
const STATUS: &str = "/crowdsec/status";

#[get("/status/guarded")]
fn guarded(_visitor: Cleared) {}

#[get("/status/human")]
fn human(_human: Human) {}

/// An application with some decisions of its own.
fn site(settings: impl FnOnce(Figment) -> Figment) -> Client {
    let decisions = [
        ("192.0.2.0/25", "ban"),
        ("192.0.2.1", "captcha"),
        ("198.51.100.0/24", "captcha"),
        ("198.51.100.7", "throttle"),
        ("198.51.101.7", "throttle"),
        ("203.0.113.0/24", "ban"),
        ("203.0.113.9", "allow"),
    ];
    let figment = with_decisions(&decisions).merge(("crowdsec.metrics_from", [OPERATOR]));
    client(app::app(settings(figment)).mount("/", routes![guarded, human]))
}

fn visit(client: &Client, visitor: &str, uri: &str) -> u16 {
    client.get(uri.to_owned()).visitor(visitor).dispatch().status().code
}

/// What a program is told when it asks about an address or a reference.
fn told(client: &Client, asked: &str) -> Value {
    let uri = format!("{STATUS}?address={}", RawStr::new(asked).percent_encode());
    let response = client.get(uri).visitor(OPERATOR).header(Accept::JSON).dispatch();
    assert_eq!(response.status(), Status::Ok, "{asked}");
    response.into_json().expect("JSON")
}

/// The page in a language.
fn page(client: &Client, query: &str, language: &'static str) -> String {
    let request = client.get(format!("{STATUS}{query}")).visitor(OPERATOR);
    let response = request.header(header("Accept-Language", language)).header(Accept::HTML).dispatch();
    assert_eq!(response.status(), Status::Ok, "{query}");
    response.into_string().expect("a page")
}

#[test]
fn it_is_for_metrics_from_alone_and_nothing_to_everybody_else() {
    let site = site(|figment| figment.merge(("crowdsec.trusted_proxies", ["192.0.2.201"])));
    let nothing = site.get("/no/such/page").visitor("192.0.2.220").dispatch().into_string();
    for uri in [STATUS, "/crowdsec/status?address=192.0.2.1"] {
        assert_eq!(visit(&site, OPERATOR, uri), 200);
        let response = site.get(uri).visitor("192.0.2.220").dispatch();
        assert_eq!(response.status(), Status::NotFound);
        assert_eq!(response.into_string(), nothing, "as any page that is not there");
        // The banned are refused there as anywhere, and a stranger's header names no operator.
        assert_eq!(visit(&site, "192.0.2.1", uri), 403);
        let forged = site.get(uri).visitor("192.0.2.220").header(header("X-Forwarded-For", OPERATOR));
        assert_eq!(forged.dispatch().status(), Status::NotFound);
        // An operator whom a trusted proxy names is let in, and one who may be a proxy himself is not.
        let named = site.get(uri).visitor("192.0.2.201").header(header("X-Forwarded-For", OPERATOR));
        assert_eq!(named.dispatch().status(), Status::Ok);
        let proxy = site.get(uri).visitor(OPERATOR).header(header("X-Forwarded-For", "192.0.2.220"));
        assert_eq!(proxy.dispatch().status(), Status::NotFound);
    }
    assert_eq!(site.post(STATUS).visitor(OPERATOR).dispatch().status(), Status::NotFound);
    assert_eq!(site.head(STATUS).visitor(OPERATOR).dispatch().status(), Status::Ok);
}

#[test]
fn where_nobody_is_named_there_is_no_page() {
    let site = site(|figment| figment.merge(("crowdsec.metrics_from", Vec::<String>::new())));
    assert_eq!(visit(&site, OPERATOR, STATUS), 404);
}

#[test]
fn an_operator_who_is_banned_sees_why() {
    let site = site(|figment| figment.merge(("crowdsec.metrics_from", ["192.0.2.1"])));
    assert_eq!(visit(&site, "192.0.2.1", "/"), 403);
    let response = site.get("/crowdsec/status?address=192.0.2.1").visitor("192.0.2.1").header(Accept::JSON).dispatch();
    let status: Value = response.into_json().expect("JSON");
    assert_eq!(status["explained"]["verdict"], "ban");
    assert_eq!(status["explained"]["refusals"][0]["path"], "/");
}

#[test]
fn what_was_let_in_and_refused_is_counted_once_each_in_the_minute_and_the_hour() {
    let site = site(|figment| figment.merge(("crowdsec.excluded_paths", ["/status/guarded"])));
    for _ in 0..5 {
        assert_eq!(visit(&site, "192.0.2.220", "/"), 200);
    }
    assert_eq!(visit(&site, "192.0.2.1", "/"), 403);
    assert_eq!(visit(&site, "203.0.113.1", "/status/guarded"), 403);
    assert_eq!(visit(&site, "198.51.100.1", "/"), 403);
    assert_eq!(visit(&site, "192.0.2.220", &format!("/{}", "p".repeat(9 << 10))), 414);
    let status = told(&site, "");
    for (span, bins) in [("hour", 60), ("day", 24)] {
        let all = status[span].as_array().expect("a list");
        assert_eq!(all.len(), bins);
        let sum = |key: &str| all.iter().filter_map(|bin| bin[key].as_u64()).sum::<u64>();
        // The look at the page is let in too.
        let sums = ["let_in", "refused", "banned", "captchas", "others"].map(sum);
        assert_eq!(sums, [6, 4, 2, 1, 1], "{span}");
        assert!(all[0]["let_in"].is_null(), "before the launch nothing is known");
    }
}

#[test]
fn the_last_refusals_are_kept_with_their_reason_and_without_the_query_and_never_more_than_fifty() {
    let site = site(|figment| figment);
    for place in 0..200 {
        assert_eq!(visit(&site, "203.0.113.1", &format!("/{place}?password=secret")), 403);
    }
    let long = format!("/{}", "p".repeat(3000));
    assert_eq!(visit(&site, "192.0.2.1", &long), 403);
    let status = told(&site, "");
    let refusals = status["refusals"].as_array().expect("a list");
    assert_eq!(refusals.len(), 50);
    assert!(refusals[0]["path"].as_str().is_some_and(|path| path.len() < 250), "{}", refusals[0]);
    let newest = &refusals[1];
    let expected = json!({
        "time": newest["time"],
        "address": "203.0.113.1",
        "remediation": "ban",
        "status": 403,
        "method": "GET",
        "path": "/199",
        "origin": "config",
        "scenario": "",
        "decision": null,
        "country": null,
        "reference": newest["reference"],
    });
    assert_eq!(newest, &expected);
    let page = page(&site, "", "en");
    assert!(!status.to_string().contains("secret") && !page.contains("secret"));
    assert!(page.contains("&#x2F;199") && page.contains(newest["reference"].as_str().expect("a reference")));
}

#[test]
fn an_address_is_explained_by_all_that_stands_against_it_and_by_the_verdict_it_would_meet() {
    let site = site(|figment| {
        let figment = figment.merge(("crowdsec.trusted_proxies", ["192.0.2.201"]));
        figment.merge(("crowdsec.throttle", "2/1h"))
    });
    for (asked, verdict, standing, counts) in [
        ("192.0.2.1", "ban", vec!["ban", "captcha"], vec![true, false]),
        (" ::ffff:192.0.2.1 ", "ban", vec!["ban", "captcha"], vec![true, false]),
        ("198.51.100.1", "captcha", vec!["captcha"], vec![true]),
        ("198.51.100.7", "captcha", vec!["captcha", "throttle"], vec![true, false]),
        ("198.51.101.7", "throttle", vec!["throttle"], vec![true]),
        ("203.0.113.9", "admit", vec!["allow", "ban"], vec![true, false]),
        ("192.0.2.201", "hidden", vec![], vec![]),
        ("192.0.2.220", "admit", vec![], vec![]),
        ("[2001:DB8::1]", "admit", vec![], vec![]),
    ] {
        let explained = &told(&site, asked)["explained"];
        assert_eq!((&explained["kind"], &explained["verdict"]), (&json!("address"), &json!(verdict)), "{asked}");
        let decisions = explained["decisions"].as_array().expect("a list");
        let of = |key: &str| decisions.iter().map(|decision| decision[key].clone()).collect::<Value>();
        assert_eq!((of("remediation"), of("counts")), (json!(standing), json!(counts)), "{asked}");
        // The operator's own decisions are lifted in the configuration, and by no command.
        assert!(decisions.iter().all(|decision| decision["own"] == true && decision["lift"].is_null()), "{asked}");
    }
    // A question about an address does not count for `throttle`.
    for _ in 0..5 {
        told(&site, "198.51.101.7");
    }
    assert_eq!([(); 3].map(|()| visit(&site, "198.51.101.7", "/")), [200, 200, 429]);
    assert!(page(&site, "?address=192.0.2.1", "en").contains("edit decisions in Rocket.toml"));
}

#[test]
fn a_proxys_own_address_is_refused_as_nobodys_even_where_it_is_allowed() {
    let site = site(|figment| figment.merge(("crowdsec.trusted_proxies", ["203.0.113.9"])));
    assert_eq!(visit(&site, "203.0.113.9", "/"), 403);
    let explained = told(&site, "203.0.113.9")["explained"].clone();
    assert_eq!((&explained["verdict"], &explained["decisions"]), (&json!("hidden"), &json!([])));
}

#[test]
fn what_only_is_tried_is_explained_as_such() {
    let site = site(|figment| figment.merge(("crowdsec.enforce", ["captcha"])));
    let explained = told(&site, "192.0.2.1")["explained"].clone();
    assert_eq!((&explained["verdict"], &explained["trial"]), (&json!("captcha"), &json!("ban")));
    let explained = told(&site, "203.0.113.1")["explained"].clone();
    assert_eq!((&explained["verdict"], &explained["trial"]), (&json!("admit"), &json!("ban")));
    assert!(page(&site, "?address=203.0.113.1", "en").contains("Without the trial run it would meet: <b>ban</b>"));
}

#[test]
fn whom_a_guard_alone_has_refused_is_listed_as_a_guards() {
    let client = site(|figment| figment);
    assert_eq!(visit(&client, "203.0.114.1", "/status/human"), 403);
    assert_eq!(told(&client, "203.0.114.1")["refusals"][0]["origin"], Value::Null);
    assert!(page(&client, "", "en").contains("<span>a guard of the route</span>"));
}

#[test]
fn a_reference_that_a_visitor_reads_out_leads_to_their_refusals() {
    let site = site(|figment| figment);
    assert_eq!(visit(&site, "203.0.113.1", "/one"), 403);
    assert_eq!(visit(&site, "203.0.113.2", "/two"), 403);
    let reference = told(&site, "")["refusals"][1]["reference"].as_str().expect("a reference").to_owned();
    for written in [reference.clone(), reference.to_lowercase().replace('-', "")] {
        let explained = told(&site, &written)["explained"].clone();
        assert_eq!((&explained["kind"], &explained["address"]), (&json!("reference"), &json!("203.0.113.1")));
        assert_eq!(explained["refusals"].as_array().map(Vec::len), Some(1));
        assert_eq!((&explained["refusals"][0]["path"], &explained["verdict"]), (&json!("/one"), &json!("ban")));
    }
    let unknown = told(&site, "0000-0000")["explained"].clone();
    assert_eq!((&unknown["kind"], &unknown["address"]), (&json!("reference"), &Value::Null));
    assert!(page(&site, "?address=0000-0000", "en").contains("None of the last 50 refusals"));
}

#[test]
fn what_is_no_address_is_told_kindly_and_shown_harmlessly() {
    let site = site(|figment| figment);
    let long = "1".repeat(5000);
    for asked in ["hello", "192.0.2.0/24", "\"><script>alert(1)</script>", "\u{202e}1.2.3.4\n", &long] {
        let explained = told(&site, asked)["explained"].clone();
        assert_eq!((&explained["kind"], &explained["verdict"]), (&Value::Null, &Value::Null), "{asked}");
        let query = format!("?address={}", RawStr::new(asked).percent_encode());
        let page = page(&site, &query, "en");
        assert!(page.contains("That is neither an address nor a reference."), "{asked}");
        assert!(!page.contains("<script") && !page.contains('\u{202e}') && page.len() < 60_000, "{asked}");
    }
    // An empty field asks for nothing.
    assert!(told(&site, " ")["explained"].is_null());
}

#[rocket::async_test]
async fn a_decision_of_lapis_is_lifted_by_its_number_and_no_word_of_it_stands_in_the_command() {
    let scenario = "x; rm -rf / #`id`$(id)</code><script>alert(1)</script>\\u202e";
    let forged = decision(4711, "192.0.2.1", "ban").replace("a secret scenario", scenario);
    let lapi = FakeLapi::answering([answer(&[forged, decision(4712, "192.0.2.1", "captcha")], &[])]).await;
    let figment =
        lapi.figment().merge(("crowdsec.metrics_from", [OPERATOR])).merge(("crowdsec.captcha.provider", "altcha"));
    let client = asynchronous::Client::tracked(app::app(figment)).await.expect("a launch");
    client.get("/").visitor("192.0.2.1").dispatch().await;
    let get = async |accept: Accept| {
        let request = client.get("/crowdsec/status?address=192.0.2.1").visitor(OPERATOR).header(accept);
        request.dispatch().await.into_string().await.expect("an answer")
    };
    let status: Value = serde_json::from_str(&get(Accept::JSON).await).expect("JSON");
    let decisions = status["explained"]["decisions"].as_array().expect("a list");
    let lifts: Value = decisions.iter().map(|decision| decision["lift"].clone()).collect();
    assert_eq!(lifts, json!(["cscli decisions delete --id 4711", "cscli decisions delete --id 4712"]));
    assert!(decisions.iter().all(|decision| decision["origin"] == "cscli" && decision["own"] == false));
    let until = decisions[0]["until"].as_str().expect("a time");
    assert!(until.len() == 20 && until.ends_with('Z') && until > status["time"].as_str().expect("a time"), "{until}");
    let page = get(Accept::HTML).await;
    let commands: Vec<&str> = page.split("<code").skip(1).filter_map(|rest| rest.split("</code>").next()).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let is_plain = |command: &&str| {
        command
            .split_once('>')
            .is_some_and(|(_, text)| text.starts_with("cscli decisions delete --id 471") && text.len() == 32)
    };
    assert!(commands.iter().all(is_plain), "{commands:?}");
    assert!(!page.contains("<script") && !page.contains('\u{202e}') && page.contains("rm -rf"), "shown, and harmless");
    assert_eq!(status["refusals"][0]["decision"], 4711);
}

#[rocket::async_test]
async fn a_decision_on_a_country_is_named_where_the_visitors_country_is_known() {
    let country = decision(9, "FR", "ban").replace(r#""scope":"Ip""#, r#""scope":"Country""#);
    let lapi = FakeLapi::answering([answer(&[country], &[])]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("refusals.log");
    let figment = lapi.figment().merge(("crowdsec.metrics_from", [OPERATOR])).merge(("crowdsec.refusal_log", &log));
    let figment = figment.merge(("crowdsec.scopes", ["ip", "range", "country"]));
    let figment = figment.merge(("crowdsec.trusted_proxies", ["192.0.2.201"]));
    let figment = figment.merge(("crowdsec.country_header", "CF-IPCountry"));
    let client = asynchronous::Client::tracked(app::app(figment)).await.expect("a launch");
    let request = client.get("/").visitor("192.0.2.201").header(header("X-Forwarded-For", "198.51.100.1"));
    assert_eq!(request.header(header("CF-IPCountry", "FR")).dispatch().await.status(), Status::Forbidden);
    let request = client.get("/crowdsec/status?address=198.51.100.1").visitor(OPERATOR).header(Accept::JSON);
    let status: Value = request.dispatch().await.into_json().await.expect("JSON");
    assert_eq!((&status["refusals"][0]["country"], &status["refusals"][0]["decision"]), (&json!("FR"), &json!(9)));
    let explained = &status["explained"];
    assert_eq!((&explained["verdict"], &explained["decisions"][0]["value"]), (&json!("ban"), &json!("FR")));
    drop(client);
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&log).expect("the log")).expect("one line");
    assert_eq!((&line["country"], &line["decision"]), (&json!("FR"), &json!(9)));
}

#[rocket::async_test]
async fn it_says_whether_lapi_is_in_step_and_since_when() {
    let lapi = FakeLapi::answering([
        Answer(Status::InternalServerError, String::new()),
        Answer(Status::InternalServerError, String::new()),
        answer(&[decision(1, "192.0.2.1", "ban")], &[]),
    ])
    .await;
    let figment = lapi.figment().merge(("crowdsec.metrics_from", [OPERATOR]));
    let client = asynchronous::Client::tracked(app::app(figment)).await.expect("a launch");
    let status = async || {
        let response = client.get(STATUS).visitor(OPERATOR).header(Accept::JSON).dispatch().await;
        response.into_json::<Value>().await.expect("JSON")
    };
    let starting = status().await;
    assert_eq!(starting["lapi"]["state"], "starting");
    assert_eq!(starting["decisions"]["all"], 0);
    // Both times are cut to whole seconds, so they may be a second apart.
    assert!(starting["lapi"]["since"].as_str() <= starting["time"].as_str() && starting["lapi"]["since"].is_string());
    eventually(async || status().await["lapi"]["state"] == "ok").await;
    let status = status().await;
    assert!(
        status["lapi"]["last_answer_seconds_ago"].is_u64()
            && status["lapi"]["url"].as_str().is_some_and(|url| url.starts_with(&lapi.url))
    );
    assert_eq!(status["decisions"]["by_origin"], json!([["cscli", 1]]));
}

#[test]
fn the_page_stands_alone_in_every_language_and_no_cache_keeps_it() {
    let site = site(|figment| figment);
    visit(&site, "203.0.113.1", "/one");
    let titles = ["en", "fr", "de", "es"].map(|language| {
        let page = page(&site, "?address=192.0.2.1", language);
        assert!(page.contains(&format!("<html lang=\"{language}\"")), "{language}");
        assert!(!page.contains(" style=") && !page.contains("<script") && !page.contains("src="), "{language}");
        assert!(!page.contains("http://") && !page.contains("https://"), "{language}");
        page.split("<h1>").nth(1).and_then(|rest| rest.split("</h1>").next()).expect("a title").to_owned()
    });
    assert!(titles.iter().enumerate().all(|(place, title)| !titles[..place].contains(title)), "{titles:?}");
    for accept in [Accept::HTML, Accept::JSON] {
        let response = site.get(STATUS).visitor(OPERATOR).header(accept).dispatch();
        assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
    }
    let response = site.get(STATUS).visitor(OPERATOR).header(Accept::HTML).dispatch();
    let policy = response.headers().get_one("Content-Security-Policy").expect("a policy").to_owned();
    let page = response.into_string().expect("a page");
    let nonce = page.split("<style nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a nonce");
    let expected = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; img-src data:; font-src data:";
    assert!(policy.starts_with(expected) && policy.contains(&format!("style-src 'nonce-{nonce}'; ")), "{policy}");
}

#[test]
fn below_a_path_that_a_proxy_names_the_page_works_as_well() {
    let site = site(|figment| figment.merge(("crowdsec.trusted_proxies", ["192.0.2.201"])));
    let request = site.get(STATUS).visitor("192.0.2.201").header(header("X-Forwarded-For", OPERATOR));
    let page = request.header(Header::new("X-Forwarded-Prefix", "/shop")).dispatch().into_string().expect("a page");
    // Its form and links name the page without its path.
    assert!(page.contains("action=\"#why\"") && !page.contains("\"/crowdsec/status"));
}
