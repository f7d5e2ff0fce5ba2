//! A real redis-server for a test, as a child process that ends with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tollgate::store::Health;
use tollgate::store::redis::{Redis, RedisSettings};
use tollgate::tls_client::TlsSettings;

use super::process::signal;
use super::tls::{Authority, Certificate, NAME};
use super::{PATIENCE, eventually, find_program};

/// A redis-server in a directory of its own, on a Unix socket.
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    /// Variables of its environment, besides those of the test.
    pub environment: Vec<(String, String)>,
    child: Option<Child>,
    pub dir: TempDir,
}

/// The TLS files of servers, and of clients that trust them.
pub struct Tls {
    dir: TempDir,
}

/// A store with the task that connects it.
pub struct Connected {
    pub store: Arc<Redis>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server with extra arguments, not yet started. None without redis-server, which fails in CI.
    pub fn prepare(arguments: &[&str]) -> Option<Self> {
        let program = find_program("redis-server", "REDIS_SERVER", None)?;
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let (environment, dir) = (Vec::new(), tempfile::tempdir().unwrap());
        Some(Self { program, arguments, environment, child: None, dir })
    }

    /// A running server with extra arguments.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(arguments)?;
        server.launch();
        Some(server)
    }

    /// Starts the process (again).
    pub fn launch(&mut self) {
        let child = Command::new(&self.program)
            .args(["--port", "0", "--unixsocket", &self.socket()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.dir.path())
            .args(&self.arguments)
            .envs(self.environment.clone())
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends the process a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap().id(), name);
    }

    pub fn socket(&self) -> String {
        self.dir.path().join("redis.sock").display().to_string()
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.socket())
    }

    /// A connection that is independent of the store, once the server listens.
    pub async fn raw(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = None;
        until("the server listens", || {
            connection = client.get_connection().ok();
            connection.is_some()
        })
        .await;
        connection.unwrap()
    }

    /// Waits until its replica has all of its data. `WAIT` covers only writes of its own connection.
    pub async fn replicated(&self) {
        let mut raw = self.raw().await;
        until("the replica has all", || {
            let reported: String = query(&mut raw, "INFO replication");
            let number = |name: &str| {
                let (_, after) = reported.split_once(name)?;
                after.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
            };
            let offset = number("master_repl_offset:");
            offset.is_some() && number(",offset=") == offset
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Tls {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.sign().write(dir.path());
        fs::write(dir.path().join("ca.crt"), authority.pem()).unwrap();
        Self { dir }
    }

    /// A server with a self-signed certificate, and the clients that trust it.
    pub fn self_signed() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificate = Certificate::self_signed();
        certificate.write(dir.path());
        fs::write(dir.path().join("ca.crt"), certificate.pem).unwrap();
        Self { dir }
    }

    /// The arguments of a server that speaks TLS on a port.
    pub fn flags(&self, port: u16) -> [String; 10] {
        let file = |name| self.dir.path().join(name).display().to_string();
        [
            "--tls-port".to_owned(),
            port.to_string(),
            "--tls-auth-clients".to_owned(),
            "no".to_owned(),
            "--tls-ca-cert-file".to_owned(),
            file("ca.crt"),
            "--tls-cert-file".to_owned(),
            file("tls.crt"),
            "--tls-key-file".to_owned(),
            file("tls.key"),
        ]
    }

    /// The file with the certificate that clients trust.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    pub fn settings(&self) -> TlsSettings {
        let ca_file = Some(self.authority());
        TlsSettings { ca_file, server_name: Some(NAME.to_owned()), ..TlsSettings::default() }
    }
}

impl Connected {
    /// A store on `settings`, which need not be connected yet.
    pub fn begin(settings: &RedisSettings) -> Self {
        let (store, connector) = Redis::try_new(settings).unwrap();
        let task = tokio::spawn(connector.run(std::future::pending()));
        Self { store: Arc::new(store), task }
    }

    /// A connected store with a long deadline.
    pub async fn open(url: &str) -> Self {
        let settings = RedisSettings { deadline: PATIENCE, ..RedisSettings::new(url) };
        let connected = Self::begin(&settings);
        connected.ready().await;
        connected
    }

    pub async fn ready(&self) {
        until("the store is connected", || self.store.health() == Health::Healthy).await;
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the server answers to a command without spaces in its words.
pub fn query<T: redis::FromRedisValue>(connection: &mut redis::Connection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut built = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        built.arg(word);
    });
    built.query(connection).unwrap()
}

/// How often the server has run a command.
pub fn calls(connection: &mut redis::Connection, command: &str) -> u64 {
    let report: String = query(connection, "INFO commandstats");
    let line = report.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    line.map_or(0, |line| {
        line.split_once("calls=").unwrap().1.split(',').next().unwrap().parse().unwrap()
    })
}

/// Waits until a condition holds; fails when it takes unreasonably long.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    eventually(what, async || condition().then_some(())).await;
}
