//! Plays the scenarios of tests/system, one booted machine each, and counts. Decides which may be played side by side.

use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::debian;
use crate::dom0::Session;
use crate::machine::{Board, Gic, Hypervisor, Machine, MachineArgs, Root};
use crate::process::{root, say};
use crate::raspi4b;
use crate::scenario::{Player, Scenario};

/// Whether what a scenario's commands say is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Everything,
    OnlyResults,
}

/// How scenarios are played.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) show: Show,
    /// How many of those that count instructions at the same time.
    pub(crate) side_by_side: NonZero<usize>,
    /// What the scenarios' limits are multiplied with.
    pub(crate) patience: NonZero<u32>,
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

/// A scenario and the machine it is played on.
struct Turn {
    scenario: Scenario,
    /// The property of the machine by which this turn differs from others of the scenario.
    property: Option<String>,
    machine: MachineArgs,
}

/// Plays all scenarios, or those whose names contain one of `names`, on each of some machines; the long ones if `long` or named.
pub(crate) fn play(
    shapes: &[MachineArgs],
    names: &[String],
    long: bool,
    how: How,
) -> Result<Count> {
    let mut turns = turns(shapes, names, long)?;
    let mut count = Count::default();
    while let Some(first) = turns.first() {
        let shape = first.machine.clone();
        let (these, others) =
            turns.into_iter().partition(|turn: &Turn| turn.machine.boots_from_same(&shape));
        turns = others;
        count.add(play_on_same(shape, these, how));
    }
    Ok(count)
}

/// Finds what is to be played where, without what this QEMU cannot play.
fn turns(shapes: &[MachineArgs], names: &[String], long: bool) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        for turn in turns_on(shape, chosen(names, long)?)? {
            if let Some(why) = turn.scenario.missing_on(shape.hypervisor) {
                println!("skipped {}: {why}", turn.label());
                continue;
            }
            if turn.machine.board == Board::Raspi4b {
                // It is the same board whatever is asked for.
                if index > 0 {
                    continue;
                }
                if let Some(why) = raspi4b::missing() {
                    println!("skipped {}: {why}", turn.label());
                    continue;
                }
            }
            turns.push(turn);
        }
    }
    Ok(turns)
}

/// Gives each scenario the machine it wants, or each of those.
fn turns_on(shape: &MachineArgs, scenarios: Vec<Scenario>) -> Result<Vec<Turn>> {
    let mut turns = Vec::new();
    for scenario in scenarios {
        for property in scenario.each() {
            let machine = scenario.machine(shape.clone(), property)?;
            let property = property.map(str::to_owned);
            turns.push(Turn { scenario: scenario.clone(), property, machine });
        }
    }
    Ok(turns)
}

/// One thing of those that are done side by side.
enum Job {
    /// Making a root file system, then playing those of the turns that boot from it.
    Make(Root, Vec<Turn>),
    Play(Box<Turn>),
}

/// What came of some jobs.
#[derive(Default)]
struct Done {
    count: Count,
    /// What could not be made, and why.
    unmade: Vec<(Root, String)>,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.count.add(other.count);
        self.unmade.extend(other.unmade);
    }
}

/// Plays turns whose machines boot from the same files: those that count instructions side by side, then the others.
///
/// Root file systems that take long to make are made beside the former, first of all.
fn play_on_same(shape: MachineArgs, turns: Vec<Turn>, how: How) -> Count {
    let began = Instant::now();
    let mut count = Count::default();
    let machine = match shape.prepare() {
        Ok(machine) => machine,
        Err(error) => {
            let why = format!("{error:#}");
            for turn in turns {
                count.note(&turn.title(), began, &Err(anyhow::Error::msg(why.clone())));
            }
            return count;
        }
    };
    let roots: Vec<Root> = turns.iter().map(|turn| turn.machine.root).collect();
    let (mut counting, others): (Vec<Turn>, Vec<Turn>) =
        turns.into_iter().partition(|turn| turn.machine.icount);
    let mut jobs: VecDeque<Job> = VecDeque::new();
    for root in roots.into_iter().filter(|root| *root != Root::Small) {
        if jobs.iter().any(|job| matches!(job, Job::Make(other, _) if *other == root)) {
            continue;
        }
        let (these, rest) = counting.into_iter().partition(|turn| turn.machine.root == root);
        counting = rest;
        jobs.push_back(Job::Make(root, these));
    }
    jobs.extend(counting.into_iter().map(|turn| Job::Play(Box::new(turn))));
    let done = side_by_side(&machine, jobs, how);
    count.add(done.count);
    for turn in others {
        match done.unmade.iter().find(|(root, _)| *root == turn.machine.root) {
            Some((_, why)) => {
                count.note(&turn.title(), began, &Err(anyhow::Error::msg(why.clone())));
            }
            None => count.add(turn.play(&machine, how)),
        }
    }
    count
}

/// Does jobs, as many at a time as is asked for.
fn side_by_side(machine: &Machine, jobs: VecDeque<Job>, how: How) -> Done {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().ok().and_then(|mut jobs| jobs.pop_front());
    let work = || {
        let mut done = Done::default();
        while let Some(job) = next() {
            match job {
                Job::Play(turn) => done.count.add(turn.play(machine, how)),
                Job::Make(root, turns) => done.add(make_and_play(machine, root, turns, how)),
            }
        }
        done
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..how.side_by_side.get()).map(|_| scope.spawn(work)).collect();
        let mut done = Done::default();
        for worker in workers {
            match worker.join() {
                Ok(part) => done.add(part),
                Err(panic) => resume_unwind(panic),
            }
        }
        done
    })
}

/// Makes a root file system and plays what boots from it; without it none of those can pass.
fn make_and_play(machine: &Machine, root: Root, turns: Vec<Turn>, how: How) -> Done {
    let began = Instant::now();
    let mut done = Done::default();
    let made = debian::make(root).map_err(|error| format!("{error:#}"));
    for turn in turns {
        match &made {
            Ok(()) => done.count.add(turn.play(machine, how)),
            Err(why) => {
                done.count.note(&turn.title(), began, &Err(anyhow::Error::msg(why.clone())))
            }
        }
    }
    done.unmade.extend(made.err().map(|why| (root, why)));
    done
}

impl Turn {
    /// Returns the scenario's name in results: with the property it is played with, the hypervisor and the interrupt controller, where those are not the
    /// usual ones.
    fn label(&self) -> String {
        let mut label = format!("system {}", self.scenario.name);
        if let Some(property) = &self.property {
            label.push_str(&format!(", {property}"));
        }
        if self.machine.hypervisor == Hypervisor::Xen {
            label.push_str(", Xen");
        }
        if self.machine.gic != Gic::V3 {
            label.push_str(&format!(", GICv{}", self.machine.gic));
        }
        label
    }

    fn title(&self) -> String {
        format!("{}: {}", self.label(), self.scenario.title)
    }

    /// Plays it and prints the result.
    fn play(&self, machine: &Machine, how: How) -> Count {
        let began = Instant::now();
        let mut count = Count::default();
        let result = self.play_items(machine, how, &mut count);
        count.note(&self.title(), began, &result);
        count
    }

    /// Gives the machine the shape it wants, boots it, plays, powers off.
    ///
    /// The scenario's items are counted one by one; its own result is of what is around them.
    fn play_items(&self, machine: &Machine, how: How, count: &mut Count) -> Result<()> {
        let machine = machine.reshaped(self.machine.clone());
        let transcript = self.label().replace(", ", "-").replace(' ', "-");
        let mut session = Session::boot(&machine, &transcript)?;
        let hypervisor = self.machine.hypervisor;
        let shown = how.show == Show::Everything;
        let mut player = Player::new(&mut session, hypervisor, shown, how.patience);
        player.play(&self.scenario)?;
        for item in self.scenario.items() {
            if let Some(why) = item.missing_on(hypervisor) {
                println!("skipped {}: {}: {why}", self.label(), item.name);
                continue;
            }
            let began = Instant::now();
            let result = player.play_item(&self.scenario, item)?;
            count.note(&format!("{}: {}", self.label(), item.name), began, &result);
        }
        if shown {
            say("powering off");
        }
        session.power_off()
    }
}

/// Plays the demonstration, showing everything.
pub(crate) fn demo(args: &MachineArgs) -> Result<()> {
    let scenario = Scenario::read(&root().join("tests/system/demo.scenario"))?;
    let machine = scenario.machine(args.clone(), None)?;
    let prepared = machine.clone().prepare()?;
    let how = How {
        show: Show::Everything,
        side_by_side: NonZero::<usize>::MIN,
        patience: NonZero::<u32>::MIN,
    };
    let turn = Turn { scenario, property: None, machine };
    turn.play_items(&prepared, how, &mut Count::default())?;
    println!(
        "demo: the guest was created, listed, pinged, read from, shut down; the machine is off"
    );
    Ok(())
}

/// Says whether a scenario's name contains one of `names`, or there are none of those.
pub(crate) fn is_any(names: &[String]) -> Result<bool> {
    Ok(!chosen(names, false)?.is_empty())
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
    Ok(scenarios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_is_played_on_each_interrupt_controller_and_the_board_once() {
        let gic = |gic| MachineArgs { gic, ..MachineArgs::default() };
        let played = turns(&[gic(Gic::V3), gic(Gic::V2)], &[], true).unwrap();
        let labels: Vec<String> = played.iter().map(Turn::label).collect();
        assert!(labels.contains(&String::from("system demo")));
        assert!(labels.contains(&String::from("system demo, GICv2")));
        assert!(!labels.contains(&String::from("system raspi4b, GICv2")));
        assert!(labels.contains(&String::from("system dom0_kernels, kernel=cloud, GICv2")));
    }

    #[test]
    fn every_scenario_of_the_tree_can_be_read() {
        let scenarios = chosen(&[], true).unwrap();
        let number = scenarios.len();
        let turns = turns_on(&MachineArgs::default(), scenarios).unwrap();
        assert!(turns.len() >= number);
    }
}
