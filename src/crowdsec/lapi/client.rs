//! Which questions do we ask LAPI, and for how long do we wait? The one HTTP client towards it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};

use super::answer::{read_entries, read_list};
use super::body::read_body;
use super::error::transfer;
use super::tls;
use super::{BOUNCER_TYPE, Connection, Error, VERSION};
use crate::crowdsec::decisions::{Decision, DecisionSet, Entry, Incoming, Value, single};
use crate::crowdsec::look_up::LookUp;
use crate::crowdsec::printable::{printable, with_causes};

/// Shorter than all other timeouts here, so that the log can tell a host that is not there from a LAPI that hangs.
const CONNECT: Duration = Duration::from_secs(4);
/// Between two pieces of an answer. LAPI needs 40 s before the first byte of a million decisions.
const SILENCE: Duration = Duration::from_secs(120);
/// For a whole answer, even one that arrives drop by drop.
pub const WHOLE: Duration = Duration::from_secs(600);
/// For an answer with the changes; or three polls, if those take longer. Such an answer is short even at a million
/// decisions: a LAPI that takes longer hangs, or has moved.
pub const CHANGES: Duration = Duration::from_secs(15);
/// For what stands against one address: a LAPI with a million decisions needs half a second.
pub const QUESTION: Duration = Duration::from_secs(5);
/// The most bytes of a list of decisions.
const LONGEST_LIST: usize = 16 << 20;
/// The most bytes of a list about one address, 20,000 decisions. In live mode every new visitor may cost one such list.
const LONGEST_OF_ONE: usize = 4 << 20;

pub struct Lapi {
    pub client: Client,
    /// The address of LAPI's stream of decisions, with the filters.
    pub url: Url,
    pub connection: Arc<Connection>,
}

impl Lapi {
    /// Fails on certificates or keys that cannot be used, and says why.
    pub fn new(connection: &Arc<Connection>) -> Result<Self, String> {
        let tls = tls::client(connection.is_https(), connection.ca.as_deref(), connection.certificate.clone());
        let mut tls = tls.map_err(setup)?;
        // For gateways that go by ALPN.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(format!("{BOUNCER_TYPE}/v{VERSION}"))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // A redirect would carry X-Api-Key to whatever host it names.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(LookUp::default());
        if let Some(key) = &connection.key {
            let mut key = HeaderValue::from_str(&key.0).map_err(setup)?;
            key.set_sensitive(true);
            builder = builder.default_headers(HeaderMap::from_iter([(HeaderName::from_static("x-api-key"), key)]));
        }
        let mut base = connection.at.as_str();
        if base.starts_with('/') {
            builder = builder.unix_socket(base);
            base = "http://unix/";
        }
        let mut url = Url::parse(base).and_then(|base| base.join("v1/decisions/stream")).map_err(setup)?;
        url.query_pairs_mut().append_pair("dedup", "false").extend_pairs(&connection.filters);
        Ok(Self { client: builder.build().map_err(setup)?, url, connection: connection.clone() })
    }

    /// Asks for everything that stands, or for what came and went since the last request with this key, on behalf of a set.
    pub async fn ask(&self, everything: bool, within: Duration, set: &Arc<DecisionSet>) -> Result<Incoming, Error> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("startup", if everything { "true" } else { "false" });
        let response = self.send(url, within).await?;
        let now = Instant::now();
        let answer = if everything { set.everything(now) } else { set.changes(now) };
        read_body(response, self.connection.scopes.clone(), answer).await
    }

    /// Asks for all decisions on one value, whatever their origin. LAPI answers from its database, and with an error if
    /// that fails. The question may move the mark that the next delta begins at.
    ///
    /// For a country or an AS, asks for the whole scope, since LAPI compares values letter by letter. Here a decision on
    /// `fr` or `AS64500` stands against `FR` or `64500`; asked for those, LAPI would say that there is none.
    pub async fn standing_on(&self, value: &Value, id: Option<u64>) -> Result<Vec<Decision>, Error> {
        // `scopes` and not `scope`, which older LAPIs ignore.
        let asked = match value {
            Value::Network(net) => match single(*net) {
                Some(address) => vec![("ip", address.to_string())],
                None => vec![("range", net.to_string())],
            },
            Value::Country(_) => vec![("scopes", "Country".into())],
            Value::As(_) => vec![("scopes", "AS".into())],
            Value::Account(account) => vec![("scopes", account.scope.clone()), ("value", account.text.clone())],
        };
        let query = [("dedup", "false".into())].into_iter().chain(asked);
        read_list(&self.list(query, LONGEST_LIST).await?, &self.connection.scopes, id).map_err(Error::Unreadable)
    }

    /// For live mode: asks, with the filters, for all that stands against one address, or with `None` against what is no
    /// address. A bad entry costs itself alone.
    pub async fn standing_against(&self, about: Option<IpAddr>) -> Result<Vec<Entry>, Error> {
        let kept = self.url.query_pairs().filter(|(name, _)| name != "scopes");
        let (asked, longest) = match about {
            Some(address) => (("ip".into(), address.to_string().into()), LONGEST_OF_ONE),
            None => (("scopes".into(), self.connection.scopes.others().unwrap_or_default().into()), LONGEST_LIST),
        };
        read_entries(&self.list(kept.chain([asked]), longest).await?, &self.connection.scopes)
            .map_err(Error::Unreadable)
    }

    async fn list(
        &self,
        query: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
        longest: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut url = self.url.clone();
        url.path_segments_mut().expect("an address of http").pop();
        url.query_pairs_mut().clear().extend_pairs(query);
        let mut response = self.send(url, QUESTION).await?;
        let mut list = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| transfer(&error, None))? {
            list.extend_from_slice(&piece);
            if list.len() > longest {
                return Err(Error::Unreadable(format!("it is over {} MiB", longest >> 20)));
            }
        }
        Ok(list)
    }

    async fn send(&self, url: Url, within: Duration) -> Result<Response, Error> {
        let response = self.exchange(self.client.get(url).timeout(within)).await?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match response.status() {
            StatusCode::OK if header(CONTENT_TYPE).to_ascii_lowercase().starts_with("application/json") => Ok(response),
            StatusCode::OK => {
                let kind = printable(header(CONTENT_TYPE));
                Err(Error::Unreadable(format!("its type is `{kind}`, not JSON: is api_url another server's?")))
            }
            StatusCode::FORBIDDEN => Err(Error::Forbidden),
            status if status.is_redirection() && response.headers().contains_key(LOCATION) => {
                Err(Error::Redirect(header(LOCATION).to_owned()))
            }
            status => Err(Error::Status(status.as_u16())),
        }
    }

    /// Sends any request of ours, and gives LAPI's answer, whatever its status.
    pub async fn exchange(&self, request: RequestBuilder) -> Result<Response, Error> {
        request.send().await.map_err(|error| transfer(&error, Some(&self.connection)))
    }
}

/// Why the client cannot be set up, and what to do.
fn setup(error: impl std::error::Error + 'static) -> String {
    let reason = with_causes(error.source().unwrap_or(&error));
    let help = ": install the package ca-certificates, or set ca_cert_path to LAPI's CA";
    let help = if reason.contains("No CA certificates") { help } else { "" };
    format!("the client cannot be set up: {reason}{help}")
}
