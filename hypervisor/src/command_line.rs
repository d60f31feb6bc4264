//! The hypervisor's command line: what is asked for, and what of it is not understood.
//!
//! The syntax is Xen's (`docs/misc/xen-command-line`): words separated by blanks, each `name`,
//! `name=value` or, for a switch, `no-name`. Of two equal options the last one counts. A word that is
//! unknown or malformed is left out and complained about; the start-up code logs the complaints.

mod size;

use crate::interface::Interface;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use log::LevelFilter;
pub use size::{Amount, Dom0Memory};

/// A word of the command line that was not understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Complaint {
    /// The word.
    pub word: String,
    /// What is wrong with it, as a clause: "is not known".
    pub problem: String,
}

impl core::fmt::Display for Complaint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "command line: `{}` {}", self.word, self.problem)
    }
}

/// Which messages are shown: always, and if they are not too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogLevels {
    /// These are always shown.
    pub always: LevelFilter,
    /// These as well, as long as there are few.
    pub limited: LevelFilter,
}

/// The names of the levels (`docs/misc/xen-command-line` of Xen), from silence to everything.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("none", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warning", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("all", LevelFilter::Trace),
];

impl LogLevels {
    /// Reads `LEVEL` or `LEVEL/LEVEL`; the error is what is wrong with it, as a clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (always, limited) = text.split_once('/').unwrap_or((text, text));
        let (always, limited) = (one_of(always, &LEVELS)?, one_of(limited, &LEVELS)?);
        Ok(Self { always, limited: limited.max(always) })
    }
}

impl core::fmt::Display for LogLevels {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = |wanted: LevelFilter| {
            let known = LEVELS.iter().find(|(_, level)| *level == wanted);
            known.map_or("none", |(name, _)| *name)
        };
        write!(f, "{}/{}", name(self.always), name(self.limited))
    }
}

/// The character that switches the console's input between Dom0 and the hypervisor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConsoleSwitch {
    /// It is typed with Ctrl, three times; nothing turns switching off.
    pub letter: Option<char>,
    /// Input goes to Dom0 once it runs.
    pub to_dom0: bool,
}

/// What the command line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// `dom0_mem=`: how much memory Dom0 gets.
    pub dom0_mem: Dom0Memory,
    /// `dom0_max_vcpus=`: how many virtual processors Dom0 gets.
    pub dom0_max_vcpus: Option<u32>,
    /// `dom0_vcpus_pin`: Dom0's virtual processors stay on their processors.
    pub dom0_vcpus_pin: bool,
    /// `maxcpus=`: how many processors are started.
    pub max_cpus: Option<u32>,
    /// `console=`: consoles by name, all of which mean the serial port; `none` turns it off.
    pub console: Vec<String>,
    /// `dtuart=`: path or alias of the serial port, with options after a colon.
    pub dtuart: Option<String>,
    /// `sync_console`: write each message out before going on, which is always done.
    pub sync_console: bool,
    /// `conswitch=`: who gets the console's input.
    pub console_switch: ConsoleSwitch,
    /// `conring_size=`: bytes of the message buffer.
    pub console_ring_size: Option<u64>,
    /// `loglvl=`: which messages of the hypervisor are shown.
    pub log_level: LogLevels,
    /// `guest_loglvl=`: which messages about guests are shown.
    pub guest_log_level: LogLevels,
    /// `noreboot`: stop after a failure or a reboot request instead of starting again.
    pub noreboot: bool,
    /// `vwfi=native`: a waiting guest keeps its processor.
    pub vwfi_native: bool,
    /// `xsm=dummy`: two unprivileged domains may share memory and event channels.
    pub domains_may_share: bool,
    /// `xen-interface=`: the version of Xen whose tools Dom0 runs.
    pub interface: Interface,
    /// `gnttab_max_frames=`: most frames of a domain's grant table.
    pub max_grant_frames: Option<u32>,
    /// `gnttab_max_maptrack_frames=`: most frames to keep track of a domain's mappings.
    pub max_maptrack_frames: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        let shown = LogLevels { always: LevelFilter::Info, limited: LevelFilter::Info };
        let guests = LogLevels { always: LevelFilter::Error, limited: LevelFilter::Warn };
        Self {
            dom0_mem: Dom0Memory::default(),
            dom0_max_vcpus: None,
            dom0_vcpus_pin: false,
            max_cpus: None,
            console: Vec::new(),
            dtuart: None,
            sync_console: false,
            console_switch: ConsoleSwitch { letter: Some('a'), to_dom0: true },
            console_ring_size: None,
            log_level: shown,
            guest_log_level: guests,
            noreboot: false,
            vwfi_native: false,
            domains_may_share: false,
            interface: Interface::default(),
            max_grant_frames: None,
            max_maptrack_frames: None,
        }
    }
}

impl Options {
    /// Takes a command line apart. What is not understood does not count, and is complained about.
    pub fn parse(line: &str) -> (Self, Vec<Complaint>) {
        let mut options = Self::default();
        let mut complaints = Vec::new();
        for word in line.split_ascii_whitespace() {
            // Loaders put the image's name first; `--` ends what is meant for the hypervisor.
            if word == "--" {
                break;
            }
            if let Err(problem) = options.apply(word) {
                complaints.push(Complaint { word: word.to_string(), problem });
            }
        }
        (options, complaints)
    }

    /// Takes one word; an error is a clause that says what is wrong with it.
    fn apply(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match name {
            "dom0_mem" => self.dom0_mem = Dom0Memory::parse(needed(value)?)?,
            "dom0_max_vcpus" => self.dom0_max_vcpus = Some(most(needed(value)?)?),
            "maxcpus" => self.max_cpus = Some(number(needed(value)?, 1)?),
            "console" => {
                self.console = needed(value)?.split(',').map(ToString::to_string).collect();
            }
            "dtuart" => self.dtuart = Some(needed(value)?.to_string()),
            "conswitch" => self.console_switch = console_switch(needed(value)?)?,
            "conring_size" => self.console_ring_size = Some(size::bytes(needed(value)?)?),
            "loglvl" => self.log_level = LogLevels::parse(needed(value)?)?,
            "guest_loglvl" => self.guest_log_level = LogLevels::parse(needed(value)?)?,
            "vwfi" => {
                self.vwfi_native = one_of(needed(value)?, &[("native", true), ("trap", false)])?;
            }
            "xen-interface" => self.interface = one_of(needed(value)?, &Interface::NAMES)?,
            "sched" => one_of(needed(value)?, &[("credit2", ())])?,
            "xsm" => {
                self.domains_may_share =
                    one_of(needed(value)?, &[("dummy", true), ("silo", false)])?;
            }
            "gnttab_max_frames" => self.max_grant_frames = Some(number(needed(value)?, 1)?),
            "gnttab_max_maptrack_frames" => {
                self.max_maptrack_frames = Some(number(needed(value)?, 0)?);
            }
            _ => return self.switch(name, value),
        }
        Ok(())
    }

    /// Takes one word that turns something on or off.
    fn switch(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        let (name, wanted) = match name.strip_prefix("no-") {
            Some(name) => (name, false),
            None => (name, true),
        };
        let switch = match name {
            "noreboot" => &mut self.noreboot,
            "dom0_vcpus_pin" => &mut self.dom0_vcpus_pin,
            "sync_console" => &mut self.sync_console,
            _ => return Err("is not known".into()),
        };
        *switch = match value {
            None => wanted,
            Some(value) => boolean(value)? == wanted,
        };
        Ok(())
    }
}

fn needed(value: Option<&str>) -> Result<&str, String> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| "needs a value".into())
}

fn number(text: &str, least: u32) -> Result<u32, String> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match value {
        Ok(value) if value >= least => Ok(value),
        Ok(_) => Err(format!("is less than {least}")),
        Err(_) => Err("needs a whole number".into()),
    }
}

/// Takes `most` or `least-most`, as `dom0_max_vcpus` has it.
fn most(text: &str) -> Result<u32, String> {
    let Some((least, most)) = text.split_once('-') else { return number(text, 1) };
    let least = if least.is_empty() { 1 } else { number(least, 1)? };
    if most.is_empty() {
        return Ok(least);
    }
    number(most, least)
}

fn boolean(text: &str) -> Result<bool, String> {
    const TEXTS: [(&str, bool); 10] = [
        ("1", true),
        ("yes", true),
        ("on", true),
        ("true", true),
        ("enable", true),
        ("0", false),
        ("no", false),
        ("off", false),
        ("false", false),
        ("disable", false),
    ];
    one_of(text, &TEXTS)
}

fn one_of<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    Err(format!("is none of {}", names.join(", ")))
}

/// Takes a letter and perhaps an `x`, which leaves input to the hypervisor at first.
fn console_switch(text: &str) -> Result<ConsoleSwitch, String> {
    let mut letters = text.chars();
    let letter = letters.next().filter(|letter| *letter != '0');
    let to_dom0 = match letters.next() {
        None => true,
        Some('x') => false,
        Some(_) => return Err("has more than a letter and an x".into()),
    };
    if letters.next().is_some() || letter.is_some_and(|letter| !letter.is_ascii_alphabetic()) {
        return Err("has more than a letter and an x".into());
    }
    Ok(ConsoleSwitch { letter, to_dom0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &str) -> Options {
        let (options, complaints) = Options::parse(line);
        assert_eq!(complaints, [], "{line}");
        options
    }

    fn problem(line: &str) -> String {
        let (options, complaints) = Options::parse(line);
        assert_eq!(options, Options::default(), "{line}");
        match complaints.as_slice() {
            [complaint] => complaint.to_string(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn an_empty_line_asks_for_nothing() {
        assert_eq!(understood("  "), Options::default());
    }

    #[test]
    fn the_options_of_a_usual_line_are_found() {
        let options = understood(
            "dom0_mem=1G,max:2G dom0_max_vcpus=1-4 console=dtuart dtuart=serial0:115200 \
             loglvl=all guest_loglvl=error/all noreboot conswitch=ax vwfi=native maxcpus=2 \
             sched=credit2 xsm=dummy conring_size=64K gnttab_max_frames=0x20 -- quiet",
        );
        assert_eq!(options.dom0_mem.size, Some(Amount::bytes(1 << 30)));
        assert_eq!(options.dom0_mem.max, Some(Amount::bytes(2 << 30)));
        assert_eq!(options.dom0_max_vcpus, Some(4));
        assert_eq!(options.console, ["dtuart"]);
        assert_eq!(options.dtuart.as_deref(), Some("serial0:115200"));
        assert_eq!(options.log_level.always, LevelFilter::Trace);
        assert_eq!(options.guest_log_level.always, LevelFilter::Error);
        assert_eq!(options.guest_log_level.limited, LevelFilter::Trace);
        assert!(options.noreboot && options.vwfi_native && options.domains_may_share);
        assert_eq!(options.console_switch, ConsoleSwitch { letter: Some('a'), to_dom0: false });
        assert_eq!(options.max_cpus, Some(2));
        assert_eq!(options.console_ring_size, Some(64 << 10));
        assert_eq!(options.max_grant_frames, Some(32));
    }

    #[test]
    fn a_switch_can_be_turned_off_and_the_last_word_counts() {
        assert!(understood("noreboot=yes").noreboot);
        assert!(!understood("noreboot no-noreboot").noreboot);
        assert!(!understood("noreboot noreboot=0").noreboot);
        assert!(understood("no-noreboot=false").noreboot);
        assert_eq!(understood("maxcpus=1 maxcpus=3").max_cpus, Some(3));
    }

    #[test]
    fn what_is_not_understood_is_named_and_does_not_count() {
        assert_eq!(problem("frobnicate"), "command line: `frobnicate` is not known");
        assert_eq!(problem("dom0_mem"), "command line: `dom0_mem` needs a value");
        assert_eq!(problem("maxcpus=0"), "command line: `maxcpus=0` is less than 1");
        assert_eq!(problem("maxcpus=two"), "command line: `maxcpus=two` needs a whole number");
        assert_eq!(problem("vwfi=maybe"), "command line: `vwfi=maybe` is none of native, trap");
        assert!(problem("noreboot=perhaps").contains("none of 1, yes"));
        assert!(problem("dom0_mem=1Q").contains("size"));
        assert!(problem("conswitch=abc").contains("more than"));
        assert!(problem("dom0_max_vcpus=4-2").contains("less than 4"));
        assert!(problem("loglvl=loud/all").contains("none of none, error"));
        assert!(problem("dom0_mem=99999999999999999999G").contains("size"));
    }
}
