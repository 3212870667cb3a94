//! How is one of the bouncer's pages made, and what may it load?

use rand::Rng;
use rocket::Request;
use rocket_dyn_templates::Template;

use super::config::Config;
use super::refusal::Refusal;
use super::variables::Variables;
use super::words::Texts;
use crate::crowdsec::bouncer::{Bouncer, Verdict};
use crate::crowdsec::guards::DecisionView;

impl Refusal {
    /// The page, and the content security policy that fits it.
    pub fn page(&self, request: &Request<'_>, bouncer: &Bouncer, prefix: &str) -> Option<(String, String)> {
        let visit = bouncer.visit(request);
        let judgement = &visit.judgement;
        let nonce = nonce();
        let nonce = str::from_utf8(&nonce).ok()?;
        let (widget, sources) = match (self.verdict, &bouncer.captcha) {
            (Verdict::Captcha, Some(captcha)) => {
                let widget = captcha.widget(judgement.subject());
                let widget = widget.inspect_err(|reason| log::error!("No captcha can be made: {reason}.")).ok()?;
                (Some(widget), &*captcha.content_sources)
            }
            _ => (None, ""),
        };
        let verdict = visit.refusal().unwrap_or(judgement.verdict);
        let decision = match (judgement.behind(verdict).or(judgement.greatest()), &self.preview) {
            (Some(standing), _) => Some(DecisionView::from(standing)),
            (None, Some(_)) => Some(DecisionView::example(self.verdict.name())),
            (None, None) => None,
        };
        let site = request.rocket().state::<Config>()?;
        let wished = self.preview.as_ref().and_then(|preview| preview.lang.as_deref());
        let page = request.rocket().state::<Texts>()?.with(request, wished, |language| {
            let variables = Variables {
                address: judgement.address.to_string(),
                reference: bouncer.told.reference(judgement),
                prefix,
                return_to: self.return_to(request, visit, prefix),
                decision,
                captcha: widget.as_ref(),
                nonce,
                ..Variables::of(self, site, language)
            };
            Template::show(request.rocket(), self.verdict.name(), variables)
        });
        Some((page?, content_security_policy(nonce, sources)))
    }
}

/// 128 bits of chance, as letters.
pub fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    rand::rng().fill_bytes(&mut nonce);
    nonce.map(|byte| b'a' + byte % 16)
}

/// Exactly what a page needs: its own style and script by nonce, the captcha provider's places, and frames of this site alone
/// around it.
pub fn content_security_policy(nonce: &str, sources: &str) -> String {
    let own = [" 'nonce-", nonce, "' ", sources].concat();
    let own = own.trim_end();
    let frames = if sources.is_empty() { "'none'" } else { sources };
    let always = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'; img-src data:";
    // `format!` takes four times as long.
    [always, "; style-src", own, "; script-src", own, "; connect-src ", frames, "; frame-src ", frames].concat()
}
