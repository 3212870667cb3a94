//! How do LAPI and we prove to each other who we are? By certificates: ours, and those that the operator believes.

mod file;
mod handshake;

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

pub use file::{PemFile, authorities, identity};

/// TLS towards a LAPI whose CA the operator named, `pem` being our own certificate and key.
pub fn client(ca: &[CertificateDer<'static>], pem: Option<&[u8]>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(roots(ca)?.into(), provider.clone());
    let inner = inner.build().map_err(|error| Error::General(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Named { inner, named: ca.to_vec() }));
    let Some(pem) = pem else { return Ok(config.with_no_client_auth()) };
    let unreadable = |error: pem::Error| Error::General(error.to_string());
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
