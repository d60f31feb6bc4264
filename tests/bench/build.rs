//! Links the kernel so that its header comes first.

fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg=-T{}/kernel.ld", env!("CARGO_MANIFEST_DIR"));
    }
}
