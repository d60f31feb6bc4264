//! A machine's serial port, driven from here: text out, and waiting for text with a time limit. Everything said is kept in target/logs.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A running machine and its serial port; dropping it ends the machine.
pub(crate) struct Serial {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// What was received and not yet waited for.
    unread: String,
    /// A character cut in two by the end of a read.
    cut: Vec<u8>,
    log: File,
    log_path: PathBuf,
}

impl Serial {
    /// Starts a machine with its serial port connected here; `name` is the transcript's.
    pub(crate) fn start(mut command: Command, name: &str) -> Result<Self> {
        let logs = crate::process::logs();
        fs::create_dir_all(&logs)?;
        let log_path = logs.join(format!("{name}.log"));
        let log = File::create(&log_path).with_context(|| log_path.display().to_string())?;
        let mut child = command
            .args(["-serial", "stdio", "-monitor", "none"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()
            .context("qemu-system-aarch64 cannot be started; is it installed?")?;
        let input = child.stdin.take().context("QEMU has no input")?;
        let mut from = child.stdout.take().context("QEMU has no output")?;
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = from.read(&mut buffer) {
                let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                    break;
                };
                if sender.send(bytes.to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, input, output, unread: String::new(), cut: Vec::new(), log, log_path })
    }

    /// Types text.
    pub(crate) fn send(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).context("the machine takes no input any more")?;
        self.input.flush()?;
        Ok(())
    }

    /// Waits until the text `wanted` appears; returns what came before it.
    pub(crate) fn expect(&mut self, wanted: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            if let Some((before, after)) = self.unread.split_once(wanted) {
                let before = before.to_owned();
                self.unread = after.to_owned();
                return Ok(before);
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.received(&bytes)?,
                Err(RecvTimeoutError::Timeout) => bail!(
                    "no {wanted:?} within {} s; the last lines were:\n{}\n(all of them: {})",
                    limit.as_secs(),
                    self.last_lines(),
                    self.log_path.display()
                ),
                Err(RecvTimeoutError::Disconnected) => bail!(
                    "the machine ended before {wanted:?}; the last lines were:\n{}\n(all of them: {})",
                    self.last_lines(),
                    self.log_path.display()
                ),
            }
        }
    }

    /// Waits for the machine to end by itself.
    pub(crate) fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.received(&bytes)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(self.child.wait()?),
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the machine still runs after {} s; the last lines were:\n{}",
                    limit.as_secs(),
                    self.last_lines()
                ),
            }
        }
    }

    /// Waits for so long, in which the machine has to go on and to say nothing.
    pub(crate) fn stay_quiet(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            if !self.unread.is_empty() {
                bail!("it went on to say:\n{}", self.unread);
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.received(&bytes)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("the machine ended"),
            }
        }
    }

    fn received(&mut self, bytes: &[u8]) -> Result<()> {
        self.log.write_all(bytes)?;
        self.cut.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.cut) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.cut.len(),
        };
        let rest = self.cut.split_off(whole);
        // The consoles on the way each add a carriage return to a line's end.
        self.unread.push_str(&String::from_utf8_lossy(&self.cut).replace('\r', ""));
        self.cut = rest;
        Ok(())
    }

    /// Returns what was received and not yet waited for.
    pub(crate) fn text(&self) -> &str {
        &self.unread
    }

    /// Returns the end of what was received and not waited for.
    pub(crate) fn last_lines(&self) -> String {
        let lines: Vec<&str> = self.unread.lines().collect();
        let from = lines.len().saturating_sub(25);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to do about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> Serial {
        let mut shell = Command::new("sh");
        shell.args(["-c", "while read -r line; do echo \"got $line\"; done"]);
        Serial::start(shell, "serial-test").unwrap()
    }

    #[test]
    fn what_comes_before_the_wanted_text_is_returned_and_used_up() {
        let mut serial = echo();
        serial.send("one\ntwo\n").unwrap();
        assert_eq!(serial.expect("one", Duration::from_secs(5)).unwrap(), "got ");
        assert_eq!(serial.expect("two", Duration::from_secs(5)).unwrap(), "\ngot ");
    }

    #[test]
    fn a_machine_that_speaks_or_ends_is_not_quiet() {
        let mut serial = echo();
        serial.stay_quiet(Duration::from_millis(50)).unwrap();
        serial.send("one\n").unwrap();
        let error = serial.stay_quiet(Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("go"), "{error}");
        let mut ended = Serial::start(Command::new("true"), "serial-test").unwrap();
        assert!(ended.stay_quiet(Duration::from_secs(5)).is_err());
    }

    #[test]
    fn waiting_for_what_never_comes_ends_at_its_limit() {
        let mut serial = echo();
        serial.send("one\n").unwrap();
        let error = serial.expect("three", Duration::from_millis(300)).unwrap_err();
        assert!(error.to_string().contains("got one"), "{error}");
    }
}
