//! What it takes to carry data between a guest and Dom0, the whole machine counted: Linux's front ends, and the library's in a guest of the same
//! size, on ours and on Debian's Xen.

use anyhow::{Context, Result};

use super::{LIMIT, NOW, number, ratio, succeed};
use crate::dom0::Session;
use crate::machine::{Gic, Hypervisor, MachineArgs, Tools};

/// MiB of a disk that are read and written, and bytes that go over the network each way.
const DISK: u64 = 32;
const BYTES: u64 = 16_000_000;
/// In Dom0's memory: nothing is written back to its own disk meanwhile.
const FILE: &str = "/tmp/throughput/disk.img";
/// Times that each is done; the least counts, for now and then Dom0 has something else to do.
const TIMES: usize = 3;
const LINUX: &str = "192.168.77.10";
const RUST: &str = "192.168.77.40";
/// Measured, by rows.
const ROWS: [&str; 4] =
    ["32 MiB read from a disk", "32 MiB written", "16 MB sent by TCP", "16 MB received"];

/// Instructions of each row: in a Linux guest, and in one on the library.
#[derive(Default)]
struct Costs {
    linux: [u64; 4],
    rust: [u64; 4],
}

/// Measures both hypervisors and prints the table.
pub(super) fn bench(gic: Gic) -> Result<()> {
    let ours = measure(gic, Hypervisor::Domus, Tools::Domus).context("Domus")?;
    let xen = measure(gic, Hypervisor::Xen, Tools::Debian).context("Debian's Xen")?;
    let groups = ["Domus", "Debian's Xen", "Domus / Xen"];
    println!("{:<26} {:^31} {:^31} {:^15}", "", groups[0], groups[1], groups[2]);
    let one = format!("{:>11} {:>11} {:>7}", "Linux", "in Rust", "ratio");
    println!("{:<26} {one} {one} {:>7} {:>7}", "instructions", "Linux", "Rust");
    let both = (ours.linux.into_iter().zip(ours.rust)).zip(xen.linux.into_iter().zip(xen.rust));
    for (row, ((linux, rust), (xen_linux, xen_rust))) in ROWS.iter().zip(both) {
        let pair =
            |linux: u64, rust: u64| format!("{linux:>11} {rust:>11} {:>7}", ratio(rust, linux));
        let across = [ratio(linux, xen_linux), ratio(rust, xen_rust)];
        let [across_linux, across_rust] = across;
        println!(
            "{row:<26} {} {} {across_linux:>7} {across_rust:>7}",
            pair(linux, rust),
            pair(xen_linux, xen_rust)
        );
    }
    Ok(())
}

fn measure(gic: Gic, hypervisor: Hypervisor, tools: Tools) -> Result<Costs> {
    let args =
        MachineArgs { hypervisor, tools, gic, cpus: 1, icount: true, ..MachineArgs::default() };
    let machine = args.prepare()?;
    let name = format!("bench-throughput-{hypervisor:?}-gic{gic}").to_lowercase();
    let mut session = Session::boot(&machine, &name)?;
    succeed(&mut session, "mkdir /tmp/throughput && mount -t tmpfs throughput /tmp/throughput")?;
    succeed(&mut session, &format!("head -c {} /dev/zero > {FILE}", DISK << 20))?;
    let linux = linux(&mut session).context("the Linux guest")?;
    let rust = rust(&mut session).context("the guest in Rust")?;
    session.power_off()?;
    Ok(Costs { linux, rust })
}

fn linux(session: &mut Session) -> Result<[u64; 4]> {
    let disks = format!("s#^disk.*#disk = [ \"{FILE},raw,xvda,w\" ]#");
    succeed(session, &format!("sed '{disks}' /etc/xen/demo.cfg > /tmp/linux.cfg"))?;
    succeed(session, "xl create /tmp/linux.cfg")?;
    session.enter_console("demo", LIMIT)?;
    let chunks = DISK * 4;
    let read = dd(session, "if=/dev/xvda of=/dev/null iflag=direct", chunks)?;
    let write = dd(session, "if=/dev/zero of=/dev/xvda oflag=direct conv=fsync", chunks)?;
    for serve in ["nc -l -p 9 > /dev/null", "nc -l -p 19 < /dev/zero"] {
        succeed(session, &format!("(while :; do busybox {serve}; done) > /dev/null 2>&1 &"))?;
    }
    session.leave_console()?;
    let [sent, received] = network(session, LINUX)?;
    succeed(session, "xl destroy demo")?;
    Ok([read, write, sent, received])
}

/// Copies so many chunks, less what copying none takes.
fn dd(session: &mut Session, how: &str, chunks: u64) -> Result<u64> {
    let mut run = |count: u64| -> Result<u64> {
        let copy = format!("busybox dd {how} bs=256k count={count} 2>/dev/null");
        let timed = format!("a=$({NOW}); {copy}; b=$({NOW}); echo $((b - a))");
        least(|| number(session, &timed))
    };
    Ok(run(chunks)?.saturating_sub(run(0)?))
}

fn rust(session: &mut Session) -> Result<[u64; 4]> {
    let lines = format!(
        "s/^name.*/name = \"rust\"/; /^ramdisk/d; s#^disk.*#disk = [ \"{FILE},raw,xvda,w\" ]#; \
         s#^kernel.*#kernel = \"/var/lib/xen/guests/throughput\"#; \
         s#^extra.*#extra = \"disk={DISK} ip={RUST}/24\"#; s/00:01,/00:40,/"
    );
    succeed(session, &format!("sed '{lines}' /etc/xen/demo.cfg > /tmp/rust.cfg"))?;
    succeed(session, "xl create /tmp/rust.cfg")?;
    let log = "/var/log/xen/console/guest-rust.log";
    succeed(session, &format!("until grep -q 'ready\\|no network' {log}; do sleep 0.1; done"))?;
    let said = succeed(session, &format!("cat {log}"))?;
    let after = |words: &str| -> Result<u64> {
        let rest = said.split_once(words).map(|(_, rest)| rest);
        let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no number after `{words}`; it said:\n{said}"))
    };
    let (read, write) = (after("bytes read in ")?, after("written in ")?);
    let [sent, received] = network(session, RUST)?;
    succeed(session, "xl destroy rust")?;
    Ok([read, write, sent, received])
}

/// Has a guest send and receive.
fn network(session: &mut Session, guest: &str) -> Result<[u64; 2]> {
    succeed(session, &format!("until ping -c 1 -W 1 {guest} > /dev/null; do sleep 0.1; done"))?;
    let mut costs = [0; 2];
    let sent = format!("busybox nc {guest} 19 | head -c {BYTES} | wc -c");
    let received = format!("head -c {BYTES} /dev/zero | busybox nc {guest} 9 | wc -c");
    for (cost, (command, said)) in costs.iter_mut().zip([(sent, BYTES), (received, 0)]) {
        *cost = least(|| {
            // Whoever served the last one listens again by then.
            succeed(session, "sleep 1")?;
            let before = number(session, NOW)?;
            let came = number(session, &command)?;
            anyhow::ensure!(came == said, "{came} bytes came of {said}");
            Ok(number(session, NOW)? - before)
        })?;
    }
    Ok(costs)
}

/// Does something a few times; returns the least it took.
fn least(mut run: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..TIMES {
        least = least.min(run()?);
    }
    Ok(least)
}
