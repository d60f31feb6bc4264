//! Bad calls: every hypercall and sub-operation with bad addresses, ids and sizes, then arguments
//! by chance, then from all vCPUs at once. The hypervisor has to answer each with a number and go
//! on. Needs four vCPUs.
//!
//! As a guest beside others it ends with a crash if a test failed, and its command line may give it
//! another part:
//!
//! | words | what it does |
//! |---|---|
//! | | all tests, as in `tests/system/library.scenario` |
//! | `play=campaign calls=N seed=S` | N calls of all kinds from four vCPUs at once (`hostile/campaign.rs`) |
//! | `play=eater seconds=T wait=W` | eats the hypervisor's heap (`hostile/eater.rs`) |
//!
//! `tests/system/hostile.scenario` and, for long, `campaign.scenario` play both beside guests that
//! work.

mod campaign;
mod eater;
mod prey;
mod stage;

use crate::chance::{self, Chance, calls};
use crate::suite::{Failure, Outcome, Suite, check, check_eq, soon};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use hypercall_abi::hypercall::{
    CONSOLE_IO, DOMCTL, EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, MULTICALL, PHYSDEV_OP,
    PLATFORM_OP, SCHED_OP, SYSCTL, VCPU_OP, VM_ASSIST, XEN_VERSION,
};
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::sched::SHUTDOWN_CRASH;
use prey::Prey;
use pv_guest_lib::hypercall::{event_channel, raw, version};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::{cpu, event, gic, power, say, shared_info, smp, time, tree};

/// No memory, no page tables, not even an address.
const BAD_ADDRESSES: [u64; 5] =
    [0x3f_0000_0000, 0x7f_bfff_fff0, 0x8000_0000_0000_0000, u64::MAX, u64::MAX - 7];

/// Calls made so far, by all vCPUs.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Plays the part that the command line names.
pub fn main() {
    match chance::word("play=") {
        Some("campaign") => alone("campaign", campaign::play),
        Some("eater") => alone("eater", eater::play),
        _ => all_tests(),
    }
}

/// Plays one part and ends: with a crash if it failed, which a toolstack sees where no console is
/// left.
fn alone(name: &str, part: fn() -> Outcome) {
    say!("{name}: seed={}", chance::seed());
    if let Err(Failure(why)) = part() {
        say!("{name}: failed: {why}");
        power::shutdown(SHUTDOWN_CRASH);
    }
    say!("{name}: done");
    campaign::break_console();
}

/// Runs the tests.
fn all_tests() {
    let mut suite = Suite::default();
    say!("seed={} calls={}", chance::seed(), calls());
    suite.test("the shared page is mapped", || Ok(shared_info::map()?));
    event::enable_upcall();
    suite.test("every call with every bad address is answered", bad_addresses);
    suite.test("every call with a page of ones is answered", || filled(u64::MAX));
    suite.test("every call with a page of zeros is answered", || filled(0));
    suite.test("every call with a structure cut off by a hole is answered", cut_off);
    suite.test("commands far beyond those that exist are answered", far_commands);
    suite.test("batches within batches and of nothing are answered", batches);
    suite.test("thousands of calls by chance are answered", by_chance);
    suite.test("calls by chance from all vCPUs at once are answered", racing);
    suite.test("everything by chance from all vCPUs at once is answered", campaign::in_short);
    suite.test("registers of the interrupt controller survive anything", any_register);
    suite.test("changes of memory by chance are answered", memory_by_chance);
    suite.test("the hypervisor is as well as before", alive);
    let passed = suite.all_passed();
    suite.finish();
    if !passed {
        // Its console may be gone by now: a toolstack sees it by this.
        power::shutdown(SHUTDOWN_CRASH);
    }
}

/// Says whether a call would rightly end or stop the guest, or the machine, and so is left out.
fn ends_us(number: u64, first: u64) -> bool {
    let operation = first & 0xffff_ffff;
    match number {
        // block, shutdown and its code, poll, remote_shutdown, watchdogs.
        SCHED_OP => matches!(operation, 1..=6),
        // They print what they are given.
        CONSOLE_IO => operation == 0,
        _ => false,
    }
}

/// Makes a call and checks that its answer is one.
///
/// The memory it may write to must be this file's own pages, or none.
fn call(number: u64, arguments: [u64; 5]) -> i64 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: addresses lie in pages that only atomics reach, or where nothing is; frames are spare
    // pages.
    unsafe { raw(number, arguments) }
}

/// Every hypercall with an operation in x0, and how many operations are tried.
const WITH_OPERATION: [(u64, u64); 9] = [
    (MEMORY_OP, 64),
    (XEN_VERSION, 20),
    (GRANT_TABLE_OP, 20),
    (VCPU_OP, 20),
    (SCHED_OP, 12),
    (EVENT_CHANNEL_OP, 20),
    (PHYSDEV_OP, 40),
    (HVM_OP, 30),
    (VM_ASSIST, 8),
];

/// Counts a call that was made by another way than [`call`].
fn counted<T>(answer: T) -> T {
    CALLS.fetch_add(1, Ordering::Relaxed);
    answer
}

fn looks_like_an_answer(answer: i64) -> bool {
    // An error number, or the result of a call that did something: never an address of the
    // hypervisor's.
    (-200..1 << 47).contains(&answer)
}

fn try_all(address: u64) -> Outcome {
    for (number, operations) in WITH_OPERATION {
        for operation in 0..operations {
            if ends_us(number, operation) {
                continue;
            }
            for count in [1, 3, u64::MAX] {
                // vcpu_op has its address third, after the vCPU.
                let arguments = match number {
                    VCPU_OP => [operation, 0, address, 0, 0],
                    _ => [operation, address, count, 0, 0],
                };
                let answer = call(number, arguments);
                check!(
                    looks_like_an_answer(answer),
                    "call {number}, operation {operation}: {answer:#x}"
                );
            }
        }
    }
    for number in [MULTICALL, PLATFORM_OP, SYSCTL, DOMCTL] {
        let answer = call(number, [address, 2, 0, 0, 0]);
        check!(looks_like_an_answer(answer), "call {number}: {answer:#x}");
    }
    for number in 0..64 {
        if !WITH_OPERATION.iter().any(|(known, _)| *known == number)
            && ![MULTICALL, PLATFORM_OP, SYSCTL, DOMCTL, CONSOLE_IO].contains(&number)
        {
            let answer = call(number, [0, address, address, address, address]);
            check!(answer < 0, "call {number} is unknown, and gave {answer:#x}");
        }
    }
    alive()
}

fn bad_addresses() -> Outcome {
    for address in BAD_ADDRESSES {
        try_all(address)?;
    }
    Ok(())
}

fn filled(word: u64) -> Outcome {
    let page = SharedPage::allocate();
    for (number, operations) in WITH_OPERATION {
        for operation in 0..operations {
            // Frame 0 of this domain is a device's page, and DOMID 0 is this domain: leave memory
            // alone.
            let harmful = ends_us(number, operation) || (number == MEMORY_OP && word == 0);
            if harmful || number == VCPU_OP {
                continue;
            }
            for place in 0..512 {
                page.word64(place * 8).store(word, Ordering::SeqCst);
            }
            let answer = call(number, [operation, page.address(), 1, 0, 0]);
            check!(looks_like_an_answer(answer), "call {number}, {operation}: {answer:#x}");
        }
    }
    for number in [PLATFORM_OP, SYSCTL, DOMCTL, MULTICALL] {
        for place in 0..512 {
            page.word64(place * 8).store(word, Ordering::SeqCst);
        }
        let answer = call(number, [page.address(), 1, 0, 0, 0]);
        check!(looks_like_an_answer(answer), "call {number}: {answer:#x}");
    }
    alive()
}

fn cut_off() -> Outcome {
    // The last bytes of memory: what is longer runs into the hole after it.
    let end = tree::get().memory.iter().map(|range| range.start + range.len).max();
    let Some(end) = end else { return Ok(()) };
    let after_is_hole = pv_guest_lib::probe::load64(end).is_err();
    check!(after_is_hole || crate::suite::is_xen(), "there is something after memory");
    for short in [1, 2, 4, 7] {
        try_all(end - short)?;
    }
    Ok(())
}

fn far_commands() -> Outcome {
    let page = SharedPage::allocate();
    for number in [MEMORY_OP, XEN_VERSION, GRANT_TABLE_OP, VCPU_OP, EVENT_CHANNEL_OP, HVM_OP] {
        for command in [0x30, 0x3f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 63] {
            let arguments = [command, page.address(), page.address(), 0, 0];
            let answer = call(number, arguments);
            // A memory operation's progress stands above its number, and may be the answer.
            let progress = number == MEMORY_OP && answer.cast_unsigned() == command >> 6;
            let fine = progress || looks_like_an_answer(answer);
            check!(fine, "call {number}, {command:#x}: {answer:#x}");
        }
    }
    alive()
}

fn batches() -> Outcome {
    let page = SharedPage::allocate();
    let place = |entry: usize, word: usize, value: u64| {
        page.word64(entry * 64 + word * 8).store(value, Ordering::SeqCst);
    };
    // A batch that calls itself, an unknown call, and one that is in order.
    place(0, 0, MULTICALL);
    place(0, 2, page.address());
    place(0, 3, 2);
    place(1, 0, u64::MAX);
    place(2, 0, XEN_VERSION);
    let answer = call(MULTICALL, [page.address(), 3, 0, 0, 0]);
    check!(looks_like_an_answer(answer), "{answer:#x}");
    check_eq!(page.word64(2 * 64 + 8).load(Ordering::SeqCst), 4 << 16 | 20);
    check_eq!(call(MULTICALL, [page.address(), 0, 0, 0, 0]), 0);
    check!(call(MULTICALL, [BAD_ADDRESSES[0], 1, 0, 0, 0]) < 0);
    alive()
}

fn by_chance() -> Outcome {
    let prey = Prey::new();
    let mut chance = Chance::start(0);
    for round in 0..2 * calls() {
        let (number, operation, answer) = prey.one(&mut chance);
        check!(
            looks_like_an_answer(answer),
            "round {round}: call {number}, operation {operation} gave {answer:#x}"
        );
    }
    alive()
}

/// Changes memory by chance: that of a page to spare, of devices, of domains that are not there.
fn memory_by_chance() -> Outcome {
    // The shared page may come to lie elsewhere, or nowhere.
    event::disable_upcall();
    let registers = gic::distributor().base() >> 12;
    let prey = Prey::new();
    let mut chance = Chance::start(9);
    for round in 0..calls() {
        for page in [prey.requests, prey.arrays] {
            for place in 0..16 {
                let word = prey.word(&mut chance);
                // Memory over the interrupt controller would be the guest's own end.
                let word = if word == registers { 0 } else { word };
                page.word64(place * 8).store(word, Ordering::Relaxed);
            }
        }
        let operations = [0, 1, 6, 7, 11, 15, 16, 17, 23, 24, 25, 26, 27, 28];
        let operation = chance.of(&operations).unwrap_or_default();
        let address = prey.requests.address() + chance.below(8) * 8;
        let answer = call(MEMORY_OP, [operation, address, 0, 0, 0]);
        check!(looks_like_an_answer(answer), "round {round}: {operation} gave {answer:#x}");
    }
    alive()
}

static RACERS: AtomicU32 = AtomicU32::new(0);
static GO: AtomicBool = AtomicBool::new(false);
static ODD_ANSWER: AtomicU64 = AtomicU64::new(0);

fn race() {
    let number = cpu::number() as u64;
    while !GO.load(Ordering::SeqCst) {
        cpu::relax();
    }
    let prey = Prey::new();
    let mut chance = Chance::start(number);
    for _ in 0..calls() {
        let (_, _, answer) = prey.one(&mut chance);
        if !looks_like_an_answer(answer) {
            ODD_ANSWER.store(answer.cast_unsigned(), Ordering::SeqCst);
        }
    }
    RACERS.fetch_add(1, Ordering::SeqCst);
}

fn racing() -> Outcome {
    for number in 1..4 {
        smp::start(number, race)?;
    }
    GO.store(true, Ordering::SeqCst);
    race();
    let done = time::wait_until(20_000, || {
        let _ = pv_guest_lib::hypercall::sched::yield_now();
        RACERS.load(Ordering::SeqCst) == 4
    });
    check!(done, "only {} vCPUs came to their end", RACERS.load(Ordering::SeqCst));
    check_eq!(ODD_ANSWER.load(Ordering::SeqCst), 0);
    check!(soon(|| (1..4).all(|number| !smp::is_on(number))), "they did not go off");
    alive()
}

fn any_register() -> Outcome {
    let gicd = gic::distributor();
    let mut chance = Chance::start(0);
    let offsets: Vec<u64> =
        (0..0x1000u64).step_by(4).chain((0xff00..0x1_0000).step_by(4)).collect();
    for offset in &offsets {
        let _ = pv_guest_lib::probe::load32(gicd.base() + offset);
        let _ = pv_guest_lib::probe::load8(gicd.base() + offset + chance.below(4));
        let _ = pv_guest_lib::probe::load64(gicd.base() + (offset & !7));
        // Misaligned for its size.
        let _ = pv_guest_lib::probe::load32(gicd.base() + offset + 1);
    }
    if gic::version() == 3 {
        let gicr = gic::v3::redistributor(0);
        for offset in (0..0x2_0000u64).step_by(64) {
            let _ = pv_guest_lib::probe::load32(gicr.base() + offset);
            let _ = pv_guest_lib::probe::load64(gicr.base() + offset);
        }
    }
    for _ in 0..200 {
        // SAFETY: a register of the interrupt controller without LPIs changes no memory.
        let _ = unsafe {
            pv_guest_lib::probe::store64(gicd.base() + chance.below(0x200) * 8, chance.next())
        };
    }
    // Back to what start-up made of it.
    gic::init_distributor();
    alive()
}

/// Checks that ordinary calls work as ever.
fn alive() -> Outcome {
    check_eq!(version::version()?, 4 << 16 | 20);
    let port = event_channel::alloc_unbound(DOMID_SELF, DOMID_SELF)?;
    event_channel::close(port)?;
    Ok(())
}
