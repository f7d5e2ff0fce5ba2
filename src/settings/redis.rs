//! The settings of Redis.

use std::path::PathBuf;

use super::setting::{BOOLEAN, PATH, TEXT, component};
use super::value::{self, Secret, optional, or_default};
use crate::store::redis::KeyPrefix;

component! {
    /// Redis, if it is the store.
    pub struct RedisServerSettings in "Store";

    /// None: the embedded store. The URL may contain a password.
    url: Option<Secret> {
        name: "redis_url",
        value: "URL",
        default: "",
        expected: "a URL such as redis://host:6379, rediss://host:6380 (TLS) or unix:///path",
        help: "Redis for counters shared between processes. If absent, each process counts alone, in memory",
        read: optional(value::redis_url),
        secret: true,
    }

    /// If empty, the host of the URL is the server.
    sentinels: Vec<Secret> {
        name: "redis_sentinels",
        value: "URL,...",
        default: "",
        expected: "a list of URLs such as redis://host:26379",
        help: "Sentinels that know the master; the host of redis_url is then the master's name",
        read: or_default(value::redis_urls),
        needs: &["redis_url"],
        excludes: &["redis_cluster_nodes"],
        secret: true,
    }

    cluster_nodes: Vec<(String, u16)> {
        name: "redis_cluster_nodes",
        value: "HOST:PORT,...",
        default: "",
        expected: "a list of nodes such as host:6379",
        help: "More nodes of a Redis Cluster, in addition to redis_url; the credentials of redis_url apply to all",
        read: or_default(value::nodes),
        needs: &["redis_url"],
    }

    username: Option<String> {
        name: "redis_username",
        value: "TEXT",
        default: "",
        expected: TEXT,
        help: "ACL user",
        read: optional(value::text),
        needs: &["redis_url"],
    }

    password: Option<Secret> {
        name: "redis_password",
        value: "TEXT",
        default: "",
        expected: TEXT,
        help: "Password. Flags are visible in the process list, so prefer redis_password_file",
        read: optional(value::secret),
        needs: &["redis_url"],
        excludes: &["redis_password_file"],
        secret: true,
    }

    password_file: Option<PathBuf> {
        name: "redis_password_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "File with the password; it is read again for each connection",
        read: optional(value::path),
        needs: &["redis_url"],
    }

    database: Option<u32> {
        name: "redis_database",
        value: "NUMBER",
        default: "",
        expected: "a whole number from 0 to 65535",
        help: "Database number; overrides that of the URL",
        read: optional(|text| value::number(text, 0..=65_535)),
        needs: &["redis_url"],
    }

    key_prefix: KeyPrefix {
        name: "redis_key_prefix",
        value: "TEXT",
        default: "",
        expected: "up to 64 letters, digits and -_.:/| without tg1",
        help: "Text before all keys in Redis, such as fleet-a:. Fleets with different prefixes share a Redis and know nothing of \
               each other; a change starts all counts again",
        read: KeyPrefix::parse,
        needs: &["redis_url"],
    }

    tls_ca_file: Option<PathBuf> {
        name: "redis_tls_ca_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Trusted certificates, in PEM, instead of the public authorities: of authorities, or of the server itself (pinned)",
        read: optional(value::path),
        needs: &["redis_url"],
    }

    tls_server_name: Option<String> {
        name: "redis_tls_server_name",
        value: "NAME",
        default: "",
        expected: TEXT,
        help: "Name on the server's certificate, if it differs from the URL's host",
        read: optional(value::text),
        needs: &["redis_url"],
    }

    tls_any_name: bool {
        name: "redis_tls_any_name",
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Accept every name on the server's certificate; redis_tls_ca_file must then name an authority of these servers alone",
        read: value::boolean,
    }

    tls_cert_file: Option<PathBuf> {
        name: "redis_tls_cert_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Client certificate, in PEM",
        read: optional(value::path),
        needs: &["redis_url", "redis_tls_key_file"],
    }

    tls_key_file: Option<PathBuf> {
        name: "redis_tls_key_file",
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Private key of the client certificate, in PEM",
        read: optional(value::path),
        needs: &["redis_tls_cert_file"],
    }
}
