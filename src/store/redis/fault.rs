//! Classifies the errors of a server.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// Whether the server already has a library with this name, which contains its hash.
pub fn is_known_already(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("already exists"))
}

/// Whether the server doesn't have the code, and has run nothing.
pub fn is_unknown_code(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        || error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

/// Whether the server has no functions, or does not permit them.
pub fn has_no_functions(error: &RedisError) -> bool {
    use ServerErrorKind::{NoPerm, ResponseError};
    matches!(error.kind(), ErrorKind::Server(ResponseError | NoPerm))
}

/// Whether the error is about the key, and not about the server.
pub fn is_of_key(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// Whether the server is a replica, which accepts no writes: the master must be found.
pub fn is_of_replica(error: &RedisError) -> bool {
    use ServerErrorKind::{MasterDown, ReadOnly};
    matches!(error.kind(), ErrorKind::Server(ReadOnly | MasterDown))
}

/// Whether another server must be asked; this one has done nothing.
pub fn is_of_slot(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved};
    matches!(error.kind(), ErrorKind::Server(Ask | Moved))
}

/// Whether the error is an answer of the server, so that the connection is healthy.
pub fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// The store's error for an error of the server.
pub fn refused(error: &RedisError) -> StoreError {
    StoreError::Refused(error.to_string())
}
