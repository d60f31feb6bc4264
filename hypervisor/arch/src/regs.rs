//! System registers by name. The one file that imports `aarch64-cpu`, whose writes are safe functions
//! although a wrong value in some of them breaks memory safety: nothing here leaves the crate.
//!
//! Constants are whole values, because the crate's field maps do not know the bits that read as one.

pub(crate) use aarch64_cpu::registers::{
    AFSR0_EL1, AFSR1_EL1, AMAIR_EL1, CNTFRQ_EL0, CNTHCTL_EL2, CNTHP_CTL_EL2, CNTKCTL_EL1,
    CNTPCT_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVOFF_EL2, CONTEXTIDR_EL1, CPACR_EL1, CPTR_EL2,
    CSSELR_EL1, ELR_EL1, ELR_EL2, ESR_EL1, ESR_EL2, FAR_EL1, FAR_EL2, HCR_EL2, HPFAR_EL2,
    ICH_HCR_EL2, ICH_VMCR_EL2, ICH_VTR_EL2, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64PFR0_EL1,
    MAIR_EL1, MDCR_EL2, MDSCR_EL1, MIDR_EL1, MPIDR_EL1, PAR_EL1, SCTLR_EL1, SP_EL0, SP_EL1,
    SPSR_EL1, SPSR_EL2, TCR_EL1, TPIDR_EL0, TPIDR_EL1, TPIDR_EL2, TPIDRRO_EL0, TTBR0_EL1,
    TTBR1_EL1, VBAR_EL1, VMPIDR_EL2, VTCR_EL2, VTTBR_EL2,
};
pub(crate) use aarch64_cpu::registers::{Readable, Writeable};

/// What a guest's `HCR_EL2` always holds: `TERR TLOR RW TSW TACR TIDCP TSC TID3 TWE TWI BSU=inner
/// FB AMO IMO FMO PTW SWIO VM` (Arm ARM D19.2.48). Error records and limited ordering regions are
/// not switched with a guest; processors without them ignore `TERR` and `TLOR`. `FB` and `BSU` make
/// a guest's maintenance operations reach the inner-shareable domain, so that a virtual processor
/// may move between processors.
pub(crate) const HCR_GUEST: u64 = 0x18_807c_663f;
/// `HCR_EL2.VSE`: a virtual SError is pending.
pub(crate) const HCR_VSE: u64 = 1 << 8;
/// `HCR_EL2.TWI`: WFI traps.
pub(crate) const HCR_TWI: u64 = 1 << 13;
/// `HCR_EL2.TWE`: WFE traps.
pub(crate) const HCR_TWE: u64 = 1 << 14;
/// `HCR_EL2.TVM`: writes of the virtual-memory registers trap.
pub(crate) const HCR_TVM: u64 = 1 << 26;

/// `CPTR_EL2`: TAM and TTA trap, FP and SIMD do not, SVE does (bit 8); the rest reads as one.
pub(crate) const CPTR_GUEST: u64 = 0x4010_33ff;
/// `MDCR_EL2`: TTRF TPMS TDRA TDOSA TDA TPM TPMCR: trace filters, profiling, debug and performance
/// registers trap, BRK goes to EL1. `E2TB` and `E2PB` of 0 have the buffers of traces and profiles
/// trap.
pub(crate) const MDCR_GUEST: u64 = 0x0008_4e60;
/// `CNTHCTL_EL2`: the guest may read the physical counter; its physical timer traps.
pub(crate) const CNTHCTL_GUEST: u64 = 1;
/// `HSTR_EL2`: AArch32 CP15 c15 traps.
pub(crate) const HSTR_GUEST: u64 = 1 << 15;

/// `MAIR_EL2`: index 0 Normal write-back, index 1 Device-nGnRE.
pub(crate) const MAIR: u64 = 0x04ff;
/// `TCR_EL2` without `PS`: 48-bit addresses, walks write-back inner-shareable, 4 KiB granule.
pub(crate) const TCR: u64 = 1 << 31 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 16;
/// `SCTLR_EL2`: MMU, caches, stack alignment check, writable memory is never executed.
pub(crate) const SCTLR: u64 = 0x30c5_0830 | 1 << 19 | 1 << 12 | 1 << 3 | 1 << 2 | 1;

/// `SCTLR_EL1` of nobody: the MMU on, reserved bits as they read.
pub(crate) const SCTLR_EL1_MMU: u64 = 0x30c5_0831;

/// `VTCR_EL2` without sizes: walks write-back inner-shareable, 4 KiB granule.
pub(crate) const VTCR: u64 = 1 << 31 | 3 << 12 | 1 << 10 | 1 << 8;

macro_rules! register {
    ($name:ident, $text:literal $(, $access:ident)*) => {
        #[doc = concat!("`", $text, "`, which `aarch64-cpu` does not have.")]
        pub(crate) struct $name;
        impl $name { $(register!(@$access $text);)* }
    };
    (@read $text:literal) => {
        /// Reads the register.
        #[inline(always)]
        pub(crate) fn get() -> u64 {
            let value;
            // SAFETY: reading this register changes no memory that Rust knows of.
            unsafe {
                core::arch::asm!(concat!("mrs {}, ", $text), out(reg) value,
                    options(nostack, preserves_flags));
            }
            value
        }
    };
    (@write $text:literal) => {
        /// Writes the register.
        #[inline(always)]
        pub(crate) fn set(value: u64) {
            // SAFETY: the register governs guests, timers or interrupts, not the hypervisor's memory.
            unsafe {
                core::arch::asm!(concat!("msr ", $text, ", {}"), in(reg) value,
                    options(nostack, preserves_flags));
            }
        }
    };
}

register!(CnthpCval, "CNTHP_CVAL_EL2", write);
register!(CtrEl0, "CTR_EL0", read);
register!(DczidEl0, "DCZID_EL0", read);
register!(Hstr, "HSTR_EL2", write);
register!(IccSgi1r, "ICC_SGI1R_EL1", write);
register!(IccBpr1, "ICC_BPR1_EL1", write);
register!(IccCtlr, "ICC_CTLR_EL1", write);
register!(IccDir, "ICC_DIR_EL1", write);
register!(IccEoir1, "ICC_EOIR1_EL1", write);
register!(IccIar1, "ICC_IAR1_EL1", read);
register!(IccIgrpen1, "ICC_IGRPEN1_EL1", write);
register!(IccPmr, "ICC_PMR_EL1", write);
register!(IccSreEl1, "ICC_SRE_EL1", write);
register!(IccSreEl2, "ICC_SRE_EL2", write);
register!(IchEisr, "ICH_EISR_EL2", read);
register!(IchElrsr, "ICH_ELRSR_EL2", read);
register!(IsrEl1, "ISR_EL1", read);
register!(Hafgrtr, "S3_4_C3_C1_6", write);
register!(Hcrx, "S3_4_C1_C2_2", write);
register!(Hdfgrtr, "S3_4_C3_C1_4", write);
register!(Hdfgwtr, "S3_4_C3_C1_5", write);
register!(Hfgitr, "S3_4_C1_C1_6", write);
register!(Hfgrtr, "S3_4_C1_C1_4", write);
register!(Hfgwtr, "S3_4_C1_C1_5", write);
register!(Vdisr, "S3_4_C12_C1_1", write);
register!(Vsesr, "S3_4_C5_C2_3", write);
register!(Vpidr, "VPIDR_EL2", write);
