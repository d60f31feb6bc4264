//! What a trapped access to a system register does.
//!
//! Which accesses trap is decided by `HCR_EL2`, `MDCR_EL2`, `CNTHCTL_EL2` and `CPTR_EL2`; what is not known
//! here is undefined to the guest. Encodings: Arm ARM D22, "AArch64 System Register Encoding".

use crate::exit::{RegisterAccess, SysReg};
use crate::idregs::IdRegisters;
use crate::vtimer::TimerRegister;

/// What becomes of a trapped access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the guest's instruction has no effect until this is carried out"]
pub enum SysregAction {
    /// The register reads as this.
    Read(u64),
    /// A write is ignored.
    Ignored,
    /// The guest gets an undefined-instruction exception; its PC stays.
    Undefined,
    /// A software-generated interrupt is sent: the value written to `ICC_SGI1R_EL1` or a sibling.
    SendSgi(u64),
    /// A register of the physical timer is read.
    ReadTimer(TimerRegister),
    /// A register of the physical timer is written.
    WriteTimer(TimerRegister, u64),
    /// A data cache is maintained by set and way: the guest's memory is to be cleaned and invalidated.
    MaintainBySetWay,
    /// A register of the guest's own address translation is written, while such writes are watched.
    WriteTranslation(TranslationRegister, u64),
}

/// A register whose writes `HCR_EL2.TVM` traps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub enum TranslationRegister {
    Sctlr,
    Ttbr0,
    Ttbr1,
    Tcr,
    Afsr0,
    Afsr1,
    Esr,
    Far,
    Mair,
    Amair,
    Contextidr,
}

const OSLSR_UNLOCKED: u64 = 1 << 3;
/// `MDCCSR_EL0.TXfull`: a driver of the debug channel gives up.
const CHANNEL_FULL: u64 = 1 << 29;

/// `ICC_SRE_EL1`: `SRE`, and `DFB` and `DIB`: there is no other way, and none around it.
const SYSTEM_REGISTERS: u64 = 0b111;

const DC_ISW: SysReg = SysReg::new(1, 0, 7, 6, 2);
const DC_CSW: SysReg = SysReg::new(1, 0, 7, 10, 2);
const DC_CISW: SysReg = SysReg::new(1, 0, 7, 14, 2);
const ACTLR: SysReg = SysReg::new(3, 0, 1, 0, 1);
const SGI1R: SysReg = SysReg::new(3, 0, 12, 11, 5);
const ASGI1R: SysReg = SysReg::new(3, 0, 12, 11, 6);
const SGI0R: SysReg = SysReg::new(3, 0, 12, 11, 7);
const ICC_SRE: SysReg = SysReg::new(3, 0, 12, 12, 5);
const CNTP_TVAL: SysReg = SysReg::new(3, 3, 14, 2, 0);
const CNTP_CTL: SysReg = SysReg::new(3, 3, 14, 2, 1);
const CNTP_CVAL: SysReg = SysReg::new(3, 3, 14, 2, 2);
const MDCCSR: SysReg = SysReg::new(2, 3, 0, 1, 0);
const OSLSR: SysReg = SysReg::new(2, 0, 1, 1, 4);
const OSLAR: SysReg = SysReg::new(2, 0, 1, 0, 4);
const PMUSERENR: SysReg = SysReg::new(3, 3, 9, 14, 0);

/// Decides what `access` does.
///
/// `value` is what a write writes; `at_el0` says that a program does it, not the guest's kernel.
pub fn decide(access: RegisterAccess, value: u64, at_el0: bool, id: &IdRegisters) -> SysregAction {
    let RegisterAccess { sysreg, read, .. } = access;
    match sysreg {
        SGI1R | ASGI1R | SGI0R if !read && !at_el0 => return SysregAction::SendSgi(value),
        CNTP_TVAL => return timer(TimerRegister::Value, value, read),
        CNTP_CTL => return timer(TimerRegister::Control, value, read),
        CNTP_CVAL => return timer(TimerRegister::Compare, value, read),
        DC_ISW | DC_CSW | DC_CISW if !read && !at_el0 => return SysregAction::MaintainBySetWay,
        // Its bits are the implementation's: none is offered.
        ACTLR if !at_el0 => return constant(0, read),
        _ => {}
    }
    match (sysreg.op0(), sysreg.op1()) {
        (2, 0) if !at_el0 => debug(sysreg, read),
        (2, 3) => debug_channel(sysreg, read),
        (3, _) if is_performance(sysreg) => performance(sysreg, read, at_el0),
        (3, 0) if !at_el0 && read && id.get(sysreg).is_some() => {
            SysregAction::Read(id.get(sysreg).unwrap_or(0))
        }
        // One processor's for all guests: a guest finds its interface on, and cannot turn it off.
        (3, 0) if !at_el0 && sysreg == ICC_SRE => constant(SYSTEM_REGISTERS, read),
        (3, 0) if !at_el0 && !read => match translation_register(sysreg) {
            Some(register) => SysregAction::WriteTranslation(register, value),
            None => SysregAction::Undefined,
        },
        _ => SysregAction::Undefined,
    }
}

/// Says whether a change of `SCTLR_EL1` turns the MMU or the data cache on or off.
pub const fn changes_caching(old: u64, new: u64) -> bool {
    (old ^ new) & MMU_AND_CACHE != 0
}

/// Says whether `SCTLR_EL1` has both the MMU and the data cache on.
pub const fn is_cached(sctlr: u64) -> bool {
    sctlr & MMU_AND_CACHE == MMU_AND_CACHE
}

const MMU_AND_CACHE: u64 = 1 << 0 | 1 << 2;

const fn constant(value: u64, read: bool) -> SysregAction {
    if read { SysregAction::Read(value) } else { SysregAction::Ignored }
}

const fn timer(register: TimerRegister, value: u64, read: bool) -> SysregAction {
    if read { SysregAction::ReadTimer(register) } else { SysregAction::WriteTimer(register, value) }
}

/// Self-hosted debug is not offered: its registers read as zero and ignore writes, as on Xen.
fn debug(sysreg: SysReg, read: bool) -> SysregAction {
    match (sysreg.crn(), sysreg.crm(), sysreg.op2()) {
        // OSDTRRX, MDCCINT, MDSCR, OSDTRTX, OSECCR.
        (0, 0 | 3 | 6, 2) | (0, 2, 0 | 2) => constant(0, read),
        // DBGBVR, DBGBCR, DBGWVR, DBGWCR.
        (0, _, 4..=7) => constant(0, read),
        // MDRAR, OSDLR, DBGPRCR.
        (1, 0, 0) | (1, 3 | 4, 4) => constant(0, read),
        // DBGCLAIMSET, DBGCLAIMCLR, DBGAUTHSTATUS.
        (7, 8 | 9 | 14, 6) => constant(0, read),
        _ if sysreg == OSLSR && read => SysregAction::Read(OSLSR_UNLOCKED),
        _ if sysreg == OSLAR && !read => SysregAction::Ignored,
        _ => SysregAction::Undefined,
    }
}

fn debug_channel(sysreg: SysReg, read: bool) -> SysregAction {
    match (sysreg.crn(), sysreg.crm(), sysreg.op2()) {
        _ if sysreg == MDCCSR && read => SysregAction::Read(CHANNEL_FULL),
        // DBGDTR, DBGDTRRX, DBGDTRTX.
        (0, 4 | 5, 0) => constant(0, read),
        _ => SysregAction::Undefined,
    }
}

fn is_performance(sysreg: SysReg) -> bool {
    matches!(
        (sysreg.op1(), sysreg.crn(), sysreg.crm()),
        (0, 9, 14) | (3, 9, 12..=14) | (3, 14, 8..=15)
    )
}

/// There are no performance counters, and the guest's programs may not look for them.
fn performance(sysreg: SysReg, read: bool, at_el0: bool) -> SysregAction {
    if at_el0 && !(sysreg == PMUSERENR && read) {
        return SysregAction::Undefined;
    }
    constant(0, read)
}

fn translation_register(sysreg: SysReg) -> Option<TranslationRegister> {
    Some(match (sysreg.crn(), sysreg.crm(), sysreg.op2()) {
        (1, 0, 0) => TranslationRegister::Sctlr,
        (2, 0, 0) => TranslationRegister::Ttbr0,
        (2, 0, 1) => TranslationRegister::Ttbr1,
        (2, 0, 2) => TranslationRegister::Tcr,
        (5, 1, 0) => TranslationRegister::Afsr0,
        (5, 1, 1) => TranslationRegister::Afsr1,
        (5, 2, 0) => TranslationRegister::Esr,
        (6, 0, 0) => TranslationRegister::Far,
        (10, 2, 0) => TranslationRegister::Mair,
        (10, 3, 0) => TranslationRegister::Amair,
        (13, 0, 1) => TranslationRegister::Contextidr,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Register;

    fn access(sysreg: SysReg, read: bool, at_el0: bool) -> SysregAction {
        let access = RegisterAccess { sysreg, register: Register::new(0), read };
        decide(access, 0x1234, at_el0, &IdRegisters::from_raw([[7; 8]; 7]))
    }

    fn read(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> SysregAction {
        access(SysReg::new(op0, op1, crn, crm, op2), true, false)
    }

    fn write(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> SysregAction {
        access(SysReg::new(op0, op1, crn, crm, op2), false, false)
    }

    #[test]
    fn identification_registers_read_as_the_guest_may_see_them() {
        assert_eq!(read(3, 0, 0, 4, 0), SysregAction::Read(7));
        assert_eq!(write(3, 0, 0, 4, 0), SysregAction::Undefined);
        let at_el0 = access(SysReg::new(3, 0, 0, 4, 0), true, true);
        assert_eq!(at_el0, SysregAction::Undefined);
    }

    #[test]
    fn debug_registers_are_there_and_do_nothing() {
        assert_eq!(read(2, 0, 0, 2, 2), SysregAction::Read(0));
        assert_eq!(write(2, 0, 0, 2, 2), SysregAction::Ignored);
        assert_eq!(write(2, 0, 0, 15, 7), SysregAction::Ignored);
        assert_eq!(read(2, 0, 1, 1, 4), SysregAction::Read(8));
        assert_eq!(write(2, 0, 1, 0, 4), SysregAction::Ignored);
        assert_eq!(read(2, 0, 1, 0, 4), SysregAction::Undefined);
        assert_eq!(read(2, 0, 1, 0, 0), SysregAction::Read(0));
        assert_eq!(read(2, 3, 0, 1, 0), SysregAction::Read(1 << 29));
        assert_eq!(write(2, 3, 0, 5, 0), SysregAction::Ignored);
        assert_eq!(read(2, 1, 0, 0, 0), SysregAction::Undefined);
    }

    #[test]
    fn there_are_no_performance_counters() {
        assert_eq!(read(3, 3, 9, 12, 0), SysregAction::Read(0));
        assert_eq!(write(3, 0, 9, 14, 1), SysregAction::Ignored);
        assert_eq!(read(3, 3, 14, 15, 7), SysregAction::Read(0));
        let counter = SysReg::new(3, 3, 9, 13, 0);
        assert_eq!(access(counter, true, true), SysregAction::Undefined);
        assert_eq!(access(PMUSERENR, true, true), SysregAction::Read(0));
        assert_eq!(access(PMUSERENR, false, true), SysregAction::Undefined);
    }

    #[test]
    fn interrupts_timers_and_caches_have_their_actions() {
        assert_eq!(write(3, 0, 12, 11, 5), SysregAction::SendSgi(0x1234));
        assert_eq!(read(3, 0, 12, 11, 5), SysregAction::Undefined);
        assert_eq!(access(SGI1R, false, true), SysregAction::Undefined);
        assert_eq!(read(3, 3, 14, 2, 1), SysregAction::ReadTimer(TimerRegister::Control));
        let armed = SysregAction::WriteTimer(TimerRegister::Compare, 0x1234);
        assert_eq!(write(3, 3, 14, 2, 2), armed);
        for crm in [6, 10, 14] {
            assert_eq!(write(1, 0, 7, crm, 2), SysregAction::MaintainBySetWay);
        }
        assert_eq!(read(3, 0, 1, 0, 1), SysregAction::Read(0));
    }

    #[test]
    fn watched_translation_registers_are_named() {
        let sctlr = SysregAction::WriteTranslation(TranslationRegister::Sctlr, 0x1234);
        assert_eq!(write(3, 0, 1, 0, 0), sctlr);
        let contextidr = SysregAction::WriteTranslation(TranslationRegister::Contextidr, 0x1234);
        assert_eq!(write(3, 0, 13, 0, 1), contextidr);
        assert_eq!(write(3, 0, 13, 0, 4), SysregAction::Undefined);
        assert!(changes_caching(0, 5) && changes_caching(1, 5) && !changes_caching(5, 5 | 1 << 12));
        assert!(is_cached(5) && !is_cached(1));
    }

    #[test]
    fn the_interrupt_interface_is_on_and_cannot_be_turned_off() {
        assert_eq!(read(3, 0, 12, 12, 5), SysregAction::Read(7));
        assert_eq!(write(3, 0, 12, 12, 5), SysregAction::Ignored);
        assert_eq!(access(ICC_SRE, true, true), SysregAction::Undefined);
    }

    #[test]
    fn what_one_processor_has_for_all_guests_is_undefined() {
        // ERRIDR, ERRSELR, ERXFR, ERXSTATUS, ERXMISC0; LORSA, LORC, LORID; TRFCR; PMSCR, PMBLIMITR,
        // TRBLIMITR.
        let registers = [(5, 3, 0), (5, 3, 1), (5, 4, 0), (5, 4, 2), (5, 5, 0), (10, 4, 0)];
        let more = [(10, 4, 3), (10, 4, 7), (1, 2, 1), (9, 9, 0), (9, 10, 0), (9, 11, 0)];
        for (crn, crm, op2) in registers.into_iter().chain(more) {
            assert_eq!(read(3, 0, crn, crm, op2), SysregAction::Undefined);
            assert_eq!(write(3, 0, crn, crm, op2), SysregAction::Undefined);
        }
    }

    #[test]
    fn what_is_unknown_is_undefined() {
        assert_eq!(read(3, 0, 15, 0, 0), SysregAction::Undefined);
        assert_eq!(read(3, 3, 11, 0, 0), SysregAction::Undefined);
        assert_eq!(read(3, 4, 1, 0, 0), SysregAction::Undefined);
        assert_eq!(write(1, 0, 7, 6, 4), SysregAction::Undefined);
    }
}
