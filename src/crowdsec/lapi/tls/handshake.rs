//! Why does TLS with LAPI fail, and which command comes next?

use std::net::IpAddr;

use reqwest::Url;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::is_ca;
use crate::crowdsec::lapi::connection::Connection;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::timestamp;

impl Connection {
    /// The command that connects to LAPI.
    fn connect(&self) -> String {
        let url = Url::parse(&self.at).ok();
        let port = url.and_then(|url| url.port_or_known_default()).unwrap_or(443);
        format!("openssl s_client -connect {}:{port}", self.host())
    }

    fn host(&self) -> String {
        let url = Url::parse(&self.at).ok();
        url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Why TLS with LAPI fails, and what to do next.
    pub fn tls_failure(&self, error: &Error) -> String {
        use PeerIncompatible::{ServerDoesNotSupportTls12Or13, ServerTlsVersionIsDisabledByOurConfig};
        match error {
            Error::InvalidCertificate(error) => self.of_certificate(error),
            Error::AlertReceived(alert) => self.of_alert(*alert),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                "no TLS is spoken there: write http:// into api_url, or check the port".into()
            }
            Error::PeerIncompatible(ServerDoesNotSupportTls12Or13 | ServerTlsVersionIsDisabledByOurConfig) => {
                self.of_alert(AlertDescription::ProtocolVersion)
            }
            _ => format!("the TLS handshake failed: see LAPI's log, and what `{}` says", self.connect()),
        }
    }

    /// What it means that the connection ended in the handshake.
    pub fn tls_cut_off(&self) -> String {
        let what = "the other side cut the TLS handshake off without a reason";
        format!("{what}: see LAPI's log, and how far `{}` gets", self.connect())
    }

    fn of_certificate(&self, error: &CertificateError) -> String {
        use CertificateError::*;
        let (host, connect) = (self.host(), self.connect());
        // The commands that show LAPI's certificate, and that make LAPI a new one.
        let look = format!("`{connect} </dev/null | openssl x509 -noout -issuer -dates -ext subjectAltName`");
        let name = host.trim_matches(['[', ']']);
        let kind = if name.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
        let new = format!(
            "`openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=LAPI -addext subjectAltName={kind}:{name} -keyout \
             lapi.key -out lapi.pem`"
        );
        match error {
            UnknownIssuer if self.ca.is_none() => format!(
                "the CA of its certificate is not known: set ca_cert_path to the CA's certificate, or to LAPI's own where that \
                 is self-signed; {look} shows the issuer"
            ),
            UnknownIssuer => format!(
                "the CA in ca_cert_path is not that of its certificate: {look} shows the issuer, whose certificate belongs there"
            ),
            BadSignature => format!(
                "its certificate was signed by another CA than the one in ca_cert_path, though both have one name: copy the CA's \
                 certificate again; {look} shows the issuer"
            ),
            ExpiredContext { time, not_after: day } | NotValidYetContext { time, not_before: day } => format!(
                "its certificate {} on {}, and today is {} by this machine's clock: renew LAPI's certificate, or set the clock \
                 (`date -u`)",
                if day < time { "ended" } else { "begins" },
                timestamp(day.as_secs()),
                timestamp(time.as_secs())
            ),
            NotValidForNameContext { presented, .. } if presented.is_empty() => format!(
                "its certificate names no host (subjectAltName; CN does not count any more): make LAPI one for {host}: {new}"
            ),
            NotValidForNameContext { presented, .. } => format!(
                "its certificate is for {}, not for {host}: write a host that it names into api_url, or make LAPI one for {host}: \
                 {new}",
                printable(&presented.join(", "))
            ),
            error if is_ca(error) => format!(
                "its certificate is a CA's own, as `openssl req -x509` makes it: copy LAPI's certificate to this machine and set \
                 ca_cert_path to it; {look} shows it"
            ),
            Other(other) if other.to_string() == "UnsupportedCertVersion" => format!(
                "its certificate is of X.509 version 1, which has no place for a host: make LAPI one of version 3: {new}"
            ),
            error => format!("its certificate is no good ({error}): {look} shows it; make LAPI a new one: {new}"),
        }
    }

    fn of_alert(&self, alert: AlertDescription) -> String {
        use AlertDescription::*;
        let (host, connect) = (self.host(), self.connect());
        match alert {
            CertificateRequired | BadCertificate if self.certificate.is_none() => {
                "LAPI wants a certificate of ours: set cert_path and key_path".into()
            }
            AccessDenied | BadCertificate | CertificateExpired | CertificateRequired | CertificateRevoked
            | CertificateUnknown | DecryptError | UnknownCA | UnsupportedCertificate
                if self.certificate.is_some() =>
            {
                "LAPI refuses our certificate: the CA that signed cert_path has to be the one LAPI knows, and its time must not be \
                 over: `openssl x509 -in CERT -noout -issuer -dates -ext extendedKeyUsage` shows both; LAPI's log says more"
                    .into()
            }
            ProtocolVersion => format!(
                "TLS 1.1 or older is spoken there, and 1.2 is the least: bring the server up to date until `{connect} -tls1_2` \
                 gets through"
            ),
            HandshakeFailure => format!(
                "LAPI and we have no way of encrypting in common: it needs TLS 1.2 or 1.3 with ECDHE; `{connect}` shows what it has"
            ),
            UnrecognisedName => format!("the server there knows no host {host}: write the name it knows into api_url"),
            alert => format!(
                "LAPI broke the TLS handshake off with the alert {alert:?}, for a reason of its own: see its log, and what \
                 `{connect}` says"
            ),
        }
    }
}
