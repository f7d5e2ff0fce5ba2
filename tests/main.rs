//! Everything that a user can see, tested from outside: gRPC, HTTP, the command line and files.

mod tidy;
