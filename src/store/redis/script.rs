//! The Lua code that charges groups of requests in the server, and the commands that load and call it.
//!
//! If the server has functions (Redis 7.0, Valkey), the code is a library, which is compiled once. Otherwise it is a
//! script, which creates its functions in each call.

use std::sync::LazyLock;

use ::redis::{Cmd, Script};

use super::group::Group;
use super::key_prefix::KeyPrefix;
use super::server_clock::ServerClock;

const CODE: &str = concat!(
    include_str!("charge.lua"),
    include_str!("held.lua"),
    include_str!("retries.lua"),
    include_str!("special.lua"),
    include_str!("amends.lua"),
    include_str!("decide.lua"),
);

/// The code as a script, with its hash in the server.
static SCRIPT: LazyLock<(String, Script)> = LazyLock::new(|| {
    let text = format!("{CODE}return decide(KEYS, ARGV)\n");
    let script = Script::new(&text);
    (text, script)
});

/// The code as a library, with the name of its function. The name contains a hash of the code, so that sidecars of
/// several versions can share a server.
static LIBRARY: LazyLock<(String, String)> = LazyLock::new(|| {
    let hash = &SCRIPT.1.get_hash()[..NAME_HASH_LEN];
    let name = format!("tollgate_{hash}");
    let text = format!("#!lua name={name}\n{CODE}redis.register_function('{name}', decide)\n");
    (text, name)
});

/// Digits of the hash in the library's name.
const NAME_HASH_LEN: usize = 12;

/// The form of the code in a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Library,
    Script,
}

impl Dialect {
    /// The command that loads the code.
    pub fn load(self) -> Cmd {
        let mut command = Cmd::new();
        match self {
            Self::Library => command.arg("FUNCTION").arg("LOAD").arg(&LIBRARY.0),
            Self::Script => command.arg("SCRIPT").arg("LOAD").arg(&SCRIPT.0),
        };
        command
    }

    /// The command that charges a group by this clock; the keys have this prefix.
    pub fn call(self, group: &Group, clock: &ServerClock, prefix: &KeyPrefix) -> Cmd {
        let mut command = Cmd::new();
        match self {
            Self::Library => command.arg("FCALL").arg(&LIBRARY.1),
            Self::Script => command.arg("EVALSHA").arg(SCRIPT.1.get_hash()),
        };
        command.arg(group.keys().len());
        for key in group.keys() {
            command.arg(&*prefix.on(key.as_str()));
        }
        match group.fixed_time() {
            Some(at) => command.arg(at.as_ms()),
            None => command.arg(""),
        };
        command.arg(group.deadlines(clock).as_slice());
        for request in group.requests() {
            command.arg(request);
        }
        command
    }
}
