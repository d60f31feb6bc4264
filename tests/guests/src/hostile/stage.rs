//! What the vCPUs of a hostile guest share: pages of the event channels, rings, and translation
//! tables of its own.

use super::counted;
use crate::suite::{Failure, hole};
use alloc::vec::Vec;
use hypercall_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;
use hypercall_abi::hvm::{
    HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
};
use hypercall_abi::ids::DOMID_SELF;
use pv_guest_lib::grant::{Access, GrantTable};
use pv_guest_lib::hypercall::{event_channel, hvm};
use pv_guest_lib::page::{SIZE, SharedPage};
use pv_guest_lib::{gic, map, tree};

/// Words of the FIFO ABI in a page.
pub(super) const WORDS: usize = 1024;
/// Frames of the grant table that are mapped.
const TABLE_FRAMES: u32 = 4;
/// References that grant the page to this domain itself, for writing and for reading.
pub(super) const WRITABLE: u32 = 16;
pub(super) const READ_ONLY: u32 = 17;
/// Holes that mappings for writing are put in by chance; those for reading have the next ones.
pub(super) const HOLES: u64 = 8;

/// A ring that Dom0 serves.
#[derive(Clone, Copy)]
pub(super) struct Ring {
    pub(super) page: SharedPage,
    pub(super) port: u32,
}

/// What all vCPUs reach.
pub(super) struct Stage {
    pub(super) own: u16,
    pub(super) table: GrantTable,
    pub(super) granted: SharedPage,
    pub(super) words: Vec<SharedPage>,
    /// Translation tables of the upper half of virtual addresses, by level from 1.
    pub(super) tables: [SharedPage; 3],
    /// Frames that entries of the tables may name without harm to this guest.
    pub(super) targets: Vec<u64>,
    pub(super) store: Option<Ring>,
}

impl Stage {
    pub(super) fn set() -> Result<Self, Failure> {
        let own = own_domain()?;
        let table = GrantTable::map(TABLE_FRAMES)?;
        let granted = SharedPage::allocate();
        table.give(WRITABLE, own, granted.frame(), Access::ReadWrite);
        table.give(READ_ONLY, own, granted.frame(), Access::Read);
        let words = fifo_pages();
        let store = ring(HVM_PARAM_STORE_PFN, HVM_PARAM_STORE_EVTCHN);
        let mut targets: Vec<u64> = (0..8).map(|_| SharedPage::allocate().frame()).collect();
        targets.extend((0..HOLES).map(hole));
        targets.extend([granted.frame(), tree::get().grant_window.start >> 12]);
        targets.extend([gic::distributor().base() >> 12, 1 << 24, (1 << 36) - 1]);
        targets.extend(words.first().map(|page| page.frame()));
        targets.extend(store.map(|ring| ring.page.frame()));
        let tables = [(); 3].map(|()| SharedPage::allocate());
        Ok(Self { own, table, granted, words, tables, targets, store })
    }
}

/// Finds a ring of Dom0's by its parameters; Dom0 itself has none.
pub(super) fn ring(frame: u32, port: u32) -> Option<Ring> {
    let parameter = |index| counted(hvm::get_param(DOMID_SELF, index)).unwrap_or_default();
    let (frame, port) = (parameter(frame), u32::try_from(parameter(port)).ok()?);
    if frame == 0 || port == 0 || frame >= map::MEMORY_END / SIZE {
        return None;
    }
    map::make_memory(frame * SIZE, SIZE);
    // SAFETY: the toolstack put the ring's page there, which is reached only as a shared one.
    Some(Ring { page: unsafe { SharedPage::at(frame * SIZE) }, port })
}

/// Finds the console's ring.
pub(super) fn console() -> Option<Ring> {
    ring(HVM_PARAM_CONSOLE_PFN, HVM_PARAM_CONSOLE_EVTCHN)
}

/// Finds this domain's number: a port that waits for its own domain tells it.
pub(super) fn own_domain() -> Result<u16, Failure> {
    let port = counted(event_channel::alloc_unbound(DOMID_SELF, DOMID_SELF))?;
    let status = counted(event_channel::status(DOMID_SELF, port))?;
    counted(event_channel::close(port))?;
    u16::try_from(status.value & 0xffff).map_err(|_| Failure("no number of a domain".into()))
}

/// Switches to the FIFO ABI; returns the words of all ports, as far as the hypervisor takes them.
pub(super) fn fifo_pages() -> Vec<SharedPage> {
    let control = SharedPage::allocate();
    for vcpu in 0..4 {
        let _ = counted(event_channel::init_control(vcpu, control.frame(), vcpu * 128));
    }
    let mut pages = Vec::new();
    for _ in 0..EVTCHN_FIFO_NR_CHANNELS as usize / WORDS {
        let page = SharedPage::allocate();
        if counted(event_channel::expand_array(page.frame())).is_err() {
            break;
        }
        pages.push(page);
    }
    pages
}
