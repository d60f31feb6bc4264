//! Links the first kernel so that its header comes first, and the second as `pv-guest-lib` wants it.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../pv-guest-lib/image.ld");
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let here = env!("CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-bin=first-instruction=-T{here}/kernel.ld");
        println!("cargo:rustc-link-arg-bin=operations=-T{script}");
        println!("cargo:rustc-link-arg-bin=operations=-zmax-page-size=4096");
    }
}
