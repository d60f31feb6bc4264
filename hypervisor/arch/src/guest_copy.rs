//! Memory of the guest that is loaded on this processor, by its own virtual addresses.

use crate::barrier::isb;
use crate::direct_map::DirectMap;
use crate::percpu::Reach;
use crate::regs::{PAR_EL1, Readable, Writeable};
use core::arch::asm;
use hv_core::addr::{GuestAddr, MachineAddr, PAGE_SIZE, to_index};
use hv_core::guest::{Fault, GuestMemory};

/// The memory of the guest whose context and stage 2 are loaded on this processor.
///
/// Addresses are translated as the guest's kernel would use them, which reaches user pages too: the
/// address-translation instructions without `P` ignore `PSTATE.PAN` (Arm ARM C5.4). What they lead to must be
/// managed memory; a device is a fault.
#[derive(Clone, Copy, Debug)]
pub struct LoadedGuest;

impl LoadedGuest {
    /// Returns the guest physical address of the guest virtual `address`, if its kernel may write there.
    pub fn translate(&self, address: u64) -> Result<GuestAddr, Fault> {
        let _par = KeepPar::new();
        let par = translate_stage1(address);
        if par & FAILED != 0 {
            return Err(Fault);
        }
        Ok(GuestAddr::new(par & FRAME | (address % PAGE_SIZE)))
    }

    /// Returns where the guest's `address` is in memory, if the guest may write there.
    pub fn locate_for_write(&self, address: u64) -> Result<MachineAddr, Fault> {
        let _par = KeepPar::new();
        let at = locate(translate_write(address), address)?;
        if DirectMap.covers(at, 1) { Ok(at) } else { Err(Fault) }
    }
}

impl GuestMemory for LoadedGuest {
    #[inline]
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        if in_page(address, bytes.len()) < bytes.len() {
            return read_across(address, bytes);
        }
        let _par = KeepPar::new();
        let at = locate(translate_read(address), address)?;
        if DirectMap.try_read(at, bytes) { Ok(()) } else { Err(Fault) }
    }

    #[inline]
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        if in_page(address, bytes.len()) < bytes.len() {
            return write_across(address, bytes);
        }
        let _par = KeepPar::new();
        let at = locate(translate_write(address), address)?;
        if DirectMap.try_write(at, bytes) { Ok(()) } else { Err(Fault) }
    }
}

/// Reads, page by page, what does not lie in one.
#[inline(never)]
fn read_across(mut address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, after) = rest.split_at_mut(in_page(address, rest.len()));
        LoadedGuest.read(address, part)?;
        address = address.wrapping_add(part.len() as u64);
        rest = after;
    }
    Ok(())
}

/// Writes, page by page, what does not go in one; what comes before a fault is written.
#[inline(never)]
fn write_across(mut address: u64, bytes: &[u8]) -> Result<(), Fault> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, after) = rest.split_at(in_page(address, rest.len()));
        LoadedGuest.write(address, part)?;
        address = address.wrapping_add(part.len() as u64);
        rest = after;
    }
    Ok(())
}

/// `PAR_EL1.F`: the address is not translated.
const FAILED: u64 = 1;
/// `PAR_EL1.PA`: where it is.
const FRAME: u64 = 0xf_ffff_ffff_f000;

/// Returns how many of `len` bytes from `address` are in its page.
#[inline(always)]
fn in_page(address: u64, len: usize) -> usize {
    to_index(PAGE_SIZE - address % PAGE_SIZE).min(len)
}

/// Turns what `PAR_EL1` says of `address` into where its bytes are.
#[inline(always)]
fn locate(par: u64, address: u64) -> Result<MachineAddr, Fault> {
    if par & FAILED != 0 {
        return Err(Fault);
    }
    Ok(MachineAddr::new(par & FRAME | (address % PAGE_SIZE)))
}

#[inline(always)]
fn translate_read(address: u64) -> u64 {
    // SAFETY: translating an address changes only `PAR_EL1`, which `KeepPar` puts back.
    unsafe { asm!("at s12e1r, {}", in(reg) address, options(nostack, preserves_flags)) };
    isb();
    PAR_EL1.get()
}

#[inline(always)]
fn translate_write(address: u64) -> u64 {
    // SAFETY: translating an address changes only `PAR_EL1`, which `KeepPar` puts back.
    unsafe { asm!("at s12e1w, {}", in(reg) address, options(nostack, preserves_flags)) };
    isb();
    PAR_EL1.get()
}

#[inline(always)]
fn translate_stage1(address: u64) -> u64 {
    // SAFETY: translating an address changes only `PAR_EL1`, which `KeepPar` puts back.
    unsafe { asm!("at s1e1w, {}", in(reg) address, options(nostack, preserves_flags)) };
    isb();
    PAR_EL1.get()
}

/// Puts the guest's own `PAR_EL1` back when dropped: the guest may be between its translation and reading it.
///
/// What is found meanwhile stays the guest's until then, even if it gives the page up at this moment.
struct KeepPar {
    par: u64,
    _reach: Reach,
}

impl KeepPar {
    #[inline(always)]
    fn new() -> Self {
        Self { par: PAR_EL1.get(), _reach: Reach::begin() }
    }
}

impl Drop for KeepPar {
    #[inline(always)]
    fn drop(&mut self) {
        PAR_EL1.set(self.par);
    }
}
