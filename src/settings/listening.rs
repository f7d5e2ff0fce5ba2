//! The settings of what is listened on.

use super::setting::{PATH, Setting};
use super::value::{self, optional, put};

const GROUP: &str = "Listening";

pub const GRPC_ADDRESS: Setting = Setting {
    name: "grpc_address",
    group: GROUP,
    value: "ADDRESS",
    default: "127.0.0.1:8081",
    expected: "an IP address and a port, such as 127.0.0.1:8081 or [::]:8081, nor off",
    help: "Where gRPC listens: this machine alone unless told, 0.0.0.0:8081 or [::]:8081 for others too; \
           off for a Unix socket alone",
    set: |settings, text| put(&mut settings.grpc_address, value::address_or_off(text)),
};

pub const GRPC_UNIX_SOCKET: Setting = Setting {
    name: "grpc_unix_socket",
    group: GROUP,
    value: "PATH",
    default: "",
    expected: PATH,
    help: "A Unix socket on which gRPC listens too; it is made, and removed at the end",
    set: |settings, text| put(&mut settings.grpc_unix_socket, optional(text, value::path)),
};

pub const GRPC_CONNECTION_AGE_MAX: Setting = Setting {
    name: "grpc_connection_age_max",
    group: GROUP,
    value: "DURATION",
    default: "off",
    expected: "a duration up to an hour, such as 30m, nor off",
    help: "When a gRPC connection is ended, give or take a tenth, once its requests are answered: \
           clients of several Tollgates behind one address then spread anew",
    set: |settings, text| put(&mut settings.grpc_connection_age_max, value::some_time_or_off(text)),
};

pub const GRPC_TLS_CERT_FILE: Setting = Setting {
    name: "grpc_tls_cert_file",
    group: GROUP,
    value: "PATH",
    default: "",
    expected: PATH,
    help: "The certificate of gRPC's port, in PEM, with those between it and its authority. \
           Given, the port speaks TLS alone; the Unix socket never does",
    set: |settings, text| put(&mut settings.grpc_tls.cert_file, optional(text, value::path)),
};

pub const GRPC_TLS_KEY_FILE: Setting = Setting {
    name: "grpc_tls_key_file",
    group: GROUP,
    value: "PATH",
    default: "",
    expected: PATH,
    help: "Its key, in PEM",
    set: |settings, text| put(&mut settings.grpc_tls.key_file, optional(text, value::path)),
};

pub const GRPC_TLS_CLIENT_CA_FILE: Setting = Setting {
    name: "grpc_tls_client_ca_file",
    group: GROUP,
    value: "PATH",
    default: "",
    expected: PATH,
    help: "Authorities, in PEM: only who has a certificate of one of them may connect to gRPC's port",
    set: |settings, text| put(&mut settings.grpc_tls.client_ca_file, optional(text, value::path)),
};

pub const HTTP_ADDRESS: Setting = Setting {
    name: "http_address",
    group: GROUP,
    value: "ADDRESS",
    default: "127.0.0.1:8080",
    expected: "an IP address and a port, such as 127.0.0.1:8080 or [::]:8080",
    help: "Where HTTP listens: /json, health, /metrics, /policy and /v1; this machine alone unless told",
    set: |settings, text| put(&mut settings.http_address, value::address(text)),
};

pub const HTTP_TLS_CERT_FILE: Setting = Setting {
    name: "http_tls_cert_file",
    group: GROUP,
    value: "PATH",
    default: "",
    expected: PATH,
    help: "The certificate of HTTP's port, in PEM, with those between it and its authority. \
           Given, the port speaks HTTPS alone",
    set: |settings, text| put(&mut settings.http_tls.cert_file, optional(text, value::path)),
};

pub const HTTP_TLS_KEY_FILE: Setting = Setting {
    name: "http_tls_key_file",
    group: GROUP,
    value: "PATH",
    default: "",
    expected: PATH,
    help: "Its key, in PEM",
    set: |settings, text| put(&mut settings.http_tls.key_file, optional(text, value::path)),
};

pub const HTTP_TLS_CLIENT_CA_FILE: Setting = Setting {
    name: "http_tls_client_ca_file",
    group: GROUP,
    value: "PATH",
    default: "",
    expected: PATH,
    help: "Authorities, in PEM: only who has a certificate of one of them may connect to HTTP's port, \
           for health and metrics too",
    set: |settings, text| put(&mut settings.http_tls.client_ca_file, optional(text, value::path)),
};
