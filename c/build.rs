//! The name by which a program finds the shared library when it starts: with the version of the interface.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // DRAFTPICK_ABI_VERSION; tests/example.rs compares the two.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libdraftpick_c.so.1");
    }
}
