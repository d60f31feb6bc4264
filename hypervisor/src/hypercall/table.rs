//! Holds `docs/hypercalls.md` against the code: every number of the interface is in it, every call answers as it says, and what
//! it names as shown by is there.

use super::Outcome;
use crate::testbed::{GUEST_RAM, REQUEST, Testbed};
use hypercall_abi::errno::Errno;
use hypercall_abi::{domctl, event_channel, hypercall, platform, sysctl};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::vec::Vec;

/// The families: the hypercall's name, the module with its numbers, how their names begin, and which register has them.
const FAMILIES: [(&str, &str, &str); 14] = [
    ("event_channel_op", "event_channel", "EVTCHNOP_"),
    ("grant_table_op", "grant_table", "GNTTABOP_"),
    ("memory_op", "memory", ""),
    ("sched_op", "sched", "SCHEDOP_"),
    ("vcpu_op", "vcpu", "VCPUOP_"),
    ("xen_version", "version", "XENVER_"),
    ("hvm_op", "hvm", "HVMOP_"),
    ("physdev_op", "physdev", "PHYSDEVOP_"),
    ("console_io", "console_io", "CONSOLEIO_"),
    ("hypfs_op", "hypfs", "XEN_HYPFS_OP_"),
    ("platform_op", "platform", "XENPF_"),
    ("domctl", "domctl", "XEN_DOMCTL_"),
    ("sysctl", "sysctl", "XEN_SYSCTL_"),
    ("vm_assist", "hypercall", "VMASST_CMD_"),
];

/// Numbers that begin as operations do and are none.
const NO_OPERATIONS: [&str; 22] = [
    "GNTTABOP_CMD_MASK",
    "GRANT_TABLE_STATUS",
    "XENPF_INTERFACE_VERSION",
    "XEN_DOMCTL_CDF_",
    "XEN_DOMCTL_CONFIG_",
    "XEN_DOMCTL_GRANT_",
    "XEN_DOMCTL_INTERFACE_VERSION",
    "XEN_DOMCTL_SCHEDOP_",
    "XEN_DOMCTL_SHADOW_OP_",
    "XEN_DOMCTL_VUART_OP_INIT",
    "XEN_DOMCTL_VUART_TYPE_",
    "XEN_SYSCTL_CPUPOOL_OP_",
    "XEN_SYSCTL_CPUPOOL_PAR_",
    "XEN_SYSCTL_CPU_HOTPLUG_OFFLINE",
    "XEN_SYSCTL_CPU_HOTPLUG_ONLINE",
    "XEN_SYSCTL_INTERFACE_VERSION",
    "XEN_SYSCTL_PHYSCAP_",
    "XEN_SYSCTL_SCHEDOP_",
    "XEN_SYSCTL_TBUFOP_",
    "XEN_SYSCTL_SCHED_RATELIMIT_",
    "FLAGS_",
    "SPACE_",
];

struct Row {
    family: &'static str,
    name: String,
    number: u64,
    answer: String,
    shown_by: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn plain(cell: &str) -> String {
    cell.trim().trim_matches('`').to_string()
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut family = None;
    for line in text("docs/hypercalls.md").lines() {
        if let Some(title) = line.strip_prefix("## `") {
            let (name, _) = title.split_once('`').unwrap();
            family = FAMILIES.iter().map(|family| family.0).find(|known| *known == name);
            assert!(family.is_some(), "{name} is no family");
        }
        let cells: Vec<&str> = line.split('|').collect();
        let [_, name, number, answer, _, shown_by, _] = cells[..] else { continue };
        let Ok(number) = number.trim().parse() else { continue };
        rows.push(Row {
            family: family.unwrap(),
            name: plain(name),
            number,
            answer: plain(answer),
            shown_by: plain(shown_by),
        });
    }
    rows
}

/// Returns the operations that a module of the interface has.
fn operations(module: &str, prefix: &str) -> BTreeSet<(String, u64)> {
    let mut found = BTreeSet::new();
    for line in text(&alloc::format!("hypercall-abi/src/{module}.rs")).lines() {
        let Some((name, rest)) =
            line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": "))
        else {
            continue;
        };
        let Some((_, value)) = rest.split_once(" = ") else { continue };
        let Ok(value) = value.trim_end_matches(';').parse() else { continue };
        let other = NO_OPERATIONS.iter().any(|no| name.starts_with(no));
        // memory_op's operations are the 64-bit numbers of its module.
        let fits =
            if prefix.is_empty() { rest.starts_with("u64") } else { name.starts_with(prefix) };
        if fits && !other {
            found.insert((name.to_string(), value));
        }
    }
    found
}

fn hypercall_number(family: &str) -> u64 {
    let name = alloc::format!("pub const {}: u64 = ", family.to_uppercase());
    let numbers = text("hypercall-abi/src/hypercall.rs");
    let (_, rest) = numbers.split_once(&name).unwrap();
    rest.split_once(';').unwrap().0.parse().unwrap()
}

/// Makes a call of Dom0's with nothing but zeros in what it points to.
fn answer(family: &str, number: u64) -> Outcome {
    let bed = Testbed::new();
    let low = u32::try_from(number).unwrap();
    let arguments = match family {
        // Of zeros would be another kind of interrupt, which only x86 has.
        "domctl"
            if [domctl::XEN_DOMCTL_BIND_PT_IRQ, domctl::XEN_DOMCTL_UNBIND_PT_IRQ]
                .contains(&low) =>
        {
            let irq_type = domctl::PT_IRQ_TYPE_SPI;
            bed.put(&domctl::Domctl::with(
                low,
                1,
                &domctl::BindPtIrq { irq_type, ..Default::default() },
            ));
            [REQUEST, 0, 0, 0, 0]
        }
        "domctl" => {
            bed.put(&domctl::Domctl::new(low, 1));
            [REQUEST, 0, 0, 0, 0]
        }
        "sysctl" if low == sysctl::XEN_SYSCTL_CPUPOOL_OP => {
            let op = sysctl::XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
            bed.put(&sysctl::Sysctl::with(low, &sysctl::CpupoolOp { op, ..Default::default() }));
            [REQUEST, 0, 0, 0, 0]
        }
        "sysctl" => {
            bed.put(&sysctl::Sysctl::new(low));
            [REQUEST, 0, 0, 0, 0]
        }
        "platform_op" => {
            bed.put(&platform::PlatformOp {
                cmd: low,
                interface_version: platform::XENPF_INTERFACE_VERSION,
                payload: [0; 128],
            });
            [REQUEST, 0, 0, 0, 0]
        }
        // There must be a control block before there can be event words.
        "event_channel_op" if low == event_channel::EVTCHNOP_EXPAND_ARRAY => {
            let control_gfn = GUEST_RAM.number();
            let block = event_channel::EvtchnInitControl { control_gfn, ..Default::default() };
            let command = event_channel::EVTCHNOP_INIT_CONTROL;
            bed.op(0, hypercall::EVENT_CHANNEL_OP, command, &block).unwrap();
            [number, REQUEST, 0, 0, 0]
        }
        "vcpu_op" => [number, 0, REQUEST, 0, 0],
        "console_io" => [number, 0, REQUEST, 0, 0],
        "vm_assist" => [number, 5, 0, 0, 0],
        "hypfs_op" if low == 0 => [0; 5],
        _ => [number, REQUEST, 1, 0, 0],
    };
    bed.call(0, hypercall_number(family), arguments)
}

#[test]
fn every_operation_is_in_the_table_once_and_by_its_number() {
    let rows = rows();
    for (family, module, prefix) in FAMILIES {
        let listed: Vec<(String, u64)> = rows
            .iter()
            .filter(|row| row.family == family)
            .map(|row| (row.name.clone(), row.number))
            .collect();
        let unique: BTreeSet<(String, u64)> = listed.iter().cloned().collect();
        assert_eq!(unique.len(), listed.len(), "{family} has a row twice");
        assert_eq!(unique, operations(module, prefix), "{family}");
    }
}

#[test]
fn every_call_answers_as_the_table_says() {
    let mut wrong = Vec::new();
    for row in rows() {
        let outcome = answer(row.family, row.number);
        let refused = match outcome {
            Outcome::Done(Err(error)) => alloc::format!("{error:?}"),
            _ => String::new(),
        };
        let right = if row.answer == "works" {
            outcome != Errno::ENOSYS.into() && outcome != Errno::EOPNOTSUPP.into()
        } else {
            refused == row.answer
        };
        if !right {
            wrong.push(alloc::format!("{}: {} and not {outcome:?}", row.name, row.answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_other_hypercall_is_unknown() {
    let known: BTreeSet<u64> = FAMILIES
        .iter()
        .map(|(family, ..)| hypercall_number(family))
        .chain([hypercall::MULTICALL, hypercall::EXTENSION])
        .collect();
    for number in (0..64).filter(|number| !known.contains(number)) {
        let bed = Testbed::new();
        assert_eq!(bed.call(0, number, [0; 5]), Errno::ENOSYS.into(), "{number}");
    }
}

#[test]
fn what_the_table_says_is_shown_is_there() {
    let mut tests = String::new();
    let mut directories = ["hypervisor/src", "hypervisor/core", "tests/guests/src"]
        .map(|path| root().join(path))
        .to_vec();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                tests.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut missing: Vec<String> = rows()
        .into_iter()
        .filter(|row| row.shown_by != "this table")
        .filter(|row| !tests.contains(&alloc::format!("fn {}(", row.shown_by)))
        .filter(|row| {
            !root().join(alloc::format!("tests/system/{}.scenario", row.shown_by)).exists()
        })
        .map(|row| alloc::format!("{}: {}", row.name, row.shown_by))
        .collect();
    missing.dedup();
    assert!(missing.is_empty(), "{missing:#?}");
}
