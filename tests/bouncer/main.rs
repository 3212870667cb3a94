//! What the bouncer promises to visitors, owners and operators, one file for each subject. All files are one program, which is
//! built once and runs its tests in parallel.

#[path = "../common/mod.rs"]
mod common;

mod appsec;
mod appsec_metrics;
mod below_a_path;
mod captcha;
mod captcha_providers;
mod catchers;
mod configuration;
mod forgetful_lapi;
mod headers;
mod lapi;
mod launch;
mod live;
mod logs;
mod metrics;
mod policies;
mod programs;
mod refusal_log;
mod refusal_pages;
mod refusals;
mod remediations;
mod visitors;
