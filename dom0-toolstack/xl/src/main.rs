//! The domain management command; called as `xen-init-dom0` it prepares xenstore.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = words.next().unwrap_or_default();
    if Path::new(&called).file_name().is_some_and(|name| name == "xen-init-dom0") {
        return xl::command::run(&["init-dom0".to_owned()]);
    }
    xl::command::run(&words.collect::<Vec<_>>())
}
