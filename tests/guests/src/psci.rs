//! Power calls: PSCI 1.1, SMCCC discovery, processors on and off. Needs four vCPUs.

use crate::suite::{Outcome, Suite, check, check_eq, soon};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use pv_guest_lib::power::{
    self, AFFINITY_INFO, CPU_OFF, CPU_ON, CPU_SUSPEND, MIGRATE_INFO_TYPE, PSCI_FEATURES,
    PSCI_VERSION, SMCCC_ARCH_FEATURES, SMCCC_VERSION, SYSTEM_OFF, SYSTEM_RESET,
};
use pv_guest_lib::time::{self, Timer};
use pv_guest_lib::{cpu, gic, smp, try_instruction};

const NOT_SUPPORTED: u64 = u64::MAX;
const INVALID_PARAMETERS: i64 = -2;
const ALREADY_ON: i64 = -4;

static STARTS: AtomicU32 = AtomicU32::new(0);
static AFFINITIES: [AtomicU64; 4] = [const { AtomicU64::new(u64::MAX) }; 4];

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("PSCI is version 1.1", || {
        check_eq!(ask(PSCI_VERSION, 0), 0x1_0001);
        Ok(())
    });
    suite.test("the functions offered are told", features);
    suite.test("no trusted system migrates", || {
        check_eq!(ask(MIGRATE_INFO_TYPE, 0), 2);
        Ok(())
    });
    suite.test("unknown functions are not supported", unknown);
    suite.test("SMCCC is told, with its features", smccc);
    suite.test("the hypervisor's service says who it is", hypervisor_service);
    suite.test("SMC works as HVC does", by_smc);
    suite.test("HVC and SMC with other numbers are undefined", other_immediates);
    suite.test("processors that are off are told apart", affinity_info);
    suite.test("bad processors are refused", bad_cpu_on);
    suite.test("a processor comes up and goes off", once);
    suite.test("three processors come up as themselves", all_at_once);
    suite.test("a processor goes on and off ten times", many_times);
    suite.test("a suspended processor wakes by its timer", suspend);
    suite.finish();
}

fn ask(function: u64, argument: u64) -> u64 {
    // SAFETY: the functions asked for here change no memory.
    let [answer, ..] = unsafe { power::call(function, [argument, 0, 0]) };
    answer
}

fn features() -> Outcome {
    for function in [
        PSCI_VERSION,
        CPU_SUSPEND,
        CPU_OFF,
        CPU_ON,
        AFFINITY_INFO,
        MIGRATE_INFO_TYPE,
        SYSTEM_OFF,
        SYSTEM_RESET,
        PSCI_FEATURES,
        SMCCC_VERSION,
        0x8400_0001,
        0x8400_0003,
        0x8400_0004,
    ] {
        check!(ask(PSCI_FEATURES, function) == 0, "{function:#x} is not offered");
    }
    for function in [0x8400_0005, 0xc400_000e, 0x8400_0019, 0x8400_ffff, 0] {
        let answer = ask(PSCI_FEATURES, function);
        check!(is_refused(answer), "{function:#x} gave {answer:#x}");
    }
    Ok(())
}

/// Returns whether an answer is -1, by 32 bits or 64.
fn is_refused(answer: u64) -> bool {
    answer == NOT_SUPPORTED || answer == 0xffff_ffff
}

fn unknown() -> Outcome {
    for function in [0x8400_00ff, 0xc400_00ff, 0x8200_0000, 0xc500_0020, 0x8400_0050, 0xffff_ffff] {
        let answer = ask(function, 0);
        check!(is_refused(answer), "{function:#x} gave {answer:#x}");
    }
    Ok(())
}

fn smccc() -> Outcome {
    check!(ask(SMCCC_VERSION, 0) >= 0x1_0001, "{:#x}", ask(SMCCC_VERSION, 0));
    for workaround in [0x8000_8000, 0x8000_7fff, 0x8000_3fff] {
        let answer = ask(SMCCC_ARCH_FEATURES, workaround);
        let low = answer & 0xffff_ffff;
        check!(low <= 1 || low >= 0xffff_fffe, "{workaround:#x} gave {answer:#x}");
    }
    check!(is_refused(ask(SMCCC_ARCH_FEATURES, 0x8000_1234)));
    Ok(())
}

fn hypervisor_service() -> Outcome {
    // SAFETY: the function only tells a UUID.
    let id = unsafe { power::call(0x8600_ff01, [0; 3]) };
    let [first, ..] = id;
    // Xen 4.20 has this identity in its source, but does not tell it.
    check!(is_refused(first) || id == [0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d]);
    Ok(())
}

fn by_smc() -> Outcome {
    // SAFETY: the functions change no memory.
    let [version, ..] = unsafe { power::call_by_smc(PSCI_VERSION, [0; 3]) };
    check_eq!(version, 0x1_0001);
    // SAFETY: as above.
    let [unknown, ..] = unsafe { power::call_by_smc(0x8400_00ff, [0; 3]) };
    check!(is_refused(unknown));
    Ok(())
}

fn other_immediates() -> Outcome {
    // SAFETY: there is nothing behind these numbers.
    let calls = [
        unsafe { try_instruction!("hvc #1") },
        // SAFETY: as above.
        unsafe { try_instruction!("hvc #0xea2") },
        // SAFETY: as above.
        unsafe { try_instruction!("smc #1") },
    ];
    for call in calls {
        let class = call.err().map(|fault| fault.class());
        check_eq!(class, Some(0));
    }
    Ok(())
}

fn affinity_info() -> Outcome {
    check_eq!(power::affinity_info(0, 0), 0);
    for number in 1..4 {
        check_eq!(power::affinity_info(smp::affinity_of(number), 0), 1);
    }
    check_eq!(power::affinity_info(0, 1), 0);
    check_eq!(power::affinity_info(0, 99), INVALID_PARAMETERS);
    Ok(())
}

fn cpu_on(affinity: u64) -> i64 {
    // SAFETY: a processor that starts here runs as `smp` has it.
    let [answer, ..] = unsafe { power::call(CPU_ON, [affinity, smp::entry_address(), 7]) };
    answer.cast_signed()
}

fn bad_cpu_on() -> Outcome {
    check_eq!(cpu_on(0), ALREADY_ON);
    for affinity in [4, 15, 0x100, 0xff_ffff, 0xff_00ff_ffff] {
        check_eq!(cpu_on(affinity), INVALID_PARAMETERS);
    }
    Ok(())
}

fn note_start() {
    if let Some(place) = AFFINITIES.get(cpu::number()) {
        place.store(cpu::affinity(), Ordering::SeqCst);
    }
    STARTS.fetch_add(1, Ordering::SeqCst);
}

fn once() -> Outcome {
    // It stays until both were looked at, however long the host keeps this side waiting.
    static LOOKED: AtomicBool = AtomicBool::new(false);
    let before = STARTS.load(Ordering::SeqCst);
    smp::start(1, || {
        note_start();
        time::wait_until(10_000, || LOOKED.load(Ordering::SeqCst));
    })?;
    check!(soon(|| STARTS.load(Ordering::SeqCst) == before + 1), "it did not start");
    let (state, again) =
        (power::affinity_info(smp::affinity_of(1), 0), cpu_on(smp::affinity_of(1)));
    LOOKED.store(true, Ordering::SeqCst);
    check_eq!(state, 0);
    check_eq!(again, ALREADY_ON);
    check!(soon(|| !smp::is_on(1)), "it did not go off");
    Ok(())
}

fn all_at_once() -> Outcome {
    let before = STARTS.load(Ordering::SeqCst);
    for number in 1..4 {
        smp::start(number, note_start)?;
    }
    check!(soon(|| STARTS.load(Ordering::SeqCst) == before + 3), "not all started");
    for (number, affinity) in AFFINITIES.iter().enumerate().skip(1) {
        check_eq!(affinity.load(Ordering::SeqCst), smp::affinity_of(number));
    }
    check!(soon(|| (1..4).all(|number| !smp::is_on(number))), "not all went off");
    Ok(())
}

fn many_times() -> Outcome {
    for _ in 0..10 {
        let before = STARTS.load(Ordering::SeqCst);
        smp::start(2, note_start)?;
        check!(soon(|| STARTS.load(Ordering::SeqCst) == before + 1), "it did not start");
        check!(soon(|| !smp::is_on(2)), "it did not go off");
    }
    Ok(())
}

fn suspend() -> Outcome {
    gic::set_handler(Timer::Virtual.interrupt(), |_| Timer::Virtual.stop());
    gic::enable(Timer::Virtual.interrupt(), true);
    let end = time::now() + time::microseconds(3000);
    Timer::Virtual.start(time::microseconds(3000));
    while time::now() < end {
        check_eq!(ask(CPU_SUSPEND, 0), 0);
    }
    // With several processors the host's load counts: only what no timer explains is too late.
    check!(time::now() - end < time::microseconds(1_000_000), "it woke late");
    Ok(())
}
