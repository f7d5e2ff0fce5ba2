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
    /// URLs of Sentinels; then the URL's host is the name of the master that they know.
    pub sentinels: Vec<String>,
    /// Nodes of a cluster, by host and port, that know where the others are; the URL's host is one too, and the rest of the
    /// URL holds for all.
    pub cluster_nodes: Vec<(String, u16)>,
    /// Stands above the URL's, as do the password and the database.
    pub username: Option<String>,
    pub password: Option<Password>,
    pub database: Option<u32>,
    pub tls: TlsSettings,
    /// How long a charge may take, retries included.
    pub deadline: Duration,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
}

/// A password.
#[derive(Clone)]
pub enum Password {
    Text(String),
    /// It stands in a file, which is read again for each connection.
    File(PathBuf),
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// Commands and their answers.
    Charges,
    /// The server may tell things between its answers.
    Changes,
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
    /// Nodes of a cluster tell each other's hosts and ports.
    #[error("a Redis Cluster is not reached by a Unix socket")]
    ClusterBySocket,
    /// A cluster has one database.
    #[error("a Redis Cluster has no databases but 0")]
    ClusterDatabase,
    /// A certificate that nobody checks is no certificate.
    #[error("#insecure is not supported: name the server's authority with a CA file")]
    Insecure,
}

impl RedisSettings {
    /// The settings that a URL alone makes.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            sentinels: Vec::new(),
            cluster_nodes: Vec::new(),
            username: None,
            password: None,
            database: None,
            tls: TlsSettings::default(),
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

    /// Whether a client can be made of all that the settings and their files say.
    pub(super) fn check(&self) -> Result<(), RedisSettingsError> {
        self.client(Login::Charges)?;
        self.seeds()?;
        self.sentinels.iter().try_for_each(|url| self.sentinel(url).map(drop))
    }

    /// Where a cluster is asked for its nodes; nothing if there is none.
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

    /// The same settings for a server that is somewhere else.
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
                // It may be another one by the next connection.
                Some(Password::File(path)) => Some(Password::File(path.clone())),
                _ => login.password().map(|password| Password::Text(password.to_owned())),
            },
            ..self.clone()
        })
    }

    /// A client for a Sentinel, that has not connected yet. It says who it is by its own URL.
    pub(super) fn sentinel(&self, url: &str) -> Result<Client, RedisSettingsError> {
        let connection = url.into_connection_info().map_err(RedisSettingsError::Unusable)?;
        if let ConnectionAddr::TcpTls { insecure, .. } = connection.addr() {
            return match insecure {
                true => Err(RedisSettingsError::Insecure),
                false => Client::build_with_tls(connection, self.tls.certificates()?)
                    .map_err(RedisSettingsError::Unusable),
            };
        }
        Client::open(connection).map_err(RedisSettingsError::Unusable)
    }

    /// A client that has not connected yet.
    pub(super) fn client(&self, login: Login) -> Result<Client, RedisSettingsError> {
        let mut connection = self.connection()?;
        if login == Login::Changes {
            let login = connection.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            connection = connection.set_redis_settings(login);
        }
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
            // The name is checked on the certificate; the resolver in connect.rs leads it to the host.
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
        match &self.password {
            Some(Password::Text(password)) => login = login.set_password(password),
            Some(Password::File(path)) => login = login.set_password(Password::read(path)?),
            None => {}
        }
        if let Some(database) = self.database {
            login = login.set_db(database.into());
        }
        // A charge is one small packet, which must not wait for the next one.
        let tcp = TcpSettings::default().set_nodelay(true);
        Ok(connection.set_redis_settings(login).set_tcp_settings(tcp))
    }
}

impl Password {
    fn read(path: &Path) -> Result<String, RedisSettingsError> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        // Editors end a file with a newline, which is no part of the password.
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
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
    fn a_cluster_has_hosts_and_one_database() {
        let cluster_nodes = vec![("b".to_owned(), 7000)];
        let with =
            |url| RedisSettings { cluster_nodes: cluster_nodes.clone(), ..RedisSettings::new(url) };
        let seeds = with("rediss://user:a@a:7001").seeds().unwrap();
        assert_eq!(seeds, [("a".to_owned(), 7001), ("b".to_owned(), 7000)]);
        check(&with("unix:///run/redis.sock"), Err("a Redis Cluster is not reached by a Unix"));
        check(&with("redis://a/3"), Err("a Redis Cluster has no databases"));
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
        let client = client.client(Login::Charges).unwrap();
        assert!(!format!("{client:?}").contains("hush"));
    }
}
