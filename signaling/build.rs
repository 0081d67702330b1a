//! Rebuilds the crate when a page is added or removed; changes inside known files are tracked by the compiler.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Debug builds read the pages at run time, so only release builds depend on the folder.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rerun-if-changed=../web/dist");
    }
}
