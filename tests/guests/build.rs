//! Links the guests as `pv-guest-lib` wants it.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../pv-guest-lib/image.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "none") {
        println!("cargo:rustc-link-arg-bins=-T{script}");
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
