//! A host that is busy: QEMU kept on one of the host's processors, beside loops that never wait.

use anyhow::{Context, Result};
use std::fs;
use std::process::{Child, Command};

/// Returns `command` kept on one processor.
pub(crate) fn kept(command: &Command) -> Result<Command> {
    let mut kept = on_one_processor()?;
    kept.arg(command.get_program()).args(command.get_args());
    Ok(kept)
}

/// Loops on the processor that [`kept`] keeps to; dropping them ends them.
pub(crate) struct Loops(Vec<Child>);

impl Loops {
    /// Starts so many.
    pub(crate) fn start(count: u32) -> Result<Self> {
        let mut loops = Self(Vec::new());
        // Should this program be killed, they end by themselves.
        let body = format!("while kill -0 {}; do :; done", std::process::id());
        for _ in 0..count {
            let child = on_one_processor()?.args(["sh", "-c", &body]).spawn();
            loops.0.push(child.context("taskset cannot be started; is util-linux installed?")?);
        }
        Ok(loops)
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Returns a command that runs what is added to it on the first processor that this program may use.
fn on_one_processor() -> Result<Command> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let first = first_allowed(&status).context("/proc/self/status names no processor")?;
    let mut command = Command::new("taskset");
    command.args(["-c", first]);
    Ok(command)
}

/// Finds the first of the processors that a `/proc/PID/status` allows: `Cpus_allowed_list: 2-3,7`.
fn first_allowed(status: &str) -> Option<&str> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().split(['-', ',']).next().filter(|first| !first.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_allowed_processor_is_the_first_number_of_the_list() {
        assert_eq!(first_allowed("Name:\tcat\nCpus_allowed_list:\t2-3,7\n"), Some("2"));
        assert_eq!(first_allowed("Cpus_allowed_list:\t11\n"), Some("11"));
        assert_eq!(first_allowed("Cpus_allowed_list:\t\n"), None);
        assert_eq!(first_allowed("Name:\tcat\n"), None);
    }

    #[test]
    fn a_kept_command_is_the_same_after_taskset() {
        let mut command = Command::new("qemu");
        command.args(["-smp", "2"]);
        let kept = kept(&command).unwrap();
        let arguments: Vec<_> = kept.get_args().skip(2).collect();
        assert_eq!(kept.get_program(), "taskset");
        assert_eq!(arguments, ["qemu", "-smp", "2"]);
    }

    #[test]
    fn loops_end_when_they_are_dropped() {
        let loops = Loops::start(1).unwrap();
        let id = loops.0[0].id();
        drop(loops);
        assert!(!fs::exists(format!("/proc/{id}")).unwrap());
    }
}
