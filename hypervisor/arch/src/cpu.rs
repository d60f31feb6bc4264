//! What this processor is, and putting its EL2 controls into their standing state.

use crate::regs::{
    self, CNTHCTL_EL2, CPTR_EL2, HCR_EL2, Hafgrtr, Hcrx, Hdfgrtr, Hdfgwtr, Hfgitr, Hfgrtr, Hfgwtr,
    Hstr, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64PFR0_EL1, MDCR_EL2, MDSCR_EL1, MIDR_EL1,
    MPIDR_EL1, Readable, Vpidr, Vsesr, Writeable,
};
use core::arch::asm;

/// The affinity fields of `MPIDR_EL1`.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Returns `MIDR_EL1`.
pub fn midr() -> u64 {
    MIDR_EL1.get()
}

/// Returns the affinity of this processor (Aff3 in bits 39:32, Aff2.Aff1.Aff0 in 23:0).
pub fn affinity() -> u64 {
    MPIDR_EL1.get() & AFFINITY
}

/// Says whether this processor has the reliability extension (`FEAT_RAS`).
#[inline]
pub(crate) fn has_ras() -> bool {
    (ID_AA64PFR0_EL1.get() >> 28) & 0xf != 0
}

/// Sets the controls that stay the same whatever guest runs.
pub(crate) fn init_this() {
    HCR_EL2.set(regs::HCR_GUEST);
    CPTR_EL2.set(regs::CPTR_GUEST);
    MDCR_EL2.set(regs::MDCR_GUEST);
    CNTHCTL_EL2.set(regs::CNTHCTL_GUEST);
    Hstr::set(regs::HSTR_GUEST);
    Vpidr::set(MIDR_EL1.get());
    MDSCR_EL1.set(0);
    disable_newer_controls();
    if has_ras() {
        // The syndrome of the virtual SErrors that guests are given.
        Vsesr::set(0);
    }
    crate::stage2::init_this();
    crate::timer::init_this();
    crate::barrier::isb();
}

/// Clears controls that only newer processors have and that come out of reset with any value: fine-grained
/// traps (`FEAT_FGT`) would surprise a guest, `HCRX_EL2` (`FEAT_HCX`) would allow it what its
/// identification registers do not show.
fn disable_newer_controls() {
    let fine_grained = (ID_AA64MMFR0_EL1.get() >> 56) & 0xf;
    if fine_grained != 0 {
        Hfgrtr::set(0);
        Hfgwtr::set(0);
        Hfgitr::set(0);
        Hdfgrtr::set(0);
        Hdfgwtr::set(0);
        if (ID_AA64PFR0_EL1.get() >> 44) & 0xf != 0 {
            Hafgrtr::set(0);
        }
    }
    if (ID_AA64MMFR1_EL1.get() >> 40) & 0xf != 0 {
        Hcrx::set(0);
    }
}

macro_rules! id_register {
    ($crm:literal, $op2:literal) => {{
        let value: u64;
        // SAFETY: identification registers are only read, and the unallocated ones read as zero.
        unsafe {
            asm!(concat!("mrs {}, S3_0_C0_C", $crm, "_", $op2), out(reg) value,
                options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

macro_rules! id_row {
    ($crm:literal) => {
        [
            id_register!($crm, 0),
            id_register!($crm, 1),
            id_register!($crm, 2),
            id_register!($crm, 3),
            id_register!($crm, 4),
            id_register!($crm, 5),
            id_register!($crm, 6),
            id_register!($crm, 7),
        ]
    };
}

/// Returns this processor's identification registers with op0 = 3, op1 = 0, CRn = 0: `[CRm - 1][op2]`
/// for CRm 1 to 7, so that `ID_AA64PFR0_EL1` (CRm 4, op2 0) is `[3][0]`.
pub fn id_registers() -> [[u64; 8]; 7] {
    [
        id_row!("1"),
        id_row!("2"),
        id_row!("3"),
        id_row!("4"),
        id_row!("5"),
        id_row!("6"),
        id_row!("7"),
    ]
}
