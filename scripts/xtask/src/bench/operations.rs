//! Single operations of ours and of Debian's Xen, measured by the same kernel in Dom0's place (`tests/bench`).
//!
//! There is one processor: Xen, waiting for a second one to start, would wait for most of QEMU's turns.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{head, kernel, row};
use crate::machine::{Gic, Hypervisor, MachineArgs};
use crate::process::say;
use crate::serial::Serial;
use crate::{compile, image, qemu};

const LIMIT: Duration = Duration::from_secs(180);

/// What one machine said: names and instructions, in its order.
type Costs = Vec<(String, u64)>;

/// Measures both and prints the table.
pub(super) fn bench(gic: Gic) -> Result<()> {
    let kernel = kernel("operations")?;
    let image = compile::hypervisor(compile::Platform::QemuVirt)?;
    let ours = measure(gic, Hypervisor::Domus, &image, &kernel)?;
    let xen = measure(gic, Hypervisor::Xen, &image::base(&[])?.xen, &kernel)?;
    head();
    for (name, cost) in &ours {
        let other = xen.iter().find(|(other, _)| other == name);
        let (_, other) = other.with_context(|| format!("Xen has no cost of {name}"))?;
        row(&format!("{name}, instr."), *cost, *other);
    }
    Ok(())
}

/// Boots the kernel as Dom0 with two vCPUs and takes down what it says.
fn measure(gic: Gic, hypervisor: Hypervisor, image: &Path, kernel: &Path) -> Result<Costs> {
    let name = format!("bench-operations-{hypervisor:?}-gic{gic}").to_lowercase();
    say(&format!("measuring operations (transcript in target/logs/{name}.log)"));
    let args = MachineArgs {
        hypervisor,
        gic,
        vcpus: 2,
        cpus: 1,
        dom0_memory: 256,
        icount: true,
        ..Default::default()
    };
    let mut command = Command::new("qemu-system-aarch64");
    qemu::board(&mut command, args.gic, &args.cpu, args.cpus, 1024)?;
    qemu::clock(&mut command, &args);
    command.args(["-nic", "none"]);
    command.arg("-kernel").arg(image).args(["-append", &args.hypervisor_line()]);
    // Without a line for Dom0, Xen would take its own for it.
    qemu::boot_kernel(&mut command, kernel, &args.dom0_line());
    let mut serial = Serial::start(command, &name)?;
    let said = serial.expect("costs told", LIMIT)?;
    parse(&said)
}

/// Reads lines `cost NAME: NUMBER`, whatever is before them; a cost that could not be measured is an error.
fn parse(text: &str) -> Result<Costs> {
    let mut costs = Vec::new();
    for line in text.lines() {
        if let Some((_, missing)) = line.split_once("no cost of ") {
            bail!("no cost of {missing}");
        }
        let Some((_, cost)) = line.split_once("cost ") else { continue };
        let (name, number) = cost.split_once(": ").with_context(|| line.to_owned())?;
        costs.push((name.to_owned(), number.parse().with_context(|| line.to_owned())?));
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_behind_the_hypervisors_prefix() {
        let costs = parse("(XEN) DOM0: cost yield, alone: 2130\nother\ncost b: 3\n");
        let expected = [(String::from("yield, alone"), 2130), (String::from("b"), 3)];
        assert_eq!(costs.unwrap(), expected);
    }

    #[test]
    fn a_wanted_cost_that_is_missing_is_an_error() {
        let text = "cost a: 1\nno cost of b: a hypercall failed: error -1\n";
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), "no cost of b: a hypercall failed: error -1");
        assert!(parse("cost a: many\n").is_err());
    }
}
