//! Sends commands about a period of sums to the server that has it.

use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, FromRedisValue, ParsingError, Value};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time;

use super::fault;
use super::link::Link;
use super::route::Route;
use super::sums_keys::{key, shard, spill};
use crate::store::StoreError;
use crate::store::sums::SumsPeriod;

/// Timeout of a call; no request waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Maximum number of commands of a question in flight.
const COMMANDS_MAX: usize = 64;

/// The servers that have sums.
#[derive(Debug)]
pub struct SumsLink {
    route: Route,
}

/// The reason that a command was not sent.
pub enum Refusal {
    UnknownCode,
    Error(StoreError),
}

impl SumsLink {
    /// The servers of a route.
    pub fn new(route: Route) -> Self {
        Self { route }
    }

    /// The answers of Redis to commands, each for a period.
    ///
    /// # Errors
    /// If Redis does not answer one of them as expected.
    pub async fn read<T: FromRedisValue + Send>(
        &self,
        commands: Vec<(SumsPeriod, Cmd)>,
    ) -> Result<Vec<(SumsPeriod, T)>, StoreError> {
        let calls = commands.into_iter().map(|(period, command)| self.ask_one(period, command));
        let calls: Vec<_> = calls.collect();
        stream::iter(calls).buffered(COMMANDS_MAX).try_collect().await
    }

    fn ask_one<T: FromRedisValue + Send>(
        &self,
        period: SumsPeriod,
        command: Cmd,
    ) -> BoxFuture<'_, Result<(SumsPeriod, T), StoreError>> {
        let call = async move {
            let link = self.link(period)?;
            let answer = async { self.send(&link, &command).await.map_err(Refusal::into_error) };
            let answer = in_time(answer).await?;
            let garbled = |error: ParsingError| StoreError::Garbled { reason: error.to_string() };
            Ok((period, T::from_redis_value(answer).map_err(garbled)?))
        };
        call.boxed()
    }

    /// A command on a caller's field in each hash that may have it.
    pub fn fields(
        &self,
        name: &str,
        periods: &[SumsPeriod],
        caller: &str,
    ) -> Vec<(SumsPeriod, Cmd)> {
        let places = periods.iter().flat_map(|period| {
            [shard(caller), spill(caller)].map(|suffix| (*period, self.key(*period, &suffix)))
        });
        let command = |(period, key): (SumsPeriod, String)| {
            let mut command = Cmd::new();
            command.arg(name).arg(key).arg(caller);
            (period, command)
        };
        places.map(command).collect()
    }

    /// The key of a table of a period.
    pub fn key(&self, period: SumsPeriod, suffix: &str) -> String {
        self.route.key(&key(period, suffix))
    }

    /// The link to the server of a period.
    ///
    /// # Errors
    /// If it is unknown.
    pub fn link(&self, period: SumsPeriod) -> Result<Arc<Link>, StoreError> {
        let link = self.route.link(self.route.slot(&self.key(period, "")));
        link.ok_or_else(|| StoreError::unexplored("the slot of usage"))
    }

    /// Sends a command and returns the answer.
    ///
    /// # Errors
    /// If there is none, or it is an error.
    pub async fn send(&self, link: &Link, command: &Cmd) -> Result<Value, Refusal> {
        let answer = link.send(command).await.map_err(Refusal::Error)?;
        answer.extract_error().map_err(|error| {
            if fault::is_unknown_code(&error) {
                return Refusal::UnknownCode;
            }
            if fault::is_of_slot(&error) {
                link.doubt_nodes();
            }
            Refusal::Error(fault::refused(&error))
        })
    }
}

impl Refusal {
    /// The error of the store.
    pub fn into_error(self) -> StoreError {
        match self {
            Self::UnknownCode => StoreError::Refused("it forgets the code at once".to_owned()),
            Self::Error(error) => error,
        }
    }
}

/// The result of a call that ends in time.
///
/// # Errors
/// That of the call, or it is late.
pub async fn in_time<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::Late { deadline: PATIENCE };
    time::timeout(PATIENCE, call).await.map_err(late).flatten()
}
