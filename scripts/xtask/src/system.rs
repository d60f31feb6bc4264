//! Plays the scenarios of tests/system, one booted machine each, and counts.

use anyhow::{Context, Result, bail};
use std::fs;
use std::time::Instant;

use crate::dom0::Session;
use crate::machine::{Board, Gic, Hypervisor, Machine, MachineArgs};
use crate::process::{root, say};
use crate::raspi4b;
use crate::scenario::{Player, Scenario};

/// Whether what a scenario's commands say is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Everything,
    OnlyResults,
}

/// Counts of a run of tests.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Count {
    /// Counts one more result and prints its line.
    pub(crate) fn note(&mut self, name: &str, began: Instant, result: &Result<()>) {
        let seconds = began.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name} ({seconds:.1} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {name} ({seconds:.1} s): {error:#}");
            }
        }
    }

    /// Adds what another run counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Prints the totals; failures are an error.
    pub(crate) fn finish(self) -> Result<()> {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed > 0 {
            bail!("{} failed", self.failed);
        }
        Ok(())
    }
}

/// Plays all scenarios, or those whose names contain one of `names`; the long ones if `long` or named.
pub(crate) fn play(args: &MachineArgs, names: &[String], long: bool, show: Show) -> Result<Count> {
    let scenarios = chosen(names, long)?;
    let mut machine = None;
    let mut count = Count::default();
    for scenario in scenarios {
        if let Some(why) = scenario.missing_on(args.hypervisor) {
            println!("skipped {}: {why}", label(&scenario, args));
            continue;
        }
        let raspi4b = scenario.machine(args.clone())?.board == Board::Raspi4b;
        if let Some(why) = raspi4b.then(raspi4b::missing).flatten() {
            println!("skipped {}: {why}", label(&scenario, args));
            continue;
        }
        let began = Instant::now();
        let result = play_one(&mut machine, args, &scenario, show, &mut count);
        count.note(&format!("{}: {}", label(&scenario, args), scenario.title), began, &result);
    }
    Ok(count)
}

/// How a scenario is called in results: with the hypervisor and the interrupt controller, where those are not the usual ones.
fn label(scenario: &Scenario, args: &MachineArgs) -> String {
    let mut label = format!("system {}", scenario.name);
    if args.hypervisor == Hypervisor::Xen {
        label.push_str(", Xen");
    }
    if args.gic != Gic::V3 {
        label.push_str(&format!(", GICv{}", args.gic));
    }
    label
}

/// Gives the machine the shape one scenario wants of `args`, boots it, plays, powers off.
///
/// The scenario's items are counted one by one; its own result is of what is around them.
fn play_one(
    machine: &mut Option<Machine>,
    args: &MachineArgs,
    scenario: &Scenario,
    show: Show,
    count: &mut Count,
) -> Result<()> {
    let wanted = scenario.machine(args.clone())?;
    let machine = match machine.take() {
        Some(other) => machine.insert(other.reshaped(wanted)?),
        None => machine.insert(wanted.prepare()?),
    };
    let transcript = label(scenario, args).replace(", ", "-").replace(' ', "-");
    let mut session = Session::boot(machine, &transcript)?;
    let mut player = Player::new(&mut session, args.hypervisor, show == Show::Everything);
    player.play(scenario)?;
    for item in scenario.items() {
        if let Some(why) = item.missing_on(args.hypervisor) {
            println!("skipped {}: {}: {why}", label(scenario, args), item.name);
            continue;
        }
        let began = Instant::now();
        let result = player.play_item(scenario, item)?;
        count.note(&format!("{}: {}", label(scenario, args), item.name), began, &result);
    }
    if show == Show::Everything {
        say("powering off");
    }
    session.power_off()
}

/// Plays the demonstration, showing everything.
pub(crate) fn demo(args: &MachineArgs) -> Result<()> {
    let scenario = Scenario::read(&root().join("tests/system/demo.scenario"))?;
    let mut count = Count::default();
    play_one(&mut None, args, &scenario, Show::Everything, &mut count)?;
    println!(
        "demo: the guest was created, listed, pinged, read from, shut down; the machine is off"
    );
    Ok(())
}

fn chosen(names: &[String], long: bool) -> Result<Vec<Scenario>> {
    let directory = root().join("tests/system");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "scenario") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut scenarios = Vec::new();
    for path in paths {
        let scenario = Scenario::read(&path)?;
        if names.is_empty() && (long || !scenario.long)
            || names.iter().any(|name| scenario.name.contains(name.as_str()))
        {
            scenarios.push(scenario);
        }
    }
    if scenarios.is_empty() {
        bail!("no scenario in {} has such a name", directory.display());
    }
    Ok(scenarios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_tree_can_be_read() {
        for scenario in chosen(&[], true).unwrap() {
            scenario.machine(MachineArgs::default()).unwrap();
        }
    }
}
