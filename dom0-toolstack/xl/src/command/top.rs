//! `xl top`

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use toolstack::devices::{self, Kind};
use xen_sys::DomId;
use xen_sys::domctl::{DomainInfo, ShutdownReason};
use xen_sys::sysctl::Sysctl;

use super::{Command, shown};
use crate::args::{Flag, Parsed};
use crate::context::Context;
use crate::outcome::{Failure, Outcome, print};

pub(super) const COMMAND: Command = Command {
    name: "top",
    operands: "[options]",
    summary: "Monitor a host and the domains in real time",
    details: "Prints the table of xentop every few seconds until q is typed. CPU time is in seconds \
              and as a share of one CPU since the last table; memory in KiB and as a share of the \
              host's; network traffic in KiB as the guest sees it; disks as requests and sectors.",
    flags: &[
        Flag::new('b', Some("batch"), "Print tables one after another, without a terminal"),
        Flag::new('i', Some("iterations"), "End after so many tables").with_value("NUMBER"),
        Flag::new('d', Some("delay"), "Seconds between tables (3)").with_value("SECONDS"),
    ],
    listed: true,
    run,
};

const HEADER: &str = "      NAME  STATE   CPU(sec) CPU(%)     MEM(k) MEM(%)  MAXMEM(k) MAXMEM(%) VCPUS NETS \
                      NETTX(k) NETRX(k) VBDS   VBD_OO   VBD_RD   VBD_WR  VBD_RSECT  VBD_WSECT SSID\n";
const DELAY: u64 = 3;
/// No limit is as good as this one (libxl: `~0` pages).
const NO_LIMIT: u64 = 1 << 42;

/// What a domain's devices have done.
#[derive(Debug, Default, Eq, PartialEq)]
struct Traffic {
    nets: u32,
    transmitted: u64,
    received: u64,
    disks: u32,
    /// Requests that had to wait, reads, writes, sectors read, sectors written.
    requests: [u64; 5],
}

fn run(context: &Context, parsed: &Parsed) -> Outcome {
    let number = |letter, otherwise| match parsed.value(letter) {
        None => Ok(otherwise),
        Some(text) => text
            .parse::<u64>()
            .map_err(|_not_a_number| Failure::Usage(format!("Invalid number '{text}'."))),
    };
    let (delay, times) = (Duration::from_secs(number('d', DELAY)?), number('i', u64::MAX)?);
    let batch = parsed.has('b') || !isatty(std::io::stdout());
    let _keys = Keys::read_each(!batch);
    let mut before: HashMap<DomId, u64> = HashMap::new();
    let mut last = Instant::now();
    for round in 0..times {
        if round > 0 && waits_for_quit(delay, !batch)? {
            break;
        }
        let now = Instant::now();
        let passed = now - last;
        last = now;
        if !batch {
            print("\x1b[H\x1b[J")?;
        }
        print(&screen(context, &mut before, passed, batch)?)?;
    }
    Ok(())
}

/// One table, with a word about the host above it on a terminal.
fn screen(
    context: &Context,
    before: &mut HashMap<DomId, u64>,
    passed: Duration,
    batch: bool,
) -> Outcome<String> {
    let (xen, store) = (context.xen()?, context.store()?);
    let host = xen.phys_info()?;
    let domains = xen.domains(DomId::DOM0)?;
    let mut text = String::new();
    if !batch {
        let (total, free) = (host.total_pages * 4, host.free_pages * 4);
        let running = domains.iter().filter(|info| info.running).count();
        text.push_str(&format!(
            "xl top - {} domains: {running} running; {} CPUs @ {} MHz; \
             memory: {total}k total, {}k used, {free}k free; q ends\n",
            domains.len(),
            host.cpus,
            host.cpu_khz / 1000,
            total - free
        ));
    }
    text.push_str(HEADER);
    for info in &domains {
        let ran = before.insert(info.domain, info.cpu_time).map(|then| info.cpu_time - then);
        let share = ran.map_or(0.0, |ran| percent(ran, nanoseconds(passed)));
        let mut traffic = Traffic::default();
        for device in devices::list(store, info.domain)? {
            traffic.add(device.kind, &format!("{}", info.domain), device.devid, Path::new("/sys"));
        }
        let name = shown(context, info.domain)?;
        text.push_str(&line(&name, info, share, host.total_pages * 4, &traffic));
    }
    Ok(text)
}

fn nanoseconds(passed: Duration) -> u64 {
    u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
}

/// `part` of `whole` in per cent, to a tenth.
fn percent(part: u64, whole: u64) -> f64 {
    let tenths = (u128::from(part) * 1000).checked_div(u128::from(whole)).unwrap_or(0);
    f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
}

impl Traffic {
    /// Adds what the kernel's backend has counted for one device.
    fn add(&mut self, kind: Kind, domain: &str, devid: u32, sys: &Path) {
        let counted = |path: &Path| -> u64 {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        match kind {
            Kind::Vif => {
                let statistics = sys.join(format!("class/net/vif{domain}.{devid}/statistics"));
                self.nets += 1;
                // What the host's side receives, the guest has transmitted.
                self.transmitted += counted(&statistics.join("rx_bytes"));
                self.received += counted(&statistics.join("tx_bytes"));
            }
            Kind::Vbd => {
                let device = format!("bus/xen-backend/devices/vbd-{domain}-{devid}/statistics");
                let statistics = sys.join(device);
                self.disks += 1;
                let names = ["oo_req", "rd_req", "wr_req", "rd_sect", "wr_sect"];
                for (sum, name) in self.requests.iter_mut().zip(names) {
                    *sum += counted(&statistics.join(name));
                }
            }
            Kind::P9 | Kind::Console | Kind::Vuart => {}
        }
    }
}

fn line(name: &str, info: &DomainInfo, share: f64, host_kib: u64, traffic: &Traffic) -> String {
    let flag = |set: bool, letter| if set { letter } else { '-' };
    let crashed = info.shutdown == Some(ShutdownReason::Crash);
    let state: String = [
        flag(info.dying, 'd'),
        flag(info.shutdown.is_some(), 's'),
        flag(info.blocked, 'b'),
        flag(crashed, 'c'),
        flag(info.paused, 'p'),
        flag(info.running, 'r'),
    ]
    .iter()
    .collect();
    let (memory, maximum) = (info.total_pages * 4, info.max_pages.saturating_mul(4));
    let (maximum, of_host) = if maximum >= NO_LIMIT {
        ("no limit".to_owned(), "n/a".to_owned())
    } else {
        (maximum.to_string(), format!("{:.1}", percent(maximum, host_kib)))
    };
    let Traffic { nets, transmitted, received, disks, requests } = traffic;
    let (transmitted, received) = (transmitted / 1024, received / 1024);
    let [waited, reads, writes, read_sectors, written_sectors] = requests;
    format!(
        "{name:>10} {state:>6} {:>10} {share:>6.1} {memory:>10} {:>6.1} {maximum:>10} {of_host:>9} {:>5} \
         {nets:>4} {transmitted:>8} {received:>8} {disks:>4} {waited:>8} {reads:>8} {writes:>8} \
         {read_sectors:>10} {written_sectors:>10} {:>4}\n",
        info.cpu_time / 1_000_000_000,
        percent(memory, host_kib),
        info.online_vcpus,
        0
    )
}

/// Waits for the next table; says whether the user has had enough.
fn waits_for_quit(delay: Duration, interactive: bool) -> Outcome<bool> {
    if !interactive {
        std::thread::sleep(delay);
        return Ok(false);
    }
    let stdin = std::io::stdin();
    let timeout = rustix::time::Timespec::try_from(delay).ok();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(0) | Err(_) => Ok(false),
        Ok(_) => {
            let mut key = [0];
            let count = stdin.lock().read(&mut key).unwrap_or(0);
            Ok(count == 0 || matches!(key, [b'q' | b'Q' | 3]))
        }
    }
}

/// The terminal, telling of keys one by one as long as this lives.
struct Keys {
    before: Option<Termios>,
}

impl Keys {
    fn read_each(wanted: bool) -> Self {
        let before = if wanted { tcgetattr(std::io::stdin()).ok() } else { None };
        if let Some(mut settings) = before.clone() {
            settings.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
            // A terminal that cannot do that tells of whole lines.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &settings);
        }
        Self { before }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that went away needs no settings.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::list;
    use super::*;

    #[test]
    fn a_line_stands_below_the_header_of_xentop() {
        let info = DomainInfo { running: false, blocked: true, ..list::sample() };
        let traffic = Traffic {
            nets: 1,
            transmitted: 4096,
            received: 10_240,
            disks: 1,
            requests: [0, 7, 3, 56, 24],
        };
        let text = line("g1", &info, 12.5, 2_097_152, &traffic);
        assert_eq!(
            text,
            "        g1 --b---          9   12.5     262160   12.5     263168      12.5     2    1        4       10    1        0        7        3         56         24    0\n"
        );
        assert_eq!(text.len(), HEADER.len());
        let unlimited = DomainInfo { max_pages: u64::MAX, ..info };
        assert!(line("g1", &unlimited, 0.0, 1, &traffic).contains("  no limit       n/a "));
    }

    #[test]
    fn traffic_is_what_the_backends_counted() {
        let sys = tempfile::tempdir().unwrap();
        let net = sys.path().join("class/net/vif3.0/statistics");
        let disk = sys.path().join("bus/xen-backend/devices/vbd-3-51712/statistics");
        for (directory, name, value) in [
            (&net, "rx_bytes", "2048\n"),
            (&net, "tx_bytes", "1024\n"),
            (&disk, "rd_req", "5\n"),
            (&disk, "wr_sect", "16\n"),
        ] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join(name), value).unwrap();
        }
        let mut traffic = Traffic::default();
        traffic.add(Kind::Vif, "3", 0, sys.path());
        traffic.add(Kind::Vbd, "3", 51712, sys.path());
        traffic.add(Kind::Console, "3", 0, sys.path());
        let expected = Traffic {
            nets: 1,
            transmitted: 2048,
            received: 1024,
            disks: 1,
            requests: [0, 5, 0, 0, 16],
        };
        assert_eq!(traffic, expected);
    }
}
