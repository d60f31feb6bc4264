//! A virtual processor: its registers, its place in the scheduler, and what it shares with its guest.

use crate::lock::Lock;
use crate::machine::{self, VcpuContext};
use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
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
    refill: AtomicBool,
    /// Set while it waits for an interrupt; whoever brings one takes it back and wakes it.
    waiting: AtomicBool,
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

    /// Asks for its list registers to be filled before it is entered.
    ///
    /// Who asks looks afterwards where it runs, and kicks that processor.
    #[inline]
    pub fn ask_for_refill(&self) {
        machine::step();
        self.refill.store(true, Ordering::SeqCst);
    }

    /// Says whether its list registers are to be filled, which the caller then does.
    #[inline(always)]
    pub fn must_refill(&self) -> bool {
        machine::step();
        // Only the processor that runs it takes it back, so looking first, which is cheaper, loses
        // nothing. Whoever asks kicks this processor afterwards, if it is another.
        let must = self.refill.load(Ordering::Relaxed);
        if must {
            self.refill.store(false, Ordering::SeqCst);
        }
        must
    }

    /// Marks it as waiting for an interrupt. Who marks it then looks whether one came before.
    #[inline]
    pub fn begin_wait(&self) {
        machine::step();
        self.waiting.store(true, Ordering::SeqCst);
    }

    /// Ends its wait; says whether it waited and the caller is the one to wake it.
    #[inline]
    pub fn end_wait(&self) -> bool {
        machine::step();
        // Looked at first: most do not wait, and a swap is a store that other processors have to
        // hear of.
        self.is_waiting() && self.waiting.swap(false, Ordering::SeqCst)
    }

    /// Says whether it waits for an interrupt.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Returns the processor that runs it now, if one does.
    #[inline]
    pub fn running_on(&self) -> Option<CpuId> {
        machine::step();
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

    /// Notes that `cpu` runs it from now on.
    pub fn starts_on(&self, cpu: CpuId) {
        machine::step();
        self.running_on.store(cpu.0, Ordering::SeqCst);
        // Whoever asks for a refill stores that first and then looks where it runs: one of the two
        // sees the other.
        fence(Ordering::SeqCst);
    }

    /// Notes that no processor runs it any more.
    pub fn stops(&self) {
        machine::step();
        self.running_on.store(NOWHERE, Ordering::SeqCst);
    }
}

impl fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpu").field("who", &self.who).finish_non_exhaustive()
    }
}
