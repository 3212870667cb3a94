//! What was asked for, by those whose answers are on their way?

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::DefaultHashBuilder;
use rocket::Request;
use rocket::http::Method;
use tokio::task;

/// A request as it came in, before any fairing or route could change it.
#[derive(Clone)]
pub struct Arrival {
    pub address: IpAddr,
    pub method: Method,
    /// Path and query.
    uri: String,
    path: usize,
}

impl Arrival {
    fn with_capacity(capacity: usize) -> Self {
        let (address, uri) = (Ipv4Addr::UNSPECIFIED.into(), String::with_capacity(capacity));
        Self { address, method: Method::Get, uri, path: 0 }
    }

    fn set(&mut self, address: IpAddr, method: Method, path: &str, query: Option<&str>) {
        (self.address, self.method, self.path) = (address, method, path.len());
        self.uri.clear();
        self.uri.push_str(path);
        if let Some(query) = query {
            self.uri.push('?');
            self.uri.push_str(query);
        }
    }

    /// The path, and the query with its question mark.
    pub fn uri(&self) -> (&str, &str) {
        self.uri.split_at(self.path)
    }
}

/// Holds each request as it came in until its answer leaves.
///
/// Rocket runs every request in a task of its own, whose number leads to a place that is ready. Rocket's cache for the
/// request would do as well, and does where there is no such place; but with its three allocations it costs a small
/// answer 2 % more.
pub struct Arrivals {
    hasher: DefaultHashBuilder,
    places: Box<[Mutex<Place>]>,
}

struct Place {
    task: Option<task::Id>,
    arrival: Arrival,
}

/// Tasks are numbered one after another, so that a request finds its place taken only by one that is slower than so many.
const PLACES: usize = 256;
/// Longer paths are few, and none makes its place any larger.
const LONGEST: usize = 512;

impl Arrivals {
    pub fn new() -> Self {
        let place = || Mutex::new(Place { task: None, arrival: Arrival::with_capacity(LONGEST) });
        Self { hasher: DefaultHashBuilder::default(), places: (0..PLACES).map(|_| place()).collect() }
    }

    pub fn keep(&self, request: &Request<'_>, address: IpAddr) {
        let (path, query) = (request.uri().path().as_str(), request.uri().query().map(|query| query.as_str()));
        let short = path.len() + query.map_or(0, |query| 1 + query.len()) <= LONGEST;
        if let Some(task) = task::try_id().filter(|_| short)
            && let Ok(mut place) = self.place(task).try_lock()
            // What it left itself will have no answer: the number of a task that is gone may be given anew.
            && place.task.is_none_or(|taken| taken == task)
        {
            place.task = Some(task);
            return place.arrival.set(address, request.method(), path, query);
        }
        request.local_cache(|| {
            let mut arrival = Arrival::with_capacity(0);
            arrival.set(address, request.method(), path, query);
            Some(arrival)
        });
    }

    /// Gives back what was kept of a request, once. Its place is free when that is dropped.
    pub fn take<'r>(&'r self, request: &'r Request<'_>) -> Option<impl Deref<Target = Arrival> + 'r> {
        if let Some(task) = task::try_id() {
            let mut place = self.place(task).lock().unwrap_or_else(PoisonError::into_inner);
            if place.task == Some(task) {
                place.task = None;
                return Some(Taken::Place(place));
            }
        }
        request.local_cache(|| None).as_ref().map(Taken::Cached)
    }

    fn place(&self, task: task::Id) -> &Mutex<Place> {
        &self.places[self.hasher.hash_one(task) as usize % PLACES]
    }
}

enum Taken<'r> {
    Place(MutexGuard<'r, Place>),
    Cached(&'r Arrival),
}

impl Deref for Taken<'_> {
    type Target = Arrival;

    fn deref(&self) -> &Arrival {
        match self {
            Self::Place(place) => &place.arrival,
            Self::Cached(arrival) => arrival,
        }
    }
}

#[cfg(test)]
mod tests {
    use rocket::http::uri::Origin;
    use rocket::local::asynchronous::Client;

    use super::*;

    /// The path and query that come back of a request for these, re-routed meanwhile, in a task or without one; and
    /// whether a place of `arrivals` was used for it.
    async fn kept(arrivals: &Arrivals, uri: &str) -> (String, bool) {
        let rocket = rocket::custom(rocket::Config::debug_default());
        let client = Client::untracked(rocket).await.expect("a client");
        let mut request = client.get(uri.to_owned());
        arrivals.keep(request.inner(), Ipv4Addr::LOCALHOST.into());
        request.inner_mut().set_uri(Origin::path_only("/elsewhere"));
        let in_place =
            task::try_id().is_some_and(|task| arrivals.place(task).lock().expect("a place").task == Some(task));
        let arrival = arrivals.take(request.inner()).expect("the request");
        assert_eq!((arrival.address, arrival.method), (Ipv4Addr::LOCALHOST.into(), Method::Get));
        (format!("{} {}", arrival.uri().0, arrival.uri().1), in_place)
    }

    #[rocket::async_test]
    async fn a_request_comes_back_as_it_came_in_wherever_it_was_kept() {
        let long = format!("/{}", "a".repeat(LONGEST));
        for (uri, told) in [("/a/b?c=d", "/a/b ?c=d"), ("/a", "/a "), (&*long, &*format!("{long} "))] {
            let arrivals = Arrivals::new();
            assert_eq!(kept(&arrivals, uri).await, (told.to_owned(), false));
            let uri = uri.to_owned();
            let in_task = tokio::spawn(async move { kept(&arrivals, &uri).await }).await.expect("an end");
            assert_eq!(in_task, (told.to_owned(), told.len() < LONGEST));
        }
    }

    #[rocket::async_test]
    async fn a_place_that_another_request_has_is_left_to_it() {
        let arrivals = Arrivals::new();
        let other = tokio::spawn(async { task::id() }).await.expect("its number");
        for place in &arrivals.places {
            place.lock().expect("a place").task = Some(other);
        }
        let (told, in_place, arrivals) = tokio::spawn(async move {
            let (told, in_place) = kept(&arrivals, "/a?b").await;
            (told, in_place, arrivals)
        })
        .await
        .expect("an end");
        assert_eq!((&*told, in_place), ("/a ?b", false));
        assert!(arrivals.places.iter().all(|place| place.lock().expect("a place").task == Some(other)));
    }
}
