//! Compiles `proto/**/*.proto` to Rust, without protoc: protox parses, tonic and prost generate.
//!
//! It lies in the root because the contract belongs to no crate's sources; `proto/Cargo.toml` names
//! it, and it runs with that crate as its working directory.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked for at run time: a build cache that several checkouts share has one build script for all.
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("run by cargo only")?);
    let files = [root.join("faultline/v1alpha1/agent.proto")];
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    println!("cargo:rerun-if-changed=../build.rs");
    let descriptors = protox::Compiler::new([&root])?
        .include_imports(true)
        .include_source_info(true)
        .open_files(files)?
        .file_descriptor_set();
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
