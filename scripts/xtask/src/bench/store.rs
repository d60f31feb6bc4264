//! Our xenstored against Debian's, in C, in one boot: the figures of Xen's own `test-xenstore` and of simulated guests.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::dom0::Session;
use crate::machine::MachineArgs;

/// C's daemon goes through all connections for each request, so that its time grows with their square: ten minutes on a slow machine.
const LIMIT: Duration = Duration::from_secs(3600);
/// How many guests are simulated.
const GUESTS: u32 = 1000;
/// Where Debian's tools are in Dom0.
const DEBIAN: &str = "/usr/lib/xen-debian/bin";

/// Figures by what was measured, in the order in which they came.
type Figures = Vec<(String, u64)>;

/// Measures both and prints the table.
pub(super) fn bench() -> Result<()> {
    let args = MachineArgs { cpus: 1, icount: true, ..MachineArgs::default() };
    let mut session = Session::boot(&args.prepare()?, "bench-store")?;
    succeed(&mut session, "sleep 3")?; // what boots in the background shall be up
    let ours = measure(&mut session).context("our xenstored")?;
    // The other one takes over the kernel's ring; no guest is there to miss the nodes. Xen's launcher allows it many connections, too.
    super::succeed(
        &mut session,
        &format!(
            "kill $(cat /run/xenconsoled.pid) $(cat /run/xenstored.pid); sleep 1; (ulimit -n 4096; {DEBIAN}/xenstored --pid-file /run/xenstored.pid)"
        ),
    )?;
    super::succeed(&mut session, "readlink /proc/$(cat /run/xenstored.pid)/exe | grep xen-4.20")?;
    let theirs = measure(&mut session).context("Debian's xenstored")?;
    // Dom0's kernel waits for nodes that are gone: what is left of it need not end well.
    drop(session);
    let theirs: BTreeMap<String, u64> = theirs.into_iter().collect();
    println!("{:<46} {:>14} {:>14} {:>7}", "", "ours", "C xenstored", "ratio");
    for (name, figure) in ours {
        let other = theirs.get(&name).with_context(|| format!("no figure for {name}"))?;
        super::row(&name, figure, *other);
    }
    Ok(())
}

fn measure(session: &mut Session) -> Result<Figures> {
    let mut figures = Vec::new();
    let said = succeed(session, &format!("{DEBIAN}/test-xenstore -i 100"))?;
    for line in said.lines() {
        // `read 1    : avg: 123 ns (100 ns .. 200 ns)`
        if let Some((name, rest)) = line.split_once(':')
            && let Some(figure) = word_after(rest, "avg:")
        {
            figures.push((format!("test-xenstore, {}, instr.", name.trim()), figure));
        }
    }
    let load = "xenstore-load --pid $(cat /run/xenstored.pid) --guests";
    let said = succeed(session, &format!("{load} {GUESTS}"))?;
    for line in said.lines() {
        let Some((name, rest)) = line.split_once(": ") else { continue };
        if let (Some(all), Some(daemon)) = (word_after(rest, "times,"), word_after(rest, "each,")) {
            figures.push((format!("{name}, instr."), all));
            figures.push((format!("    {name}, daemon"), daemon));
        } else if name == "memory" {
            let figure = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            figures.push((String::from("memory with all of them, KiB"), figure.context("memory")?));
        } else if name.starts_with("slowest") {
            let figure = rest.split_whitespace().next().and_then(|word| word.parse().ok());
            figures.push((format!("{name}, instr."), figure.context("slowest")?));
        }
    }
    Ok(figures)
}

fn succeed(session: &mut Session, command: &str) -> Result<String> {
    let outcome = session.run(command, LIMIT)?;
    anyhow::ensure!(outcome.status == 0, "`{command}` failed:\n{}", outcome.output);
    Ok(outcome.output)
}

/// Returns the number that follows a word.
fn word_after(text: &str, word: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    words.find(|found| *found == word)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_programs_print() {
        let line = " avg: 123456 ns (100 ns .. 200 ns)";
        assert_eq!(word_after(line, "avg:"), Some(123_456));
        let line = "1000 times, 42 ns each, 7 ns of the daemon";
        assert_eq!((word_after(line, "times,"), word_after(line, "each,")), (Some(42), Some(7)));
        assert_eq!(word_after("512 kB", "times,"), None);
    }
}
