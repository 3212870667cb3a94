//! What can a page say? The variables of all the bouncer's templates.

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::{Config, Contact};
use super::language::Language;
use super::preview::Preview;
use super::refusal::{Refusal, whole_seconds};
use crate::crowdsec::captcha::Widget;
use crate::crowdsec::guards::DecisionView;

/// templates/refusal.html.tera says what each means, for those who edit the pages.
#[derive(Serialize)]
pub struct Variables<'a> {
    pub app: &'static str,
    pub site: &'a str,
    pub contact: Option<&'a Contact>,
    pub lang: &'a str,
    pub dir: &'static str,
    pub text: &'a BTreeMap<String, String>,
    pub address: String,
    pub reference: String,
    pub prefix: &'a str,
    pub return_to: String,
    pub status: u16,
    pub decision: Option<DecisionView>,
    pub captcha: Option<&'a Widget>,
    pub problem: Option<&'static str>,
    pub retry_after: Option<u64>,
    pub not_sent: bool,
    pub preview: Option<&'a Preview>,
    pub nonce: &'a str,
}

impl<'a> Variables<'a> {
    /// What a refusal says whoever is refused.
    pub fn of(refusal: &'a Refusal, site: &'a Config, language: &'a Language) -> Self {
        Self {
            app: env!("CARGO_PKG_NAME"),
            site: &site.site_name,
            contact: site.contact.as_ref(),
            lang: &language.tag,
            dir: language.dir,
            text: &language.words,
            address: "192.0.2.1".into(),
            reference: "0000-0000".into(),
            prefix: "",
            return_to: "/".into(),
            status: refusal.status.code,
            decision: None,
            captcha: None,
            problem: refusal.problem,
            retry_after: refusal.retry_after.map(whole_seconds),
            not_sent: refusal.not_sent,
            preview: refusal.preview.as_deref(),
            nonce: "nonce",
        }
    }
}
