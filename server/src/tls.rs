//! TLS on the server's port: certificates from files, read again when they change; or one that the server signs itself.
//!
//! With TLS in force the port speaks nothing else. Connections that are open keep the certificate they began with.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{CipherSuite, RootCertStore, ServerConfig};

use crate::settings::Settings;

/// What every new connection is accepted with.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    files: Files,
}

/// Where certificates and keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl Tls {
    /// What the settings ask for; nothing when they ask for plain HTTP.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be. The text is for the operator.
    pub(crate) fn load(settings: &Settings) -> Result<Option<Self>, String> {
        let client_ca = (!settings.tls_client_ca.as_os_str().is_empty()).then(|| settings.tls_client_ca.clone());
        let files = if settings.tls_self {
            let (cert, key) = self_signed(settings)?;
            Files { cert, key, client_ca }
        } else if settings.tls_cert.as_os_str().is_empty() {
            return Ok(None);
        } else {
            Files { cert: settings.tls_cert.clone(), key: settings.tls_key.clone(), client_ca }
        };
        let config = files.config()?;
        Ok(Some(Self { config: Arc::new(RwLock::new(config)), files }))
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The file that a client must trust.
    pub(crate) fn cert_path(&self) -> &Path {
        &self.files.cert
    }

    /// Starts a thread that puts new files in force when they change, and on SIGHUP.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(crate) fn watch_files(&self) -> std::io::Result<()> {
        let tls = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut hangup = {
            let _entered = runtime.enter();
            signal(SignalKind::hangup())?
        };
        let watching = move || {
            runtime.block_on(async {
                let mut seen = tls.files.changed_at();
                loop {
                    let is_asked = tokio::select! {
                        () = tokio::time::sleep(LOOK) => false,
                        _ = hangup.recv() => true,
                    };
                    let now = tls.files.changed_at();
                    if is_asked || now != seen {
                        seen = now;
                        tls.reload();
                    }
                }
            });
        };
        std::thread::Builder::new().name("tls".to_owned()).spawn(watching)?;
        Ok(())
    }

    fn reload(&self) {
        match self.files.config() {
            Ok(config) => {
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                tracing::info!("new certificates are in force for new connections");
            }
            Err(why) => tracing::error!("the certificates before stay in force: {why}"),
        }
    }
}

/// What ring offers, AES-128-GCM first: no attack on it is known that AES-256 would stop, and it takes 10 rounds a block
/// instead of 14.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    let is_fast = |suite: CipherSuite| {
        matches!(
            suite,
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    };
    // A stable sort: TLS 1.3 stays before 1.2 among equals.
    provider.cipher_suites.sort_by_key(|offered| !is_fast(offered.suite()));
    provider
}

impl Files {
    fn config(&self) -> Result<Arc<ServerConfig>, String> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| format!("cannot read a private key from {}: {e}", self.key.display()))?;
        let provider = Arc::new(provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("no TLS version is usable: {e}"))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| format!("{} has no usable certificate: {e}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|e| format!("{}: {e}", path.display()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| {
            format!("the certificate in {} and the key in {}: {e}", self.cert.display(), self.key.display())
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        Ok(Arc::new(config))
    }

    /// When each file was last changed; a file that is away has no time.
    fn changed_at(&self) -> Vec<Option<SystemTime>> {
        let paths = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        paths.into_iter().flatten().map(|path| fs::metadata(path).and_then(|m| m.modified()).ok()).collect()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("cannot read certificates from {}: {e}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("there is no certificate in {}", path.display()));
    }
    Ok(certificates)
}

/// The server's own certificate; made when there is none yet, so that clients may keep their trust over restarts.
fn self_signed(settings: &Settings) -> Result<(PathBuf, PathBuf), String> {
    let (cert, key) = (settings.data.join("tls-self.crt"), settings.data.join("tls-self.key"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let mut names = ["localhost", "*.localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let address = settings.listen.ip();
    if !address.is_unspecified() && !address.is_loopback() {
        names.push(address.to_string());
    }
    let made = rcgen::generate_simple_self_signed(names).map_err(|e| format!("cannot make a certificate: {e}"))?;
    for (path, text) in [(&key, made.signing_key.serialize_pem()), (&cert, made.cert.pem())] {
        write_private(path, &text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok((cert, key))
}

/// Only this user may read it.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);
