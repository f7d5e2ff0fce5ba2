//! How to reach a Redis. A password is never shown, nor written to a log.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use ::redis::Client;
use ::redis::ClientTlsConfig;
use ::redis::ConnectionAddr;
use ::redis::ConnectionInfo;
use ::redis::IntoConnectionInfo;
use ::redis::ProtocolVersion;
use ::redis::RedisError;
use ::redis::TlsCertificates;
use ::redis::io::tcp::TcpSettings;

/// How long a charge may take, if the settings don't say otherwise.
pub const DEADLINE_DEFAULT: Duration = Duration::from_millis(10);

/// How long connecting may take, if the settings don't say otherwise.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// How to reach a Redis, and how long to wait for it.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database if wanted.
    pub url: String,
    /// Stands above the URL's, as do the password and the database.
    pub username: Option<String>,
    pub password: Option<String>,
    pub database: Option<u32>,
    pub tls: TlsSettings,
    /// How long a charge may take, retries included.
    pub deadline: Duration,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
}

/// How to know a `rediss://` server, and how to be known by it.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Certificate authorities (PEM) to trust instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate and key (PEM), for servers that ask for one.
    pub identity: Option<IdentityFiles>,
    /// The name on the server's certificate, if it isn't the URL's host.
    pub server_name: Option<String>,
}

/// The files of a client certificate.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What is wrong with the settings of a Redis.
#[derive(Debug, thiserror::Error)]
pub enum RedisSettingsError {
    /// The URL is none, or TLS can't use what the files hold.
    #[error("the Redis settings are unusable: {0}")]
    Unusable(#[source] RedisError),
    /// A file can't be read.
    #[error("can't read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// TLS settings for a connection without TLS.
    #[error("TLS settings need a URL that begins with rediss://")]
    PlainUrl,
    /// A certificate that nobody checks is no certificate.
    #[error("#insecure is not supported: name the server's authority with a CA file")]
    Insecure,
}

impl RedisSettings {
    /// The settings that a URL alone makes.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            username: None,
            password: None,
            database: None,
            tls: TlsSettings::default(),
            deadline: DEADLINE_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
        }
    }

    /// A client that has not connected yet.
    pub(super) fn client(&self) -> Result<Client, RedisSettingsError> {
        self.client_of(self.connection()?)
    }

    /// A client that has not connected yet, whose server may tell things between its answers.
    pub(super) fn listening_client(&self) -> Result<Client, RedisSettingsError> {
        let connection = self.connection()?;
        let login = connection.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        self.client_of(connection.set_redis_settings(login))
    }

    fn client_of(&self, mut connection: ConnectionInfo) -> Result<Client, RedisSettingsError> {
        let ConnectionAddr::TcpTls { port, insecure, .. } = *connection.addr() else {
            return match self.tls.is_default() {
                true => Client::open(connection).map_err(RedisSettingsError::Unusable),
                false => Err(RedisSettingsError::PlainUrl),
            };
        };
        if insecure {
            return Err(RedisSettingsError::Insecure);
        }
        if let Some(name) = &self.tls.server_name {
            // The name is checked on the certificate; the resolver in connection.rs leads it to the host.
            connection = connection.set_addr(ConnectionAddr::TcpTls {
                host: name.clone(),
                port,
                insecure,
                tls_params: None,
            });
        }
        Client::build_with_tls(connection, self.tls.certificates()?)
            .map_err(RedisSettingsError::Unusable)
    }

    /// The host that the URL names, if it names one.
    pub(super) fn host(&self) -> Result<Option<String>, RedisSettingsError> {
        Ok(match self.connection()?.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
                Some(host.clone())
            }
            _ => None,
        })
    }

    fn connection(&self) -> Result<ConnectionInfo, RedisSettingsError> {
        let connection =
            self.url.as_str().into_connection_info().map_err(RedisSettingsError::Unusable)?;
        let mut login =
            connection.redis_settings().clone().set_lib_name("tollgate", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &self.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password);
        }
        if let Some(database) = self.database {
            login = login.set_db(database.into());
        }
        // A charge is one small packet, which must not wait for the next one.
        let tcp = TcpSettings::default().set_nodelay(true);
        Ok(connection.set_redis_settings(login).set_tcp_settings(tcp))
    }
}

impl TlsSettings {
    fn is_default(&self) -> bool {
        self.ca_file.is_none() && self.identity.is_none() && self.server_name.is_none()
    }

    fn certificates(&self) -> Result<TlsCertificates, RedisSettingsError> {
        let root_cert = self.ca_file.as_deref().map(read).transpose()?;
        let client_tls = match &self.identity {
            Some(files) => Some(ClientTlsConfig {
                client_cert: read(&files.certificate)?,
                client_key: read(&files.key)?,
            }),
            None => None,
        };
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

impl fmt::Debug for RedisSettings {
    /// Leaves out the URL, which may hold a password, and the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("username", &self.username)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .field("deadline", &self.deadline)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RedisSettingsError> {
    fs::read(path).map_err(|source| RedisSettingsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a client can be made of the settings, or else the error's beginning.
    fn check(settings: &RedisSettings, expected: Result<(), &str>) {
        match (settings.client(), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(start)) => assert!(error.to_string().starts_with(start), "{error}"),
            (got, _) => panic!("{got:?}, but expected {expected:?}"),
        }
    }

    #[test]
    fn every_kind_of_address_is_understood() {
        for url in [
            "redis://localhost",
            "redis://user:secret@localhost:7000/3",
            "redis://[::1]:7000",
            "rediss://localhost",
            "unix:///run/redis.sock?db=2",
            "redis+unix:///run/redis.sock",
        ] {
            check(&RedisSettings::new(url), Ok(()));
        }
        check(&RedisSettings::new("localhost"), Err("the Redis settings are unusable"));
        check(&RedisSettings::new("redis://h/x"), Err("the Redis settings are unusable"));
        check(&RedisSettings::new("rediss://h#insecure"), Err("#insecure is not supported"));
    }

    #[test]
    fn tls_settings_want_tls_and_readable_files() {
        let ca_file = Some(PathBuf::from("/absent.pem"));
        let tls = TlsSettings { ca_file, ..TlsSettings::default() };
        let with_tls = |url| RedisSettings { tls: tls.clone(), ..RedisSettings::new(url) };
        check(&with_tls("redis://h"), Err("TLS settings need a URL"));
        check(&with_tls("rediss://h"), Err("can't read /absent.pem"));
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let mut settings = RedisSettings::new("redis://user:hush@localhost:0x/1");
        settings.password = Some("hush".to_owned());
        let error = settings.client().unwrap_err();
        assert!(!format!("{settings:?} {error} {error:?}").contains("hush"));
        let client = RedisSettings::new("redis://user:hush@localhost/1").client().unwrap();
        assert!(!format!("{client:?}").contains("hush"));
    }
}
