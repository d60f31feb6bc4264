//! Runs other programs and says clearly which one failed. Also knows where things are in the tree.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the top of the source tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this crate is two directories below the top")
        .to_path_buf()
}

/// Returns the directory that finished products are left in.
pub(crate) fn dist() -> PathBuf {
    root().join("target/dist")
}

/// Returns the directory of what is made once and used again.
pub(crate) fn cache() -> PathBuf {
    root().join("target/cache")
}

/// Returns the directory of the consoles' transcripts.
pub(crate) fn logs() -> PathBuf {
    root().join("target/logs")
}

/// Prints one line of progress.
pub(crate) fn say(what: &str) {
    eprintln!("== {what}");
}

/// Starts cargo as this one was started, in the top of the tree.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Returns one of the compiler's own binary tools (component `llvm-tools`).
pub(crate) fn llvm_tool(name: &str) -> Result<PathBuf> {
    let sysroot = output(Command::new("rustc").current_dir(root()).args(["--print", "sysroot"]))?;
    let tool = Path::new(sysroot.trim()).join("lib/rustlib").join(host()?).join("bin").join(name);
    if !tool.exists() {
        bail!("{} is missing: run `rustup component add llvm-tools`", tool.display());
    }
    Ok(tool)
}

/// Returns what the compiler calls this machine.
pub(crate) fn host() -> Result<String> {
    let version = output(Command::new("rustc").current_dir(root()).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Runs a program to its end; an error names it when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| missing(command))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| missing(command))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` wrote no text", shown(command)))
}

fn missing(command: &Command) -> String {
    format!("`{}` cannot be started; is it installed?", command.get_program().display())
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
