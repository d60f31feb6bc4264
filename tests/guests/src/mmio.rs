//! Trapped accesses to device registers, in every form that the hypervisor must decode.

use crate::suite::{Outcome, Suite, check, check_eq, is_xen};
use core::arch::asm;
use pv_guest_lib::exception::catch;
use pv_guest_lib::gic::{self, register, v3};

/// A shared interrupt that nothing uses; its priority is a byte that can be written.
const INTERRUPT: u64 = 200;

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("bytes and words see the same registers", sizes);
    suite.test("a sign is extended as the instruction says", signs);
    suite.test("the zero register is read and written", zero);
    suite.test("a load that moves its base afterwards is emulated", load_post);
    suite.test("a store that moves its base afterwards is emulated", store_post);
    suite.test("a load through every register arrives there", every_register);
    if gic::version() == 3 {
        suite.test("64-bit registers are reached whole", whole);
    }
    suite.test("a pair is refused with a data abort, or done", pair);
    suite.test("an access beyond the registers is a data abort", beyond);
    suite.finish();
}

fn priority_address() -> u64 {
    gic::distributor().base() + register::PRIORITY + INTERRUPT
}

fn sizes() -> Outcome {
    let gicd = gic::distributor();
    let at = register::PRIORITY + INTERRUPT;
    for value in [0x10u8, 0x80, 0xf0] {
        gicd.write32(at, 0);
        gicd.write8(at + 3, value);
        check_eq!(gicd.read32(at), u32::from(value) << 24);
        check_eq!(gicd.read8(at + 3), value);
    }
    gicd.write32(at, 0xa0a0_a0a0);
    Ok(())
}

fn signs() -> Outcome {
    let address = priority_address();
    gic::distributor().write32(register::PRIORITY + INTERRUPT, 0xf0e0_d0c0);
    let (narrow, wide, word): (u64, u64, u64);
    // SAFETY: the byte is a priority of an interrupt that nothing uses.
    unsafe { asm!("ldrsb {:w}, [{}]", out(reg) narrow, in(reg) address, options(nostack)) };
    // SAFETY: as above.
    unsafe { asm!("ldrsb {:x}, [{}]", out(reg) wide, in(reg) address, options(nostack)) };
    // SAFETY: as above.
    unsafe { asm!("ldrsw {:x}, [{}]", out(reg) word, in(reg) address, options(nostack)) };
    gic::distributor().write32(register::PRIORITY + INTERRUPT, 0xa0a0_a0a0);
    // Xen 4.20 extends it to 64 bits.
    check!(narrow == 0xffff_ffc0 || is_xen(), "{narrow:#x}");
    check_eq!(wide, 0xffff_ffff_ffff_ffc0);
    check_eq!(word, 0xffff_ffff_f0e0_d0c0);
    Ok(())
}

fn zero() -> Outcome {
    let address = priority_address();
    // SAFETY: the word is the priorities of interrupts that nothing uses.
    unsafe { asm!("str wzr, [{}]", in(reg) address, options(nostack)) };
    check_eq!(gic::distributor().read32(register::PRIORITY + INTERRUPT), 0);
    // SAFETY: reading changes nothing.
    unsafe { asm!("ldr wzr, [{}]", in(reg) address, options(nostack)) };
    gic::distributor().write32(register::PRIORITY + INTERRUPT, 0xa0a0_a0a0);
    Ok(())
}

fn load_post() -> Outcome {
    let start = priority_address();
    gic::distributor().write32(register::PRIORITY + INTERRUPT, 0x8070_6050);
    gic::distributor().write32(register::PRIORITY + INTERRUPT + 4, 0xa0a0_a0a0);
    let mut address = start;
    let word: u64;
    // SAFETY: reading a priority changes nothing.
    unsafe { asm!("ldr {:w}, [{}], #4", out(reg) word, inout(reg) address, options(nostack)) };
    check_eq!((word, address), (0x8070_6050, start + 4));
    let byte: u64;
    // SAFETY: as above.
    unsafe { asm!("ldrb {:w}, [{}], #-16", out(reg) byte, inout(reg) address, options(nostack)) };
    check_eq!((byte, address), (0xa0, start - 12));
    gic::distributor().write32(register::PRIORITY + INTERRUPT, 0xa0a0_a0a0);
    Ok(())
}

fn store_post() -> Outcome {
    let start = priority_address();
    gic::distributor().write32(register::PRIORITY + INTERRUPT + 4, 0xa0a0_a0a0);
    let mut address = start;
    // SAFETY: the words are priorities of interrupts that nothing uses.
    unsafe {
        asm!("str {:w}, [{}], #4", in(reg) 0x1020_3040u64, inout(reg) address, options(nostack))
    };
    check_eq!(address, start + 4);
    // SAFETY: as above.
    unsafe { asm!("strb {:w}, [{}], #1", in(reg) 0x50u64, inout(reg) address, options(nostack)) };
    check_eq!(address, start + 5);
    let gicd = gic::distributor();
    let words = [0, 4].map(|offset| gicd.read32(register::PRIORITY + INTERRUPT + offset));
    gicd.write32(register::PRIORITY + INTERRUPT, 0xa0a0_a0a0);
    gicd.write32(register::PRIORITY + INTERRUPT + 4, 0xa0a0_a0a0);
    check_eq!(words, [0x1020_3040, 0xa0a0_a050]);
    Ok(())
}

macro_rules! load_by {
    ($address:expr, $($number:tt $name:tt)*) => {
        [$({
            let value: u64;
            // SAFETY: reading priorities changes nothing.
            unsafe {
                asm!(
                    concat!("ldr w", $number, ", [x", $number, "]"),
                    inlateout($name) $address => value,
                    options(nostack)
                )
            };
            value
        }),*]
    };
}

fn every_register() -> Outcome {
    let values = load_by!(priority_address(), "0" "x0" "1" "x1" "2" "x2" "3" "x3" "4" "x4" "5" "x5" "6" "x6" "7" "x7" "8" "x8" "9" "x9" "10" "x10" "11" "x11" "12" "x12" "13" "x13" "14" "x14" "15" "x15" "16" "x16" "17" "x17" "20" "x20" "21" "x21" "22" "x22" "23" "x23" "24" "x24" "25" "x25" "26" "x26" "27" "x27" "28" "x28");
    for (place, value) in values.iter().enumerate() {
        check!(*value == 0xa0a0_a0a0, "load {place} gave {value:#x}");
    }
    Ok(())
}

fn whole() -> Outcome {
    let gicd = gic::distributor();
    let at = v3::register::ROUTER + INTERRUPT * 8;
    gicd.write64(at, 0);
    check_eq!(gicd.read64(at), 0);
    let kind = v3::redistributor(0).read64(v3::register::REDISTRIBUTOR_TYPER);
    check_eq!(kind >> 32, 0);
    Ok(())
}

fn pair() -> Outcome {
    let address = priority_address();
    let answer = catch(|| {
        let (mut first, mut second) = (0u64, 0u64);
        // SAFETY: reading priorities changes nothing; if it faults it is skipped.
        unsafe {
            asm!("ldp {:w}, {:w}, [{}]", inout(reg) first, inout(reg) second, in(reg) address,
                options(nostack))
        };
        (first, second)
    });
    match answer {
        Ok(words) => check_eq!(words, (0xa0a0_a0a0, 0xa0a0_a0a0)),
        Err(fault) => check_eq!((fault.class(), fault.far), (0x25, address)),
    }
    Ok(())
}

fn beyond() -> Outcome {
    // After a GICv3's distributor there is a hole before the redistributors; a GICv2's has one page, whatever
    // the tree says.
    let size = if gic::version() == 2 { 0x1000 } else { gic::distributor().size() };
    let address = gic::distributor().base() + size + 0x40;
    let fault = pv_guest_lib::probe::load32(address).err();
    check_eq!(fault.map(|fault| (fault.class(), fault.far)), Some((0x25, address)));
    Ok(())
}
