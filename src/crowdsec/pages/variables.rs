//! What can a page say? The variables of all the bouncer's templates.

use serde::Serialize;

use super::config::Config;
use super::language::Language;
use super::refusal::Refusal;
use crate::crowdsec::captcha::Widget;
use crate::crowdsec::guards::DecisionView;

/// templates/refusal.html.tera says what each means, for those who edit the pages.
#[derive(Serialize)]
pub struct Variables<'a> {
    pub app: &'static str,
    #[serde(flatten)]
    pub site: &'a Config,
    #[serde(flatten)]
    pub language: &'a Language,
    #[serde(flatten)]
    pub refusal: &'a Refusal,
    pub address: String,
    pub reference: String,
    pub prefix: &'a str,
    pub return_to: String,
    pub decision: Option<DecisionView>,
    pub captcha: Option<&'a Widget>,
    pub nonce: &'a str,
}

impl<'a> Variables<'a> {
    /// What a refusal says whoever is refused.
    pub fn of(refusal: &'a Refusal, site: &'a Config, language: &'a Language) -> Self {
        Self {
            app: env!("CARGO_PKG_NAME"),
            site,
            language,
            refusal,
            address: "192.0.2.1".into(),
            reference: "0000-0000".into(),
            prefix: "",
            return_to: "/".into(),
            decision: None,
            captcha: None,
            nonce: "nonce",
        }
    }
}
