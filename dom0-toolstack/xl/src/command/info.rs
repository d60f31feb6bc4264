//! `xl info`

use std::fmt::Write;

use toolstack::cpupool::Scheduler;
use xen_sys::memory::Memory;
use xen_sys::sysctl::Sysctl;
use xen_sys::version::{Text, Version};

use super::Command;
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "info",
    operands: "[-n] [Name]",
    summary: "Get information about the host and its hypervisor",
    details: "With the name of a line it prints only that line's value, as in xl info free_memory.",
    flags: &[Flag::new('n', Some("numa"), "List host NUMA topology information")],
    listed: true,
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let mut lines = Lines::default();
    kernel(&mut lines);
    machine(context, &mut lines)?;
    if parsed.has('n') {
        topology(context, &mut lines)?;
    }
    hypervisor(context, &mut lines)?;
    lines.add("xend_config_format", "4");
    match parsed.operands.first().filter(|_| !parsed.has('n')) {
        Some(name) => print(&lines.only(name)),
        None => print(&lines.0),
    }
}

/// `name : value` lines.
#[derive(Default)]
struct Lines(String);

impl Lines {
    /// The value of one line; nothing where there is no such line, as in Xen's xl.
    fn only(&self, name: &str) -> String {
        let mut parts = self.0.lines().filter_map(|line| line.split_once(':'));
        let found = parts.find(|(found, _)| found.trim_end() == name);
        found.map_or(String::new(), |(_, value)| format!("{}\n", value.trim_start()))
    }

    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name:<22} : {value}");
    }
}

fn kernel(lines: &mut Lines) {
    let name = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    lines.add("host", text(name.nodename()));
    lines.add("release", text(name.release()));
    lines.add("version", text(name.version()));
    lines.add("machine", text(name.machine()));
}

fn machine(context: &Context, lines: &mut Lines) -> Outcome {
    let xen = context.xen()?;
    let info = xen.phys_info()?;
    let mib = |pages: u64| pages * 4 / 1024;
    lines.add("nr_cpus", info.cpus);
    lines.add("max_cpu_id", info.max_cpu);
    lines.add("nr_nodes", info.nodes);
    lines.add("cores_per_socket", info.cores_per_socket);
    lines.add("threads_per_core", info.threads_per_core);
    lines.add("cpu_mhz", format!("{}.{:03}", info.cpu_khz / 1000, info.cpu_khz % 1000));
    lines.add("hw_caps", info.hw_cap.map(|word| format!("{word:08x}")).join(":"));
    lines.add("virt_caps", capabilities(info.capabilities));
    lines.add("arm_sve_vector_length", (info.arch_capabilities & 0x1f) * 128);
    lines.add("total_memory", mib(info.total_pages));
    lines.add("free_memory", mib(info.free_pages.saturating_sub(info.outstanding_pages)));
    let (freed, used) = xen.sharing()?;
    lines.add("sharing_freed_memory", mib(u64::from(freed)));
    lines.add("sharing_used_memory", mib(u64::from(used)));
    lines.add("outstanding_claims", mib(info.outstanding_pages));
    lines.add("free_cpus", xen.free_cpus()?.len());
    Ok(())
}

/// The names of XEN_SYSCTL_PHYSCAP_* bits.
fn capabilities(bits: u32) -> String {
    const NAMES: [&str; 10] = [
        "hvm",
        "pv",
        "hvm_directio",
        "hap",
        "shadow",
        "iommu_hap_pt_share",
        "vmtrace",
        "vpmu",
        "gnttab-v1",
        "gnttab-v2",
    ];
    let mut names = Vec::new();
    for (bit, name) in (0..).zip(NAMES) {
        if bits >> bit & 1 == 1 {
            if name == "hvm_directio" && bits & 2 != 0 {
                names.push("pv_directio");
            }
            names.push(name);
        }
    }
    names.join(" ")
}

fn topology(context: &Context, lines: &mut Lines) -> Outcome {
    let xen = context.xen()?;
    lines.0.push_str("cpu_topology           :\ncpu:    core    socket     node\n");
    for (cpu, place) in xen.cpu_topology()?.iter().enumerate() {
        if let Some(place) = place {
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines.0,
                "{cpu:>3}:    {:>4}     {:>4}     {:>4}",
                place.core, place.socket, place.node
            );
        }
    }
    lines.0.push_str("numa_info              :\nnode:    memsize    memfree    distances\n");
    for (index, node) in xen.numa_info()?.iter().enumerate() {
        let distances: Vec<String> = node.distances.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            lines.0,
            "{index:>4}:    {:>6}     {:>6}      {}",
            node.size >> 20,
            node.free >> 20,
            distances.join(",")
        );
    }
    Ok(())
}

fn hypervisor(context: &Context, lines: &mut Lines) -> Outcome {
    let xen = context.xen()?;
    let (major, minor) = xen.version()?;
    let extra = xen.text(Text::Extra)?;
    lines.add("xen_major", major);
    lines.add("xen_minor", minor);
    lines.add("xen_extra", &extra);
    lines.add("xen_version", format!("{major}.{minor}{extra}"));
    lines.add("xen_caps", xen.text(Text::Capabilities)?);
    lines.add("xen_scheduler", Scheduler(xen.scheduler()?).name());
    lines.add("xen_pagesize", xen.page_size()?);
    lines.add("platform_params", format!("virt_start={:#x}", xen.virt_start()?));
    lines.add("xen_changeset", xen.text(Text::Changeset)?);
    lines.add("xen_commandline", xen.text(Text::CommandLine)?);
    let built = xen.compile_info()?;
    lines.add("cc_compiler", built.compiler);
    lines.add("cc_compile_by", built.by);
    lines.add("cc_compile_domain", built.domain);
    lines.add("cc_compile_date", built.date);
    let id: String = xen.build_id()?.iter().map(|byte| format!("{byte:02x}")).collect();
    // What Xen's xl prints where there is none.
    lines.add("build_id", if id.is_empty() { "(null)" } else { &id });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_capabilities_are_those_of_xen_s_xl() {
        let mut lines = Lines::default();
        lines.add("arm_sve_vector_length", 0);
        lines.add("host", "h");
        assert_eq!(lines.0, "arm_sve_vector_length  : 0\nhost                   : h\n");
        assert_eq!(lines.only("host"), "h\n");
        assert_eq!(lines.only("hos"), "");
        assert_eq!(capabilities(0x189), "hvm hap vpmu gnttab-v1");
    }
}
