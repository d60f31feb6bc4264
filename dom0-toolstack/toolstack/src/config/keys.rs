//! Every key of xl.cfg(5), and whether we act on it.
//!
//! A key that a guest's owner set and we silently ignored would be a lie, so each is one of three
//! things: acted on, known but not acted on (reported by name), or unknown (reported as such).

/// What becomes of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Support {
    /// It does what xl.cfg(5) says.
    Acted,
    /// It has no meaning for a guest of this architecture; ignoring it is what Xen's xl does, too.
    Meaningless,
    /// It has a meaning here, and we do not do it yet.
    NotYet,
}

/// Returns what becomes of `key`, or nothing for a key that xl.cfg(5) does not have.
pub fn support(key: &str) -> Option<Support> {
    let listed = |list: &[&str]| list.contains(&key);
    if listed(ACTED) {
        Some(Support::Acted)
    } else if listed(NOT_YET) {
        Some(Support::NotYet)
    } else if listed(MEANINGLESS) {
        Some(Support::Meaningless)
    } else {
        None
    }
}

/// The known key that `unknown` is most likely a misspelling of.
pub fn nearest(unknown: &str) -> Option<&'static str> {
    ACTED
        .iter()
        .chain(NOT_YET)
        .map(|key| (distance(unknown, key), *key))
        .filter(|(distance, key)| *distance <= 1 + key.len() / 5)
        .min()
        .map(|(_, key)| key)
}

/// Keys that do what xl.cfg(5) says.
pub const ACTED: &[&str] = &[
    "cap",
    "cmdline",
    "cpu_cap", // written by Ganeti beside `cap`
    "cpu_weight",
    "cpus",
    "disk",
    "extra",
    "gic_version",
    "kernel",
    "max_event_channels",
    "max_grant_frames",
    "max_grant_version",
    "max_maptrack_frames",
    "maxmem",
    "maxvcpus",
    "memory",
    "name",
    "on_crash",
    "on_poweroff",
    "on_reboot",
    "on_soft_reset",
    "on_watchdog",
    "p9",
    "pool",
    "ramdisk",
    "root",
    "type",
    "uuid",
    "vcpus",
    "vif",
    "vpmu",
    "vuart",
];

/// What each key that is acted on does, for the manual.
pub const ABOUT: &[(&str, &str)] = &[
    (
        "cap",
        "Limit of CPU time, in hundredths of a CPU: 50 is half a CPU, 400 are four, 0 is none.",
    ),
    ("cmdline", "The kernel's command line; takes the place of root and extra."),
    ("cpu_cap", "The same as cap, as Ganeti writes it."),
    (
        "cpu_weight",
        "Share of CPU time relative to other domains, where CPUs are short; 256 is usual.",
    ),
    (
        "cpus",
        "Where vCPUs may run: \"0-3,5,^1\", \"nodes:0\" or \"all\" for all of them, or a list with one such string for each.",
    ),
    (
        "disk",
        "A list of disks, each as in \"/dev/vg/web,raw,xvda,rw\" or \"format=raw, vdev=xvda, access=rw, target=/srv/web.img\". phy: and file: before the target are understood. Files are served through loop devices.",
    ),
    ("extra", "More words for the kernel's command line."),
    (
        "gic_version",
        "The interrupt controller: \"v2\", \"v3\" or \"default\", which is the host's.",
    ),
    ("kernel", "The kernel, a file in Dom0: an arm64 Image, plain or gzip'd."),
    ("max_event_channels", "Highest event channel port; 1023 where nothing is said."),
    ("max_grant_frames", "Pages of the grant table."),
    ("max_grant_version", "Version of the grant table; 1 is the only one on Arm."),
    ("max_maptrack_frames", "Pages that track what the domain maps of others' grants."),
    (
        "maxmem",
        "Memory in MiB that the domain may ever have, up to which xl mem-set works. It is given all of it when it is made, and its balloon driver gives back what is above memory as soon as it runs.",
    ),
    ("maxvcpus", "vCPUs that the domain may ever have, up to which xl vcpu-set works."),
    ("memory", "Memory in MiB."),
    ("name", "The domain's name, unlike that of any other, and not a number."),
    (
        "on_crash",
        "What is done when the guest crashes: destroy (the default), restart, rename-restart, preserve, coredump-destroy, coredump-restart.",
    ),
    ("on_poweroff", "What is done when the guest powers off; destroy where nothing is said."),
    ("on_reboot", "What is done when the guest asks for a restart; restart where nothing is said."),
    ("on_soft_reset", "What is done when the guest asks for a restart with its memory kept."),
    ("on_watchdog", "What is done when the guest's watchdog fires; destroy where nothing is said."),
    (
        "p9",
        "A list of folders shared with the guest, each as in \"tag=share,path=/srv/share,security_model=none,type=xen_9pfsd\". Also understood: backend, max-files, max-open-files, max-space, auto-delete. Xen's xen-9pfsd serves them and is started when needed.",
    ),
    ("pool", "The CPU pool, by name or number."),
    ("ramdisk", "The initial ramdisk, a file in Dom0."),
    ("root", "The root device: becomes root=... on the kernel's command line."),
    ("type", "The kind of domain: \"pvh\", which is also the default; \"pv\" is taken for it."),
    ("uuid", "The domain's UUID; one is made where none is given."),
    ("vcpus", "vCPUs online at the start."),
    (
        "vif",
        "A list of network interfaces, each as in \"mac=00:16:3e:00:00:01,bridge=xenbr0,script=vif-bridge\". Also understood: ip, vifname, rate, backend, gatewaydev, mtu, devid, trusted.",
    ),
    ("vpmu", "Whether the guest sees a performance monitor."),
    ("vuart", "\"sbsa_uart\" gives it an emulated PL011; xl console -t vuart shows it."),
];

/// Keys with a meaning for a guest on Arm that we do not act on yet.
pub const NOT_YET: &[&str] = &[
    "argo",
    "bootloader",
    "bootloader_args",
    "channel",
    "cpus_soft",
    "device_tree",
    "driver_domain",
    "dtdev",
    "init_seclabel",
    "iomem",
    "irqs",
    "keymap",
    "llc_colors",
    "localtime",
    "nr_spis",
    "passthrough",
    "pci",
    "pci_msitranslate",
    "pci_permissive",
    "pci_power_mgmt",
    "pci_seize",
    "pvcalls",
    "rtc_timeoffset",
    "seclabel",
    "sve",
    "tee",
    "usbctrl",
    "usbdev",
    "vdispl",
    "vfb",
    "virtio",
    "vkb",
    "vnuma",
    "vsnd",
    "vtpm",
    "xen_9pfs",
];

/// Keys for x86 or device-model guests, and hints that change nothing here.
pub const MEANINGLESS: &[&str] = &[
    "acpi",
    "acpi_firmware",
    "acpi_laptop_slate",
    "acpi_s3",
    "acpi_s4",
    "altp2m",
    "altp2mhvm",
    "apic",
    "assisted_xapic",
    "assisted_x2apic",
    "bios",
    "bios_path_override",
    "boot",
    "builder",
    "claim_mode",
    "colo_proxy",
    "cpuid",
    "device_model",
    "device_model_args",
    "device_model_args_hvm",
    "device_model_args_pv",
    "device_model_override",
    "device_model_stubdomain_override",
    "device_model_stubdomain_seclabel",
    "device_model_user",
    "device_model_version",
    "dhcp", // written by xen-tools, for nobody
    "display",
    "dm_restrict",
    "dom_id",
    "e820_host",
    "firmware",
    "gfx_passthru",
    "hap",
    "hdtype",
    "hpet",
    "ioports",
    "mca_caps",
    "mmio_hole",
    "monitor",
    "ms_vm_genid",
    "msr_relaxed",
    "nestedhvm",
    "nographic",
    "nomigrate",
    "nx",
    "oos",
    "opengl",
    "pae",
    "passthrough_msitranslate",
    "pvh",
    "pvshim",
    "pvshim_cmdline",
    "pvshim_extra",
    "pvshim_path",
    "rdm",
    "rdm_mem_boundary",
    "reboot_ignored",
    "scsi",
    "sdl",
    "serial",
    "shadow_memory",
    "smbios",
    "smbios_firmware",
    "soundhw",
    "spice",
    "spice_clipboard_sharing",
    "spice_image_compression",
    "spice_streaming_video",
    "spiceagent_mouse",
    "spicedisable_ticketing",
    "spicehost",
    "spicepasswd",
    "spiceport",
    "spicetls_port",
    "spiceusbredirection",
    "spicevdagent",
    "stdvga",
    "stubdomain_cmdline",
    "stubdomain_kernel",
    "stubdomain_memory",
    "stubdomain_ramdisk",
    "suppress_spurious_page_faults",
    "timer_mode",
    "tsc_mode",
    "usb",
    "usbdevice",
    "usbversion",
    "vendor_device",
    "vga",
    "videoram",
    "viridian",
    "vkb_device",
    "vmtrace_buf_kb",
    "vnc",
    "vncdisplay",
    "vnclisten",
    "vncpasswd",
    "vncunused",
    "vncviewer",
    "vpt_align",
    "xauthority",
    "xen_platform_pci",
    "xend_suspend_evtchn_compat",
];

/// How many characters must be changed, added or left out to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((cb, diagonal), above) in b.chars().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            let replaced = diagonal + usize::from(ca != cb);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_listed_twice() {
        let mut all: Vec<_> = ACTED.iter().chain(NOT_YET).chain(MEANINGLESS).collect();
        all.sort();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_misspelling_is_recognised_and_nonsense_is_not() {
        assert_eq!(nearest("memmory"), Some("memory"));
        assert_eq!(nearest("vcpu"), Some("vcpus"));
        assert_eq!(nearest("on_powerof"), Some("on_poweroff"));
        assert_eq!(nearest("bananas"), None);
    }
}
