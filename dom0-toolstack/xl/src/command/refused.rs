//! Commands of Xen's xl for what guests on Arm, or this toolstack, do not have: each says so, and why.
//!
//! They are one table, since all they do is take their operands and refuse.

use super::Command;
use crate::outcome::{FAILURE, Failure};

macro_rules! refused {
    ($name:literal, $least:literal, $operands:literal, $summary:literal, $why:expr) => {
        refused!($name, $least, $operands, $summary, $why, FAILURE)
    };
    ($name:literal, $least:literal, $operands:literal, $summary:literal, $why:expr, $status:expr) => {
        Command {
            name: $name,
            operands: $operands,
            summary: $summary,
            details: concat!("Refused: ", $why, "."),
            flags: &[],
            listed: true,
            run: |_, parsed| {
                parsed.require($name, $least)?;
                Err(Failure::Failed($status, format!("xl: {}: {}", $name, $why)))
            },
        }
    };
}

macro_rules! pci {
    () => {
        "PCI devices cannot be passed through yet"
    };
}
macro_rules! no_backend {
    () => {
        "no backend in Dom0 serves such devices"
    };
}
macro_rules! no_model {
    () => {
        "guests on Arm have no device model"
    };
}
macro_rules! no_flask {
    () => {
        "the hypervisor has no Flask security module"
    };
}

/// Exit status of commands for a Flask that is not there: Xen's -1.
const NO_FLASK: u8 = 255;

/// All of them.
pub(super) const COMMANDS: &[Command] = &[
    refused!(
        "pci-attach",
        2,
        "<Domain> <PCI_SPEC_STRING>",
        "Insert a new pass-through pci device",
        pci!()
    ),
    refused!(
        "pci-detach",
        2,
        "<Domain> <PCI_SPEC_STRING>",
        "Remove a domain's pass-through pci device",
        pci!()
    ),
    refused!("pci-assignable-add", 1, "<BDF>", "Make a device assignable for pci-passthru", pci!()),
    refused!(
        "pci-assignable-remove",
        1,
        "<BDF>|NAME",
        "Remove a device from being assignable",
        pci!()
    ),
    refused!("vncviewer", 1, "<Domain>", "Attach to domain's VNC server", no_model!()),
    refused!(
        "cd-insert",
        3,
        "<Domain> <VirtualDevice> <path>",
        "Insert a cdrom into a guest's cd drive",
        "guests on Arm have no emulated drive; use block-attach"
    ),
    refused!(
        "cd-eject",
        2,
        "<Domain> <VirtualDevice>",
        "Eject a cdrom from a guest's cd drive",
        "guests on Arm have no emulated drive; use block-detach"
    ),
    refused!(
        "qemu-monitor-command",
        2,
        "<Domain> <Command>",
        "Issue a qemu monitor command to the device model of a domain",
        no_model!()
    ),
    refused!(
        "vtpm-attach",
        1,
        "<Domain> [uuid=<uuid>] [backend=<BackDomain>]",
        "Create a new virtual TPM device",
        no_backend!()
    ),
    refused!(
        "vtpm-detach",
        2,
        "<Domain> <DevId|uuid>",
        "Destroy a domain's virtual TPM device",
        no_backend!()
    ),
    refused!(
        "vkb-attach",
        1,
        "<Domain> <vkb-spec-component(s)>...",
        "Create a new virtual keyboard device",
        no_backend!()
    ),
    refused!(
        "vkb-detach",
        2,
        "<Domain> <DevId>",
        "Destroy a domain's virtual keyboard device",
        no_backend!()
    ),
    refused!(
        "vdispl-attach",
        1,
        "<Domain> [backend=<BackDomain>] [be-alloc=<BackAlloc>] [connectors='<Connectors>']",
        "Create a new virtual display device",
        no_backend!()
    ),
    refused!(
        "vdispl-detach",
        2,
        "<Domain> <DevId>",
        "Destroy a domain's virtual display device",
        no_backend!()
    ),
    refused!(
        "vsnd-attach",
        1,
        "<Domain> <vsnd-spec-component(s)>...",
        "Create a new virtual sound device",
        no_backend!()
    ),
    refused!(
        "vsnd-detach",
        2,
        "<Domain> <DevId>",
        "Destroy a domain's virtual sound device",
        no_backend!()
    ),
    refused!(
        "usbctrl-attach",
        1,
        "<Domain> [type=pv] [version=<version>] [ports=<number>]",
        "Create a virtual USB controller for a domain",
        no_backend!()
    ),
    refused!(
        "usbctrl-detach",
        2,
        "<Domain> <DevId>",
        "Remove the virtual USB controller specified by <DevId> for a domain",
        no_backend!()
    ),
    refused!(
        "usbdev-attach",
        2,
        "<Domain> hostbus=<busnum> hostaddr=<devnum> [controller=<DevId> [port=<port>]]",
        "Attach a USB device to a domain",
        no_backend!()
    ),
    refused!(
        "usbdev-detach",
        3,
        "<Domain> <controller> <port>",
        "Detach a USB device from a domain",
        no_backend!()
    ),
    refused!(
        "setenforce",
        1,
        "<1|0|Enforcing|Permissive>",
        "Sets the current enforcing mode of the Flask Xen security module",
        no_flask!(),
        NO_FLASK
    ),
    refused!(
        "loadpolicy",
        1,
        "<policy file>",
        "Loads a new policy into the Flask Xen security module",
        no_flask!(),
        NO_FLASK
    ),
    refused!(
        "devd",
        0,
        "[options]",
        "Daemon that listens for devices and launches backends",
        "backends run in Dom0 only, where xl itself launches them"
    ),
    refused!(
        "dt-overlay",
        2,
        "add/remove <.dtbo>",
        "Add/Remove a device tree overlay to Xen device tree, attach/detach the device to a domain",
        "the hypervisor's device tree stays as it was booted with"
    ),
];
