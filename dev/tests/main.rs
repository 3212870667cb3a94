//! Does the built application keep its promises over TCP, and beside a real CrowdSec? Each subject has a file, and all files
//! are one program: while some tests wait for a poll or a time limit, those of other files go on.

mod access_log;
mod agent;
mod appsec;
mod bodies;
mod captcha;
mod certificates;
mod cluster;
mod cross_site;
mod decisions;
mod enforcement;
mod faults;
mod firstlook;
mod forgery;
mod forgetful;
mod hostile;
mod hostile_lapi;
mod instances;
mod launch;
mod life;
mod live;
mod log;
mod pages;
mod passes;
mod polling;
mod prometheus;
mod proxies;
mod restarts;
mod scopes;
mod settings;
mod signals;
mod storms;
mod tls;
mod unnamed;
mod warnings;
