//! Sends groups of requests over a connection, and gives each request its reply.

use std::slice;
use std::sync::Weak;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

use super::fault;
use super::group::Group;
use super::link::Link;
use super::nodes::Nodes;
use super::script::Dialect;
use super::server_clock::RoundTrip;
use crate::clock::monotonic_now;
use crate::store::StoreError;

/// Loads the code, in the best form that the server supports.
pub async fn load_code(connection: &mut MultiplexedConnection) -> Result<Dialect, RedisError> {
    let answer = connection.send_packed_command(&Dialect::Library.load()).await;
    match answer.and_then(Value::extract_error) {
        Ok(_) => Ok(Dialect::Library),
        Err(error) if fault::is_known_already(&error) => Ok(Dialect::Library),
        Err(error) if fault::has_no_functions(&error) => {
            let load = Dialect::Script.load();
            connection.send_packed_command(&load).await?.extract_error()?;
            Ok(Dialect::Script)
        }
        Err(error) => Err(error),
    }
}

/// Sends groups of requests, one after the other.
pub struct Sender<'c> {
    pub link: &'c Link,
    /// The masters of its cluster; none for a single server.
    pub nodes: &'c Weak<Nodes>,
    pub connection: MultiplexedConnection,
    pub dialect: Dialect,
}

impl Sender<'_> {
    /// Sends groups one after the other while it is polled.
    pub async fn run(mut self) {
        loop {
            let groups = self.link.queue().next().await;
            let sent = monotonic_now();
            let answers = self.send(groups).await;
            let trip = RoundTrip { sent, received: monotonic_now() };
            for (group, answer) in answers {
                self.settle(group, answer, trip);
            }
        }
    }

    /// Sends groups to the server. After a restart or a flush, the code is loaded again.
    async fn send(&mut self, groups: Vec<Group>) -> Vec<(Group, Result<Value, RedisError>)> {
        let mut answers = self.call(&groups).await;
        let is_unknown =
            |answer: &Result<Value, RedisError>| answer.as_ref().is_err_and(fault::is_unknown_code);
        if answers.iter().any(is_unknown) {
            match load_code(&mut self.connection).await {
                Ok(dialect) => self.dialect = dialect,
                Err(error) => {
                    return groups.into_iter().map(|group| (group, Err(error.clone()))).collect();
                }
            }
            for (group, answer) in groups.iter().zip(&mut answers) {
                if is_unknown(answer) {
                    let again = self.call(slice::from_ref(group)).await;
                    *answer = again.into_iter().next().unwrap_or_else(|| Ok(Value::Nil));
                }
            }
        }
        groups.into_iter().zip(answers).collect()
    }

    fn call_of(&self, group: &Group) -> Cmd {
        self.dialect.call(group, self.link.clock(), &self.link.settings().key_prefix)
    }

    /// Calls the code for groups, in one write; returns an answer for each.
    async fn call(&mut self, groups: &[Group]) -> Vec<Result<Value, RedisError>> {
        if let [group] = groups
            && !group.is_asking()
        {
            let call = self.call_of(group);
            let answer = self.connection.send_packed_command(&call).await;
            return vec![answer.and_then(Value::extract_error)];
        }
        let mut pipeline = Pipeline::new();
        for group in groups {
            if group.is_asking() {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(self.call_of(group));
        }
        let answers = self.connection.send_packed_commands(&pipeline, 0, pipeline.len()).await;
        match answers {
            Ok(values) => {
                let mut values = values.into_iter();
                let answer = |group: &Group| {
                    if group.is_asking() {
                        values.next();
                    }
                    values.next().unwrap_or(Value::Nil).extract_error()
                };
                groups.iter().map(answer).collect()
            }
            Err(error) => groups.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Gives a group the answer of the server, or redirects it.
    fn settle(&self, group: Group, answer: Result<Value, RedisError>, trip: RoundTrip) {
        match answer {
            Ok(Value::BulkString(bytes)) => group.answer(&bytes, (self.link.clock(), trip)),
            Ok(_) => {
                let reason = "the answer is not a string of bytes".to_owned();
                group.fail(&StoreError::Garbled { reason });
            }
            Err(error) if fault::is_of_slot(&error) => self.redirect(group, &error),
            Err(error) if fault::is_answer(&error) => group.fail(&fault::refused(&error)),
            Err(error) => group.fail(&self.link.lost(error.to_string())),
        }
    }

    /// Redirects a group to the named master, and requests an update of the map.
    fn redirect(&self, mut group: Group, error: &RedisError) {
        let is_asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        let nodes = self.nodes.upgrade();
        let Some(nodes) = nodes.filter(|_| group.moves(is_asking)) else {
            return group.fail(&fault::refused(error));
        };
        match error.redirect_node().and_then(|(named, _)| nodes.link_at(named, self.link)) {
            Some(link) => link.queue().put_first(group),
            None => group.fail(&fault::refused(error)),
        }
        nodes.doubt();
    }
}
