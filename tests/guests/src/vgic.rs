//! The virtual interrupt controller, a GICv2 or a GICv3: registers, software-generated interrupts, pending and active state. Needs two vCPUs.

use crate::suite::{Outcome, Suite, a_while, check, check_eq, is_xen, soon, start_vcpu};
use core::sync::atomic::{AtomicU32, Ordering};
use pv_guest_lib::gic::{self, register, v2, v3};
use pv_guest_lib::time::{self, ENABLE, Timer};
use pv_guest_lib::{cpu, shared_info};

/// A private interrupt that nothing uses.
const PRIVATE: u32 = 22;
/// A shared interrupt that nothing uses.
const SHARED: u32 = 200;
const SGI: u32 = 5;

static SHARED_TAKEN: AtomicU32 = AtomicU32::new(0);
static SHARED_CPU: AtomicU32 = AtomicU32::new(0);

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    gic::set_handler(PRIVATE, |_| {});
    gic::set_handler(SHARED, |_| {
        SHARED_CPU.store(u32::try_from(cpu::number()).unwrap_or(u32::MAX), Ordering::SeqCst);
        SHARED_TAKEN.fetch_add(1, Ordering::SeqCst);
    });
    if gic::version() == 2 {
        suite.test("the distributor says what it is", distributor_v2);
        suite.test("targets keep what is written, and private ones are their reader's", targets);
    } else {
        suite.test("the distributor says what it is", distributor_v3);
        suite.test("the redistributors say whose they are", redistributors);
        suite.test("a shared interrupt's target keeps what is written", router);
    }
    suite.test("enable bits are set and cleared", enables);
    suite.test("priorities keep what is written, by bytes and words", priorities);
    suite.test("interrupts are level or edge as written", configuration);
    suite.test("an SGI reaches its sender", sgi_to_self);
    suite.test("a disabled SGI waits until it is enabled", sgi_disabled);
    suite.test("the higher priority comes first", order);
    suite.test("the priority mask keeps interrupts out", priority_mask);
    suite.test("a shared interrupt made pending arrives", || set_pending(SHARED));
    suite.beyond_xen("a private interrupt made pending arrives", || set_pending(PRIVATE));
    suite.beyond_xen("pending bits tell the truth", pending_bits);
    suite.beyond_xen("a pending bit that is cleared does not arrive", clear_pending);
    suite.beyond_xen("active bits tell the truth", active_bits);
    suite.beyond_xen("an active interrupt does not come again", active_blocks);
    suite.beyond_xen("the timer's line shows in its pending bit", timer_line);
    suite.test("the shared page is mapped", || Ok(shared_info::map()?));
    suite.test("the second vCPU comes up", || start_vcpu(1));
    suite.test("an SGI reaches the other vCPU", sgi_to_the_other);
    suite.test("an SGI for all others spares its sender", sgi_to_others);
    suite.test("a shared interrupt goes where it is routed", routed);
    if gic::version() == 2 {
        suite.beyond_xen("an SGI says who sent it, and two senders' come one by one", senders);
        suite.test("a vCPU sees its own private bits", own_bits);
    } else {
        suite.beyond_xen("another vCPU's private bits are its own", others_bits);
    }
    suite.finish();
}

fn distributor_v2() -> Outcome {
    let gicd = gic::distributor();
    if !is_xen() {
        check_eq!(gicd.read32(v2::register::PIDR2) >> 4 & 0xf, 2);
    }
    let kind = gicd.read32(register::TYPER);
    check!(kind & 0x1f >= 1, "32 interrupts");
    check!(kind >> 5 & 7 >= 1, "one vCPU");
    check_eq!(gicd.read32(register::CTLR) & 1, 1);
    check_eq!(gicd.read32(register::IIDR), 0x43b);
    Ok(())
}

fn targets() -> Outcome {
    let gicd = gic::distributor();
    check_eq!(gicd.read32(v2::register::TARGETS), 0x0101_0101);
    gicd.write32(v2::register::TARGETS, 0x0202_0202);
    check_eq!(gicd.read8(v2::register::TARGETS + 3), 1);
    let at = v2::register::TARGETS + u64::from(SHARED);
    gicd.write32(at, 0x0102_0102);
    check_eq!(gicd.read32(at), 0x0102_0102);
    gicd.write8(at, 1);
    check_eq!(gicd.read32(at), 0x0102_0101);
    gicd.write32(at, 0x0101_0101);
    Ok(())
}

fn distributor_v3() -> Outcome {
    let gicd = gic::distributor();
    check_eq!(gicd.read32(v3::register::PIDR2) >> 4 & 0xf, 3);
    let lines = (gicd.read32(register::TYPER) & 0x1f) + 1;
    check!(lines >= 2, "{lines} times 32 interrupts");
    // Affinity routing and group 1, as start-up set them.
    check_eq!(gicd.read32(register::CTLR) & 0x12, 0x12);
    check!(gicd.read32(register::IIDR) != 0);
    check_eq!(gicd.read32(0xc), 0);
    Ok(())
}

fn redistributors() -> Outcome {
    for number in 0..2 {
        let gicr = v3::redistributor(number);
        check_eq!(gicr.read32(v3::register::PIDR2) >> 4 & 0xf, 3);
        let kind = gicr.read64(v3::register::REDISTRIBUTOR_TYPER);
        check_eq!(kind >> 32, number as u64);
        check_eq!(kind >> 8 & 0xffff, number as u64);
        let low = gicr.read32(v3::register::REDISTRIBUTOR_TYPER);
        let high = gicr.read32(v3::register::REDISTRIBUTOR_TYPER + 4);
        check_eq!(u64::from(high) << 32 | u64::from(low), kind);
        check_eq!(gicr.read32(v3::register::WAKER) & 0b100, 0);
    }
    check_eq!(cpu::affinity(), 0);
    Ok(())
}

fn enables() -> Outcome {
    for interrupt in [PRIVATE, SHARED] {
        gic::write_bit(0, register::SET_ENABLE, interrupt);
        check!(gic::read_bit(0, register::SET_ENABLE, interrupt));
        check!(gic::read_bit(0, register::CLEAR_ENABLE, interrupt));
        gic::write_bit(0, register::CLEAR_ENABLE, interrupt);
        check!(!gic::read_bit(0, register::SET_ENABLE, interrupt));
        check!(!gic::read_bit(0, register::CLEAR_ENABLE, interrupt));
    }
    Ok(())
}

fn priorities() -> Outcome {
    for interrupt in [20, 200] {
        let (registers, start) = gic::bank(0, interrupt);
        let base = start + register::PRIORITY + u64::from(interrupt);
        registers.write32(base, 0x80a0_c0e0);
        check_eq!(registers.read32(base), 0x80a0_c0e0);
        check_eq!(registers.read8(base + 1), 0xc0);
        registers.write8(base + 2, 0x40);
        check_eq!(registers.read32(base), 0x8040_c0e0);
        registers.write32(base, 0xa0a0_a0a0);
    }
    Ok(())
}

fn configuration() -> Outcome {
    let gicd = gic::distributor();
    let offset = register::CONFIGURATION + u64::from(SHARED / 16 * 4);
    let bit = 2 << (SHARED % 16 * 2);
    let before = gicd.read32(offset);
    gicd.write32(offset, before | bit);
    check_eq!(gicd.read32(offset) & bit, bit);
    gicd.write32(offset, before & !bit);
    check_eq!(gicd.read32(offset) & bit, 0);
    gicd.write32(offset, before | bit);
    Ok(())
}

fn router() -> Outcome {
    let gicd = gic::distributor();
    let offset = v3::register::ROUTER + u64::from(SHARED) * 8;
    gicd.write64(offset, 1);
    check_eq!(gicd.read64(offset), 1);
    gicd.write64(offset, 0);
    check_eq!(gicd.read64(offset), 0);
    Ok(())
}

fn sgi_to_self() -> Outcome {
    for number in 0..16 {
        let before = gic::taken(0, number);
        gic::send(0, number);
        check!(soon(|| gic::taken(0, number) == before + 1), "SGI {number} did not come");
    }
    Ok(())
}

fn sgi_disabled() -> Outcome {
    gic::enable(SGI, false);
    let before = gic::taken(0, SGI);
    gic::send(0, SGI);
    a_while();
    check_eq!(gic::taken(0, SGI), before);
    gic::enable(SGI, true);
    check!(soon(|| gic::taken(0, SGI) == before + 1));
    Ok(())
}

fn set_priority(interrupt: u32, priority: u8) {
    let (registers, start) = gic::bank(0, interrupt);
    registers.write8(start + register::PRIORITY + u64::from(interrupt), priority);
}

fn order() -> Outcome {
    set_priority(1, 0x80);
    set_priority(2, 0x40);
    set_priority(3, 0x60);
    let mut order = [None; 4];
    cpu::without_interrupts(|| {
        for number in 1..=3 {
            gic::send(0, number);
        }
        for place in &mut order {
            *place = gic::acknowledge();
            if let Some(interrupt) = *place {
                gic::end(interrupt);
            }
        }
    });
    check_eq!(order, [Some(2), Some(3), Some(1), None]);
    for number in 1..=3 {
        set_priority(number, 0xa0);
    }
    Ok(())
}

fn priority_mask() -> Outcome {
    let before = gic::taken(0, SGI);
    gic::set_priority_mask(0x80);
    gic::send(0, SGI);
    a_while();
    let during = gic::taken(0, SGI);
    gic::set_priority_mask(0xf0);
    check_eq!(during, before);
    check!(soon(|| gic::taken(0, SGI) == before + 1));
    Ok(())
}

fn count(interrupt: u32) -> u32 {
    if interrupt == SHARED { SHARED_TAKEN.load(Ordering::SeqCst) } else { gic::taken(0, interrupt) }
}

fn set_pending(interrupt: u32) -> Outcome {
    gic::enable(interrupt, true);
    let before = count(interrupt);
    gic::write_bit(0, register::SET_PENDING, interrupt);
    check!(soon(|| count(interrupt) == before + 1), "it did not come");
    a_while();
    check_eq!(count(interrupt), before + 1);
    gic::enable(interrupt, false);
    Ok(())
}

/// Makes `interrupt` edge-triggered, so that its pending bit is a latch.
fn latch(interrupt: u32) {
    let (registers, start) = gic::bank(0, interrupt);
    let offset = start + register::CONFIGURATION + u64::from(interrupt / 16 * 4);
    let bit = 2 << (interrupt % 16 * 2);
    registers.write32(offset, registers.read32(offset) | bit);
}

fn pending_bits() -> Outcome {
    for interrupt in [SGI, PRIVATE, SHARED] {
        latch(interrupt);
        gic::enable(interrupt, true);
        let seen = cpu::without_interrupts(|| {
            let before = gic::read_bit(0, register::SET_PENDING, interrupt);
            if interrupt == SGI {
                gic::send(0, SGI);
            } else {
                gic::write_bit(0, register::SET_PENDING, interrupt);
            }
            let pending = gic::read_bit(0, register::SET_PENDING, interrupt);
            let taken = gic::acknowledge();
            let after = gic::read_bit(0, register::CLEAR_PENDING, interrupt);
            if let Some(interrupt) = taken {
                gic::end(interrupt);
            }
            (before, pending, taken, after)
        });
        check_eq!(seen, (false, true, Some(interrupt), false));
    }
    Ok(())
}

fn clear_pending() -> Outcome {
    for interrupt in [PRIVATE, SHARED] {
        latch(interrupt);
        gic::enable(interrupt, true);
        let before = count(interrupt);
        let pending = cpu::without_interrupts(|| {
            gic::write_bit(0, register::SET_PENDING, interrupt);
            gic::write_bit(0, register::CLEAR_PENDING, interrupt);
            gic::read_bit(0, register::SET_PENDING, interrupt)
        });
        a_while();
        check_eq!((pending, count(interrupt)), (false, before));
        gic::enable(interrupt, false);
    }
    Ok(())
}

fn active_bits() -> Outcome {
    for interrupt in [SGI, PRIVATE, SHARED] {
        gic::enable(interrupt, true);
        let seen = cpu::without_interrupts(|| {
            if interrupt == SGI {
                gic::send(0, SGI);
            } else {
                gic::write_bit(0, register::SET_PENDING, interrupt);
            }
            let before = gic::read_bit(0, register::SET_ACTIVE, interrupt);
            let taken = gic::acknowledge();
            let active = gic::read_bit(0, register::SET_ACTIVE, interrupt);
            if let Some(interrupt) = taken {
                gic::end(interrupt);
            }
            (before, taken, active, gic::read_bit(0, register::CLEAR_ACTIVE, interrupt))
        });
        check_eq!(seen, (false, Some(interrupt), true, false));
    }
    Ok(())
}

fn active_blocks() -> Outcome {
    let seen = cpu::without_interrupts(|| {
        gic::write_bit(0, register::SET_ACTIVE, SGI);
        gic::send(0, SGI);
        let during = gic::acknowledge();
        gic::write_bit(0, register::CLEAR_ACTIVE, SGI);
        let after = gic::acknowledge();
        if let Some(interrupt) = after {
            gic::end(interrupt);
        }
        (during, after)
    });
    check_eq!(seen, (None, Some(SGI)));
    Ok(())
}

fn timer_line() -> Outcome {
    let interrupt = Timer::Virtual.interrupt();
    gic::enable(interrupt, true);
    let seen = cpu::without_interrupts(|| {
        Timer::Virtual.set_control(0);
        let before = gic::read_bit(0, register::SET_PENDING, interrupt);
        Timer::Virtual.set_deadline(time::now());
        Timer::Virtual.set_control(ENABLE);
        a_while();
        let pending = gic::read_bit(0, register::SET_PENDING, interrupt);
        let taken = gic::acknowledge();
        Timer::Virtual.stop();
        if let Some(interrupt) = taken {
            gic::end(interrupt);
        }
        let after = gic::read_bit(0, register::SET_PENDING, interrupt);
        (before, pending, taken, after)
    });
    gic::enable(interrupt, false);
    check_eq!(seen, (false, true, Some(interrupt), false));
    Ok(())
}

fn sgi_to_the_other() -> Outcome {
    for _ in 0..20 {
        let before = (gic::taken(0, SGI), gic::taken(1, SGI));
        gic::send(1, SGI);
        check!(soon(|| gic::taken(1, SGI) == before.1 + 1), "it did not come");
        check_eq!(gic::taken(0, SGI), before.0);
    }
    Ok(())
}

fn sgi_to_others() -> Outcome {
    let before = (gic::taken(0, SGI), gic::taken(1, SGI));
    gic::send_to_others(SGI);
    check!(soon(|| gic::taken(1, SGI) == before.1 + 1), "it did not come");
    a_while();
    check_eq!(gic::taken(0, SGI), before.0);
    Ok(())
}

fn routed() -> Outcome {
    gic::enable(SHARED, true);
    for (target, number) in [(1, 1), (0, 0), (1, 1)] {
        gic::route(SHARED, number);
        let before = SHARED_TAKEN.load(Ordering::SeqCst);
        gic::write_bit(0, register::SET_PENDING, SHARED);
        check!(soon(|| SHARED_TAKEN.load(Ordering::SeqCst) == before + 1), "it did not come");
        check_eq!(SHARED_CPU.load(Ordering::SeqCst), target);
    }
    gic::enable(SHARED, false);
    Ok(())
}

fn senders() -> Outcome {
    let gicd = gic::distributor();
    let byte = u64::from(SGI);
    let seen = cpu::without_interrupts(|| {
        gic::send(0, SGI);
        // As if the other had sent it.
        gicd.write8(v2::register::SET_SENDERS + byte, 0b10);
        let waiting = gicd.read8(v2::register::CLEAR_SENDERS + byte);
        let mut taken = [None; 3];
        for place in &mut taken {
            *place = gic::acknowledge().map(|interrupt| (interrupt, v2::sender(interrupt)));
            if let Some((interrupt, _)) = *place {
                gic::end(interrupt);
            }
        }
        gicd.write8(v2::register::SET_SENDERS + byte, 0b11);
        gicd.write8(v2::register::CLEAR_SENDERS + byte, 0b11);
        (waiting, taken, gic::acknowledge())
    });
    check_eq!(seen, (0b11, [Some((SGI, 0)), Some((SGI, 1)), None], None));
    Ok(())
}

fn own_bits() -> Outcome {
    gic::enable(PRIVATE, true);
    check!(gic::read_bit(0, register::SET_ENABLE, PRIVATE));
    gic::enable(PRIVATE, false);
    check!(!gic::read_bit(0, register::SET_ENABLE, PRIVATE));
    Ok(())
}

fn others_bits() -> Outcome {
    gic::enable(PRIVATE, false);
    gic::write_bit(1, register::SET_ENABLE, PRIVATE);
    check!(gic::read_bit(1, register::SET_ENABLE, PRIVATE));
    check!(!gic::read_bit(0, register::SET_ENABLE, PRIVATE));
    let before = (gic::taken(0, PRIVATE), gic::taken(1, PRIVATE));
    gic::write_bit(1, register::SET_PENDING, PRIVATE);
    check!(soon(|| gic::taken(1, PRIVATE) == before.1 + 1), "it did not come");
    check_eq!(gic::taken(0, PRIVATE), before.0);
    gic::write_bit(1, register::CLEAR_ENABLE, PRIVATE);
    Ok(())
}
