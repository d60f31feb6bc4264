//! Links the image by `image.ld`.

fn main() {
    println!("cargo:rerun-if-changed=image.ld");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "none" {
        let here = env!("CARGO_MANIFEST_DIR");
        println!("cargo:rustc-link-arg=-T{here}/image.ld");
        println!("cargo:rustc-link-arg=-zmax-page-size=4096");
    }
}
