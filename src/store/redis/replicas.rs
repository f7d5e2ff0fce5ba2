//! Waits until a replica has a change, so that no failover undoes it.
//!
//! Redis replicates after it answers. A change that only a lost master had is gone, which must not happen to the end of an API
//! key. It waits on a connection of its own, because the server answers nothing else on it meanwhile.

use std::time::Duration;

use ::redis::{Cmd, RedisError};
use tokio::time;

use super::connect::{ConnectError, Connected, connect};
use super::fault;
use super::link::Link;
use super::settings::Login;

/// How long a change waits for a replica.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a replica has every earlier change, if there are replicas. `counter` is a number on the server that may be
/// increased: the server tells only whether replicas have what was written on the same connection.
pub async fn have_all(link: &Link, counter: &str) -> bool {
    let timeout = link.settings().connect_timeout + PATIENCE;
    let asking = async {
        let connected = connect(link.settings(), Login::Charges).await?;
        ask(connected, counter).await.map_err(ConnectError::from)
    };
    match time::timeout(timeout, asking).await {
        Ok(Ok(has_all)) => has_all,
        Ok(Err(error)) => {
            tracing::warn!(%error, "asking for the replicas of Redis failed");
            false
        }
        Err(_) => false,
    }
}

async fn ask(mut connected: Connected, counter: &str) -> Result<bool, RedisError> {
    let connection = &mut connected.connection;
    let wait = |count: u32, patience: Duration| {
        let mut command = Cmd::new();
        command.arg("WAIT").arg(count).arg(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        command
    };
    // Before any write on the connection, all that are connected count.
    let replicas: u32 = match wait(0, Duration::ZERO).query_async(connection).await {
        Ok(replicas) => replicas,
        // A proxy in front of Redis, it may be: then nobody knows.
        Err(error) if fault::is_answer(&error) && !fault::is_of_replica(&error) => {
            tracing::debug!(%error, "the server does not tell of its replicas");
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    if replicas == 0 {
        return Ok(true);
    }
    Cmd::new().arg("INCR").arg(counter).query_async::<u64>(connection).await?;
    let having: u32 = wait(1, PATIENCE).query_async(connection).await?;
    Ok(0 < having)
}
