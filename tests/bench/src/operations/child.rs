//! What takes another domain: an event there and back, and its faults on a page it gave back.

use crate::measure::{Cost, Failure, each, forget, take, tell};
use alloc::vec::Vec;
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;
use hypercall_abi::arch_arm::{
    GUEST_GICC_BASE, GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICR0_BASE, GUEST_RAM0_BASE,
    PSR_GUEST64_INIT, SCTLR_GUEST_INIT, VGCF_ONLINE, VcpuGuestContext,
};
use hypercall_abi::domctl::{
    AddressSize, CreateDomain, Domctl, MaxMem, MaxVcpus, PagingMempool, VcpuContext,
    XEN_DOMCTL_CDF_HAP, XEN_DOMCTL_CDF_HVM, XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_MAX_MEM,
    XEN_DOMCTL_MAX_VCPUS, XEN_DOMCTL_SET_ADDRESS_SIZE, XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE,
    XEN_DOMCTL_SETVCPUCONTEXT, XEN_DOMCTL_UNPAUSEDOMAIN,
};
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::memory::{AddToPhysmap, MemoryReservation, SPACE_SHARED_INFO};
use hypercall_abi::shared_info::{SharedInfo, VcpuInfo};
use pv_guest_lib::hypercall::{domctl, event_channel, memory, sched};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::{cpu, gic, probe, time, tree};
use zerocopy::{Immutable, IntoBytes};

global_asm!(
    include_str!("child.S"),
    // A GICv2's is at the same address.
    DISTRIBUTOR = const GUEST_GICV3_GICD_BASE,
    CPU_INTERFACE = const GUEST_GICC_BASE,
    PRIVATE_FRAME = const GUEST_GICV3_GICR0_BASE + 0x1_0000,
    UPCALL_PENDING = const offset_of!(VcpuInfo, evtchn_upcall_pending),
    SELECTOR = const offset_of!(VcpuInfo, evtchn_pending_sel),
    PENDING = const offset_of!(SharedInfo, evtchn_pending),
);

unsafe extern "C" {
    static measured_child: u8;
    static measured_child_end: u8;
}

const RAM: u64 = GUEST_RAM0_BASE >> 12;
/// 4 MiB, by blocks of 2 MiB.
const BLOCKS: u64 = 2;
const FAULTS: u64 = 2000;
const MANY: u32 = 1000;
/// Page number of what the child gives back.
const GIVEN_BACK: u64 = 5;

/// Measures and tells.
pub(crate) fn measure() {
    match start() {
        Ok((port, faults)) => {
            tell("stage-2 fault on a ballooned page", Ok(faults));
            tell("event to another domain and back", event_and_back(port));
        }
        Err(why) => tell("event to another domain and back", Err(why)),
    }
}

fn event_and_back(port: u32) -> Cost {
    each(MANY, || {
        event_channel::send(port)?;
        take(cpu::wait_for_interrupt);
        forget(port);
        Ok(())
    })
}

/// Starts a domain that answers events; returns the port to it and the nanoseconds of one of its faults.
fn start() -> Result<(u32, u64), Failure> {
    let id = create()?;
    let remote = event_channel::alloc_unbound(id, 0)?;
    let port = event_channel::bind_interdomain(id, remote)?;
    fill(id, remote)?;
    let mut context =
        VcpuGuestContext { flags: VGCF_ONLINE, sctlr: SCTLR_GUEST_INIT, ..Default::default() };
    context.user_regs.pc64 = GUEST_RAM0_BASE;
    context.user_regs.cpsr = PSR_GUEST64_INIT;
    let ctxt = (&raw mut context).expose_provenance() as u64;
    ask(XEN_DOMCTL_SETVCPUCONTEXT, id, &VcpuContext { vcpu: 0, pad: 0, ctxt })?;
    let mailbox = open(id, 1)?;
    domctl::call(&mut Domctl::new(XEN_DOMCTL_UNPAUSEDOMAIN, id))?;
    let lives = time::wait_until(1000, || {
        let _ = sched::yield_now();
        mailbox.word64(0).load(Ordering::SeqCst) == 1
    });
    if !lives {
        return Err(Failure::Other("the child did not run"));
    }
    let answers = [0x10, 0x18].map(|at| mailbox.word64(at).load(Ordering::SeqCst));
    if answers != [0, 1] {
        return Err(Failure::Other("the child was refused its pages"));
    }
    // Binding counts as an event; it is not to come in between.
    event_channel::unmask(port)?;
    forget(port);
    while gic::acknowledge().map(gic::end).is_some() {}
    forget(port);
    let ticks = mailbox.word64(8).load(Ordering::SeqCst);
    Ok((port, ticks * 1_000_000_000 / time::frequency() / FAULTS))
}

fn ask<T: Immutable + IntoBytes>(cmd: u32, id: u16, payload: &T) -> Result<Domctl, Failure> {
    let mut request = Domctl::with(cmd, id, payload);
    domctl::call(&mut request)?;
    Ok(request)
}

/// Creates a domain with memory.
fn create() -> Result<u16, Failure> {
    let description = CreateDomain {
        handle: *b"a measured child",
        flags: XEN_DOMCTL_CDF_HVM | XEN_DOMCTL_CDF_HAP,
        max_vcpus: 1,
        max_evtchn_port: 1023,
        max_grant_frames: -1,
        max_maptrack_frames: -1,
        grant_opts: 1,
        ..Default::default()
    };
    let id = ask(XEN_DOMCTL_CREATEDOMAIN, 0, &description)?.domain;
    ask(XEN_DOMCTL_MAX_VCPUS, id, &MaxVcpus { max: 1 })?;
    ask(XEN_DOMCTL_MAX_MEM, id, &MaxMem { max_memkb: BLOCKS * 2048 })?;
    ask(XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE, id, &PagingMempool { size: 2 << 20 })?;
    ask(XEN_DOMCTL_SET_ADDRESS_SIZE, id, &AddressSize { size: 64 })?;
    let mut blocks: Vec<u64> = (0..BLOCKS).map(|number| RAM + number * 512).collect();
    if memory::populate_physmap(id, &mut blocks, 9)? != BLOCKS {
        return Err(Failure::Other("no memory for the child"));
    }
    Ok(id)
}

/// Maps page `number` of a domain's memory, for good.
fn open(id: u16, number: u64) -> Result<SharedPage, Failure> {
    let region = tree::get().extended.first().ok_or(Failure::Other("no room for its pages"))?;
    // The first of them is where grants are mapped.
    let at = (region.start >> 12) + 1 + number;
    if memory::map_foreign(id, &[RAM + number], &[at])?.as_slice() != [0] {
        return Err(Failure::Other("the child's page cannot be mapped"));
    }
    // SAFETY: the page was just mapped, for good, and is reached only as a `SharedPage`.
    Ok(unsafe { SharedPage::at(at << 12) })
}

/// Gives a domain its program and the requests it makes.
fn fill(id: u16, port: u32) -> Result<(), Failure> {
    let code = open(id, 0)?;
    let start = (&raw const measured_child).expose_provenance() as u64;
    let end = (&raw const measured_child_end).expose_provenance() as u64;
    for (number, at) in (start..end).step_by(8).enumerate() {
        let word = probe::load64(at).map_err(|_| Failure::Other("its program cannot be read"))?;
        code.word64(number * 8).store(word, Ordering::SeqCst);
    }
    let mailbox = open(id, 1)?;
    mailbox.word64(0x40).store(FAULTS, Ordering::SeqCst);
    // A domain gets what its host has.
    mailbox.word64(0x48).store(u64::from(gic::version()), Ordering::SeqCst);
    let requests = open(id, 2)?;
    let page = GUEST_RAM0_BASE + 0x2000;
    let shared = AddToPhysmap {
        domid: DOMID_SELF,
        size: 0,
        space: u32::from(SPACE_SHARED_INFO),
        idx: 0,
        gpfn: RAM + 3,
    };
    put(requests, 0, shared.as_bytes());
    let given_back = MemoryReservation {
        extent_start: page + 0x180,
        nr_extents: 1,
        extent_order: 0,
        domid: DOMID_SELF,
        ..Default::default()
    };
    put(requests, 0x100, given_back.as_bytes());
    requests.word64(0x180).store(RAM + GIVEN_BACK, Ordering::SeqCst);
    requests.word32(0x200).store(port, Ordering::SeqCst);
    Ok(())
}

fn put(page: SharedPage, offset: usize, bytes: &[u8]) {
    for (number, byte) in bytes.iter().enumerate() {
        page.byte(offset + number).store(*byte, Ordering::SeqCst);
    }
}
