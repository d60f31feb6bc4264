//! Links the image by `image.ld` of `hv-arch`.

/// Where a PL011 is, for the one message that comes before the device tree is read; 0 for none.
const EARLY_UART: &str = "0x09000000";

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../hypervisor/arch/image.ld");
    println!("cargo:rerun-if-changed={script}");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "none" {
        println!("cargo:rustc-link-arg=-T{script}");
        println!("cargo:rustc-link-arg=-zmax-page-size=4096");
        println!("cargo:rustc-link-arg=--defsym=early_uart={EARLY_UART}");
    }
}
