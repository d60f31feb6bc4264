//! Lists of devices that guests on Arm do not have: what Xen's xl prints where there are none.

use super::Command;
use crate::outcome::print;

macro_rules! list {
    ($name:literal, $least:literal, $operands:literal, $summary:literal, $header:literal) => {
        Command {
            name: $name,
            operands: $operands,
            summary: $summary,
            details: "No domain has such devices: it prints the header, if there is one.",
            flags: &[],
            listed: true,
            run: |context, parsed| {
                parsed.require($name, $least)?;
                for domain in &parsed.operands {
                    context.domain(domain)?;
                    print($header)?;
                }
                Ok(())
            },
        }
    };
}

/// All of them.
pub(super) const COMMANDS: &[Command] = &[
    list!(
        "channel-list",
        1,
        "<Domain(s)>",
        "List virtual channel devices for a domain",
        "Idx BE state evt-ch ring-ref connection                               \n"
    ),
    list!(
        "vtpm-list",
        1,
        "<Domain(s)>",
        "List virtual TPM devices for a domain",
        "Idx BE Uuid                                 handle state evt-ch ring-ref BE-path   \n"
    ),
    list!(
        "vkb-list",
        1,
        "<Domain(s)>",
        "List virtual keyboard devices for a domain",
        "Idx BE handle state evt-ch    ref ID         BE-type    BE-path                       \n"
    ),
    list!("vdispl-list", 1, "<Domain(s)>", "List virtual display devices for a domain", ""),
    list!("vsnd-list", 1, "<Domain(s)>", "List virtual sound devices for a domain", ""),
    list!(
        "usb-list",
        1,
        "<Domain>",
        "List information about all USB controllers and devices for a domain",
        ""
    ),
    list!("pci-list", 1, "<Domain>", "List pass-through pci devices for a domain", ""),
    list!("pci-assignable-list", 0, "", "List all the assignable pci devices", ""),
];
