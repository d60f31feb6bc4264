//! What must hold of the source before any test: format, lints for host and target, documentation, the members' lint tables; and the host's tests.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::compile::BARE_METAL;
use crate::process::{cargo, output, root, run};
use crate::system::Count;

/// Packages that are built for the bare machine.
const BARE_PACKAGES: [&str; 7] = [
    "hv-core",
    "hv-arch",
    "hypervisor",
    "platform-qemu-virt",
    "platform-raspberry-pi-4",
    "pv-guest-lib",
    "test-guests",
];

/// Runs every check, each one line.
pub(crate) fn check() -> Count {
    let mut count = Count::default();
    let mut one = |name: &str, check: &dyn Fn() -> Result<()>| {
        let began = Instant::now();
        count.note(&format!("check {name}"), began, &check());
    };
    one("format", &|| run(cargo().args(["fmt", "--all", "--check"])));
    one("lint tables", &lint_tables);
    one("lints, host", &|| run(clippy().args(["--all-targets", "--", "-D", "warnings"])));
    one("lints, target", &|| {
        let mut command = clippy();
        for package in BARE_PACKAGES {
            command.args(["--package", package]);
        }
        run(command.args(["--target", BARE_METAL, "--", "-D", "warnings"]))
    });
    one("lints, guests", &|| {
        let mut command = clippy();
        command.args(["--package", "pv-guest-lib", "--package", "my-guest", "--lib", "--bins"]);
        command.args(["--examples", "--all-features"]);
        run(command.args(["--target", BARE_METAL, "--", "-D", "warnings"]))
    });
    one("documentation", &|| {
        run(cargo().args(["doc", "--quiet", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
    });
    // Half of the library is there on the machine only.
    one("documentation, guests", &|| {
        let mut command = cargo();
        command.args(["doc", "--quiet", "--no-deps", "--package", "pv-guest-lib"]);
        command.args(["--all-features", "--target", BARE_METAL]);
        run(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
    count
}

/// Runs the host's tests and counts each of them.
pub(crate) fn test() -> Result<Count> {
    let began = Instant::now();
    let output = cargo()
        .args(["test", "--quiet", "--no-fail-fast", "--", "--format", "terse"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut count = Count::default();
    for line in text.lines() {
        if let Some((passed, failed)) = result_line(line) {
            count.passed += passed;
            count.failed += failed;
        }
    }
    if !output.status.success() {
        print!("{text}");
        // A test binary that does not build or is killed has no result line of its own.
        count.failed = count.failed.max(1);
    }
    let verdict = if count.failed == 0 { "ok     " } else { "FAILED " };
    println!(
        "{verdict} host tests: {} passed, {} failed ({:.1} s)",
        count.passed,
        count.failed,
        began.elapsed().as_secs_f32()
    );
    Ok(count)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    let mut counts = rest.split("; ").map(|part| part.split_whitespace().next());
    let passed = counts.next()??.parse().ok()?;
    let failed = counts.next()??.parse().ok()?;
    Some((passed, failed))
}

fn clippy() -> Command {
    let mut command = cargo();
    command.args(["clippy", "--quiet"]);
    command
}

/// Holds every member to the workspace's lints.
fn lint_tables() -> Result<()> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    for package in packages {
        let manifest =
            package.get("manifest_path").and_then(Value::as_str).context("no manifest")?;
        let text = fs::read_to_string(manifest)?;
        if !text.contains("[lints]\nworkspace = true") {
            let manifest = manifest.replace(&format!("{}/", root().display()), "");
            bail!("{manifest} lacks `[lints]` with `workspace = true`");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_gives_both_counts() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(result_line(line), Some((12, 3)));
        assert_eq!(result_line("test result: nonsense"), None);
        assert_eq!(result_line("running 3 tests"), None);
    }
}
