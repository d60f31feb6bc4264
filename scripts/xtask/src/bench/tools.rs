//! Our `xl` and Debian's on the same hypervisor, in one run of one machine: what the commands that scripts call most cost.

use anyhow::Result;

use super::{NOW, number, row, succeed};
use crate::dom0::Session;
use crate::machine::{Hypervisor, MachineArgs, Tools};

/// Where Debian's stands beside ours.
const DEBIAN: &str = "/usr/lib/xen-debian/bin/xl";
const OURS: &str = "/usr/sbin/xl";
/// Of how many runs the quickest counts: the first ones fill caches.
const RUNS: u32 = 3;

/// What one tool's commands cost, in instructions.
struct Measured {
    list: u64,
    info: u64,
    create: u64,
    destroy: u64,
}

/// Measures both on our hypervisor and prints the table.
pub(super) fn bench() -> Result<()> {
    let args = MachineArgs {
        hypervisor: Hypervisor::Domus,
        tools: Tools::Domus,
        cpus: 1,
        icount: true,
        ..MachineArgs::default()
    };
    let mut session = Session::boot(&args.prepare()?, "bench-tools")?;
    succeed(&mut session, "sleep 3")?; // what boots in the background shall be up
    let ours = measure(&mut session, OURS)?;
    let debian = measure(&mut session, DEBIAN)?;
    session.power_off()?;
    println!("{:<46} {:>14} {:>14} {:>7}", "", "our xl", "Debian's xl", "ratio");
    row("xl list, one guest, instr.", ours.list, debian.list);
    row("xl info, instr.", ours.info, debian.info);
    row("xl create -p of 256 MiB, disk, network, instr.", ours.create, debian.create);
    row("xl destroy, instr.", ours.destroy, debian.destroy);
    Ok(())
}

fn measure(session: &mut Session, xl: &str) -> Result<Measured> {
    let mut best = Measured { list: u64::MAX, info: u64::MAX, create: u64::MAX, destroy: u64::MAX };
    for _ in 0..RUNS {
        best.create = best.create.min(cost(session, &format!("{xl} create -p /etc/xen/demo.cfg"))?);
        best.list = best.list.min(cost(session, &format!("{xl} list"))?);
        best.info = best.info.min(cost(session, &format!("{xl} info"))?);
        best.destroy = best.destroy.min(cost(session, &format!("{xl} destroy demo"))?);
        succeed(session, "sleep 2")?; // the kernel takes the devices away behind our back
    }
    Ok(best)
}

/// What a command costs, by Dom0's clock, read in the same line before and after it.
fn cost(session: &mut Session, command: &str) -> Result<u64> {
    let line = format!("a=$({NOW}); {command} >/dev/null 2>&1 && echo $(($({NOW}) - a))");
    number(session, &line)
}
