//! Do your catchers answer as they would without the bouncer? The bouncer puts its own catcher for 400 before your default
//! ones.

use app::crowdsec::{self, Cleared};
use rocket::fairing::AdHoc;
use rocket::http::{Header, Status};
use rocket::response::{self, Responder, Response};
use rocket::{Build, Catcher, Request, Rocket, catch, catchers, get, routes};
use rocket_dyn_templates::Template;

use crate::common::{Visitor, client, on_connections, with_decisions};

#[get("/bad")]
fn bad() -> Status {
    Status::BadRequest
}

#[get("/excluded/guarded")]
fn guarded(_cleared: Cleared) {}

#[catch(default)]
fn any(status: Status, _: &Request<'_>) -> String {
    format!("any {}", status.code)
}

#[catch(default)]
fn deep(status: Status, _: &Request<'_>) -> String {
    format!("deep {}", status.code)
}

#[catch(400)]
fn exact() -> &'static str {
    "exact"
}

/// An application without any catcher, which excludes one of its paths.
fn bare() -> Rocket<Build> {
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.excluded_paths", ["/excluded"]));
    let app = rocket::custom(figment).attach(crowdsec::fairing()).attach(Template::fairing());
    ["/", "/deep", "/deep/down", "/excluded"].into_iter().fold(app, |app, base| app.mount(base, routes![bad]))
}

#[test]
fn the_400_of_a_handler_is_answered_by_the_nearest_of_your_catchers() {
    let app = bare().register("/", catchers![any]).register("/deep", catchers![deep]);
    let client = client(app.register("/deep/down", catchers![exact]));
    let get = |path, visitor| client.get(path).visitor(visitor).dispatch().into_string().unwrap();
    assert_eq!(get("/bad", "192.0.2.2"), "any 400");
    assert_eq!(get("/deep/bad", "192.0.2.2"), "deep 400");
    assert_eq!(get("/deep/down/bad", "192.0.2.2"), "exact");
    assert_eq!(get("/excluded/bad", "192.0.2.1"), "any 400", "a path in `excluded_paths` is yours for everybody");
    let banned = client.get("/bad").visitor("192.0.2.1").dispatch();
    assert_eq!(banned.headers().get_one("Crowdsec-Remediation"), Some("ban"), "everywhere else the banned get the ban");
}

/// One comes before each of your default catchers, so that none of them answers the banned where Rocket asks no fairing.
#[test]
fn your_catcher_for_400_in_one_place_leaves_no_other_place_without_the_refusal() {
    let app = bare().register("/", catchers![any]).register("/deep", catchers![deep]);
    let client = client(app.register("/deep/down", catchers![exact]));
    let of_400 = client.rocket().catchers().filter(|catcher| catcher.code == Some(400));
    let mut bases: Vec<String> = of_400.map(|catcher| catcher.base.to_string()).collect();
    bases.sort();
    assert_eq!(bases, ["/", "/deep", "/deep/down"]);
}

/// Stages register their catchers at ignition, when the bouncer's fairing is done.
#[test]
fn no_default_catcher_of_a_stage_answers_the_banned_where_rocket_does_not_know_the_method() {
    let stage = AdHoc::on_ignite("a stage", |rocket| async { rocket.register("/stage", catchers![deep]) });
    let asked = |visitor| format!("FOO /stage HTTP/1.0\r\nX-Forwarded-For: {visitor}\r\n\r\n");
    let app = bare().configure(bare().figment().clone().merge(("crowdsec.trusted_proxies", ["127.0.0.1"])));
    let answers = on_connections(app.attach(stage), &["192.0.2.1", "192.0.2.2"].map(asked));
    assert!(
        answers[0].starts_with("HTTP/1.0 403 ") && answers[0].to_lowercase().contains("crowdsec-remediation: ban"),
        "{answers:?}"
    );
    assert!(answers[1].ends_with("deep 400"), "{answers:?}");
}

/// A client that asks by `Expect` whether to send its upload is told the page's length. No fairing may change it afterwards.
#[test]
fn a_refused_upload_is_answered_in_full_behind_a_fairing_that_compresses() {
    let packs = AdHoc::on_response("compresses", |_, response| {
        Box::pin(async move {
            if !response.headers().contains("Content-Encoding") {
                response.set_sized_body(2, std::io::Cursor::new(b"\x1f\x8b"));
            }
        })
    });
    let client = client(bare().attach(packs));
    let upload = || client.post("/").visitor("192.0.2.1").body("a body");
    assert_eq!(upload().dispatch().into_bytes().expect("an answer").len(), 2, "the fairing does what it is there for");
    let told = upload().header(Header::new("Expect", "100-continue")).dispatch();
    let length: usize =
        told.headers().get_one("Content-Length").and_then(|length| length.parse().ok()).expect("a length");
    assert_eq!(told.into_bytes().expect("an answer").len(), length);
}

#[test]
fn your_catchers_for_400_and_no_catchers_at_all_launch() {
    let own: Vec<Catcher> = catchers![any, exact];
    for (app, answer) in [(bare().register("/", own), "exact"), (bare(), "400")] {
        let response = client(app).get("/bad").visitor("192.0.2.2").dispatch().into_string();
        assert!(response.is_some_and(|text| text.contains(answer)), "{answer}");
    }
}

const OF_ITS_BODY: [&str; 6] =
    ["Content-Disposition", "Content-Encoding", "Content-Language", "Content-Range", "ETag", "Last-Modified"];

/// Part of a compressed file, as `NamedFile` or `Compress(…)` may answer with.
struct Described;

impl<'r> Responder<'r, 'static> for Described {
    fn respond_to(self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut answer = Response::build();
        OF_ITS_BODY.into_iter().for_each(|name| _ = answer.raw_header(name, "x"));
        answer.raw_header("X-Owner", "kept").ok()
    }
}

#[catch(403)]
fn described() -> Described {
    Described
}

#[test]
fn a_guards_refusal_is_a_page_that_bears_nothing_of_what_your_catcher_says_of_its_own_body() {
    let client = client(bare().register("/", catchers![described]).mount("/", routes![guarded]));
    let refused = client.get("/excluded/guarded").visitor("192.0.2.1").dispatch();
    let left: Vec<_> = OF_ITS_BODY.into_iter().filter(|name| refused.headers().contains(*name)).collect();
    assert_eq!((left, refused.headers().get_one("X-Owner")), (vec![], Some("kept")));
    assert_eq!(refused.headers().get_one("Crowdsec-Remediation"), Some("ban"));
}
