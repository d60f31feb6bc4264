//! A booted Dom0 and the shell at its prompt: commands in, output and status out.

use anyhow::{Context, Result, bail};
use std::time::Duration;

use crate::crowd::{self, Loops};
use crate::machine::{Machine, Root};
use crate::process::say;
use crate::qemu;
use crate::serial::Serial;

/// How long Dom0 may take from power-on to its prompt.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// The same with systemd, on a host that is busy with other things.
const DEBIAN_BOOT_LIMIT: Duration = Duration::from_secs(1200);
/// Characters typed before an answer is waited for: an input ring on the way may hold no more than 128.
const TYPED_AT_ONCE: usize = 72;
/// A shell function that joins lines to a command until an empty one, then runs it and tells its status.
const READER: &str = "R() { c=; while IFS= read -r l && [ \"$l\" ]; do c=$c$l; echo +; done\neval \"$c\"; echo \"<<$?>>\"; }\n";
const PROMPT: &str = "dom0:~# ";
/// What Dom0's shell says when it is back from a guest's console.
const LEFT: &str = "LEFT_CONSOLE\n";

/// A Dom0 at its prompt.
pub(crate) struct Session {
    serial: Serial,
    /// What keeps the host busy.
    _loops: Loops,
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
        let mut command = qemu::command(machine)?;
        if machine.args.beside.is_some() {
            command = crowd::kept(&command)?;
        }
        let mut serial = Serial::start(command, name)?;
        let limit = match machine.args.root {
            Root::Small => BOOT_LIMIT,
            Root::Debian | Root::Card => DEBIAN_BOOT_LIMIT,
        };
        serial.expect(PROMPT, limit).context("Dom0 did not come up")?;
        serial.send("dmesg -n 1; exec env PS1= dash\n")?;
        let loops = Loops::start(machine.args.beside.unwrap_or(0))?;
        let mut session = Self { serial, _loops: loops };
        session.greet(Duration::from_secs(60)).context("Dom0's shell does not answer")?;
        Ok(session)
    }

    /// Makes the shell that is there neither echo nor prompt, and teaches it to take a command in pieces.
    ///
    /// The quotes keep the echo of the line from looking like the answer.
    fn greet(&mut self, limit: Duration) -> Result<()> {
        self.serial.send("stty -echo; PS1=; echo SILE''NT\n")?;
        let before = self.serial.expect("SILENT\n", limit)?;
        // Then the answer is not of the shell that was wanted.
        if let Some((said, _)) = before.split_once(LEFT) {
            bail!("the console was left at once, with:\n{said}");
        }
        self.serial.send(READER)?;
        self.serial.send("echo RE''ADY\n")?;
        self.serial.expect("READY\n", limit)?;
        Ok(())
    }

    /// Runs a command at the prompt.
    pub(crate) fn run(&mut self, command: &str, limit: Duration) -> Result<Outcome> {
        self.serial.send("R\n")?;
        for piece in pieces(command, TYPED_AT_ONCE) {
            self.serial.send(&format!("{piece}\n"))?;
            self.serial.expect("+\n", limit).with_context(|| format!("typing `{command}`"))?;
        }
        self.serial.send("\n")?;
        let output = self.serial.expect("<<", limit).with_context(|| format!("`{command}`"))?;
        let status = self.serial.expect(">>\n", limit).with_context(|| format!("`{command}`"))?;
        let status = status.parse().with_context(|| format!("the status of `{command}`"))?;
        Ok(Outcome { status, output })
    }

    /// Goes to the shell on a guest's console.
    pub(crate) fn enter_console(&mut self, guest: &str, limit: Duration) -> Result<()> {
        self.serial.send(&format!("xl console {guest}; echo LEFT_CON''SOLE\n"))?;
        // The guest may still be booting: what is typed meanwhile waits in its console's ring.
        self.greet(limit).with_context(|| format!("no shell answers on the console of {guest}"))
    }

    /// Comes back from a guest's console to Dom0's shell.
    pub(crate) fn leave_console(&mut self) -> Result<()> {
        // Alone: xl takes it for the way out only when nothing is typed with it.
        self.serial.send("\u{1d}")?;
        self.serial.expect(LEFT, Duration::from_secs(30)).context("xl console does not end")?;
        Ok(())
    }

    /// Ends whatever Dom0's shell does, and waits for its prompt.
    pub(crate) fn interrupt(&mut self) -> Result<()> {
        // A command may have entered a guest's console, and take a moment to leave it.
        self.serial.send("\u{1d}")?;
        std::thread::sleep(Duration::from_secs(1));
        self.serial.send("\u{3}")?;
        // Ends a command's lines, should the shell still read them.
        self.serial.send("\n\necho BA''CK\n")?;
        self.serial.expect("BACK\n", Duration::from_secs(60))?;
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
        let status = self.serial.end(Duration::from_secs(120)).context("poweroff")?;
        if !status.success() {
            bail!("QEMU ended with {status} after poweroff");
        }
        Ok(())
    }
}

/// Cuts text into pieces of so many characters.
fn pieces(text: &str, length: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(length).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_typed_in_pieces_that_join_to_it() {
        let command = "x".repeat(100) + " 'y z'";
        let cut = pieces(&command, TYPED_AT_ONCE);
        assert_eq!(cut.len(), 2);
        assert_eq!(cut.concat(), command);
    }
}
