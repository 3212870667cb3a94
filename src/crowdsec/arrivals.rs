//! What was asked for, by those whose answers are on their way?

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::Request;
use rocket::http::Method;
use tokio::task;

/// A request as it came to the bouncer. Other fairings and routes may change it afterwards.
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
/// answer 2 % more. Only Rocket's asynchronous local client can send two requests at once from one task: what one of them
/// left would be taken for the other's.
pub struct Arrivals(Box<[Place]>);

struct Place {
    /// The number of the task whose it is; 0 while it is free. A fairing that panics leaves it taken: Rocket drops the task
    /// then, without an answer.
    task: AtomicU64,
    arrival: Mutex<Arrival>,
}

/// Tasks are numbered one after another, so that a request finds its place taken only by one that is slower than so many.
const PLACES: usize = 256;
/// Longer paths are few, and none makes its place any larger.
const LONGEST: usize = 512;

impl Arrivals {
    pub fn new() -> Self {
        let place = || Place { task: AtomicU64::new(0), arrival: Mutex::new(Arrival::with_capacity(LONGEST)) };
        Self((0..PLACES).map(|_| place()).collect())
    }

    pub fn keep(&self, request: &Request<'_>, address: IpAddr) {
        let (path, query) = (request.uri().path().as_str(), request.uri().query().map(|query| query.as_str()));
        let short = path.len() + query.map_or(0, |query| 1 + query.len()) <= LONGEST;
        if let Some(task) = Number::of_task().filter(|_| short) {
            let place = self.place(task);
            let taken = place.task.compare_exchange(0, task, Relaxed, Relaxed);
            // What the task left itself will have no answer: the number of one that is gone may be given anew.
            if taken.is_ok() || taken == Err(task) {
                return place.arrival().set(address, request.method(), path, query);
            }
        }
        request.local_cache(|| {
            let mut arrival = Arrival::with_capacity(0);
            arrival.set(address, request.method(), path, query);
            Some(arrival)
        });
    }

    /// Gives back what was kept of a request. Its place is free when that is dropped.
    pub fn take<'r>(&'r self, request: &'r Request<'_>) -> Option<impl Deref<Target = Arrival> + 'r> {
        if let Some(task) = Number::of_task() {
            let place = self.place(task);
            if place.task.load(Relaxed) == task {
                return Some(Taken::Place(place.arrival(), Free(&place.task)));
            }
        }
        request.local_cache(|| None).as_ref().map(Taken::Cached)
    }

    fn place(&self, task: u64) -> &Place {
        &self.0[task as usize % PLACES]
    }
}

impl Place {
    /// Nobody waits here: it is locked only by the task whose it is.
    fn arrival(&self) -> MutexGuard<'_, Arrival> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's number, which Tokio gives away only by hashing it.
struct Number(u64);

impl Number {
    fn of_task() -> Option<u64> {
        let mut number = Self(0);
        task::try_id()?.hash(&mut number);
        Some(number.0).filter(|number| *number > 0)
    }
}

impl Hasher for Number {
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    /// Should Tokio hash anything else one day, there is no number, and Rocket's cache it is.
    fn write(&mut self, _: &[u8]) {
        self.0 = 0;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

enum Taken<'r> {
    Place(MutexGuard<'r, Arrival>, #[expect(dead_code, reason = "it is dropped last")] Free<'r>),
    Cached(&'r Arrival),
}

impl Deref for Taken<'_> {
    type Target = Arrival;

    fn deref(&self) -> &Arrival {
        match self {
            Self::Place(arrival, _) => arrival,
            Self::Cached(arrival) => arrival,
        }
    }
}

/// Frees a place when it is dropped.
struct Free<'r>(&'r AtomicU64);

impl Drop for Free<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
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
        let in_place = Number::of_task().is_some_and(|task| arrivals.place(task).task.load(Relaxed) == task);
        let arrival = arrivals.take(request.inner()).expect("the request");
        assert_eq!((arrival.address, arrival.method), (Ipv4Addr::LOCALHOST.into(), Method::Get));
        (format!("{} {}", arrival.uri().0, arrival.uri().1), in_place)
    }

    fn all_places_are(arrivals: &Arrivals, task: u64) -> bool {
        arrivals.0.iter().all(|place| place.task.load(Relaxed) == task)
    }

    #[rocket::async_test]
    async fn a_request_comes_back_as_it_came_in_wherever_it_was_kept() {
        let long = format!("/{}", "a".repeat(LONGEST));
        let asked = [("/a/b?c=d".into(), "/a/b ?c=d".into()), ("/a".into(), "/a ".into()), (long.clone(), long + " ")];
        let arrivals = Arrivals::new();
        for (uri, told) in &asked {
            assert_eq!(kept(&arrivals, uri).await, (String::clone(told), false));
        }
        let in_task = tokio::spawn(async move {
            // One after another in one place: nothing of the one is left to the next.
            for (uri, told) in &asked {
                assert_eq!(kept(&arrivals, uri).await, (String::clone(told), told.len() < LONGEST));
                assert!(all_places_are(&arrivals, 0));
            }
        });
        in_task.await.expect("an end");
    }

    #[rocket::async_test]
    async fn a_place_that_another_request_has_is_left_to_it() {
        let arrivals = Arrivals::new();
        arrivals.0.iter().for_each(|place| place.task.store(1, Relaxed));
        let in_task = tokio::spawn(async move {
            assert_eq!(kept(&arrivals, "/a?b").await, ("/a ?b".into(), false));
            assert!(all_places_are(&arrivals, 1));
        });
        in_task.await.expect("an end");
    }

    #[rocket::async_test]
    async fn tasks_are_numbered_one_after_another() {
        let mut last = 0;
        for _ in 0..100 {
            let task = tokio::spawn(async { Number::of_task() }).await.expect("an end").expect("a number");
            // Other tests start tasks meanwhile.
            assert!(task > last, "{task} after {last}");
            last = task;
        }
    }
}
