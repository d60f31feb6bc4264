//! Which memory the running guest sees: the stage-2 controls, and forgetting cached translations.
//!
//! The tables' content is decided by `hv_core::p2m`.

use crate::barrier::{dsb_ish, dsb_ishst, isb};
use crate::regs::{
    self, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, Readable, VTCR_EL2, VTTBR_EL2, Writeable,
};
use core::arch::asm;
use hv_core::addr::{Gfn, MachineAddr};

/// The root of a domain's tables and the VMID that tags what is cached of them: `VTTBR_EL2`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space(u64);

impl Space {
    /// Joins the root table's address and the VMID.
    pub const fn new(root: MachineAddr, vmid: u16) -> Self {
        Self(root.raw() | (vmid as u64) << 48)
    }
}

/// The shape of stage-2 tables on this machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    /// Bits of a guest physical address, as many as a machine address has.
    pub address_bits: u32,
    /// The level of the root: 0 or 1.
    pub root_level: u32,
    /// How many root tables there are, adjacent and aligned to their size together.
    pub root_tables: u32,
    /// Bits of a VMID: 8 or 16.
    pub vmid_bits: u32,
}

/// Returns the shape of stage-2 tables (Arm ARM D8.2.6: up to sixteen roots are joined to save a level).
pub fn geometry() -> Geometry {
    let address_bits = match ID_AA64MMFR0_EL1.get() & 0xf {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    };
    let vmid_bits = if (ID_AA64MMFR1_EL1.get() >> 4) & 0xf == 2 { 16 } else { 8 };
    let (root_level, covered) = if address_bits > 43 { (0, 48) } else { (1, 39) };
    let root_tables = 1 << u32::saturating_sub(address_bits, covered);
    Geometry { address_bits, root_level, root_tables, vmid_bits }
}

/// Makes `space` what the guest on this processor sees.
#[inline]
pub fn activate(space: Space) {
    if VTTBR_EL2.get() != space.0 {
        VTTBR_EL2.set(space.0);
        isb();
    }
}

/// Returns what the guest on this processor sees.
#[inline]
pub fn active() -> Space {
    Space(VTTBR_EL2.get())
}

/// Makes every processor forget what it caches of `count` pages of `space` from `first`; earlier stores to
/// the tables are complete by then.
pub fn flush(space: Space, first: Gfn, count: u64) {
    /// Beyond this, forgetting everything is quicker.
    const MANY: u64 = 512;
    dsb_ishst();
    in_space(space, || {
        if count > MANY {
            forget_space();
            return;
        }
        for page in 0..count {
            if let Some(gfn) = first.checked_add(page) {
                forget_page(gfn.number());
            }
        }
        // Entries that combine both stages are found by virtual address only: forget them all.
        dsb_ish();
        forget_combined();
    });
}

/// Makes every processor forget what it caches of `space`; earlier stores to the tables are complete by then.
pub fn flush_space(space: Space) {
    dsb_ishst();
    in_space(space, forget_space);
}

/// Makes every processor forget all guests: VMIDs are about to be used anew.
pub fn flush_all() {
    // SAFETY: forgetting a translation only makes it be looked up again.
    unsafe {
        asm!("dsb ishst", "tlbi alle1is", "dsb ish", "isb", options(nostack, preserves_flags))
    };
}

/// Makes this processor forget the stage-1 entries of the running guest.
///
/// Virtual processors of one domain share a VMID but may map the same address and ASID differently:
/// call it when another one of the domain that ran here last is loaded.
pub fn flush_local_stage1() {
    // SAFETY: forgetting a translation only makes it be looked up again.
    unsafe { asm!("tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}

/// Does `action`, which forgets entries by the VMID in force, with that of `space`.
fn in_space(space: Space, action: impl FnOnce()) {
    let current = active();
    activate(space);
    action();
    dsb_ish();
    isb();
    activate(current);
}

fn forget_space() {
    // SAFETY: forgetting a translation only makes it be looked up again.
    unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
}

fn forget_page(page: u64) {
    // SAFETY: forgetting a translation only makes it be looked up again.
    unsafe { asm!("tlbi ipas2e1is, {}", in(reg) page, options(nostack, preserves_flags)) };
}

fn forget_combined() {
    // SAFETY: forgetting a translation only makes it be looked up again.
    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
}

pub(crate) fn init_this() {
    let geometry = geometry();
    let address_size = (ID_AA64MMFR0_EL1.get() & 0xf).min(5);
    let start = if geometry.root_level == 0 { 2 } else { 1 };
    let wide = u64::from(geometry.vmid_bits == 16) << 19;
    VTCR_EL2.set(
        regs::VTCR | wide | address_size << 16 | start << 6 | u64::from(64 - geometry.address_bits),
    );
    VTTBR_EL2.set(0);
}
