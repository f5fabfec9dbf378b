//! The gRPC service other services call.
