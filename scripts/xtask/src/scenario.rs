//! Scenarios of tests/system: what to type at which console, what must be seen, and how long it may take. Parsing is pure; `Player` acts.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::collections::HashMap;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::dom0::{Outcome, Session};
use crate::machine::{Board, Hypervisor, MachineArgs};

/// How long a step may take when it says nothing else.
const USUAL_LIMIT: Duration = Duration::from_secs(30);

/// A parsed scenario.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Its first line: what it shows.
    pub(crate) title: String,
    /// Takes long or much of the network: it is played only when it is asked for.
    pub(crate) long: bool,
    /// Where alone it can be played, and why.
    only: Option<Only>,
    machine: Vec<String>,
    /// Properties of the machine, with each of which it is played once; empty for once as it is.
    each: Vec<String>,
    /// What must pass before any item is played.
    steps: Vec<(usize, Step)>,
    items: Vec<Item>,
}

/// A part of a scenario that passes or fails by itself, with its own line in the results.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// Where alone it can be played, and why.
    only: Option<Only>,
    steps: Vec<(usize, Step)>,
}

/// `only domus WHY`: what holds on one hypervisor and cannot on the other.
#[derive(Clone, Debug)]
struct Only {
    hypervisor: Hypervisor,
    why: String,
}

/// One line of a scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// `run`, `fails`, `retry`: a command for the shell that is being talked to.
    Command { how: How, limit: Duration, command: String },
    /// `see TEXT`: the last command's output has it.
    See(String),
    /// `unseen TEXT`: the last command's output lacks it.
    Unseen(String),
    /// `status N`: the last command ended with this status.
    Status(u32),
    /// `keep NAME`: remembers the last command's output.
    Keep(String),
    /// `same NAME`: the last command's output is the remembered one.
    Same(String),
    /// `console GUEST`: talks to a guest's shell from here on.
    Console { limit: Duration, guest: String },
    /// `leave`: talks to Dom0's shell again.
    Leave,
    /// `expect TEXT`: waits for text, whoever says it.
    Expect { limit: Duration, text: String },
    /// `type TEXT`: types a line and waits for nothing.
    Type(String),
    /// `domus STEP`, `xen STEP`: a step on this hypervisor, nothing on the other.
    On(Hypervisor, Box<Step>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    /// Its status must be 0.
    Succeeds,
    /// Its status must not be 0.
    Fails,
    /// It is repeated until its status is 0.
    Retried,
}

impl Scenario {
    /// Reads a scenario from its file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.file_stem().and_then(|name| name.to_str()).context("a nameless file")?;
        Self::parse(name, &text).with_context(|| path.display().to_string())
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let title = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# "))
            .context("the first line must be `# ` and what the scenario shows")?;
        let mut scenario = Self {
            name: name.to_owned(),
            title: title.to_owned(),
            long: false,
            only: None,
            machine: Vec::new(),
            each: Vec::new(),
            steps: Vec::new(),
            items: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            match line.split_once(' ') {
                None if line == "long" => scenario.long = true,
                Some(("only", rest)) => {
                    let only = Only::parse(rest).with_context(|| format!("line {number}"))?;
                    let part = scenario.items.last_mut().map(|item| &mut item.only);
                    *part.unwrap_or(&mut scenario.only) = Some(only);
                }
                Some(("machine", words)) => {
                    scenario.machine.extend(words.split_whitespace().map(str::to_owned));
                }
                Some(("each", words)) => {
                    scenario.each.extend(words.split_whitespace().map(str::to_owned));
                }
                Some(("item", rest)) => {
                    let item =
                        Item::parse(number, rest).with_context(|| format!("line {number}"))?;
                    scenario.items.push(item);
                }
                _ => {
                    let step = parse_step(line).with_context(|| format!("line {number}"))?;
                    let part = scenario.items.last_mut().map(|item| &mut item.steps);
                    part.unwrap_or(&mut scenario.steps).push((number, step));
                }
            }
        }
        Ok(scenario)
    }

    /// Returns why it cannot be played on a hypervisor, if it cannot.
    pub(crate) fn missing_on(&self, hypervisor: Hypervisor) -> Option<&str> {
        Only::missing_on(self.only.as_ref(), hypervisor)
    }

    /// Returns the properties it is played with, once each; once without any if it says none.
    pub(crate) fn each(&self) -> Vec<Option<&str>> {
        if self.each.is_empty() {
            return vec![None];
        }
        self.each.iter().map(|property| Some(property.as_str())).collect()
    }

    /// Returns the parts with results of their own.
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Returns the machine it wants, with one more property if it is played with several, starting from the one the command line asks for.
    ///
    /// With one processor time is counted in instructions: a slow or busy host then changes nothing a guest can see.
    /// With several they run side by side, in real time; but the Raspberry Pi's take turns, and count too. In real time its whole
    /// Debian is no sooner up on two of the host's cores, for most of what they do is to wait for each other.
    /// Beside busy loops any machine runs in real time: what those change is the point.
    pub(crate) fn machine(
        &self,
        mut args: MachineArgs,
        property: Option<&str>,
    ) -> Result<MachineArgs> {
        args.cpus = 1;
        for property in self.machine.iter().map(String::as_str).chain(property) {
            args.set(property)?;
        }
        let takes_turns = args.cpus == 1 || args.board == Board::Raspi4b;
        args.icount = takes_turns && args.beside.is_none();
        Ok(args)
    }
}

impl Item {
    /// Reads what follows `item`: a name, or a command that is name and first step in one.
    fn parse(number: usize, rest: &str) -> Result<Self> {
        let rest = rest.trim();
        let word = rest.split_once(' ').map_or("", |(word, _)| word);
        if !matches!(word, "run" | "fails" | "retry") {
            return Ok(Self { name: rest.to_owned(), only: None, steps: Vec::new() });
        }
        let step = parse_step(rest)?;
        let name = match &step {
            Step::Command { command, .. } => command.clone(),
            _ => rest.to_owned(),
        };
        Ok(Self { name, only: None, steps: vec![(number, step)] })
    }

    /// Returns why it cannot be played on a hypervisor, if it cannot.
    pub(crate) fn missing_on(&self, hypervisor: Hypervisor) -> Option<&str> {
        Only::missing_on(self.only.as_ref(), hypervisor)
    }
}

impl Only {
    /// Reads what follows `only`: a hypervisor and the reason.
    fn parse(rest: &str) -> Result<Self> {
        let (name, why) = rest.split_once(' ').context("`only` without a reason")?;
        let hypervisor = hypervisor(name).context("`only` of which hypervisor: domus or xen?")?;
        Ok(Self { hypervisor, why: why.trim().to_owned() })
    }

    fn missing_on(only: Option<&Self>, hypervisor: Hypervisor) -> Option<&str> {
        only.filter(|only| only.hypervisor != hypervisor).map(|only| only.why.as_str())
    }
}

/// Finds a hypervisor by its name on the command line.
fn hypervisor(name: &str) -> Option<Hypervisor> {
    Hypervisor::from_str(name, false).ok()
}

fn parse_step(line: &str) -> Result<Step> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    if let Some(hypervisor) = hypervisor(word) {
        return Ok(Step::On(hypervisor, Box::new(parse_step(rest)?)));
    }
    let needs_text =
        || if rest.is_empty() { bail!("`{word}` of what?") } else { Ok(rest.to_owned()) };
    let command = |how| -> Result<Step> {
        needs_text()?;
        let (limit, command) = split_limit(rest);
        Ok(Step::Command { how, limit, command })
    };
    Ok(match word {
        "run" => command(How::Succeeds)?,
        "fails" => command(How::Fails)?,
        "retry" => command(How::Retried)?,
        "see" => Step::See(needs_text()?),
        "unseen" => Step::Unseen(needs_text()?),
        "status" => Step::Status(rest.parse().context("`status` of what number?")?),
        "keep" => Step::Keep(needs_text()?),
        "same" => Step::Same(needs_text()?),
        "type" => Step::Type(needs_text()?),
        "leave" => Step::Leave,
        "console" => {
            needs_text()?;
            let (limit, guest) = split_limit(rest);
            Step::Console { limit, guest }
        }
        "expect" => {
            needs_text()?;
            let (limit, text) = split_limit(rest);
            Step::Expect { limit, text }
        }
        _ => bail!(
            "`{word}` is none of long, only, machine, each, item, domus, xen, run, fails, retry, status, see, unseen, keep, same, type, console, leave, expect"
        ),
    })
}

/// Takes a limit such as `90s` off the front.
fn split_limit(rest: &str) -> (Duration, String) {
    let limit = rest.split_once(' ').and_then(|(first, rest)| {
        let seconds = first.strip_suffix('s')?.parse().ok()?;
        Some((Duration::from_secs(seconds), rest.trim().to_owned()))
    });
    limit.unwrap_or((USUAL_LIMIT, rest.to_owned()))
}

/// A scenario being played on a booted machine.
pub(crate) struct Player<'a> {
    session: &'a mut Session,
    hypervisor: Hypervisor,
    /// The machine a guest's console is on, for prompts in what is shown.
    place: String,
    last: Outcome,
    kept: HashMap<String, String>,
    /// Shows commands and what they say while it plays.
    shown: bool,
    /// What limits are multiplied with.
    patience: NonZero<u32>,
}

impl<'a> Player<'a> {
    /// Takes a booted machine; `shown` prints commands and outputs as they come, `patience` is what limits are multiplied with.
    pub(crate) fn new(
        session: &'a mut Session,
        hypervisor: Hypervisor,
        shown: bool,
        patience: NonZero<u32>,
    ) -> Self {
        Self {
            session,
            hypervisor,
            place: String::from("dom0"),
            last: Outcome { status: 0, output: String::new() },
            kept: HashMap::new(),
            shown,
            patience,
        }
    }

    /// Plays the steps before the first item; an error says at which line it went wrong.
    pub(crate) fn play(&mut self, scenario: &Scenario) -> Result<()> {
        self.steps(&scenario.name, &scenario.steps)
    }

    /// Plays an item; should it fail, Dom0's shell is at its prompt again for the next.
    ///
    /// The outer error is a shell that cannot be brought back.
    pub(crate) fn play_item(&mut self, scenario: &Scenario, item: &Item) -> Result<Result<()>> {
        let result = self.steps(&scenario.name, &item.steps);
        if result.is_err() {
            if self.place != "dom0" {
                self.place = String::from("dom0");
                // Whether it can be left shows below.
                drop(self.session.leave_console());
            }
            self.session.interrupt().context("no prompt any more")?;
        }
        Ok(result)
    }

    fn steps(&mut self, scenario: &str, steps: &[(usize, Step)]) -> Result<()> {
        for (line, step) in steps {
            self.step(step).with_context(|| format!("{scenario}, line {line}"))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        let patience = self.patience.get();
        match step {
            Step::Command { how, limit, command } => self.command(*how, *limit * patience, command),
            Step::See(text) if !self.last.output.contains(text.as_str()) => {
                bail!("no {text:?} in what it said:\n{}", self.last.output)
            }
            Step::Unseen(text) if self.last.output.contains(text.as_str()) => {
                bail!("{text:?} is in what it said:\n{}", self.last.output)
            }
            Step::See(_) | Step::Unseen(_) => Ok(()),
            Step::Status(wanted) if *wanted != self.last.status => {
                bail!(
                    "it ended with status {}, not {wanted}:\n{}",
                    self.last.status,
                    self.last.output
                )
            }
            Step::Status(_) => Ok(()),
            Step::Keep(name) => {
                self.kept.insert(name.clone(), self.last.output.clone());
                Ok(())
            }
            Step::Same(name) => {
                let kept =
                    self.kept.get(name).with_context(|| format!("nothing kept as {name}"))?;
                if *kept != self.last.output {
                    bail!("it was:\n{kept}and is now:\n{}", self.last.output);
                }
                Ok(())
            }
            Step::Console { limit, guest } => {
                self.place.clone_from(guest);
                self.session.enter_console(guest, *limit * patience)
            }
            Step::Leave => {
                self.place = String::from("dom0");
                self.session.leave_console()
            }
            Step::Expect { limit, text } => self.session.expect(text, *limit * patience).map(drop),
            Step::Type(text) => self.session.send(&format!("{text}\n")),
            Step::On(hypervisor, step) if *hypervisor == self.hypervisor => self.step(step),
            Step::On(..) => Ok(()),
        }
    }

    fn command(&mut self, how: How, limit: Duration, command: &str) -> Result<()> {
        if self.shown {
            println!("{}:~# {command}", self.place);
        }
        let end = Instant::now() + limit;
        loop {
            self.last = self.session.run(command, limit)?;
            if how != How::Retried || self.last.status == 0 {
                break;
            }
            if Instant::now() >= end {
                bail!("`{command}` still fails after {} s:\n{}", limit.as_secs(), self.last.output);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        if self.shown {
            print!("{}", self.last.output);
        }
        let status = self.last.status;
        match how {
            How::Succeeds if status != 0 => {
                bail!("`{command}` ended with status {status}:\n{}", self.last.output)
            }
            How::Fails if status == 0 => {
                bail!("`{command}` succeeded, which it should not:\n{}", self.last.output)
            }
            How::Succeeds | How::Fails | How::Retried => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_says_machine_steps_and_limits() {
        let text = "# Shows things.\nmachine vcpus=4 cpus=2\n\n# why\nrun 90s xl create a.cfg\nsee demo\nleave\n";
        let scenario = Scenario::parse("things", text).unwrap();
        assert_eq!(scenario.title, "Shows things.");
        assert_eq!(scenario.machine(MachineArgs::default(), None).unwrap().vcpus, 4);
        let create = Step::Command {
            how: How::Succeeds,
            limit: Duration::from_secs(90),
            command: String::from("xl create a.cfg"),
        };
        let steps = [(5, create), (6, Step::See(String::from("demo"))), (7, Step::Leave)];
        assert_eq!(scenario.steps, steps);
    }

    #[test]
    fn a_machine_counts_instructions_with_one_processor_but_not_beside_busy_loops() {
        let machine = |line: &str| {
            let text = format!("# Shows things.\nmachine {line}\nrun true\n");
            let scenario = Scenario::parse("things", &text).unwrap();
            scenario.machine(MachineArgs::default(), None).unwrap()
        };
        assert!(machine("cpus=1").icount && machine("board=raspi4b cpus=4").icount);
        assert!(!machine("cpus=2").icount && !machine("cpus=1 beside=3").icount);
        assert!(!machine("board=raspi4b cpus=4 beside=0").icount);
        assert_eq!(machine("cpus=1 beside=3").beside, Some(3));
    }

    #[test]
    fn a_limit_is_a_number_and_an_s_and_nothing_else() {
        assert_eq!(split_limit("sleep 3s"), (USUAL_LIMIT, String::from("sleep 3s")));
        assert_eq!(split_limit("ls -l"), (USUAL_LIMIT, String::from("ls -l")));
        assert_eq!(split_limit("5s ls"), (Duration::from_secs(5), String::from("ls")));
    }

    #[test]
    fn items_have_steps_of_their_own_and_may_be_named_by_their_command() {
        let text =
            "# Lists.\nrun true\nitem run 5s xl list\nstatus 0\nitem the other\nfails false\n";
        let scenario = Scenario::parse("lists", text).unwrap();
        assert_eq!(scenario.steps.len(), 1);
        let names: Vec<&str> = scenario.items().iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["xl list", "the other"]);
        assert_eq!(scenario.items[0].steps[1], (4, Step::Status(0)));
        assert_eq!(scenario.items[1].steps.len(), 1);
    }

    #[test]
    fn what_holds_on_one_hypervisor_only_says_so_and_why() {
        let text = "# Lists.\nrun true\nxen see credit2\nitem a\nitem b\nonly domus Xen has no hypfs.\nrun true\n";
        let scenario = Scenario::parse("lists", text).unwrap();
        let see = Step::See(String::from("credit2"));
        assert_eq!(scenario.steps[1].1, Step::On(Hypervisor::Xen, Box::new(see)));
        assert_eq!(scenario.missing_on(Hypervisor::Xen), None);
        let [a, b] = scenario.items() else { panic!("two items") };
        assert_eq!(a.missing_on(Hypervisor::Xen), None);
        assert_eq!(b.missing_on(Hypervisor::Domus), None);
        assert_eq!(b.missing_on(Hypervisor::Xen), Some("Xen has no hypfs."));
        let whole = Scenario::parse("card", "# A card.\nonly domus It boots ours.\n").unwrap();
        assert_eq!(whole.missing_on(Hypervisor::Xen), Some("It boots ours."));
        assert!(Scenario::parse("bad", "# Bad.\nonly domus\n").is_err());
        assert!(Scenario::parse("bad", "# Bad.\nonly kvm never\n").is_err());
    }

    #[test]
    fn a_scenario_may_be_played_with_each_of_some_properties() {
        let plain = Scenario::parse("plain", "# Plain.\nrun true\n").unwrap();
        assert_eq!(plain.each(), [None]);
        let text = "# Kernels.\nmachine cpus=1\neach kernel=old kernel=new\nrun true\n";
        let kernels = Scenario::parse("kernels", text).unwrap();
        assert_eq!(kernels.each(), [Some("kernel=old"), Some("kernel=new")]);
        let machine = kernels.machine(MachineArgs::default(), Some("kernel=old")).unwrap();
        assert_eq!(machine.kernel.as_deref(), Some("old"));
    }

    #[test]
    fn a_word_that_is_no_step_is_refused_with_its_line() {
        let error = Scenario::parse("bad", "# Bad.\nrnu ls\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2: `rnu` is none of"), "{error:#}");
        assert!(Scenario::parse("bad", "run ls\n").is_err());
    }
}
