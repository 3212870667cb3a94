//! Tests of the bouncer's inside, most of them against whatever the outside may send.

mod answer;
mod decision;
mod decisions;
mod geo;
mod proxies;
mod snapshot;
