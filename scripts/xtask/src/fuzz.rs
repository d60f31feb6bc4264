//! Fuzzing guided by coverage: libFuzzer, built with the stable compiler, tries what leads the targets of `tests/fuzz` where no input has led yet.
//!
//! What is found is kept in `target/fuzz`; `--keep` takes the smallest set that reaches as much into the tree.

use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{cargo, host, root, run, say};
use crate::system::Count;

/// The target that half of the time is for.
const LARGEST: &str = "hypervisor";
/// Bytes of an input, at most; whole device trees are longer than other inputs.
const LONGEST: u32 = 2048;
const LONGEST_TREE: u32 = 8448;
/// Seconds that one input may take: most take a few milliseconds.
const SLOWEST: &str = "-timeout=30";
/// How coverage is counted: what `cargo fuzz` asks for, where the stable compiler has it.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// How long is looked for faults, and from where.
#[derive(Clone, Copy)]
pub(crate) struct How {
    /// The time it takes in all, whatever the number of targets.
    pub(crate) time: Duration,
    /// What all that is tried follows from.
    pub(crate) seed: u32,
    /// Begins with what is in the tree alone, as every machine does.
    pub(crate) afresh: bool,
}

/// Looks for inputs that make a target fail, by all processors, and counts a result for each target.
pub(crate) fn fuzz(names: &[String], how: How) -> Result<Count> {
    let names = chosen(names)?;
    let program = build()?;
    say(&format!("fuzzing from seed {}; what is found is in target/fuzz", how.seed));
    let workers = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let jobs = Mutex::new(jobs(&names, how, workers.get()));
    let count = Mutex::new(Count::default());
    thread::scope(|scope| {
        for _ in 0..workers.get() {
            scope.spawn(|| {
                loop {
                    let job = jobs.lock().unwrap_or_else(|held| held.into_inner()).pop_front();
                    let Some(job) = job else { break };
                    let began = Instant::now();
                    let result = job.run(&program);
                    let title = match &result {
                        Ok(reached) => format!("fuzz {}: {reached}", job.name),
                        Err(_) => format!("fuzz {}", job.name),
                    };
                    let mut count = count.lock().unwrap_or_else(|held| held.into_inner());
                    count.note(&title, began, &result.map(drop));
                }
            });
        }
    });
    Ok(count.into_inner().unwrap_or_else(|held| held.into_inner()))
}

/// Plays one input, and shows what comes of it.
pub(crate) fn play(name: &str, input: &Path) -> Result<()> {
    ensure!(chosen(&[name.to_owned()])? == [name], "{name} names more than one target");
    let input = fs::canonicalize(input).with_context(|| input.display().to_string())?;
    run(Command::new(build()?).env("FUZZ_TARGET", name).arg(input))
}

/// Takes what was found into the tree: the smallest set of inputs that reaches as much.
pub(crate) fn keep(names: &[String]) -> Result<()> {
    let program = build()?;
    for name in chosen(names)? {
        let (kept, smallest) = (corpus(&name), found(&name, "smallest"));
        make_empty(&smallest)?;
        let mut command = Command::new(&program);
        command.env("FUZZ_TARGET", &name).arg("-merge=1").arg(longest(&name)).arg(SLOWEST);
        command.args([&smallest, &kept, &found(&name, "found")]);
        fs::create_dir_all(found(&name, "found"))?;
        run(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
        make_empty(&kept)?;
        for entry in fs::read_dir(&smallest)? {
            let file = entry?.path();
            fs::copy(&file, kept.join(file.file_name().unwrap_or_default()))?;
        }
        say(&format!("{name}: {} inputs", fs::read_dir(&kept)?.count()));
    }
    Ok(())
}

/// One target's part of a campaign.
struct Job {
    name: String,
    seed: u32,
    time: Duration,
    afresh: bool,
}

impl Job {
    /// Runs it; returns what it reached.
    fn run(&self, program: &Path) -> Result<String> {
        let directory = if self.afresh { "ci" } else { "found" };
        let found_now = found(&self.name, directory);
        if self.afresh {
            make_empty(&found_now)?;
        }
        fs::create_dir_all(&found_now)?;
        let faults = found(&self.name, "fault-");
        let mut command = Command::new(program);
        command.env("FUZZ_TARGET", &self.name).env("RUST_BACKTRACE", "1");
        command.arg(format!("-seed={}", self.seed)).arg(longest(&self.name)).arg(SLOWEST);
        command.arg(format!("-max_total_time={}", self.time.as_secs().max(1)));
        command.arg(format!("-artifact_prefix={}", faults.display()));
        // Long inputs are of use from the start, since each begins with a hypervisor of its own.
        command.args(["-len_control=0", "-print_final_stats=1"]);
        command.arg(&found_now).arg(corpus(&self.name));
        let log = root().join(format!("target/fuzz/{}-{}.log", self.name, self.seed));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the fuzzer cannot be started")?;
        let said = child.stderr.take().context("the fuzzer's messages are read")?;
        let report = Report::read(BufReader::new(said), &log)?;
        let status = child.wait()?;
        if status.success() {
            return Ok(report.reached);
        }
        let Some(input) = report.input else {
            bail!("{status}; see {}", log.display());
        };
        let input = input.replace(&format!("{}/", root().display()), "");
        bail!(
            "seed {}: {}\n        input {input}; again by `cargo xtask fuzz {} --play {input}`",
            self.seed,
            report.fault,
            self.name
        );
    }
}

/// What the fuzzer said.
#[derive(Default)]
struct Report {
    reached: String,
    fault: String,
    input: Option<String>,
}

impl Report {
    fn read(said: impl BufRead, log: &Path) -> Result<Self> {
        let mut log = fs::File::create(log)?;
        let (mut report, mut runs, mut panics) = (Self::default(), String::new(), false);
        for line in said.split(b'\n') {
            let line = line?;
            log.write_all(&line)?;
            log.write_all(b"\n")?;
            let line = String::from_utf8_lossy(&line);
            if panics {
                report.fault.push_str(&line);
                panics = false;
            } else if line.contains("panicked at ") {
                report.fault = format!("{line} ");
                panics = true;
            } else if line.contains("ERROR: libFuzzer: ") && report.fault.is_empty() {
                report.fault = line.to_string();
            }
            if let Some((_, rest)) = line.split_once(" cov: ") {
                report.reached = rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
            if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
                runs = number.trim().to_owned();
            }
            if let Some((_, file)) = line.split_once("Test unit written to ") {
                report.input = Some(file.trim().to_owned());
            }
        }
        report.reached = format!("{} edges reached by {runs} inputs", report.reached);
        Ok(report)
    }
}

/// Shares the time out: half of it is the largest target's, and the others have the rest in equal parts.
fn jobs(names: &[String], how: How, workers: usize) -> VecDeque<Job> {
    let job =
        |name: &str, seed, time| Job { name: name.to_owned(), seed, time, afresh: how.afresh };
    let workers = u32::try_from(workers).unwrap_or(1);
    if let [name] = names {
        // Each processor from a seed of its own.
        return (0..workers).map(|past| job(name, how.seed.wrapping_add(past), how.time)).collect();
    }
    let has_largest = names.iter().any(|name| name == LARGEST);
    let others = u32::try_from(names.len()).unwrap_or(1) - u32::from(has_largest);
    let in_all = how.time * workers;
    let largest = if has_largest { in_all / 2 } else { Duration::ZERO };
    let each = (in_all - largest) / others.max(1);
    let mut jobs = VecDeque::new();
    if has_largest {
        let parts = workers.div_ceil(2);
        jobs.extend(
            (0..parts).map(|past| job(LARGEST, how.seed.wrapping_add(past), largest / parts)),
        );
    }
    let others = names.iter().filter(|name| *name != LARGEST);
    jobs.extend(others.map(|name| job(name, how.seed, each)));
    jobs
}

/// Returns the targets whose names contain one of `names`: each has a directory of inputs.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("tests/fuzz/corpus"))? {
        all.push(entry?.file_name().to_string_lossy().into_owned());
    }
    all.sort();
    let wanted =
        |target: &String| names.is_empty() || names.iter().any(|name| target.contains(name));
    let chosen: Vec<String> = all.iter().filter(|target| wanted(target)).cloned().collect();
    ensure!(!chosen.is_empty(), "there is no such target, but {}", all.join(", "));
    Ok(chosen)
}

/// Builds the targets and the fuzzer; only what is built for this machine counts coverage, no macros and build scripts.
fn build() -> Result<PathBuf> {
    ensure!(
        Command::new("c++").arg("--version").stdout(Stdio::null()).status().is_ok(),
        "a C++ compiler is missing, of which the fuzzer is built: install g++"
    );
    fs::create_dir_all(root().join("target/fuzz"))?;
    say("building the fuzzer");
    let (host, directory) = (host()?, root().join("target/fuzz-build"));
    let mut command = cargo();
    command.args(["build", "--quiet", "--profile", "fuzz", "--package", "fuzz"]);
    command.args(["--features", "engine", "--target", &host, "--target-dir"]).arg(&directory);
    run(command.env("RUSTFLAGS", FLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(directory.join(host).join("fuzz/fuzz"))
}

fn longest(name: &str) -> String {
    format!("-max_len={}", if name == "device-tree" { LONGEST_TREE } else { LONGEST })
}

fn corpus(name: &str) -> PathBuf {
    root().join("tests/fuzz/corpus").join(name)
}

fn found(name: &str, what: &str) -> PathBuf {
    root().join("target/fuzz").join(format!("{name}-{what}"))
}

fn make_empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    Ok(fs::create_dir_all(directory)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(seconds: u64) -> How {
        How { time: Duration::from_secs(seconds), seed: 7, afresh: true }
    }

    #[test]
    fn the_time_is_shared_out_and_none_is_left() {
        let names: Vec<String> = ["a", "b", LARGEST].map(String::from).to_vec();
        for workers in 1..5 {
            let jobs = jobs(&names, how(120), workers);
            let sum: Duration = jobs.iter().map(|job| job.time).sum();
            assert_eq!(sum.as_secs(), 120 * workers as u64);
        }
        let alone = jobs(&names[..1], how(60), 3);
        assert_eq!(alone.iter().map(|job| job.seed).collect::<Vec<_>>(), [7, 8, 9]);
        assert!(alone.iter().all(|job| job.time.as_secs() == 60));
    }

    #[test]
    fn a_report_says_what_failed_and_by_which_input() {
        let said = "#9 NEW cov: 77 ft: 8\n\
                    thread 'x' panicked at tests/fuzz/src/a.rs:1:2:\nthis is wrong\n\
                    ==1== ERROR: libFuzzer: deadly signal\n\
                    artifact_prefix='t'; Test unit written to t/fault-crash-1\n\
                    stat::number_of_executed_units: 1280\n";
        let directory = tempfile::tempdir().unwrap();
        let report = Report::read(said.as_bytes(), &directory.path().join("log")).unwrap();
        assert_eq!(report.fault, "thread 'x' panicked at tests/fuzz/src/a.rs:1:2: this is wrong");
        assert_eq!(report.input.as_deref(), Some("t/fault-crash-1"));
        assert_eq!(report.reached, "77 edges reached by 1280 inputs");
    }
}
