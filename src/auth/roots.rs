//! Whom we trust in outgoing TLS: Mozilla's roots, which are part of the program, and what `ca_file` of the
//! configuration and the environment's `SSL_CERT_FILE` add to them.
//!
//! A file that was named and yields no certificate stops the program at start: to go on without it would end in
//! handshakes that fail for no visible reason.

use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

use super::fault::Shown;

/// The variable that names further roots.
const SSL_CERT_FILE: &str = "SSL_CERT_FILE";

/// Why a file of certificates cannot be used.
#[derive(Debug)]
pub struct RootsFault {
    named_by: &'static str,
    path: PathBuf,
    why: FileFault,
}

#[derive(Debug)]
enum FileFault {
    Unreadable(io::Error),
    NotPem,
    NoCertificate,
    BadCertificate,
}

impl fmt::Display for RootsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} names {}, ", self.named_by, Shown::of(&self.path.to_string_lossy()))?;
        match &self.why {
            FileFault::Unreadable(err) => write!(f, "which cannot be read: {err}"),
            FileFault::NotPem => f.write_str("which is not well-formed PEM"),
            FileFault::NoCertificate => f.write_str("which holds no certificate in PEM form"),
            FileFault::BadCertificate => f.write_str("which holds no certificate that can be a trust root"),
        }
    }
}

impl std::error::Error for RootsFault {}

/// Mozilla's roots and those of `ca_file` and `SSL_CERT_FILE`.
///
/// # Errors
/// Where a file that was named cannot be used.
pub fn root_store(ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, RootsFault> {
    let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    store.add_parsable_certificates(extra_roots(ca_file)?);
    Ok(Arc::new(store))
}

/// The roots of `ca_file` and `SSL_CERT_FILE` alone.
///
/// # Errors
/// As [`root_store`].
pub fn extra_roots(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, RootsFault> {
    let from_environment = env::var_os(SSL_CERT_FILE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut roots = Vec::new();
    for (named_by, path) in [("ca_file", ca_file), (SSL_CERT_FILE, from_environment.as_deref())] {
        if let Some(path) = path {
            let read = read(path).map_err(|why| RootsFault { named_by, path: path.to_owned(), why })?;
            roots.extend(read);
        }
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    // Certificate by certificate: the bundle of a system is far larger than what is kept of it.
    let file = std::fs::File::open(path).map_err(FileFault::Unreadable)?;
    let found = CertificateDer::pem_reader_iter(file).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|fault| match fault {
        pem::Error::Io(err) => FileFault::Unreadable(err),
        _ => FileFault::NotPem,
    })?;
    if found.is_empty() {
        return Err(FileFault::NoCertificate);
    }
    // A bundle of a system may hold a few odd ones; that none of them is usable is a mistake.
    let usable = |root: &CertificateDer<'static>| RootCertStore::empty().add(root.clone()).is_ok();
    let usable: Vec<CertificateDer<'static>> = found.into_iter().filter(usable).collect();
    if usable.is_empty() { Err(FileFault::BadCertificate) } else { Ok(usable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_usable_certificate_is_refused() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spec/world/keys");
        let own = env::temp_dir().join(format!("roots-{}", std::process::id()));
        std::fs::create_dir_all(&own).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(own.join(name), text).unwrap();
            own.join(name)
        };
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        let ca = std::fs::read_to_string(folder.join("ca.pem")).unwrap();
        for (path, count) in [
            (folder.join("ca.pem"), Ok(1)),
            (write("two.pem", &format!("# mine\n{ca}{junk}{ca}")), Ok(2)),
            (write("junk.pem", junk), Err("no certificate that can be a trust root")),
            (write("cut.pem", cut), Err("not well-formed PEM")),
            (write("empty.pem", ""), Err("no certificate in PEM form")),
            (folder.join("rsa1024.pem"), Err("no certificate in PEM form")),
            (own.join("missing.pem"), Err("cannot be read")),
        ] {
            let read = extra_roots(Some(&path));
            match (&read, count) {
                (Ok(roots), Ok(count)) => assert!(roots.len() >= count, "{}", path.display()),
                (Err(fault), Err(why)) => {
                    let text = fault.to_string();
                    assert!(text.contains(why) && text.starts_with("ca_file names '"), "{text}");
                }
                _ => panic!("{}: {read:?}", path.display()),
            }
        }
        let all = root_store(Some(&folder.join("ca.pem"))).unwrap();
        assert!(all.len() > webpki_roots::TLS_SERVER_ROOTS.len());
        std::fs::remove_dir_all(own).unwrap();
    }
}
