//! Generated gRPC types: messages, clients and servers of `proto/`.
//!
//! Not here: any logic of ours.

/// Package `footbridge.v1`.
pub mod v1 {
    tonic::include_proto!("footbridge.v1");
}

/// The files of the services that are ours as an encoded `google.protobuf.FileDescriptorSet`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("footbridge");
