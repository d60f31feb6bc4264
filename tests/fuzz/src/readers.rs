//! Text and trees that are read once: a guest's configuration, the host's device tree, the boot bundle, command lines.

use hv_core::boot_bundle;
use hypervisor::boot_modules::{self, Kernel};
use hypervisor::command_line::Options;
use hypervisor::host_tree::HostTree;
use toolstack::config::Config;
use toolstack::config::domain::DomainConfig;

/// Reads a guest's configuration; each complaint about it has a place in it and can be shown.
pub fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let config = match Config::parse("xl.cfg", &text, &[]) {
        Ok(config) => config,
        Err(diagnostic) => return assert!(!diagnostic.to_string().is_empty()),
    };
    match DomainConfig::from_config(&config) {
        Ok((_, warnings)) => drop(warnings.iter().map(ToString::to_string).collect::<Vec<_>>()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Reads the host's device tree; what it is understood to say is in order.
pub fn device_tree(bytes: &[u8]) {
    let _ = HostTree::bytes(bytes);
    let Ok(tree) = HostTree::parse(bytes) else { return };
    assert!(tree.memory.iter().all(|region| region.size > 0));
    let _ = (tree.console(None), tree.console(Some("dtuart")), tree.end(), tree.memory_size());
    let _ = (boot_modules::regions(&tree), boot_modules::find(&tree, |_| Some(bytes)));
    let _ = Options::parse(tree.command_line());
}

/// Reads the archive that carries Dom0's kernel.
pub fn boot_bundle(bytes: &[u8]) {
    let Ok(bundle) = boot_bundle::read(bytes) else { return };
    let lies_within =
        |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr()) || part.is_empty();
    assert!(lies_within(bundle.kernel) && bundle.ramdisk.is_none_or(lies_within));
    let _ = Kernel::check(bundle.kernel);
}

/// Reads the hypervisor's command line.
pub fn command_line(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (_, complaints) = Options::parse(&text);
    assert!(complaints.len() <= text.len());
}
