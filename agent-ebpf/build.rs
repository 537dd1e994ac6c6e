//! How the kernel half is linked.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        // Else bpf-linker has LLVM zero the shortest array by a call.
        println!("cargo::rustc-link-arg-bins=--disable-expand-memcpy-in-order");
    }
}
