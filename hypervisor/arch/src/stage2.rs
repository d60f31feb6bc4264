//! Which memory the running guest sees: the stage-2 controls, and forgetting cached translations.
//!
//! The tables' content is decided by `hv_core::p2m`.

use crate::barrier::{dsb_ish, isb};
use crate::percpu;
use crate::regs::{
    self, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, Readable, SCTLR_EL1, TCR_EL1, VTCR_EL2, VTTBR_EL2,
    Writeable,
};
use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};
use hv_core::addr::{Gfn, MachineAddr};
use hv_core::p2m::P2mConfig;

/// The root of a domain's tables and the VMID that tags what is cached of them: `VTTBR_EL2`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Space(u64);

impl Space {
    /// Joins the root table's address and the VMID.
    pub const fn new(root: MachineAddr, vmid: u16) -> Self {
        Self(root.raw() | (vmid as u64) << 48)
    }

    /// Takes the content of `VTTBR_EL2`.
    pub const fn from_raw(vttbr: u64) -> Self {
        Self(vttbr)
    }

    /// Returns the content of `VTTBR_EL2`.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// Bits of a guest address on all processors; 0 until it is chosen.
static IPA_BITS: AtomicU8 = AtomicU8::new(0);

/// Returns the shape of stage-2 tables: what [`choose`] was told, and before that guest addresses have as many
/// bits as machine addresses.
pub fn config() -> P2mConfig {
    match IPA_BITS.load(Ordering::Relaxed) {
        0 => P2mConfig::new(address_bits()),
        bits => P2mConfig::new(bits),
    }
}

/// Has this processor and those that start later walk tables of a shape, which this processor must be able to; no
/// guest may have run yet.
pub fn choose(config: P2mConfig) {
    IPA_BITS.store(config.ipa_bits, Ordering::Relaxed);
    init_this();
    isb();
}

/// Returns how many bits this processor's addresses have, up to 48.
pub fn address_bits() -> u8 {
    match ID_AA64MMFR0_EL1.get() & 0xf {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// Returns how many bits a VMID has: 8 or 16.
pub fn vmid_bits() -> u8 {
    if (ID_AA64MMFR1_EL1.get() >> 4) & 0xf == 2 { 16 } else { 8 }
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

/// Makes every processor forget what it caches of `count` guest frames of `space` from `first`,
/// where each cached translation covers at least 2^`order`; then no processor copies from or to a
/// page it found by them either. What was stored to the tables is complete
/// ([`crate::barrier::dsb_ishst`]).
pub fn flush(space: Space, first: Gfn, count: u64, order: u8) {
    /// With more to forget one by one, forgetting everything is quicker.
    const MANY: u64 = 512;
    let steps = (count >> order).max(1);
    in_space(space, || {
        if steps > MANY {
            forget_space();
            return;
        }
        for step in 0..steps {
            forget_page(first.number().wrapping_add(step << order));
        }
        // Entries that combine both stages are found by virtual address only: forget them all.
        dsb_ish();
        forget_combined();
    });
    percpu::wait_for_reaches();
}

/// Makes every processor forget what it caches of `space`, as [`flush`] does of a part.
pub fn flush_space(space: Space) {
    in_space(space, forget_space);
    percpu::wait_for_reaches();
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

/// Has no translation of EL1 be walked on this processor until [`allow_walks`].
///
/// Processors look ahead, past address-translation instructions of the hypervisor's too, and some
/// cache what they find there by `VTTBR_EL2` and EL1's registers as they are at that moment, though
/// these be of two guests (Cortex-A57 1319537, Cortex-A72 1319367, and others of Arm's). So while
/// they are exchanged neither `TTBR` is walked, and the MMU is on: off, it would have each address
/// translated by stage 2 alone.
pub(crate) fn forbid_walks() {
    const NO_WALKS: u64 = 1 << 23 | 1 << 7; // EPD1, EPD0
    TCR_EL1.set(NO_WALKS);
    isb();
    SCTLR_EL1.set(regs::SCTLR_EL1_MMU);
    isb();
}

/// Lets EL1's translations be walked again, with these values of `SCTLR_EL1` and `TCR_EL1`;
/// `VTTBR_EL2` and the other registers are of the same guest.
pub(crate) fn allow_walks(sctlr: u64, tcr: u64) {
    isb();
    SCTLR_EL1.set(sctlr);
    isb();
    TCR_EL1.set(tcr);
    isb();
}

/// Does `action`, which forgets entries by the VMID in force, with that of `space`.
fn in_space(space: Space, action: impl FnOnce()) {
    let current = active();
    if current == space {
        action();
        dsb_ish();
        isb();
        return;
    }
    let (sctlr, tcr) = (SCTLR_EL1.get(), TCR_EL1.get());
    forbid_walks();
    activate(space);
    action();
    dsb_ish();
    isb();
    activate(current);
    allow_walks(sctlr, tcr);
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
    let config = config();
    let address_size = (ID_AA64MMFR0_EL1.get() & 0xf).min(5);
    let start = u64::from(2 - config.start_level.min(2));
    let wide = u64::from(vmid_bits() == 16) << 19;
    let input = u64::from(64 - config.ipa_bits);
    forbid_walks();
    VTCR_EL2.set(regs::VTCR | wide | address_size << 16 | start << 6 | input);
    VTTBR_EL2.set(0);
}
