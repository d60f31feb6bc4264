//! The project's commands: build, check, test, run, bench. Decides what each needs to be built first; acts by calling cargo, QEMU and `scripts/rootfs/make`.

mod bench;
mod check;
mod compile;
mod crowd;
mod debian;
mod dom0;
mod fuzz;
mod guests;
mod image;
mod machine;
mod miri;
mod process;
mod qemu;
mod raspi4b;
mod refusals;
mod scenario;
mod serial;
mod size;
mod system;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::{self, available_parallelism};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use machine::MachineArgs;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the hypervisor (target/dist/qemu-virt.img, raspberry-pi-4.img), the toolstack (target/dist/bin/) and its manual (target/dist/share/)
    Build,
    /// Makes the Debian packages domus-hypervisor and domus-toolstack (target/dist/*.deb)
    Deb,
    /// Makes an SD card image for a Raspberry Pi 4 (target/dist/sdcard-raspberry-pi-4.img)
    Sdcard,
    /// Makes Dom0's disk with the toolstack on it (target/dist/dom0.ext4)
    Image,
    /// Boots Dom0 to a prompt on this terminal (Ctrl-A X ends QEMU)
    Run {
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Like run, but waits for a debugger on port 1234
    Gdb {
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Format, lints, documentation
    Check,
    /// Tests on this machine
    Test,
    /// Tries what leads the code that reads others' words where no input has led yet, on all processors
    Fuzz {
        /// How long that goes on
        #[arg(long, default_value_t = 2)]
        minutes: u64,
        /// Begins from this seed; from one of the time of day, if it is not given
        #[arg(long)]
        seed: Option<u32>,
        /// Plays this input, and nothing else
        #[arg(long, value_name = "FILE", conflicts_with_all = ["minutes", "seed", "keep"])]
        play: Option<PathBuf>,
        /// Takes what was found into the tree, and nothing else
        #[arg(long)]
        keep: bool,
        /// Targets, or parts of names
        targets: Vec<String>,
    },
    /// The guest library's tests under miri (installs a nightly compiler where there is none)
    Miri,
    /// Bare-metal tests in QEMU, or those whose names contain a NAME; and what the hypervisor refuses to start with
    Guests {
        /// The hypervisor below them
        #[arg(long, value_enum, default_value = "domus")]
        hypervisor: machine::Hypervisor,
        /// Version of the interrupt controller: 2 or 3
        #[arg(long, default_value_t = machine::Gic::V3)]
        gic: machine::Gic,
        /// Names, or parts of names
        names: Vec<String>,
    },
    /// Ours and Debian's Xen side by side, in instructions
    Bench {
        /// Version of the interrupt controller: 2 or 3
        #[arg(long, default_value_t = machine::Gic::V3)]
        gic: machine::Gic,
        /// Which tables: all, if none is named
        #[arg(value_enum)]
        tables: Vec<bench::Table>,
    },
    /// Bytes of what ships, and lines of unsafe, by crate
    Size,
    /// Everything: check, test, guests, system; with NAMEs only the guests and scenarios of such names
    Ci {
        /// Also plays the scenarios that take long, and all of them on Debian's Xen: hours
        #[arg(long)]
        long: bool,
        /// Names, or parts of names
        names: Vec<String>,
    },
    /// Plays the scenarios of tests/system, or those whose names contain a NAME
    System {
        #[command(flatten)]
        machine: MachineArgs,
        /// Prints what the commands say, not just the results
        #[arg(long)]
        show: bool,
        /// Plays the scenarios that take long as well
        #[arg(long)]
        long: bool,
        /// Plays so many of the scenarios that count instructions at the same time
        #[arg(long, default_value_t = NonZero::<usize>::MIN, conflicts_with = "show")]
        side_by_side: NonZero<usize>,
        /// Multiplies the scenarios' limits, for a slow or busy host
        #[arg(long, default_value_t = NonZero::<u32>::MIN)]
        patience: NonZero<u32>,
        /// Names, or parts of names
        names: Vec<String>,
    },
    /// Shows the whole system without a person: a guest is created, used, shut down
    Demo {
        #[command(flatten)]
        machine: MachineArgs,
    },
    /// Boots Dom0, runs each COMMAND at its prompt, prints what it says, powers off
    Dom0 {
        #[command(flatten)]
        machine: MachineArgs,
        /// Seconds that each command may take
        #[arg(long, default_value_t = 60)]
        limit: u64,
        /// Shell commands, each one argument
        #[arg(required = true)]
        commands: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Build => compile::everything(),
        Command::Deb => debian::packages().map(drop),
        Command::Sdcard => debian::sd_card(),
        Command::Image => image::dom0(true, &[]).map(drop),
        Command::Run { machine } => qemu::interactive(&machine.prepare()?, qemu::Debugger::None),
        Command::Gdb { machine } => qemu::interactive(&machine.prepare()?, qemu::Debugger::Waits),
        Command::Check => check::check().finish(),
        Command::Test => check::test()?.finish(),
        Command::Fuzz { play: Some(input), targets, .. } => {
            let [target] = &targets[..] else { bail!("name the target that is to play it") };
            fuzz::play(target, &input)
        }
        Command::Fuzz { keep: true, targets, .. } => fuzz::keep(&targets),
        Command::Fuzz { minutes, seed, targets, .. } => {
            let of_today = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
            let time = Duration::from_secs(60 * minutes);
            let how = fuzz::How { time, seed: seed.unwrap_or(of_today), afresh: false };
            fuzz::fuzz(&targets, how)?.finish()
        }
        Command::Miri => miri::miri(),
        Command::Guests { hypervisor, gic, names } => {
            let mut count = guests::play(hypervisor, gic, &names)?;
            if hypervisor == machine::Hypervisor::Domus {
                count.add(refusals::play(&names)?);
            }
            count.finish()
        }
        Command::Bench { gic, tables } => bench::bench(gic, &tables),
        Command::Size => size::size(),
        Command::Ci { long, names } => ci(&names, long),
        Command::System { machine, show, long, side_by_side, patience, names } => {
            ensure!(system::is_any(&names)?, "no scenario in tests/system has such a name");
            let show = if show { system::Show::Everything } else { system::Show::OnlyResults };
            let how = system::How { show, side_by_side, patience };
            system::play(&[machine], &names, long, how)?.finish()
        }
        Command::Demo { machine } => system::demo(&machine),
        Command::Dom0 { machine, limit, commands } => {
            let mut session = dom0::Session::boot(&machine.prepare()?, "dom0")?;
            for command in &commands {
                println!("dom0:~# {command}");
                let outcome = session.run(command, Duration::from_secs(limit))?;
                print!("{}", outcome.output);
                println!("(status {})", outcome.status);
            }
            session.power_off()
        }
    }
}

/// Checks and runs the host's tests. Beside them is made what the scenarios boot from: that waits for the network, those for the compiler.
fn check_and_test() -> Result<system::Count> {
    thread::scope(|scope| {
        let images = scope.spawn(|| {
            image::base(&[])?;
            if raspi4b::missing().is_none() {
                debian::base()?;
            }
            anyhow::Ok(())
        });
        let mut count = check::check();
        count.add(check::test()?);
        match images.join() {
            // Whoever needs one tries again, and fails with the reason.
            Ok(Err(error)) => eprintln!("error: {error:#}"),
            Ok(Ok(())) => {}
            Err(panic) => resume_unwind(panic),
        }
        Ok(count)
    })
}

/// The part of a campaign that goes with every run of the tests: the same on all machines that are as fast.
const FUZZING: fuzz::How = fuzz::How { time: Duration::from_secs(120), seed: 0x5eed, afresh: true };

/// Runs every test there is, quickest first; what takes long only if `long`.
fn ci(names: &[String], long: bool) -> Result<()> {
    let mut count = system::Count::default();
    if names.is_empty() {
        count.add(check_and_test()?);
        count.add(fuzz::fuzz(&[], FUZZING)?);
    }
    let gics = [machine::Gic::V3, machine::Gic::V2];
    for gic in gics {
        count.add(guests::play(machine::Hypervisor::Domus, gic, names)?);
    }
    if long {
        for gic in gics {
            count.add(guests::play(machine::Hypervisor::Xen, gic, names)?);
        }
    }
    count.add(refusals::play(names)?);
    let mut machines = Vec::from(gics.map(|gic| MachineArgs { gic, ..MachineArgs::default() }));
    if long {
        let xen = MachineArgs { hypervisor: machine::Hypervisor::Xen, ..MachineArgs::default() };
        machines.push(xen);
    }
    // By counted instructions, as those with one processor are, one does not disturb the other.
    let side_by_side = available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let how = system::How {
        show: system::Show::OnlyResults,
        side_by_side,
        patience: NonZero::<u32>::MIN,
    };
    count.add(system::play(&machines, names, long, how)?);
    count.finish()
}
