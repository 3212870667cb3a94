//! Is each request judged by AppSec as the application routes it, and can no visitor switch that off?

mod answers;
mod application;
mod bodies;
mod challenge;
mod launch;
mod outages;
mod questions;
