//! The table of settings.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::Settings;
use super::listening;
use super::observing;
use super::setting::{BOOLEAN, PATH, PATHS, Setting, TOKENS};
use super::tls_files::TlsFiles;
use super::value;
use super::value::optional;
use super::value::put;
use crate::observe::logs;

const POLICIES: &str = "Policies";
const CALLERS: &str = "Callers";
const STORE: &str = "Store";
const PROCESS: &str = "Process";

const DURATION: &str = "a duration up to an hour, such as 10ms, 2s or 1m";
const TEXT: &str = "a text";

/// All settings, by group, in the order of the help.
pub const TABLE: &[Setting] = &[
    Setting {
        name: "policies",
        group: POLICIES,
        value: "PATH,...",
        default: "config/policies",
        expected: PATHS,
        help: "Policy files, and directories of them (*.yaml, *.yml), separated by commas",
        set: |settings, text| put(&mut settings.policies, value::paths(text)),
    },
    Setting {
        name: "merge_domains",
        group: POLICIES,
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Join files that name the same domain, instead of refusing them",
        set: |settings, text| put(&mut settings.merge_domains, value::boolean(text)),
    },
    Setting {
        name: "shadow_mode",
        group: POLICIES,
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Decide and count, but refuse nothing",
        set: |settings, text| put(&mut settings.shadow_mode, value::boolean(text)),
    },
    Setting {
        name: "quota_mode",
        group: POLICIES,
        value: "BOOL",
        default: "false",
        expected: BOOLEAN,
        help: "Treat every limit as a quota: a request is refused only if all of them refuse, and none of its \
               descriptors meets no limit",
        set: |settings, text| put(&mut settings.quota_mode, value::boolean(text)),
    },
    Setting {
        name: "callers",
        group: CALLERS,
        value: "PATH,...",
        default: "",
        expected: PATHS,
        help: "Files of callers, and directories of them (*.yaml, *.yml), separated by commas. \
               Without them Redis is the directory of callers, if there is one",
        set: |settings, text| {
            let paths = optional(text, value::paths).map(Option::unwrap_or_default);
            put(&mut settings.callers, paths)
        },
    },
    Setting {
        name: "callers_cache",
        group: CALLERS,
        value: "NUMBER",
        default: "10000",
        expected: "a whole number from 1 to 10000000",
        help: "Callers of Redis that are kept in memory, unknown ones included",
        set: |settings, text| put(&mut settings.callers_cache, value::number(text, 1..=10_000_000)),
    },
    Setting {
        name: "api_tokens",
        group: CALLERS,
        value: "NAME:ROLE:SHA256,...",
        default: "",
        expected: TOKENS,
        help: "Who may use /v1, and as what: viewer, operator or admin. \
               Without tokens it serves this machine alone",
        set: |settings, text| {
            let tokens = optional(text, value::tokens).map(Option::unwrap_or_default);
            put(&mut settings.api_tokens, tokens)
        },
    },
    Setting {
        name: "audit_log",
        group: CALLERS,
        value: "PATH",
        default: "",
        expected: PATH,
        help: "A file to which every change of a caller is added as a line of JSON. \
               Without it the changes are logged",
        set: |settings, text| put(&mut settings.audit_log, optional(text, value::path)),
    },
    listening::GRPC_ADDRESS,
    listening::GRPC_UNIX_SOCKET,
    listening::GRPC_CONNECTION_AGE_MAX,
    listening::GRPC_TLS_CERT_FILE,
    listening::GRPC_TLS_KEY_FILE,
    listening::GRPC_TLS_CLIENT_CA_FILE,
    listening::HTTP_ADDRESS,
    listening::HTTP_TLS_CERT_FILE,
    listening::HTTP_TLS_KEY_FILE,
    listening::HTTP_TLS_CLIENT_CA_FILE,
    Setting {
        name: "store_deadline",
        group: STORE,
        value: "DURATION",
        default: "10ms",
        expected: DURATION,
        help: "How long a request waits for Redis before the policy's on_outage answers. \
               Envoy itself waits 20ms unless told otherwise",
        set: |settings, text| put(&mut settings.store_deadline, value::some_time(text)),
    },
    Setting {
        name: "memory_keys_max",
        group: STORE,
        value: "NUMBER",
        default: "1000000",
        expected: "a whole number from 1 to 1000000000",
        help: "Counters that are kept in memory, by the embedded store or while Redis is out, before those \
               nearest to their end are given up",
        set: |settings, text| {
            put(&mut settings.memory_keys_max, value::number(text, 1..=1_000_000_000))
        },
    },
    Setting {
        name: "outage_sidecars",
        group: STORE,
        value: "NUMBER",
        default: "",
        expected: "a whole number from 1 to 1000000",
        help: "Among how many processes a limit with on_outage: local is shared while Redis is out. \
               Unless set, they are counted by their heartbeats while it is there",
        set: |settings, text| {
            let sidecars = optional(text, |text| value::number(text, 1..=1_000_000));
            put(&mut settings.outage_sidecars, sidecars)
        },
    },
    Setting {
        name: "redis_url",
        group: STORE,
        value: "URL",
        default: "",
        expected: "a URL such as redis://host:6379, rediss://host:6380 (TLS) or unix:///path",
        help: "Where counters are shared. Without it each process counts by itself, in memory",
        set: |settings, text| put(&mut settings.redis_url, optional(text, value::redis_url)),
    },
    Setting {
        name: "redis_sentinels",
        group: STORE,
        value: "URL,...",
        default: "",
        expected: "a list of URLs such as redis://host:26379",
        help: "Sentinels that know where the master is; redis_url then has the master's name as its host",
        set: |settings, text| {
            let sentinels = optional(text, value::redis_urls).map(Option::unwrap_or_default);
            put(&mut settings.redis_sentinels, sentinels)
        },
    },
    Setting {
        name: "redis_cluster_nodes",
        group: STORE,
        value: "HOST:PORT,...",
        default: "",
        expected: "a list of nodes such as host:6379",
        help: "Nodes of a Redis Cluster that know the others, beside the one of redis_url, which says how to log in",
        set: |settings, text| {
            let nodes = optional(text, value::nodes).map(Option::unwrap_or_default);
            put(&mut settings.redis_cluster_nodes, nodes)
        },
    },
    Setting {
        name: "redis_username",
        group: STORE,
        value: "TEXT",
        default: "",
        expected: TEXT,
        help: "The ACL user",
        set: |settings, text| put(&mut settings.redis_username, optional(text, value::text)),
    },
    Setting {
        name: "redis_password",
        group: STORE,
        value: "TEXT",
        default: "",
        expected: TEXT,
        help: "The password; everyone who may list processes can read flags, so prefer the file",
        set: |settings, text| put(&mut settings.redis_password, optional(text, value::secret)),
    },
    Setting {
        name: "redis_password_file",
        group: STORE,
        value: "PATH",
        default: "",
        expected: PATH,
        help: "A file that holds the password; it is read again for each connection",
        set: |settings, text| put(&mut settings.redis_password_file, optional(text, value::path)),
    },
    Setting {
        name: "redis_database",
        group: STORE,
        value: "NUMBER",
        default: "",
        expected: "a whole number from 0 to 65535",
        help: "The database's number, instead of the URL's",
        set: |settings, text| {
            let database = optional(text, |text| value::number(text, 0..=65_535));
            put(&mut settings.redis_database, database)
        },
    },
    Setting {
        name: "redis_tls_ca_file",
        group: STORE,
        value: "PATH",
        default: "",
        expected: PATH,
        help: "Certificates to trust, in PEM, instead of the well-known authorities: of authorities, or the server's own",
        set: |settings, text| put(&mut settings.redis_tls_ca_file, optional(text, value::path)),
    },
    Setting {
        name: "redis_tls_server_name",
        group: STORE,
        value: "NAME",
        default: "",
        expected: TEXT,
        help: "The name on the server's certificate, if it isn't the URL's host",
        set: |settings, text| put(&mut settings.redis_tls_server_name, optional(text, value::text)),
    },
    Setting {
        name: "redis_tls_cert_file",
        group: STORE,
        value: "PATH",
        default: "",
        expected: PATH,
        help: "The client's certificate, in PEM",
        set: |settings, text| put(&mut settings.redis_tls_cert_file, optional(text, value::path)),
    },
    Setting {
        name: "redis_tls_key_file",
        group: STORE,
        value: "PATH",
        default: "",
        expected: PATH,
        help: "The client's key, in PEM",
        set: |settings, text| put(&mut settings.redis_tls_key_file, optional(text, value::path)),
    },
    Setting {
        name: "log_level",
        group: observing::GROUP,
        value: "LEVEL",
        default: "info",
        expected: "one of off, error, warn, info, debug and trace",
        help: "The least grave messages to show",
        set: |settings, text| put(&mut settings.log_level, value::level(text)),
    },
    Setting {
        name: "log_format",
        group: observing::GROUP,
        value: "FORMAT",
        default: "text",
        expected: "one of text and json",
        help: "text for people or json for machines",
        set: |settings, text| put(&mut settings.log_format, value::log_format(text)),
    },
    observing::NEAR_LIMIT_RATIO,
    observing::OTLP_ENDPOINT,
    observing::OTLP_SAMPLE_RATIO,
    Setting {
        name: "drain_delay",
        group: PROCESS,
        value: "DURATION",
        default: "5s",
        expected: DURATION,
        help: "How long to go on answering after SIGTERM while health says no more, \
               so that gateways learn of it. An interrupt from the keyboard doesn't wait",
        set: |settings, text| put(&mut settings.drain_delay, value::duration(text)),
    },
    Setting {
        name: "shutdown_grace",
        group: PROCESS,
        value: "DURATION",
        default: "15s",
        expected: DURATION,
        help: "How long requests in flight may take to end after that",
        set: |settings, text| put(&mut settings.shutdown_grace, value::duration(text)),
    },
    Setting {
        name: "worker_threads",
        group: PROCESS,
        value: "NUMBER",
        default: "",
        expected: "a whole number from 1 to 1024",
        help: "Threads that serve; one for each core unless set",
        set: |settings, text| {
            let threads = optional(text, |text| value::number(text, 1..=1024));
            put(&mut settings.worker_threads, threads)
        },
    },
];

impl Default for Settings {
    /// What the table says; the values below only make room for it.
    fn default() -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut settings = Self {
            policies: Vec::new(),
            merge_domains: false,
            shadow_mode: false,
            quota_mode: false,
            callers: Vec::new(),
            callers_cache: 0,
            api_tokens: Vec::new(),
            audit_log: None,
            grpc_address: None,
            grpc_unix_socket: None,
            grpc_connection_age_max: None,
            grpc_tls: TlsFiles::default(),
            http_address: nowhere,
            http_tls: TlsFiles::default(),
            store_deadline: Duration::ZERO,
            memory_keys_max: 0,
            outage_sidecars: None,
            redis_url: None,
            redis_sentinels: Vec::new(),
            redis_cluster_nodes: Vec::new(),
            redis_username: None,
            redis_password: None,
            redis_password_file: None,
            redis_database: None,
            redis_tls_ca_file: None,
            redis_tls_server_name: None,
            redis_tls_cert_file: None,
            redis_tls_key_file: None,
            log_level: LevelFilter::OFF,
            log_format: logs::Format::Text,
            near_limit_ratio: 0.0,
            otlp_endpoint: None,
            otlp_sample_ratio: 0.0,
            drain_delay: Duration::ZERO,
            shutdown_grace: Duration::ZERO,
            worker_threads: None,
        };
        for setting in TABLE {
            assert!(
                (setting.set)(&mut settings, setting.default),
                "the default of {} is as expected",
                setting.name
            );
        }
        settings
    }
}
