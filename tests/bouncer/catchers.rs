//! Do your catchers answer as they would without the bouncer? It puts one of its own before your default ones, for 400.

use app::crowdsec;
use rocket::http::Status;
use rocket::{Build, Catcher, Request, Rocket, catch, catchers, get, routes};
use rocket_dyn_templates::Template;

use crate::common::{Visitor, client, with_decisions};

#[get("/bad")]
fn bad() -> Status {
    Status::BadRequest
}

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
    assert!(get("/bad", "192.0.2.1").contains("</html>"), "everywhere else the banned get the ban");
}

#[test]
fn your_catchers_for_400_and_no_catchers_at_all_launch() {
    let own: Vec<Catcher> = catchers![any, exact];
    for (app, answer) in [(bare().register("/", own), "exact"), (bare(), "400")] {
        let response = client(app).get("/bad").visitor("192.0.2.2").dispatch().into_string();
        assert!(response.is_some_and(|text| text.contains(answer)), "{answer}");
    }
}
