//! A domain: ports, grants, memory, interrupts, virtual processors and a life.

pub mod complaints;
pub mod create;
pub mod destroy;
#[cfg(target_os = "none")]
pub mod dom0;
pub mod dom0_layout;
pub mod dom0_tree;
pub mod interrupts;
pub mod memory;
pub mod runstate;
pub mod time;
pub mod uart;
pub mod vcpu;

use crate::lock::Lock;
use crate::machine::Memory;
use crate::range_set::RangeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::AtomicU32;
use hv_core::addr::MachineAddr;
use hv_core::evtchn::PortTable;
use hv_core::grant::GrantTable;
use hv_core::ids::{DomId, Irq, VcpuId};
use hv_core::lifecycle::Lifecycle;
use hv_core::memory::FrameMemory;
use hv_core::p2m::{P2m, Vmid};
use hv_core::privilege::Subject;
use hv_core::vgic::Vgic;
use hv_core::vpl011::Vpl011;
use spin::Once;
use vcpu::Vcpu;

/// Number of HVM parameters (`HVM_NR_PARAMS`, `public/hvm/params.h`).
pub const PARAMETERS: usize = 39;

/// Number of watchdogs a domain may have running (`SCHEDOP_watchdog`).
pub const WATCHDOGS: usize = 2;

/// A domain's grant table, in this machine's memory.
pub type Grants = GrantTable<<Memory as FrameMemory>::Own>;

/// What a domain was created with; it does not change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many virtual processors it has.
    pub max_vcpus: u32,
    /// Frames are identity-mapped: a gfn is the mfn of the same number.
    pub direct_mapped: bool,
    /// It may ask what only the control domain may.
    pub privileged: bool,
    /// Flags of `XEN_DOMCTL_createdomain`.
    pub flags: u32,
    /// Security label, kept for the tools.
    pub ssidref: u32,
    /// The private interrupt that tells of events.
    pub upcall: Irq,
    /// Value of `CNTVOFF_EL2`: the system counter when the domain was created.
    pub counter_offset: u64,
    /// How many shared peripheral interrupts its interrupt controller has.
    pub spis: u32,
    /// Its `WFI` and `WFE` do not trap: a waiting processor stays the guest's (`vwfi=native`).
    pub waits_natively: bool,
}

/// A domain.
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// What it was created with.
    pub settings: Settings,
    /// Bytes of the hypervisor's heap that are set aside for it, its virtual processors not counted.
    pub heap: usize,
    /// Where it stands.
    pub life: Lock<Lifecycle>,
    /// Its event channels.
    pub ports: Lock<PortTable>,
    /// What it grants, and what it has mapped of others' grants.
    pub grants: Lock<Grants>,
    /// Its memory.
    pub p2m: Lock<P2m>,
    /// Its interrupt controller.
    pub vgic: Lock<Vgic>,
    /// Its virtual UART (`XEN_DOMCTL_vuart_op`), if it has one.
    pub uart: Lock<Option<Vpl011>>,
    /// Its virtual processors; none until `XEN_DOMCTL_max_vcpus`.
    pub vcpus: Once<Vec<Arc<Vcpu>>>,
    /// Its HVM parameters.
    pub parameters: Lock<[u64; PARAMETERS]>,
    /// The page of `struct shared_info`.
    pub shared_info: MachineAddr,
    /// Its name for the tools (`XEN_DOMCTL_setdomainhandle`).
    pub handle: Lock<[u8; 16]>,
    /// How often it may still be complained about.
    pub complaints: Lock<complaints::Budget>,
    /// Device frames it may have mapped (`XEN_DOMCTL_iomem_permission`).
    pub devices: Lock<RangeSet>,
    /// What marks its translations in the TLBs, once it has run.
    pub vmid: Lock<Option<Vmid>>,
    /// The virtual processor of this domain that last ran on each processor.
    pub last_vcpu: Vec<AtomicU32>,
    /// How far its end has come.
    pub teardown: Lock<destroy::Teardown>,
    /// Which of its watchdogs run.
    pub watchdogs: Lock<[bool; WATCHDOGS]>,
    /// Seconds its wall clock differs from the host's (`XEN_DOMCTL_settimeoffset`).
    pub time_offset: Lock<i64>,
}

impl Domain {
    /// Returns virtual processor `id`.
    pub fn vcpu(&self, id: VcpuId) -> Option<&Arc<Vcpu>> {
        self.vcpus().get(id.index())
    }

    /// Returns all virtual processors.
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], Vec::as_slice)
    }

    /// Returns what marks its translations in the TLBs: the value of `VTTBR_EL2`; nothing if it has
    /// never run, so that no TLB knows it.
    pub fn tag(&self, p2m: &P2m) -> Option<u64> {
        let vmid = (*self.vmid.lock())?;
        Some(p2m.root().base().raw() | u64::from(vmid.number()) << 48)
    }

    /// Returns the domain, as the rules of privilege see it.
    pub fn subject(&self) -> Subject {
        Subject { dom: self.id, privileged: self.settings.privileged }
    }

    /// Says whether the domain may ask what only the control domain may.
    pub fn is_privileged(&self) -> bool {
        self.settings.privileged
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain").field("id", &self.id).finish_non_exhaustive()
    }
}
