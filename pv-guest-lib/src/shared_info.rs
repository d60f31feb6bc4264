//! The page a domain shares with the hypervisor, and each vCPU's part of it.

use crate::cpu::{self, MAX_CPUS};
use crate::hypercall::{HypercallError, memory, vcpu};
use crate::page::SharedPage;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::memory::SPACE_SHARED_INFO;
use hypercall_abi::shared_info::{SharedInfo, VcpuInfo};
use spin::Once;

static PAGE: Once<SharedPage> = Once::new();
static VCPUS: [Once<SharedPage>; MAX_CPUS] = [const { Once::new() }; MAX_CPUS];
/// Where a registered `vcpu_info` is in its page.
const VCPU_INFO_OFFSET: usize = 0x40;

/// Maps the shared page over a page of the guest's; harmless when repeated.
pub fn map() -> Result<(), HypercallError> {
    if PAGE.get().is_some() {
        return Ok(());
    }
    let page = SharedPage::allocate();
    memory::add_to_physmap(DOMID_SELF, SPACE_SHARED_INFO, 0, page.frame())?;
    PAGE.call_once(|| page);
    Ok(())
}

/// Returns the shared page; [`map`] must have succeeded.
#[inline(always)]
pub fn page() -> SharedPage {
    *PAGE.get().expect("the shared page is mapped")
}

/// Gives this processor's `vcpu_info` its own place.
pub fn register_vcpu() -> Result<(), HypercallError> {
    let number = cpu::number();
    let slot = VCPUS.get(number).expect("a started processor has a number below MAX_CPUS");
    let page = SharedPage::allocate();
    vcpu::register_vcpu_info(number, page.frame(), VCPU_INFO_OFFSET)?;
    slot.call_once(|| page);
    Ok(())
}

/// Returns whether this processor's `vcpu_info` has its own place.
pub fn vcpu_is_registered() -> bool {
    VCPUS.get(cpu::number()).is_some_and(|slot| slot.get().is_some())
}

/// Maps the shared page and registers this processor's part again, where a resumed domain lost them.
pub(crate) fn resume() -> Result<(), HypercallError> {
    if let Some(page) = PAGE.get() {
        memory::add_to_physmap(DOMID_SELF, SPACE_SHARED_INFO, 0, page.frame())?;
    }
    let number = cpu::number();
    if let Some(page) = VCPUS.get(number).and_then(Once::get) {
        vcpu::register_vcpu_info(number, page.frame(), VCPU_INFO_OFFSET)?;
    }
    Ok(())
}

/// Returns the page and offset of a processor's `vcpu_info`.
fn vcpu_info(number: usize) -> Option<(SharedPage, usize)> {
    match VCPUS.get(number).and_then(Once::get) {
        Some(page) => Some((*page, VCPU_INFO_OFFSET)),
        None if number == 0 => PAGE.get().map(|page| (*page, 0)),
        None => None,
    }
}

/// Returns a processor's flag "an event waits to be looked at".
pub fn upcall_pending(number: usize) -> Option<&'static AtomicU8> {
    let (page, offset) = vcpu_info(number)?;
    Some(page.byte(offset + offset_of!(VcpuInfo, evtchn_upcall_pending)))
}

/// Returns a processor's word of which words of pending bits are not 0.
pub fn pending_selector(number: usize) -> Option<&'static AtomicU64> {
    let (page, offset) = vcpu_info(number)?;
    Some(page.word64(offset + offset_of!(VcpuInfo, evtchn_pending_sel)))
}

/// Returns word `index` of the two-level ABI's pending bits.
#[inline(always)]
pub fn pending_word(index: usize) -> &'static AtomicU64 {
    page().word64(offset_of!(SharedInfo, evtchn_pending) + index * 8)
}

/// Returns word `index` of the two-level ABI's mask bits.
#[inline(always)]
pub fn mask_word(index: usize) -> &'static AtomicU64 {
    page().word64(offset_of!(SharedInfo, evtchn_mask) + index * 8)
}

/// Returns the wall clock's version, seconds (low, high) and nanoseconds.
pub fn wall_clock() -> [&'static AtomicU32; 4] {
    let page = page();
    [
        page.word32(offset_of!(SharedInfo, wc_version)),
        page.word32(offset_of!(SharedInfo, wc_sec)),
        page.word32(offset_of!(SharedInfo, wc_sec_hi)),
        page.word32(offset_of!(SharedInfo, wc_nsec)),
    ]
}
