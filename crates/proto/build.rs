//! Compiles `proto/` with protox, so that no `protoc` is needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

const FILES: [&str; 5] = [
    "footbridge/v1/groups.proto",
    "footbridge/v1/inbox.proto",
    "footbridge/v1/notifications.proto",
    "footbridge/v1/presence.proto",
    THEIRS,
];

/// What other services implement, so that none of ours has it in its reflection.
const THEIRS: &str = "footbridge/v1/application.proto";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut ours = descriptors.clone();
    ours.file.retain(|file| file.name() != THEIRS);
    fs::write(out.join("footbridge.bin"), ours.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure()
        // A generated `connect` would meet the call of that name.
        .build_transport(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
