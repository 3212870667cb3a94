//! How is one of the bouncer's pages made, what can it say, and what may it load?

use rocket::Request;
use rocket_dyn_templates::Template;
use serde::Serialize;

use super::refusal::Refusal;
use super::texts::Texts;
use crate::crowdsec::bouncer::{Bouncer, Verdict};
use crate::crowdsec::captcha::Widget;
use crate::crowdsec::guards::DecisionView;

impl Refusal {
    /// The page, and the content security policy that fits it.
    pub fn page(&self, request: &Request<'_>, bouncer: &Bouncer, prefix: &str) -> Option<(String, String)> {
        let visit = bouncer.visit(request);
        let judgement = &visit.judgement;
        let nonce = nonce();
        let (widget, sources) = match (self.verdict, &bouncer.captcha) {
            (Verdict::Captcha, Some(captcha)) => {
                let widget = captcha.widget(judgement.subject(), bouncer.unix_now());
                let widget = widget.inspect_err(|reason| log::error!("No captcha can be made: {reason}.")).ok()?;
                (Some(widget), &*captcha.content_sources)
            }
            _ => (None, ""),
        };
        let example = || self.preview.as_ref().map(|_| DecisionView::example(self.verdict));
        // Only a decision against the visitor: whoever types an account's name must not learn what stands against the account.
        let by_its_verdict = judgement.with(self.verdict);
        let refused = visit.refused.get().map_or(&by_its_verdict, |refused| refused);
        let decision = refused.cause().filter(|cause| judgement.standing.contains(cause));
        let decision = decision.map(DecisionView::from).or_else(example);
        let wished = self.preview.as_ref().and_then(|preview| preview["lang"].as_str());
        let words = request.rocket().state::<Texts>()?.words(request, wished);
        let variables = Variables {
            address: judgement.address.to_string(),
            reference: bouncer.refusal_lines.reference(judgement),
            prefix,
            return_to: self.way_back(request, visit, prefix),
            decision,
            captcha: widget.as_ref(),
            nonce: &nonce,
            ..Variables::of(self)
        };
        let page = Template::show(request.rocket(), self.verdict.name(), words.with(variables))?;
        Some((page, content_security_policy(&nonce, sources)))
    }
}

/// The variables of a page, besides its words. templates/refusal.html.tera says what each means, for those who edit the pages.
#[derive(Serialize)]
pub struct Variables<'a> {
    pub app: &'static str,
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
    /// The variables of a refusal, with examples for those that depend on the visitor.
    pub fn of(refusal: &'a Refusal) -> Self {
        Self {
            app: env!("CARGO_PKG_NAME"),
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

/// A random number of 128 bits.
pub fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Allows exactly what a page needs: its own style and script by nonce, and the captcha provider's places. Only this
/// site's pages may frame it.
pub fn content_security_policy(nonce: &str, sources: &str) -> String {
    let own = [" 'nonce-", nonce, "' ", sources].concat();
    let own = own.trim_end();
    let frames = if sources.is_empty() { "'none'" } else { sources };
    let always = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; img-src data:; font-src data:";
    // `format!` takes four times as long.
    [always, "; style-src", own, "; script-src", own, "; connect-src ", frames, "; frame-src ", frames].concat()
}
