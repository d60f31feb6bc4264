//! Ours and Debian's Xen side by side, with the same Dom0 kernel and the same guest, counted in instructions by QEMU's `-icount`: one instruction is one nanosecond of the guests' time.

mod operations;
mod store;
mod throughput;
mod tools;

use anyhow::{Context, Result};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::compile::{self, Built};
use crate::dom0::Session;
use crate::machine::{Gic, Hypervisor, Machine, MachineArgs, Tools};
use crate::process::{dist, say};
use crate::qemu;
use crate::serial::Serial;

/// Nanoseconds in a step of QEMU's 62.5 MHz counter.
const NANOSECONDS_PER_STEP: u64 = 16;
/// Guests that are made to see what one costs beyond its memory, and each one's memory in MiB.
const GUESTS: u64 = 8;
const GUEST_MEMORY: u64 = 64;
const LIMIT: Duration = Duration::from_secs(180);
/// Prints Dom0's clock, in nanoseconds since its kernel started it.
const NOW: &str = "awk '/^now at/ { print $3 }' /proc/timer_list";

/// What one hypervisor needed.
struct Measured {
    first_instruction: u64,
    dom0_up: u64,
    create: u64,
    lost_kib: u64,
    image: u64,
}

/// One of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Table {
    /// Booting, creating a guest, memory, size.
    System,
    /// Single operations, by a kernel in Dom0's place.
    Operations,
    /// Data carried between guests and Dom0, by Linux's front ends and by the library's.
    Throughput,
    /// Our xl beside Debian's on the same hypervisor.
    Tools,
    /// Our xenstored and Debian's, under the same load.
    Store,
}

/// Measures both and prints the tables, all of them if none is named.
pub(crate) fn bench(gic: Gic, tables: &[Table]) -> Result<()> {
    let wanted = |table| tables.is_empty() || tables.contains(&table);
    if wanted(Table::Operations) {
        operations::bench(gic)?;
    }
    if wanted(Table::System) {
        system(gic)?;
    }
    if wanted(Table::Throughput) {
        throughput::bench(gic)?;
    }
    if wanted(Table::Tools) {
        tools::bench()?;
    }
    if wanted(Table::Store) {
        store::bench()?;
    }
    Ok(())
}

fn system(gic: Gic) -> Result<()> {
    let kernel = kernel("first-instruction")?;
    let ours = measure(gic, Hypervisor::Domus, Tools::Domus, &kernel).context("Domus")?;
    let xen = measure(gic, Hypervisor::Xen, Tools::Debian, &kernel).context("Debian's Xen")?;
    head();
    row("reset to Dom0's first instruction, instr.", ours.first_instruction, xen.first_instruction);
    row("reset to Dom0 up, instr.", ours.dom0_up, xen.dom0_up);
    row("xl create to guest's init, instr.", ours.create, xen.create);
    row("memory lost to a guest beyond its RAM, KiB", ours.lost_kib, xen.lost_kib);
    row("size of the image, bytes", ours.image, xen.image);
    Ok(())
}

fn head() {
    println!("{:<46} {:>14} {:>14} {:>7}", "", "Domus", "Debian's Xen", "ratio");
}

fn row(what: &str, ours: u64, xen: u64) {
    println!("{what:<46} {ours:>14} {xen:>14} {:>7}", ratio(ours, xen));
}

/// Writes a ratio with three decimals: whole thousandths, so that no number is rounded twice.
fn ratio(ours: u64, xen: u64) -> String {
    let thousandths = ours.saturating_mul(1000).checked_div(xen).unwrap_or_default();
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

fn measure(gic: Gic, hypervisor: Hypervisor, tools: Tools, kernel: &Path) -> Result<Measured> {
    let shape = MachineArgs { gic, cpus: 1, icount: true, ..MachineArgs::default() };
    let args = MachineArgs { hypervisor, tools, ..shape };
    let machine = args.prepare()?;
    let first_instruction = first_instruction(&machine, kernel)?;
    let name = format!("bench-{hypervisor:?}-gic{gic}").to_lowercase();
    let mut session = Session::boot(&machine, &name)?;
    let up = number(&mut session, "cat /run/domus-up")?;
    let create = create(&mut session)?;
    let lost_kib = lost(&mut session)?;
    session.power_off()?;
    let image = fs::metadata(&machine.hypervisor)?.len();
    Ok(Measured { first_instruction, dom0_up: first_instruction + up, create, lost_kib, image })
}

/// Boots a kernel that says when it began.
fn first_instruction(machine: &Machine, kernel: &Path) -> Result<u64> {
    say("booting to Dom0's first instruction");
    let mut command = Command::new("qemu-system-aarch64");
    let shape = &machine.args;
    qemu::board(&mut command, shape.gic, &shape.cpu, shape.cpus, shape.memory)?;
    qemu::clock(&mut command, shape);
    command.args(["-nic", "none"]);
    command.arg("-kernel").arg(&machine.hypervisor);
    command.args(["-append", &machine.args.hypervisor_line()]);
    // Without a command line for Dom0, Xen takes its own for Dom0's, and waits three seconds to complain
    // that it was not told Dom0's memory.
    qemu::boot_kernel(&mut command, kernel, &machine.args.dom0_line());
    let mut serial = Serial::start(command, "bench-first-instruction")?;
    serial.expect("first instruction at 0x", LIMIT)?;
    let counter = serial.expect("\n", LIMIT)?;
    let counter = u64::from_str_radix(counter.trim(), 16).context("the counter is hexadecimal")?;
    Ok(counter * NANOSECONDS_PER_STEP)
}

/// Counts from `xl create` until the guest's init runs: Dom0's part by its clock, the guest's by the guest's.
fn create(session: &mut Session) -> Result<u64> {
    succeed(session, "rm -f /var/log/xen/console/guest-demo.log")?;
    let before = number(session, NOW)?;
    succeed(session, "xl create -p /etc/xen/demo.cfg")?;
    let built = number(session, NOW)?;
    succeed(session, "xl unpause demo")?;
    let init =
        "sed -n 's/.*demo: init at \\([0-9]*\\) ns.*/\\1/p' /var/log/xen/console/guest-demo.log";
    succeed(session, &format!("until [ \"$({init})\" ]; do sleep 0.1; done"))?;
    let init = number(session, init)?;
    succeed(session, "xl destroy demo")?;
    Ok(built - before + init)
}

/// Returns the KiB that a guest costs beyond its own memory.
fn lost(session: &mut Session) -> Result<u64> {
    let free = "xl info | awk '$1 == \"free_memory\" { print $3 }'";
    let before = number(session, free)?;
    let lines = format!("s/^memory.*/memory = {GUEST_MEMORY}/; /^disk/d; /^vif/d");
    succeed(session, &format!("sed '{lines}' /etc/xen/demo.cfg > /tmp/small.cfg"))?;
    for guest in 0..GUESTS {
        succeed(session, &format!("xl create -p /tmp/small.cfg 'name=\"small{guest}\"'"))?;
    }
    let after = number(session, free)?;
    let taken = before.saturating_sub(after);
    Ok(taken.saturating_sub(GUESTS * GUEST_MEMORY) * 1024 / GUESTS)
}

fn number(session: &mut Session, command: &str) -> Result<u64> {
    let said = succeed(session, command)?;
    said.trim().parse().with_context(|| format!("`{command}` said {said:?}, no number"))
}

fn succeed(session: &mut Session, command: &str) -> Result<String> {
    let outcome = session.run(command, LIMIT)?;
    anyhow::ensure!(outcome.status == 0, "`{command}` failed:\n{}", outcome.output);
    Ok(outcome.output)
}

/// Builds one of the kernels of tests/bench.
fn kernel(name: &str) -> Result<PathBuf> {
    let built = compile::executables(&["test-bench"], &Built::Programs, compile::BARE_METAL)?;
    let elf = built.iter().find(|elf| elf.ends_with(name)).context("the kernel was not built")?;
    let image = dist().join(name).with_extension("guest");
    compile::raw_image(elf, &image)?;
    Ok(image)
}
