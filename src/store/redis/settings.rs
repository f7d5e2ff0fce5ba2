//! Settings of the connection to a Redis. Passwords are never shown or logged.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io};

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError};

use super::key_prefix::KeyPrefix;
use super::socket::Target;
use crate::tls_client::{TlsError, TlsSettings};

/// The default timeout of a charge.
pub const DEADLINE_DEFAULT: Duration = Duration::from_millis(10);

/// The default timeout of connecting.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);

/// The address of a Redis, its credentials, and the timeouts.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://` (TLS) or `unix://`, optionally with user, password and database.
    pub url: String,
    /// URLs of Sentinels; the URL's host is then the name of the master.
    pub sentinels: Vec<String>,
    /// More nodes of a cluster, by host and port. The URL's host is one too, and the rest of the URL applies to all.
    pub cluster_nodes: Vec<(String, u16)>,
    /// Overrides the URL, like the password and the database.
    pub username: Option<String>,
    pub password: Option<Password>,
    pub database: Option<u32>,
    pub tls: TlsSettings,
    /// Before all keys.
    pub key_prefix: KeyPrefix,
    /// Timeout of a charge, including retries.
    pub deadline: Duration,
    /// Timeout of one attempt to connect.
    pub connect_timeout: Duration,
}

/// A password.
#[derive(Clone)]
pub enum Password {
    Text(String),
    /// In a file, which is read again for each connection.
    File(PathBuf),
}

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Commands and their answers.
    Charges,
    /// The server may also push messages.
    Changes,
}

/// A problem of the settings.
#[derive(Debug, thiserror::Error)]
pub enum RedisSettingsError {
    /// The URL is invalid.
    #[error("invalid Redis settings: {0}")]
    Unusable(#[source] RedisError),
    /// A file is unreadable.
    #[error("can't read {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The TLS files are invalid.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS settings for a connection without TLS.
    #[error("TLS settings require a URL that begins with rediss://")]
    PlainUrl,
    /// Nodes of a cluster report each other's hosts and ports.
    #[error("a Redis Cluster can't use a Unix socket")]
    ClusterBySocket,
    /// A cluster has one database.
    #[error("a Redis Cluster supports only database 0")]
    ClusterDatabase,
    /// Without verification, a certificate protects nothing.
    #[error("#insecure is not supported: name the server's authority with a CA file")]
    Insecure,
}

impl RedisSettings {
    /// The settings of a URL, with defaults.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            sentinels: Vec::new(),
            cluster_nodes: Vec::new(),
            username: None,
            password: None,
            database: None,
            tls: TlsSettings::default(),
            key_prefix: KeyPrefix::default(),
            deadline: DEADLINE_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
        }
    }

    /// Host and port of the server, or the path of its socket, for people.
    pub(super) fn address(&self) -> Result<String, RedisSettingsError> {
        let connection = self.connection()?;
        Ok(match self.sentinels.as_slice() {
            [] => connection.addr().to_string(),
            sentinels => {
                format!("{}, by {} Sentinels", self.host()?.unwrap_or_default(), sentinels.len())
            }
        })
    }

    /// Checks the settings and their files.
    pub(super) fn check(&self) -> Result<(), RedisSettingsError> {
        self.target(Login::Charges)?;
        self.seeds()?;
        self.sentinels.iter().try_for_each(|url| self.sentinel(url).map(drop))
    }

    /// The addresses for the discovery of a cluster; empty without a cluster.
    pub(super) fn seeds(&self) -> Result<Vec<(String, u16)>, RedisSettingsError> {
        if self.cluster_nodes.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection()?;
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
            connection.addr()
        else {
            return Err(RedisSettingsError::ClusterBySocket);
        };
        if connection.redis_settings().db() != 0 {
            return Err(RedisSettingsError::ClusterDatabase);
        }
        let mut seeds = vec![(host.clone(), *port)];
        seeds.extend(self.cluster_nodes.iter().cloned());
        Ok(seeds)
    }

    /// The same settings for another address.
    pub(super) fn at(&self, host: &str, port: u16) -> Result<Self, RedisSettingsError> {
        let connection = self.connection()?;
        let scheme = match connection.addr() {
            ConnectionAddr::TcpTls { .. } => "rediss",
            _ => "redis",
        };
        let login = connection.redis_settings();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(Self {
            url: format!("{scheme}://{host}:{port}/{}", login.db()),
            sentinels: Vec::new(),
            cluster_nodes: Vec::new(),
            username: login.username().map(str::to_owned),
            password: match &self.password {
                // The next connection may be to another server.
                Some(Password::File(path)) => Some(Password::File(path.clone())),
                _ => login.password().map(|password| Password::Text(password.to_owned())),
            },
            ..self.clone()
        })
    }

    /// The settings of a Sentinel, by its own URL.
    pub(super) fn sentinel(&self, url: &str) -> Result<Target, RedisSettingsError> {
        let connection = url.into_connection_info().map_err(RedisSettingsError::Unusable)?;
        let tls = match connection.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(RedisSettingsError::Insecure);
            }
            ConnectionAddr::TcpTls { .. } => Some(self.tls.client(None)?.by_host()),
            _ => None,
        };
        Ok(Target { connection, tls })
    }

    /// The settings with the current contents of their files.
    pub(super) fn target(&self, login: Login) -> Result<Target, RedisSettingsError> {
        let mut connection = self.connection()?;
        if login == Login::Changes {
            let login = connection.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            connection = connection.set_redis_settings(login);
        }
        let tls = match connection.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(RedisSettingsError::Insecure);
            }
            ConnectionAddr::TcpTls { .. } => Some(self.tls.client(None)?),
            _ if !self.tls.is_default() => return Err(RedisSettingsError::PlainUrl),
            _ => None,
        };
        Ok(Target { connection, tls })
    }

    /// The host of the URL, if it has one.
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
        match &self.password {
            Some(Password::Text(password)) => login = login.set_password(password),
            Some(Password::File(path)) => login = login.set_password(Password::read(path)?),
            None => {}
        }
        if let Some(database) = self.database {
            login = login.set_db(database.into());
        }
        Ok(connection.set_redis_settings(login))
    }
}

impl Password {
    fn read(path: &Path) -> Result<String, RedisSettingsError> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        // Editors end a file with a newline, which is not part of the password.
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl fmt::Debug for RedisSettings {
    /// Omits the URL, which may contain a password, and the password.
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

    /// Whether a client can be built from the settings, or the start of the error.
    fn check(settings: &RedisSettings, expected: Result<(), &str>) {
        match (settings.check(), expected) {
            (Ok(()), Ok(())) => {}
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
        check(&RedisSettings::new("localhost"), Err("invalid Redis settings"));
        check(&RedisSettings::new("redis://h/x"), Err("invalid Redis settings"));
        check(&RedisSettings::new("rediss://h#insecure"), Err("#insecure is not supported"));
    }

    #[test]
    fn tls_settings_want_tls_and_readable_files() {
        let ca_file = Some(PathBuf::from("/absent.pem"));
        let tls = TlsSettings { ca_file, ..TlsSettings::default() };
        let with_tls = |url| RedisSettings { tls: tls.clone(), ..RedisSettings::new(url) };
        check(&with_tls("redis://h"), Err("TLS settings require a URL"));
        check(&with_tls("rediss://h"), Err("can't read /absent.pem"));
    }

    #[test]
    fn a_cluster_has_hosts_and_one_database() {
        let cluster_nodes = vec![("b".to_owned(), 7000)];
        let with =
            |url| RedisSettings { cluster_nodes: cluster_nodes.clone(), ..RedisSettings::new(url) };
        let seeds = with("rediss://user:a@a:7001").seeds().unwrap();
        assert_eq!(seeds, [("a".to_owned(), 7001), ("b".to_owned(), 7000)]);
        check(&with("unix:///run/redis.sock"), Err("a Redis Cluster can't use a Unix"));
        check(&with("redis://a/3"), Err("a Redis Cluster supports only database 0"));
    }

    #[test]
    fn a_password_of_a_file_is_read_again_for_each_node() {
        let password = Some(Password::File(PathBuf::from("/absent")));
        let settings = RedisSettings { password, ..RedisSettings::new("redis://a") };
        assert!(settings.at("b", 1).is_err(), "it is read to see that it can be");
    }

    #[test]
    fn a_master_that_was_found_is_reached_as_the_url_says() {
        let password = Some(Password::Text("b:/@c".to_owned()));
        let settings =
            RedisSettings { password, ..RedisSettings::new("rediss://user:a@mymaster/3") };
        for (host, address) in [("10.0.0.7", "10.0.0.7:7000"), ("::1", "::1:7000")] {
            let found = settings.at(host, 7000).unwrap();
            let connection = found.connection().unwrap();
            assert_eq!(connection.addr().to_string(), address);
            assert!(matches!(connection.addr(), ConnectionAddr::TcpTls { .. }));
            let login = connection.redis_settings();
            assert_eq!((login.username(), login.password()), (Some("user"), Some("b:/@c")));
            assert_eq!(login.db(), 3);
        }
        let sentinels = vec!["redis://a:26379".to_owned(), "redis://b:26379".to_owned()];
        let by_name = RedisSettings { sentinels, ..settings };
        assert_eq!(by_name.address().unwrap(), "mymaster, by 2 Sentinels");
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let mut settings = RedisSettings::new("redis://user:hush@localhost:0x/1");
        settings.password = Some(Password::Text("hush".to_owned()));
        let error = settings.check().unwrap_err();
        assert!(!format!("{settings:?} {error} {error:?}").contains("hush"));
        let client = RedisSettings::new("redis://user:hush@localhost/1");
        let client = client.target(Login::Charges).unwrap();
        assert!(!format!("{client:?}").contains("hush"));
    }
}
