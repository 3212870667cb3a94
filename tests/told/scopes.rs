//! Do decisions count that are about no address: on a country, on an autonomous system, on an account? Shown against a fake
//! LAPI that answers as each test says.

use app::crowdsec::{Accounts, Refused, Visitor};
use rocket::figment::Figment;
use rocket::http::{Header, Status};
use rocket::local::asynchronous::Client;
use rocket::outcome::try_outcome;
use rocket::request::{FromRequest, Outcome};
use rocket::serde::json::{Json, Value};
use rocket::{Request, get, post, routes};

use crate::common::logger::{logged, logger};
use crate::common::{Answer, FakeLapi, answer, copied_templates, decision, eventually, figment, scoped};

#[allow(dead_code)]
#[path = "../../src/crowdsec/tests/geo/mmdb.rs"]
mod mmdb;

/// Signs in an account, unless a decision stands against it.
#[post("/scopes/enter/<scope>/<account>")]
fn enter(scope: &str, account: &str, accounts: Accounts<'_>) -> Result<&'static str, Refused> {
    accounts.admit(scope, account)?;
    Ok("welcome")
}

/// A guard of the owner's own: the user who is signed in.
struct User;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for User {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let accounts = try_outcome!(request.guard::<Accounts<'_>>().await);
        let name = request.cookies().get("user").map(|cookie| cookie.value()).unwrap_or_default();
        match accounts.admit("username", name) {
            Ok(()) => Outcome::Success(Self),
            Err(refused) => Outcome::Error((refused.0, ())),
        }
    }
}

#[get("/scopes/home")]
fn home(_user: User) -> &'static str {
    "welcome"
}

#[get("/scopes/account/<account>")]
fn account(account: &str, accounts: Accounts<'_>) -> Option<String> {
    let decision = accounts.standing("username", account)?;
    Some(format!("{} by {}", decision.remediation, decision.origin))
}

#[get("/scopes/who")]
fn who(visitor: Visitor) -> Json<Visitor> {
    Json(visitor)
}

const PROXY: &str = "198.51.100.1";

/// The application behind a trusted proxy that says where visitors are.
async fn launch(lapi: &FakeLapi, more: impl FnOnce(Figment) -> Figment) -> Client {
    let figment = lapi
        .figment()
        .merge(("crowdsec.scopes", ["ip", "range", "Country", "as", "username"]))
        .merge(("crowdsec.country_header", "CF-IPCountry"))
        .merge(("crowdsec.as_header", "CF-ASN"))
        .merge(("crowdsec.trusted_proxies", [PROXY]))
        .merge(("crowdsec.captcha.provider", "altcha"));
    let rocket = app::app(more(figment)).mount("/", routes![enter, account, who, home]);
    Client::tracked(rocket).await.expect("the application launches")
}

/// What a request from this peer with these headers is refused with.
async fn refusal(client: &Client, peer: &str, headers: &[(&'static str, &'static str)]) -> Option<String> {
    let mut request = client.get("/crowdsec/captcha").remote((peer.parse::<std::net::IpAddr>().unwrap(), 4711).into());
    headers.iter().for_each(|(name, value)| request.add_header(Header::new(*name, *value)));
    request.dispatch().await.headers().get_one("Crowdsec-Remediation").map(str::to_owned)
}

/// What a visitor behind the proxy is refused with, who is in this country and this autonomous system.
async fn at(client: &Client, country: &'static str, system: &'static str) -> Option<String> {
    let headers = [("X-Forwarded-For", "192.0.2.1"), ("CF-IPCountry", country), ("CF-ASN", system)];
    refusal(client, PROXY, &headers).await
}

async fn sign_in(client: &Client, account: &str) -> (Status, Option<String>) {
    let request = client.post(format!("/scopes/enter/username/{account}")).remote(([192, 0, 2, 9], 4711).into());
    let response = request.dispatch().await;
    (response.status(), response.headers().get_one("Crowdsec-Remediation").map(str::to_owned))
}

const WELCOME: (Status, Option<String>) = (Status::Ok, None);

fn banned() -> (Status, Option<String>) {
    (Status::Forbidden, Some("ban".into()))
}

fn nothing() -> Answer {
    answer(&[], &[])
}

#[rocket::async_test]
async fn countries_and_systems_are_asked_for_and_refused_until_they_are_deleted() {
    let _turn = logger().await;
    let decisions = [scoped(1, "Country", " fr", "ban"), scoped(2, "as", "AS64500", "captcha")];
    let nowhere = scoped(9, "Country", "XX", "ban");
    let all = [decisions.as_slice(), &[nowhere]].concat();
    let lapi = FakeLapi::answering([answer(&all, &[]), nothing()]).await;
    let client = launch(&lapi, |figment| figment).await;
    assert!(lapi.asked()[0].query.contains("scopes=ip%2Crange%2Ccountry%2Cas%2Cusername&"), "{:?}", lapi.asked()[0]);
    for (country, system, meets) in [
        ("FR", "1", Some("ban")),
        ("fr", "", Some("ban")),
        ("DE", "64500", Some("captcha")),
        ("", "as 64500", Some("captcha")),
        ("FR", "64500", Some("ban")),
        ("DE", "64501", None),
        ("XX", "0", None),
        ("T1", "", None),
        ("F", "645", None),
    ] {
        assert_eq!(at(&client, country, system).await.as_deref(), meets, "{country:?} {system:?}");
    }
    lapi.then(answer(&[scoped(3, "Country", "De", "ban")], &[decisions[0].clone()]));
    lapi.then(nothing());
    eventually(async || at(&client, "DE", "1").await.is_some() && at(&client, "FR", "1").await.is_none()).await;
    lapi.then(answer(&[], &[scoped(3, "country", "De", "ban"), decisions[1].clone()]));
    lapi.then(nothing());
    eventually(async || at(&client, "DE", "64500").await.is_none()).await;
}

#[rocket::async_test]
async fn only_a_trusted_proxy_says_where_a_visitor_is_and_of_two_headers_its_own_counts() {
    let _turn = logger().await;
    let decisions = [scoped(1, "Country", "FR", "ban"), scoped(2, "AS", "64500", "ban")];
    let lapi = FakeLapi::answering([answer(&decisions, &[]), nothing()]).await;
    let client = launch(&lapi, |figment| figment).await;
    let (france, german) = (("CF-IPCountry", "FR"), ("CF-IPCountry", "DE"));
    let named = ("X-Forwarded-For", "192.0.2.1");
    assert_eq!(refusal(&client, "192.0.2.1", &[france, ("CF-ASN", "64500")]).await, None, "nobody chooses");
    assert_eq!(refusal(&client, PROXY, &[named, german, france]).await.as_deref(), Some("ban"));
    assert_eq!(refusal(&client, PROXY, &[named, france, german]).await, None, "the nearest wrote last");

    let who = client.get("/scopes/who").remote((PROXY.parse::<std::net::IpAddr>().unwrap(), 4711).into());
    let who = who.header(Header::new("X-Forwarded-For", "192.0.2.1")).header(Header::new("CF-IPCountry", "de"));
    let seen: Value = who.header(Header::new("CF-ASN", "AS64501")).dispatch().await.into_json().await.unwrap();
    assert_eq!((&seen["country"], &seen["asn"]), (&"DE".into(), &64501.into()));
}

#[rocket::async_test]
async fn the_greatest_of_all_scopes_counts_and_the_operators_allow_and_excluded_paths_stand_above() {
    let _turn = logger().await;
    let decisions =
        [scoped(1, "Country", "FR", "ban"), decision(2, "192.0.2.1", "captcha"), scoped(3, "username", "bob", "ban")];
    let lapi = FakeLapi::answering([answer(&decisions, &[]), nothing()]).await;
    let allow = [("value", "192.0.2.9"), ("type", "allow")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let client = launch(&lapi, |figment| {
        let allow = std::collections::BTreeMap::from(allow);
        figment.merge(("crowdsec.decisions", [allow])).merge(("crowdsec.excluded_paths", ["/scopes/account"]))
    })
    .await;
    assert_eq!(at(&client, "FR", "").await.as_deref(), Some("ban"));
    assert_eq!(at(&client, "DE", "").await.as_deref(), Some("captcha"));
    let allowed = [("X-Forwarded-For", "192.0.2.9"), ("CF-IPCountry", "FR")];
    assert_eq!(refusal(&client, PROXY, &allowed).await, None);
    assert_eq!(sign_in(&client, "bob").await, WELCOME, "from an address that the operator allows");
    let spared = client.get("/scopes/account/nobody").remote((PROXY.parse::<std::net::IpAddr>().unwrap(), 4711).into());
    let spared = spared.header(Header::new("X-Forwarded-For", "192.0.2.8")).header(Header::new("CF-IPCountry", "FR"));
    assert_eq!(spared.dispatch().await.headers().get_one("Crowdsec-Remediation"), None);
}

#[rocket::async_test]
async fn a_banned_account_is_refused_wherever_it_comes_from_until_the_ban_is_deleted() {
    let _turn = logger().await;
    let lapi = FakeLapi::answering([answer(&[scoped(1, "username", "Alice", "ban")], &[]), nothing()]).await;
    let client = launch(&lapi, |figment| figment).await;
    assert_eq!(sign_in(&client, "Alice").await, banned());
    let long = "x".repeat(257);
    for other in ["alice", "Alice%20", "bob", "Alice2", &long] {
        assert_eq!(sign_in(&client, other).await, WELCOME, "{other}");
    }
    for (name, met) in [("Alice", banned()), ("bob", WELCOME)] {
        let response = client.get("/scopes/home").cookie(("user", name)).dispatch().await;
        let remediation = response.headers().get_one("Crowdsec-Remediation").map(str::to_owned);
        assert_eq!((response.status(), remediation), met, "{name}");
    }
    let standing =
        async |name: &str| client.get(format!("/scopes/account/{name}")).dispatch().await.into_string().await;
    assert_eq!(standing("Alice").await.as_deref(), Some("ban by cscli"));
    assert_ne!(standing("alice").await.as_deref(), Some("ban by cscli"));
    lapi.then(answer(&[scoped(2, "username", "bob", "ban")], &[scoped(1, "username", "Alice", "ban")]));
    lapi.then(nothing());
    eventually(async || sign_in(&client, "bob").await == banned()).await;
    assert_eq!(sign_in(&client, "Alice").await, WELCOME);
}

#[rocket::async_test]
async fn a_captcha_on_an_account_is_asked_on_the_captcha_page_and_on_trial_it_only_is_told() {
    let _turn = logger().await;
    let decisions = answer(&[scoped(1, "username", "alice", "captcha"), scoped(2, "username", "bob", "ban")], &[]);
    let lapi = FakeLapi::answering([decisions.clone(), nothing()]).await;
    let client = launch(&lapi, |figment| figment).await;
    assert_eq!(sign_in(&client, "alice").await, (Status::Forbidden, Some("captcha".into())));
    let lapi = FakeLapi::answering([decisions, nothing()]).await;
    let client = launch(&lapi, |figment| figment.merge(("crowdsec.enforce", ["captcha"]))).await;
    assert_eq!(sign_in(&client, "bob").await, WELCOME);
    assert_eq!(logged("Would have refused 192.0.2.9: ban by cscli"), 1);
    assert_eq!(logged("decision 2 of scope username"), 1);
}

#[rocket::async_test]
async fn a_scope_that_is_not_listed_is_ignored_and_who_asks_for_it_is_told_once() {
    let _turn = logger().await;
    let decisions =
        [scoped(1, "session", "FR", "ban"), scoped(2, "Username", "alice", "ban"), scoped(3, "Country", "FR", "ban")];
    let lapi = FakeLapi::answering([answer(&decisions, &[]), nothing()]).await;
    let client = launch(&lapi, |figment| figment.merge(("crowdsec.scopes", ["ip", "range", "username"]))).await;
    assert_eq!((at(&client, "FR", "").await, sign_in(&client, "alice").await), (None, WELCOME));
    for scope in ["session", "session", "country"] {
        let request = client.post(format!("/scopes/enter/{scope}/FR")).remote(([192, 0, 2, 9], 4711).into());
        assert_eq!(request.dispatch().await.status(), Status::Ok);
    }
    assert_eq!(logged("asks for decisions of scope `session`, which is not in `crowdsec.scopes`"), 1);
    assert_eq!(logged("asks for decisions of scope `username`"), 0);
    assert_eq!(logged("`crowdsec.country_header` is set, and `crowdsec.scopes` has no \"country\""), 1);
}

#[rocket::async_test]
async fn a_scope_without_a_source_and_a_value_that_is_none_are_warned_of_once() {
    let _turn = logger().await;
    let decisions =
        [scoped(1, "Country", "FRA", "ban"), scoped(2, "Country", "", "ban"), scoped(3, "AS", "AS0", "ban")];
    let lapi = FakeLapi::answering([answer(&decisions, &[]), answer(&decisions, &[])]).await;
    let figment = lapi.figment().merge(("crowdsec.scopes", ["ip", "country", "as"]));
    let client = Client::tracked(app::app(figment)).await.unwrap();
    eventually(async || lapi.asked().len() > 3).await;
    for told in ["`FRA` is not a country", "`` is not a country", "`AS0` is not the number of an autonomous system"] {
        assert_eq!(logged(told), 1, "{told}");
    }
    for scope in ["country", "as"] {
        assert_eq!(logged(&format!("`crowdsec.scopes` has \"{scope}\", and nothing says where")), 1, "{scope}");
    }
    assert_eq!(refusal(&client, "192.0.2.1", &[]).await, None, "an empty value matches nobody");
}

/// LAPI keeps what was deleted, and names it in each full answer.
#[rocket::async_test]
async fn a_value_that_is_none_is_not_warned_of_any_more_once_it_is_deleted() {
    let _turn = logger().await;
    let deleted = [scoped(1, "Country", "FRA", "ban"), decision(2, "not an address", "ban")];
    let lapi = FakeLapi::answering([answer(&[], &deleted)]).await;
    let _client = launch(&lapi, |figment| figment).await;
    eventually(async || lapi.asked().len() > 2).await;
    assert_eq!(logged("stands against nobody") + logged("could not be read"), 0);
}

/// LAPI compares values letter by letter. Where we do not, it is asked for all decisions of the scope.
#[rocket::async_test]
async fn what_a_full_answer_lacks_is_asked_about_in_its_own_scope_and_ends_only_when_lapi_says_so() {
    let _turn = logger().await;
    for (scope, value, question) in [
        ("Country", "fr", "dedup=false&scopes=Country"),
        ("AS", "AS64500", "dedup=false&scopes=AS"),
        ("username", "a b", "dedup=false&scopes=username&value=a+b"),
    ] {
        let one = scoped(1, scope, value, "ban");
        let lapi = FakeLapi::answering([answer(std::slice::from_ref(&one), &[])]).await;
        lapi.says_of_one(Answer(Status::Ok, format!("[{one}]")));
        let client = launch(&lapi, |figment| figment.merge(("crowdsec.resync_frequency", "200ms"))).await;
        let stands = async || match scope {
            "username" => sign_in(&client, "a%20b").await == banned(),
            "AS" => at(&client, "", "64500").await.is_some(),
            _ => at(&client, "FR", "").await.is_some(),
        };
        lapi.then(nothing());
        eventually(async || lapi.questions().len() > 2).await;
        assert!(lapi.questions().iter().all(|asked| asked == question), "{:?}", lapi.questions());
        assert!(stands().await, "{scope}");
        lapi.says_of_one(Answer(Status::Ok, "null".into()));
        eventually(async || !stands().await).await;
    }
}

#[rocket::async_test]
async fn decisions_of_all_scopes_survive_a_restart_and_a_snapshot_of_other_scopes_is_not_used() {
    let _turn = logger().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let decisions = [scoped(1, "Country", "FR", "ban"), scoped(2, "username", "alice", "ban")];
    let lapi = FakeLapi::answering([answer(&decisions, &[]), nothing()]).await;
    let with = |figment: Figment| figment.merge(("crowdsec.snapshot", &path));
    {
        let _client = launch(&lapi, with).await;
        eventually(async || path.exists()).await;
    }
    lapi.then(Answer(Status::InternalServerError, "".into()));
    let away = async || lapi.then(Answer(Status::InternalServerError, "".into()));
    away().await;
    let client = launch(&lapi, with).await;
    assert_eq!((at(&client, "FR", "").await.as_deref(), sign_in(&client, "alice").await), (Some("ban"), banned()));
    let other = launch(&lapi, |figment| with(figment).merge(("crowdsec.scopes", ["ip", "username"]))).await;
    assert_eq!(sign_in(&other, "alice").await, WELCOME, "it is LAPI that will say what stands");
}

#[rocket::async_test]
async fn a_request_that_two_trials_would_refuse_counts_once() {
    let _turn = logger().await;
    let visitors = [decision(2, "192.0.2.9", "captcha"), decision(3, "192.0.2.8", "ban")];
    let decisions = [&[scoped(1, "username", "bob", "ban")][..], &visitors].concat();
    let lapi = FakeLapi::answering([answer(&decisions, &[]), nothing()]).await;
    let client = launch(&lapi, |figment| figment.merge(("crowdsec.enforce", ["throttle"]))).await;
    assert_eq!(sign_in(&client, "bob").await, WELCOME);
    client.get("/").remote(([192, 0, 2, 8], 4711).into()).dispatch().await;
    assert_eq!((logged("Would have refused"), logged("went unlogged")), (2, 0));
}

#[rocket::async_test]
async fn a_database_of_ipv4_alone_is_no_damaged_one_where_a_visitor_comes_by_ipv6() {
    let _turn = logger().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("country.mmdb");
    let records = [("192.0.2.0/24", mmdb::in_country("country", "FR"))];
    std::fs::write(&path, mmdb::file("GeoLite2-Country", 4, &records)).expect("a database");
    let figment = figment().merge(("crowdsec.geoip", [path])).merge(("crowdsec.scopes", ["ip", "range", "country"]));
    let client = Client::tracked(app::protected(figment).mount("/", routes![who])).await.expect("a launch");
    for (visitor, country) in [("192.0.2.1", Value::from("FR")), ("2001:db8::1", Value::Null)] {
        let request = client.get("/scopes/who").remote((visitor.parse::<std::net::IpAddr>().unwrap(), 4711).into());
        let who: Value = request.dispatch().await.into_json().await.expect("JSON");
        assert_eq!(who["country"], country, "{visitor}");
    }
    assert_eq!(logged("is damaged"), 0);
}

/// Whoever types an account's name must not learn what stands against it.
#[rocket::async_test]
async fn a_page_says_nothing_of_the_decision_on_an_account() {
    let _turn = logger().await;
    let decisions = [scoped(1, "username", "alice", "ban"), decision(2, "192.0.2.8", "ban")];
    let lapi = FakeLapi::answering([answer(&decisions, &[]), nothing()]).await;
    let templates = copied_templates();
    let page = "{% if decision %}for {{ decision.id }}{% else %}for nothing{% endif %}";
    std::fs::write(templates.path().join("ban.html.tera"), page).expect("a template");
    let client = launch(&lapi, |figment| figment.merge(("template_dir", templates.path()))).await;
    for (visitor, says) in [([192, 0, 2, 8], "for 2"), ([192, 0, 2, 9], "for nothing")] {
        let request = client.post("/scopes/enter/username/alice").remote((visitor, 4711).into());
        let page = request.header(Header::new("Accept", "text/html")).dispatch().await;
        assert_eq!(page.headers().get_one("Crowdsec-Remediation"), Some("ban"));
        assert_eq!(page.into_string().await.as_deref(), Some(says));
    }
}
