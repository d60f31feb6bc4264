//! What each processor has of its own, found through `TPIDR_EL2`.

use crate::barrier::dsb_ish;
use crate::regs::{Readable, TPIDR_EL2, Writeable};
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hv_core::ids::CpuId;
use hv_core::reach;

/// The most processors that can run at once.
pub const MAX_CPUS: usize = 16;

/// What the low-level code keeps for one processor. `vectors.S` knows the layout.
#[repr(C, align(64))]
pub(crate) struct CpuBlock {
    /// The top of the stack on which a fault of the hypervisor itself is reported.
    pub(crate) emergency_stack: AtomicU64,
    /// Faults taken so far; a second one halts silently.
    pub(crate) faults: AtomicU64,
    /// The number of this processor, as an index into `BLOCKS`.
    number: AtomicU32,
    /// Its affinity, as `MPIDR_EL1` has it.
    affinity: AtomicU64,
    /// Odd while it reaches into memory by a guest's translation.
    reaches: AtomicU32,
}

static BLOCKS: [CpuBlock; MAX_CPUS] = [const {
    CpuBlock {
        emergency_stack: AtomicU64::new(0),
        faults: AtomicU64::new(0),
        number: AtomicU32::new(0),
        affinity: AtomicU64::new(u64::MAX),
        reaches: AtomicU32::new(0),
    }
}; MAX_CPUS];
/// How many processors have started at most: those beyond were never given a number.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of the processor this runs on.
#[inline(always)]
pub fn this_cpu() -> CpuId {
    CpuId(this_block().number.load(Ordering::Relaxed))
}

/// Returns the affinity (Aff3.Aff2.Aff1.Aff0 as in `MPIDR_EL1`) of a processor that has started.
pub fn affinity(cpu: CpuId) -> Option<u64> {
    let affinity = BLOCKS.get(cpu.index())?.affinity.load(Ordering::Relaxed);
    (affinity != u64::MAX).then_some(affinity)
}

/// Says whether no other processor has been started yet.
pub(crate) fn is_alone() -> bool {
    STARTED.load(Ordering::SeqCst) <= 1
}

#[inline(always)]
fn this_block() -> &'static CpuBlock {
    let address =
        core::ptr::with_exposed_provenance::<CpuBlock>(hv_core::addr::to_index(TPIDR_EL2.get()));
    // SAFETY: `claim` put the address of an element of `BLOCKS` there before anything else ran.
    unsafe { &*address }
}

/// Makes this processor number `cpu`.
///
/// # Panics
///
/// If there are not that many.
pub(crate) fn claim(cpu: CpuId, affinity: u64, emergency_stack: u64) {
    let block = BLOCKS.get(cpu.index()).expect("a processor beyond MAX_CPUS is never started");
    STARTED.fetch_max(cpu.index() + 1, Ordering::SeqCst);
    block.number.store(cpu.0, Ordering::Relaxed);
    block.affinity.store(affinity, Ordering::Relaxed);
    block.emergency_stack.store(emergency_stack, Ordering::Relaxed);
    TPIDR_EL2.set(core::ptr::from_ref(block).expose_provenance() as u64);
}

/// This processor reaches into memory by a translation of its guest's that it looks up meanwhile.
///
/// Other processors may take the translation away at any moment. They wait for this to end before the
/// memory behind it is anybody else's: see [`wait_for_reaches`].
#[must_use = "the memory may be another guest's at once"]
pub(crate) struct Reach(());

impl Reach {
    /// Begins; any translation looked up from now on may be used until this is dropped.
    #[inline(always)]
    pub(crate) fn begin() -> Self {
        // Others see the mark before this processor sees their tables.
        reach::begin(&this_block().reaches, dsb_ish);
        Self(())
    }
}

impl Drop for Reach {
    #[inline(always)]
    fn drop(&mut self) {
        reach::end(&this_block().reaches);
    }
}

/// Waits until no other processor reaches into memory by a translation that it looked up before.
///
/// The caller has made sure that it finds another when it looks it up again.
pub(crate) fn wait_for_reaches() {
    let own = this_cpu().index();
    let started = STARTED.load(Ordering::Relaxed);
    let others = BLOCKS.iter().enumerate().take(started).filter(|(cpu, _)| *cpu != own);
    for (_, block) in others {
        reach::wait(&block.reaches, core::hint::spin_loop);
    }
}

/// One `T` for each processor, of which a processor sees only its own.
pub struct PerCpu<T>([T; MAX_CPUS]);

// SAFETY: `this` hands a processor only its own element, and execution never moves between
// processors, so an element is used by one processor alone; being used there needs `T: Send`.
unsafe impl<T: Send> Sync for PerCpu<T> {}

impl<T> PerCpu<T> {
    /// Takes the elements, that of processor 0 first.
    pub const fn new(elements: [T; MAX_CPUS]) -> Self {
        Self(elements)
    }

    /// Returns this processor's element.
    #[inline(always)]
    pub fn this(&self) -> &T {
        self.0.get(this_cpu().index()).expect("a processor's number is below MAX_CPUS")
    }
}

impl<T> fmt::Debug for PerCpu<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerCpu")
    }
}
