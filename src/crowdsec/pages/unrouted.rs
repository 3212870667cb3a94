//! What becomes of an upload that no route takes? Rocket's own 404 would leave the body unread; here it is dropped first.

use rocket::http::{Method, Status};
use rocket::route::{BoxFuture, Outcome};
use rocket::{Data, Request, Route};

use super::body::nothing_here;
use crate::crowdsec::bouncer::OUR_RANK;

/// Rocket asks these before the application's routes. A route behind them could not learn the status with which a guard
/// forwarded the request, and would answer 404 in its place.
pub fn routes() -> Vec<Route> {
    let route = |method| Route::ranked(OUR_RANK + 1, method, "/<_..>", unrouted);
    [Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Trace].map(route).to_vec()
}

/// Sends an upload by GET or OPTIONS that no route takes to our route for TRACE. A route for GET would make every page
/// cost 2.5 % more, for uploads that hardly ever come.
pub fn send_upload_on(request: &mut Request<'_>, data: &Data<'_>) {
    if matches!(request.method(), Method::Get | Method::Options)
        && !data.peek_complete()
        && !is_routed(request, OUR_RANK)
    {
        request.set_method(Method::Trace);
    }
}

fn unrouted<'r>(request: &'r Request<'_>, data: Data<'r>) -> BoxFuture<'r> {
    Box::pin(async move {
        match is_routed(request, OUR_RANK + 2) {
            true => Outcome::forward(data, Status::NotFound),
            false => nothing_here(data).await,
        }
    })
}

/// Whether a route of this rank or a later one could take a request.
fn is_routed(request: &Request<'_>, first: isize) -> bool {
    request.rocket().routes().any(|route| route.rank >= first && may_take(route, request))
}

/// Whether a route could take a request, by method and path as Rocket compares them. In doubt: yes, and Rocket
/// does what it would do without us.
fn may_take(route: &Route, request: &Request<'_>) -> bool {
    if route.method != request.method() {
        return false;
    }
    let mut asked = request.uri().path().segments();
    for segment in route.uri.path().split('/').filter(|segment| !segment.is_empty()) {
        if segment.ends_with("..>") {
            return true;
        }
        if !asked.next().is_some_and(|asked| segment.starts_with('<') || segment == asked) {
            return false;
        }
    }
    asked.next().is_none()
}

#[cfg(test)]
mod tests {
    use rocket::figment::Figment;
    use rocket::local::blocking::Client;
    use rocket::{Config, post, put, routes};

    use super::*;

    #[post("/a/<_>/b/<_>")]
    fn two() {}

    #[post("/a/<_..>", rank = 9)]
    fn all() {}

    #[put("/c%20d/<_>")]
    fn odd() {}

    #[test]
    fn a_route_is_thought_to_take_what_rocket_gives_it_and_nothing_else() {
        let figment = Figment::from(Config::debug_default()).merge(("log_level", "off"));
        let apart = |route: fn() -> Vec<Route>| {
            Client::tracked(rocket::custom(figment.clone()).mount("/x", route())).expect("a client")
        };
        let paths = "/ /x /x/a /x/a/ /x/a/1 /x/a/1/b/2 /x//a/1/b/2/ /x/a/1/b/2/3 /x/a/1/c/2 /x/%61/1/b/%20 /a/1/b/2 \
                     /x/c%20d/1 /x/c%20d/1?y=z /x/c+d/1 /x/c%2520d/1 /x/c%20d /x/C%20D/1 /x/a/..";
        let mut taken = 0;
        for client in [apart(|| routes![two]), apart(|| routes![all]), apart(|| routes![odd])] {
            let route = client.rocket().routes().next().expect("a route").clone();
            for path in paths.split_whitespace() {
                for method in [Method::Post, Method::Put] {
                    let request = client.req(method, path);
                    let may = may_take(&route, request.inner());
                    let does = request.dispatch().status() == Status::Ok;
                    assert_eq!(may, does, "{method} {path} by {route}");
                    taken += usize::from(does);
                }
            }
        }
        assert!(taken > 10, "{taken}");
    }
}
