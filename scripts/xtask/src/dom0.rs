//! A booted Dom0 and the shell at its prompt: commands in, output and status out.

use anyhow::{Context, Result, bail};
use std::time::Duration;

use crate::machine::Machine;
use crate::process::say;
use crate::qemu;
use crate::serial::Serial;

/// How long Dom0 may take from power-on to its prompt.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const PROMPT: &str = "dom0:~# ";

/// A Dom0 at its prompt.
pub(crate) struct Session {
    serial: Serial,
}

/// What a command did.
pub(crate) struct Outcome {
    pub(crate) status: u32,
    pub(crate) output: String,
}

impl Session {
    /// Boots a machine to Dom0's prompt; `name` is the transcript's.
    pub(crate) fn boot(machine: &Machine, name: &str) -> Result<Self> {
        say(&format!("booting Dom0 (transcript in target/logs/{name}.log)"));
        let mut serial = Serial::start(qemu::command(machine)?, name)?;
        serial.expect(PROMPT, BOOT_LIMIT).context("Dom0 did not come up")?;
        // A shell that neither echoes nor edits, so that what comes back is what commands say. The quotes keep
        // the echo of this very line from looking like the answer.
        serial.send("dmesg -n 1; exec env PS1= dash\nstty -echo; echo RE''ADY\n")?;
        serial
            .expect("READY\n", Duration::from_secs(30))
            .context("Dom0's shell does not answer")?;
        Ok(Self { serial })
    }

    /// Runs a command at the prompt.
    pub(crate) fn run(&mut self, command: &str, limit: Duration) -> Result<Outcome> {
        self.serial.send(&format!("{command}\necho \"<<$?>>\"\n"))?;
        let output = self.serial.expect("<<", limit).with_context(|| format!("`{command}`"))?;
        let status = self.serial.expect(">>\n", limit).with_context(|| format!("`{command}`"))?;
        let status = status.parse().with_context(|| format!("the status of `{command}`"))?;
        Ok(Outcome { status, output })
    }

    /// Goes to the shell on a guest's console.
    pub(crate) fn enter_console(&mut self, guest: &str, limit: Duration) -> Result<()> {
        self.serial.send(&format!("xl console {guest}; echo LEFT_CON''SOLE\n"))?;
        // The guest may still be booting: what is typed meanwhile waits in its console's ring.
        self.serial.send("stty -echo; PS1=; echo GUEST''_READY\n")?;
        self.serial
            .expect("GUEST_READY\n", limit)
            .with_context(|| format!("no shell answers on the console of {guest}"))?;
        Ok(())
    }

    /// Comes back from a guest's console to Dom0's shell.
    pub(crate) fn leave_console(&mut self) -> Result<()> {
        // Alone: xl takes it for the way out only when nothing is typed with it.
        self.serial.send("\u{1d}")?;
        self.serial
            .expect("LEFT_CONSOLE\n", Duration::from_secs(30))
            .context("xl console does not end")?;
        Ok(())
    }

    /// Types text, as it is.
    pub(crate) fn send(&mut self, text: &str) -> Result<()> {
        self.serial.send(text)
    }

    /// Waits for text on the console.
    pub(crate) fn expect(&mut self, wanted: &str, limit: Duration) -> Result<String> {
        self.serial.expect(wanted, limit)
    }

    /// Powers Dom0 off; the machine must end by itself and well.
    pub(crate) fn power_off(mut self) -> Result<()> {
        self.serial.send("poweroff\n")?;
        let status = self.serial.end(Duration::from_secs(60)).context("poweroff")?;
        if !status.success() {
            bail!("QEMU ended with {status} after poweroff");
        }
        Ok(())
    }
}
