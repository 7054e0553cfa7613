//! Compiles `proto/**/*.proto` to Rust, without protoc: protox parses, tonic and prost generate.
//!
//! It lies in the root because the contract belongs to no crate's sources; `proto/Cargo.toml` names
//! it, and it runs with that crate as its working directory.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [root.join("faultline/v1alpha1/agent.proto")];
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    println!("cargo:rerun-if-changed=../build.rs");
    let descriptors = protox::Compiler::new([root])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)?
        .file_descriptor_set();
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
