//! Links the examples by `image.ld`.

fn main() {
    println!("cargo:rerun-if-changed=image.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "none") {
        let here = env!("CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg-examples=-T{here}/image.ld");
        println!("cargo:rustc-link-arg-examples=-zmax-page-size=4096");
    }
}
