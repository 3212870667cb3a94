//! How do LAPI and we prove to each other who we are? Certificates: read from the operator's files, checked, and told for
//! what they are where one of them is no good.

use std::net::IpAddr;
use std::sync::Arc;

use reqwest::Url;
use rocket::time::OffsetDateTime;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, InvalidMessage,
    PeerIncompatible, RootCertStore, SignatureScheme,
};

use crate::crowdsec::printable::printable;

/// A file that the operator named.
#[derive(Clone, Copy)]
pub struct File<'a> {
    pub path: &'a str,
    pub bytes: &'a [u8],
}

impl<'a> File<'a> {
    /// The certificates in the file. `Err` goes on after the file's name: what it is instead, and the next command.
    pub fn certificates(self) -> Result<Vec<CertificateDer<'static>>, String> {
        let (path, pem) = (self.path, self.pem("x509")?);
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|error| format!("is damaged ({error}): copy it again"))?;
        if certificates.is_empty() {
            return Err(match PrivateKeyDer::from_pem_slice(pem) {
                Ok(_) => "holds a private key and no certificate: are `cert_path` and `key_path` swapped?".into(),
                Err(_) => format!(
                    "holds no certificate, which begins with -----BEGIN CERTIFICATE-----: `openssl x509 -in {path} -noout -text` \
                     shows what OpenSSL makes of it"
                ),
            });
        }
        Ok(certificates)
    }

    fn key(self) -> Result<PrivateKeyDer<'static>, String> {
        let (path, pem) = (self.path, self.pem("pkey")?);
        // "ENCRYPTED PRIVATE KEY", or "Proc-Type: 4,ENCRYPTED" in an older file.
        if pem.windows(9).any(|text| text == b"ENCRYPTED") {
            return Err(format!(
                "holds an encrypted key, and nobody is there to type its password: `openssl pkey -in {path} -out NEW` writes it \
                 without one; let nobody else read that file (chmod 600)"
            ));
        }
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| match CertificateDer::from_pem_slice(pem) {
            Ok(_) => "holds a certificate and no private key: are `cert_path` and `key_path` swapped?".into(),
            Err(_) => {
                format!("holds no private key ({error}): `openssl pkey -in {path} -noout` says whether it is one")
            }
        })
    }

    /// The file's text. Windows puts a byte order mark before text: that changes nothing.
    fn pem(self, kind: &str) -> Result<&'a [u8], String> {
        let path = self.path;
        match self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.bytes) {
            text if text.trim_ascii().is_empty() => Err("is empty: copy it again".into()),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(format!(
                "is UTF-16, as Windows writes text: `iconv -f UTF-16 -t UTF-8 {path} > NEW` writes it as it is needed"
            )),
            // DER begins with a sequence, and in PKCS#12 that begins with the number 3.
            [0x30, _, _, _, 2, 1, 3, ..] => {
                Err(format!("is PKCS#12, not PEM: `openssl pkcs12 -in {path} -nodes -out NEW` takes it apart"))
            }
            [0x30, ..] => {
                Err(format!("is DER, not PEM: `openssl {kind} -inform der -in {path} -out NEW` writes it as PEM"))
            }
            text => Ok(text),
        }
    }
}

/// The CAs of `ca_cert_path`.
pub fn authorities(file: File) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = file.certificates()?;
    roots(&certificates).map_err(|error| {
        let path = file.path;
        format!("holds a certificate that cannot be read ({error}): see `openssl x509 -in {path} -noout -text`")
    })?;
    Ok(certificates)
}

/// The certificate and the key of `cert_path` and `key_path`, as one PEM. `Err` names the setting whose file is no good.
pub fn identity(certificate: File, key: File) -> Result<Vec<u8>, (&'static str, String)> {
    let chain = certificate.certificates().map_err(|problem| ("cert_path", problem))?;
    let private = key.key().map_err(|problem| ("key_path", problem))?;
    CertifiedKey::from_der(chain, private, &default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => (
            "key_path",
            format!(
                "is not the key of the certificate in `cert_path`: `openssl pkey -in {} -pubout` and `openssl x509 -in {} \
                 -noout -pubkey` print the same for a pair",
                key.path, certificate.path
            ),
        ),
        Error::InvalidCertificate(error) => (
            "cert_path",
            format!(
                "holds a certificate that cannot be used ({error}; UnsupportedCertVersion is one of X.509 version 1, made without \
                 `-extfile`): see `openssl x509 -in {} -noout -text`",
                certificate.path
            ),
        ),
        error => (
            "key_path",
            format!("holds a key that cannot be used ({error}): use RSA from 2048 bits, ECDSA P-256 or P-384, or Ed25519"),
        ),
    })?;
    Ok([certificate.pem("x509").unwrap_or_default(), b"\n", key.pem("pkey").unwrap_or_default()].concat())
}

/// TLS towards a LAPI whose CA the operator named, `pem` being our own certificate and key.
pub fn client(ca: &[CertificateDer<'static>], pem: Option<&[u8]>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(roots(ca)?.into(), provider.clone());
    let inner = inner.build().map_err(|error| Error::General(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Named { inner, named: ca.to_vec() }));
    let Some(pem) = pem else { return Ok(config.with_no_client_auth()) };
    let unreadable = |error: rustls::pki_types::pem::Error| Error::General(error.to_string());
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(unreadable)?;
    config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem).map_err(unreadable)?)
}

fn roots(ca: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    ca.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
    Ok(roots)
}

/// Believes the CAs in `ca_cert_path`, and a certificate that stands there itself: `openssl req -x509` makes one that is
/// its own CA, which a server may not show by the rules of the web. CrowdSec's own bouncers, written in Go, believe it too.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result = self.inner.verify_server_cert(certificate, intermediates, name, ocsp, now);
        let Err(Error::InvalidCertificate(error)) = &result else { return result };
        // Its validity in time is checked before these three, its names are checked here, and the handshake proves that LAPI
        // has its key. Whose it is, the operator said. Everything else fails closed.
        let of_issuer =
            is_ca(error) || matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature);
        if !of_issuer || !self.named.contains(certificate) {
            return result;
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// rustls hands some of webpki's errors on as they are, known by their names alone.
fn is_ca(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity")
}

/// What it takes to tell an operator why TLS with LAPI fails.
pub struct Handshake {
    pub is_tls: bool,
    has_ca: bool,
    has_certificate: bool,
    host: String,
    /// The commands that connect, that show LAPI's certificate, and that make it a new one.
    connect: String,
    look: String,
    new: String,
}

impl Handshake {
    pub fn with(url: &Url, has_ca: bool, has_certificate: bool) -> Self {
        let host = url.host_str().unwrap_or_default().to_owned();
        let connect = format!("openssl s_client -connect {host}:{}", url.port_or_known_default().unwrap_or(443));
        let look = format!("`{connect} </dev/null | openssl x509 -noout -issuer -dates -ext subjectAltName`");
        let name = host.trim_matches(['[', ']']);
        let kind = if name.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
        let new = format!(
            "`openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=LAPI -addext subjectAltName={kind}:{name} -keyout \
             lapi.key -out lapi.pem`"
        );
        Self { is_tls: url.scheme() == "https", has_ca, has_certificate, host, connect, look, new }
    }

    /// What this error means, and what to do next.
    pub fn meaning(&self, error: &Error) -> String {
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
            _ => format!("the TLS handshake failed: see LAPI's log, and what `{}` says", self.connect),
        }
    }

    /// What it means that the connection ended in the handshake.
    pub fn cut_off(&self) -> String {
        let connect = &self.connect;
        format!(
            "the other side cut the TLS handshake off without a reason: see LAPI's log, and how far `{connect}` gets"
        )
    }

    fn of_certificate(&self, error: &CertificateError) -> String {
        use CertificateError::*;
        let Self { host, look, new, .. } = self;
        match error {
            UnknownIssuer if !self.has_ca => format!(
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
            ExpiredContext { time, not_after } => format!(
                "its certificate ended on {}, and today is {} by this machine's clock: renew LAPI's certificate, or set the \
                 clock (`date -u`)",
                day(*not_after),
                day(*time)
            ),
            NotValidYetContext { time, not_before } => format!(
                "its certificate begins on {}, and today is {} by this machine's clock: set the clock (`date -u`), or make \
                 LAPI's certificate anew",
                day(*not_before),
                day(*time)
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
        let Self { host, connect, .. } = self;
        match alert {
            CertificateRequired | BadCertificate if !self.has_certificate => {
                "LAPI wants a certificate of ours: set cert_path and key_path".into()
            }
            AccessDenied | BadCertificate | CertificateExpired | CertificateRequired | CertificateRevoked
            | CertificateUnknown | DecryptError | UnknownCA | UnsupportedCertificate
                if self.has_certificate =>
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

fn day(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map_or("a day beyond all calendars".into(), |time| time.date().to_string())
}
