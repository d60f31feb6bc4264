//! System registers: identification, what reads as zero, what is undefined, cache maintenance.

use crate::suite::{Outcome, Suite, check, check_eq};
use core::sync::atomic::Ordering;
use pv_guest_lib::exception::Fault;
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::try_write_system_register;
use pv_guest_lib::{system_register, try_instruction, try_system_register};

/// Exception class: unknown reason, as of an undefined instruction.
const UNKNOWN: u64 = 0;
/// Syndrome of an undefined instruction of 32 bits.
const UNDEFINED: u64 = 0x0200_0000;

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("the processor is named", named);
    suite.test("features that are not offered are not told", features);
    suite.test("all identification registers can be read", all_readable);
    suite.test("there are no performance counters", no_counters);
    suite.test("debug registers read as zero and ignore writes", debug);
    suite.test("the OS lock tells that it is not there", os_lock);
    suite.test("auxiliary control can be read, and writes are ignored", auxiliary);
    suite.test("registers of higher levels are undefined", higher_levels);
    suite.test("registers nobody made are undefined", nobodys);
    suite.test("what a processor has for all guests is undefined", not_switched);
    suite.test("the interrupt interface cannot be turned off", interface_stays_on);
    suite.test("an undefined instruction is an exception with its syndrome", undefined);
    suite.test("cache operations by set and way are done", set_way);
    suite.test("cache operations by address are done", by_address);
    suite.test("address translation instructions work", translate);
    suite.test("translation registers can be written and read", translation_registers);
    suite.finish();
}

fn named() -> Outcome {
    check!(system_register!("midr_el1") >> 24 == 0x41, "not Arm's");
    let mpidr = system_register!("mpidr_el1");
    check_eq!(mpidr & 0xff_00ff_ffff, 0);
    check!(mpidr & 1 << 31 != 0);
    check_eq!(system_register!("currentel") >> 2, 1);
    Ok(())
}

fn field(value: u64, low: u32) -> u64 {
    value >> low & 0xf
}

fn features() -> Outcome {
    let pfr0 = system_register!("id_aa64pfr0_el1");
    check!(field(pfr0, 4) >= 1, "EL1 is not there");
    check_eq!((field(pfr0, 32), field(pfr0, 28), field(pfr0, 44)), (0, 0, 0));
    let pfr1 = system_register!("id_aa64pfr1_el1");
    check_eq!((field(pfr1, 8), field(pfr1, 24)), (0, 0));
    let dfr0 = system_register!("id_aa64dfr0_el1");
    check!(field(dfr0, 0) >= 6, "no debug architecture");
    let mmfr0 = system_register!("id_aa64mmfr0_el1");
    check!(field(mmfr0, 28) != 0xf, "no pages of 4 KiB");
    Ok(())
}

fn all_readable() -> Outcome {
    let registers = [
        try_system_register!("id_aa64pfr0_el1"),
        try_system_register!("id_aa64pfr1_el1"),
        try_system_register!("s3_0_c0_c4_2"),
        try_system_register!("s3_0_c0_c4_4"),
        try_system_register!("s3_0_c0_c4_5"),
        try_system_register!("id_aa64dfr0_el1"),
        try_system_register!("id_aa64dfr1_el1"),
        try_system_register!("id_aa64afr0_el1"),
        try_system_register!("id_aa64isar0_el1"),
        try_system_register!("id_aa64isar1_el1"),
        try_system_register!("s3_0_c0_c6_2"),
        try_system_register!("s3_0_c0_c6_7"),
        try_system_register!("id_aa64mmfr0_el1"),
        try_system_register!("id_aa64mmfr1_el1"),
        try_system_register!("s3_0_c0_c7_2"),
        try_system_register!("s3_0_c0_c7_7"),
        try_system_register!("id_pfr0_el1"),
        try_system_register!("id_dfr0_el1"),
        try_system_register!("id_mmfr0_el1"),
        try_system_register!("id_isar0_el1"),
        try_system_register!("mvfr0_el1"),
        try_system_register!("s3_0_c0_c3_7"),
        try_system_register!("ctr_el0"),
        try_system_register!("dczid_el0"),
        try_system_register!("clidr_el1"),
        try_system_register!("revidr_el1"),
        try_system_register!("aidr_el1"),
    ];
    for (number, register) in registers.iter().enumerate() {
        check!(register.is_ok(), "register {number} gave {register:x?}");
    }
    Ok(())
}

fn no_counters() -> Outcome {
    let version = field(system_register!("id_aa64dfr0_el1"), 8);
    check!(version == 0 || version == 0xf || crate::suite::is_xen(), "version {version:#x}");
    check_eq!(try_system_register!("pmcr_el0")?, 0);
    check_eq!(try_system_register!("pmcntenset_el0")?, 0);
    check_eq!(try_system_register!("pmccntr_el0")?, 0);
    check_eq!(try_system_register!("pmuserenr_el0")?, 0);
    // SAFETY: there are no counters to change.
    unsafe { try_write_system_register!("pmcr_el0", u64::MAX) }?;
    check_eq!(try_system_register!("pmcr_el0")?, 0);
    Ok(())
}

fn debug() -> Outcome {
    check_eq!(try_system_register!("mdscr_el1")?, 0);
    check_eq!(try_system_register!("dbgbvr0_el1")?, 0);
    check_eq!(try_system_register!("dbgwcr0_el1")?, 0);
    // SAFETY: a breakpoint that is off breaks nothing.
    unsafe { try_write_system_register!("dbgbvr0_el1", 0x1000) }?;
    // SAFETY: as above.
    unsafe { try_write_system_register!("dbgbcr0_el1", 0) }?;
    check_eq!(try_system_register!("dbgbvr0_el1")?, 0);
    Ok(())
}

fn os_lock() -> Outcome {
    check_eq!(try_system_register!("oslsr_el1")? & 0xf, 8);
    // SAFETY: the lock only concerns debuggers.
    unsafe { try_write_system_register!("oslar_el1", 1) }?;
    check_eq!(try_system_register!("oslsr_el1")? & 0xf, 8);
    Ok(())
}

fn auxiliary() -> Outcome {
    let before = try_system_register!("actlr_el1")?;
    // SAFETY: the write is ignored.
    unsafe { try_write_system_register!("actlr_el1", !before) }?;
    check_eq!(try_system_register!("actlr_el1")?, before);
    Ok(())
}

fn is_undefined(access: Result<u64, Fault>) -> bool {
    access.is_err_and(|fault| fault.class() == UNKNOWN && fault.esr == UNDEFINED)
}

fn higher_levels() -> Outcome {
    check!(is_undefined(try_system_register!("hcr_el2")));
    check!(is_undefined(try_system_register!("vttbr_el2")));
    check!(is_undefined(try_system_register!("ich_hcr_el2")));
    check!(is_undefined(try_system_register!("scr_el3")));
    Ok(())
}

fn nobodys() -> Outcome {
    // Implementation defined, and reserved.
    for access in [
        try_system_register!("s3_1_c15_c2_0"),
        try_system_register!("s3_0_c15_c0_0"),
        try_system_register!("s3_3_c15_c0_0"),
    ] {
        check!(access == Ok(0) || is_undefined(access), "it gave {access:x?}");
    }
    check!(is_undefined(try_system_register!("s3_0_c5_c7_7")));
    Ok(())
}

/// Error records, limited ordering regions, trace filters, profiling: a guest would leave them to
/// the next.
fn not_switched() -> Outcome {
    let registers = [
        try_system_register!("s3_0_c5_c3_0"),
        try_system_register!("s3_0_c5_c4_2"),
        try_system_register!("s3_0_c10_c4_3"),
        try_system_register!("s3_0_c1_c2_1"),
        try_system_register!("s3_0_c9_c9_0"),
    ];
    for (number, register) in registers.into_iter().enumerate() {
        let refused = is_undefined(register) || crate::suite::is_xen();
        check!(refused, "register {number} gave {register:x?}");
    }
    Ok(())
}

fn interface_stays_on() -> Outcome {
    const ON: u64 = 1;
    // There is none on a GICv2.
    let Ok(before) = try_system_register!("s3_0_c12_c12_5") else { return Ok(()) };
    check_eq!(before & ON, ON);
    if crate::suite::is_xen() {
        return Ok(());
    }
    // SAFETY: the write has no effect.
    unsafe { try_write_system_register!("s3_0_c12_c12_5", 0) }?;
    check_eq!(try_system_register!("s3_0_c12_c12_5")? & ON, ON);
    Ok(())
}

fn undefined() -> Outcome {
    // SAFETY: the instruction does nothing but fault.
    let fault = unsafe { try_instruction!("udf #7") }.err();
    check_eq!(fault.map(|fault| (fault.class(), fault.esr)), Some((UNKNOWN, UNDEFINED)));
    Ok(())
}

fn set_way() -> Outcome {
    let page = SharedPage::allocate();
    page.word64(0).store(0x77, Ordering::SeqCst);
    for way in 0..4u64 {
        for set in 0..64u64 {
            let operand = way << 30 | set << 6;
            // SAFETY: cleaning loses nothing.
            unsafe { core::arch::asm!("dc csw, {}", in(reg) operand, options(nostack)) };
            // SAFETY: cleaning before forgetting loses nothing.
            unsafe { core::arch::asm!("dc cisw, {}", in(reg) operand, options(nostack)) };
        }
    }
    check_eq!(page.word64(0).load(Ordering::SeqCst), 0x77);
    Ok(())
}

fn by_address() -> Outcome {
    let page = SharedPage::allocate();
    page.word64(8).store(0x88, Ordering::SeqCst);
    let address = page.address();
    // SAFETY: cleaning loses nothing.
    unsafe { core::arch::asm!("dc cvac, {}", in(reg) address, options(nostack)) };
    // SAFETY: as above.
    unsafe { core::arch::asm!("dc civac, {}", in(reg) address, options(nostack)) };
    // SAFETY: as above; a hypervisor makes it a cleaning one as well.
    unsafe { core::arch::asm!("ic ivau, {}", in(reg) address, options(nostack)) };
    check_eq!(page.word64(8).load(Ordering::SeqCst), 0x88);
    // SAFETY: the page is this test's own.
    unsafe { core::arch::asm!("dc zva, {}", in(reg) address, options(nostack)) };
    check_eq!(page.word64(8).load(Ordering::SeqCst), 0);
    Ok(())
}

fn translate() -> Outcome {
    let page = SharedPage::allocate();
    let address = page.address();
    // SAFETY: the instruction only writes PAR_EL1, which nothing else uses.
    unsafe { core::arch::asm!("at s1e1r, {}", "isb", in(reg) address, options(nostack)) };
    let answer = system_register!("par_el1");
    check_eq!(answer & 1, 0);
    check_eq!(answer >> 12 & 0xf_ffff_ffff, page.frame());
    Ok(())
}

fn translation_registers() -> Outcome {
    let ttbr1 = 0x1234_5000;
    // SAFETY: translation by TTBR1 is off.
    unsafe { try_write_system_register!("ttbr1_el1", ttbr1) }?;
    check_eq!(system_register!("ttbr1_el1"), ttbr1);
    let contextidr = 0x5a5a;
    // SAFETY: the register is only looked at by debuggers.
    unsafe { try_write_system_register!("contextidr_el1", contextidr) }?;
    check_eq!(system_register!("contextidr_el1"), contextidr);
    // Writing what is there changes nothing, but may be trapped while caches are watched.
    let sctlr = system_register!("sctlr_el1");
    // SAFETY: the value is the same.
    unsafe { try_write_system_register!("sctlr_el1", sctlr) }?;
    check_eq!(system_register!("sctlr_el1"), sctlr);
    Ok(())
}
