//! Classifies the errors of a server.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// Whether the server has a library of that name, whose hash says that it is the same one.
pub fn is_known_already(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("already exists"))
}

/// Whether the server doesn't know the code that it was asked to run, and ran nothing.
pub fn is_unknown_code(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        || error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

/// Whether the server has no functions, or none for us.
pub fn has_no_functions(error: &RedisError) -> bool {
    use ServerErrorKind::{NoPerm, ResponseError};
    matches!(error.kind(), ErrorKind::Server(ResponseError | NoPerm))
}

/// Whether the server has something against the key, and not against us.
pub fn is_of_key(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

/// Whether the server is a replica, which takes no charges: its master is to be found.
pub fn is_of_replica(error: &RedisError) -> bool {
    use ServerErrorKind::{MasterDown, ReadOnly};
    matches!(error.kind(), ErrorKind::Server(ReadOnly | MasterDown))
}

/// Whether another server is to be asked; this one has done nothing.
pub fn is_of_slot(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved};
    matches!(error.kind(), ErrorKind::Server(Ask | Moved))
}

/// Whether the server itself answered so, in which case the connection is good.
pub fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// The error of a store whose server answered with an error.
pub fn refused(error: &RedisError) -> StoreError {
    StoreError::Refused(error.to_string())
}
