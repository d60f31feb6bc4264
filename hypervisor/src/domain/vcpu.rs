//! A virtual processor: its registers, its place in the scheduler, and what it shares with its guest.

use crate::lock::Lock;
use crate::machine::VcpuContext;
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hv_core::addr::{Gfn, MachineAddr};
use hv_core::ids::{CpuId, VcpuRef};
use hv_core::sched::SchedId;
use hv_core::vtimer::PhysicalTimer;

const NOWHERE: u32 = u32::MAX;

/// Where a guest wants its run states written: up to two pieces, since it may straddle two pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RunstateArea {
    /// First piece: address and length in bytes.
    pub first: (MachineAddr, usize),
    /// Second piece; of no length if the first is all.
    pub second: (MachineAddr, usize),
}

/// A virtual processor.
pub struct Vcpu {
    /// Which it is.
    pub who: VcpuRef,
    /// Its place in the scheduler.
    pub sched: SchedId,
    /// Its registers; nothing while a processor has taken them to run it.
    pub context: Lock<Option<Box<VcpuContext>>>,
    /// Set when its interrupts changed: its list registers are filled before it is entered.
    pub refill: AtomicBool,
    /// Set while it waits for an interrupt; whoever brings one takes it back and wakes it.
    pub waiting: AtomicBool,
    /// The processor that runs it.
    running_on: AtomicU32,
    /// The processor that last had its registers: where its devices' interrupts go.
    last_on: AtomicU32,
    /// Its physical timer, which is emulated.
    pub physical_timer: Lock<PhysicalTimer>,
    /// Whether the guest wants to see when its run states are being written (`vm_assist`).
    pub marks_runstate: AtomicBool,
    /// Where its run states go.
    pub runstate: Lock<Option<RunstateArea>>,
    /// Whether its registers were ever set (`XEN_DOMCTL_setvcpucontext`, PSCI).
    pub initialised: AtomicBool,
    /// Pauses of this one alone.
    pub pauses: AtomicU32,
    /// How far the domain's caches are cleaned that a set/way operation of this one asks for.
    pub cleaned: Lock<Gfn>,
}

impl Vcpu {
    /// Creates a virtual processor with the given registers.
    pub fn new(who: VcpuRef, sched: SchedId, context: VcpuContext) -> Self {
        Self {
            who,
            sched,
            context: Lock::new(Some(Box::new(context))),
            refill: AtomicBool::new(true),
            waiting: AtomicBool::new(false),
            running_on: AtomicU32::new(NOWHERE),
            last_on: AtomicU32::new(0),
            physical_timer: Lock::default(),
            marks_runstate: AtomicBool::new(false),
            runstate: Lock::default(),
            initialised: AtomicBool::new(false),
            pauses: AtomicU32::new(0),
            cleaned: Lock::new(Gfn::new(0)),
        }
    }

    /// Returns the processor that runs it now, if one does.
    pub fn running_on(&self) -> Option<CpuId> {
        let cpu = self.running_on.load(Ordering::SeqCst);
        (cpu != NOWHERE).then_some(CpuId(cpu))
    }

    /// Notes the processor that takes its registers; says whether that is another than before.
    pub fn moved_to(&self, cpu: CpuId) -> bool {
        self.last_on.swap(cpu.0, Ordering::SeqCst) != cpu.0
    }

    /// Returns the processor that has or last had its registers.
    pub fn last_on(&self) -> CpuId {
        CpuId(self.last_on.load(Ordering::SeqCst))
    }

    /// Notes the processor that runs it from now on.
    pub fn set_running_on(&self, cpu: Option<CpuId>) {
        self.running_on.store(cpu.map_or(NOWHERE, |cpu| cpu.0), Ordering::SeqCst);
    }
}

impl fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpu").field("who", &self.who).finish_non_exhaustive()
    }
}
