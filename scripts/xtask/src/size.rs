//! How large things are: the image's sections and its bytes by crate, the toolstack's binaries, and lines that say `unsafe`, by crate.

use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::compile;
use crate::process::{dist, llvm_tool, output, root};

/// Builds and prints the tables.
pub(crate) fn size() -> Result<()> {
    let image = compile::hypervisor(compile::Platform::QemuVirt)?;
    println!("{:>10}  target/dist/qemu-virt.img", fs::metadata(&image)?.len());
    for binary in compile::toolstack()? {
        println!("{:>10}  {}", fs::metadata(&binary)?.len(), relative(&binary));
    }
    println!("\nbytes of the hypervisor's functions and data, by crate:");
    let symbols = output(
        Command::new(llvm_tool("llvm-nm")?)
            .args(["--print-size", "--demangle", "--defined-only"])
            .arg(dist().join("qemu-virt.elf")),
    )?;
    table(by_crate(&symbols));
    println!("\nlines with `unsafe`, by directory:");
    let lines = output(Command::new("git").current_dir(root()).args([
        "grep",
        "-wE",
        "^[^/]*unsafe",
        "--",
        "*.rs",
    ]))?;
    table(by_member(&lines));
    Ok(())
}

fn table(counts: BTreeMap<String, u64>) {
    let mut rows: Vec<(String, u64)> = counts.into_iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (name, count) in rows {
        println!("{count:>10}  {name}");
    }
}

/// Adds up the sizes of `llvm-nm --print-size`: address, size, type, name.
fn by_crate(symbols: &str) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for line in symbols.lines() {
        let mut words = line.splitn(4, ' ').skip(1);
        let size = words.next().and_then(|size| u64::from_str_radix(size, 16).ok());
        if let (Some(size), Some(name)) = (size, words.nth(1)) {
            *sizes.entry(crate_of(name)).or_default() += size;
        }
    }
    sizes
}

/// Returns the crate a demangled name begins with: `<hv_core::p2m::P2m>::map` is of `hv_core`.
fn crate_of(name: &str) -> String {
    let name = name.trim_start_matches(['<', '&', '*', '(', '[']);
    let name = name.strip_prefix("mut ").or(name.strip_prefix("dyn ")).unwrap_or(name);
    match name.split_once("::") {
        Some((first, _)) => first.to_owned(),
        None => String::from("(assembly and data)"),
    }
}

/// Counts lines of `git grep` by the member they are in.
fn by_member(lines: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines.lines() {
        let path = line.split(':').next().unwrap_or_default();
        let member = path.split_once("/src/").map_or(path, |(member, _)| member);
        *counts.entry(member.to_owned()).or_default() += 1;
    }
    counts
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_counts_for_the_crate_of_its_type() {
        let symbols =
            "0000 0010 t <hv_core::p2m::P2m>::map\n0010 0004 T hv_core::time::now\n0020 d x\n";
        let sizes = by_crate(symbols);
        assert_eq!(sizes.get("hv_core"), Some(&20));
        assert_eq!(sizes.len(), 1);
    }
}
