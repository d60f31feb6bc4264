//! The hypervisor's state, and the order of its locks.
//!
//! A processor that holds one of these may take only those below it:
//!
//! 0. `Hypervisor::control`: held for a whole control operation; `Domain::teardown`: held while a part of a domain's end is carried out
//! 1. `Domain::life`, `Domain::watchdogs`
//! 2. `Hypervisor::heap`: held to allocate; then `Hypervisor::domains`, the list of domains: held only
//!    to look up, add or remove one
//! 3. `Domain::grants`: two domains' at once in ascending domid
//! 4. `Domain::ports`: two domains' at once in ascending domid
//! 5. `Domain::p2m`
//! 6. `Hypervisor::frames`
//! 7. `Vcpu::context`: held by the processor it is loaded on, for as long as it is; others take it
//!    only when the scheduler says that it is not loaded
//! 8. `Domain::uart`
//! 9. `Hypervisor::lent`, then `Domain::vgic`, `Vcpu::runstate`; `Domain::vmid`, then
//!    `Hypervisor::vmids`, held until all TLBs have forgotten if they must
//! 10. `Hypervisor::scheduler`
//! 11. `Processor::timers`
//! 12. the console's, `Hypervisor::guest_id`, `Hypervisor::virq_handlers`
//!
//! A guest's memory is not copied, and nothing is logged, under 3 to 11.

use crate::command_line::Options;
use crate::console::Console;
use crate::domain::Domain;
use crate::lock::Lock;
use crate::machine::{self, Machine};
use crate::room::NoRoom;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use hv_core::addr::MachineAddr;
use hv_core::evtchn::Handlers;
use hv_core::frames::Frames;
use hv_core::idregs::IdRegisters;
use hv_core::ids::{CpuId, DomId, DomMap, Irq, VcpuRef};
use hv_core::p2m::Vmids;
use hv_core::sched::Scheduler;
use hv_core::timer_queue::TimerQueue;
use hv_core::vgic::Lent;

/// What is known of the host once it has started.
#[derive(Clone, Debug)]
pub struct Host {
    /// The hypervisor's command line, as `xl info` shows it.
    pub command_line: String,
    /// The options on it.
    pub options: Options,
    /// Ticks of the system counter in a second.
    pub counter_frequency: u64,
    /// Frames of RAM in all, those of the hypervisor itself included.
    pub total_frames: u64,
    /// The frame after the last of RAM.
    pub max_frame: u64,
    /// Bits of an intermediate physical address.
    pub ipa_bits: u8,
    /// Number of shared peripheral interrupts of the host's GIC.
    pub spis: u32,
    /// Its interrupt controller: a guest's is of the same version.
    pub gic: HostGic,
    /// The serial port's interrupt.
    pub serial_irq: Option<Irq>,
    /// `clock-frequency` of the host's timer node, in hertz; 0 if it has none.
    pub timer_node_frequency: u32,
}

/// The host's interrupt controller, as far as a guest's depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostGic {
    /// A GICv2; guests reach its virtual processor interface at this address.
    V2 {
        /// `GICV`.
        interface: MachineAddr,
    },
    /// A GICv3; guests have its virtual processor interface in registers.
    V3,
}

/// One physical processor, as others see it.
#[derive(Debug)]
pub struct Processor {
    /// Its number.
    pub id: CpuId,
    /// Set when it must ask the scheduler before it goes on.
    resched: AtomicBool,
    /// Deadlines it watches.
    pub timers: Lock<TimerQueue>,
    /// The virtual processor whose registers it holds, if any.
    pub loaded: Lock<Option<VcpuRef>>,
}

/// Everything there is.
#[derive(Debug)]
pub struct Hypervisor {
    /// The machine it acts on.
    pub machine: Machine,
    /// What is known of it.
    pub host: Host,
    /// All frames of RAM.
    pub frames: Lock<Frames>,
    /// All domains, the dying ones included.
    pub domains: Lock<DomMap<Arc<Domain>>>,
    /// The numbers that mark translations in the TLBs.
    pub vmids: Lock<Vmids>,
    /// Who runs where.
    pub scheduler: Lock<Scheduler>,
    /// The processors, by number.
    pub processors: Vec<Processor>,
    /// Serial console and message buffer.
    pub console: Console,
    /// The identification registers that guests see: what all processors have.
    pub guest_id: Lock<IdRegisters>,
    /// Held by whoever allocates once Dom0 runs ([`Hypervisor::with_room`]).
    pub heap: Lock<()>,
    /// Held while a control operation is carried out: two on one domain at once would undo each other.
    pub control: Lock<()>,
    /// Which domain the virtual interrupts go to that are not one processor's.
    pub virq_handlers: Lock<Handlers>,
    /// Which devices' interrupts guests have and Dom0 has not.
    pub lent: Lock<Lent>,
    /// Where the last domain number was given out.
    pub last_domid: Lock<u16>,
    /// Wall-clock time at which the system counter was zero, set by Dom0.
    pub wallclock: Lock<crate::domain::time::Wallclock>,
}

impl Processor {
    /// Creates processor `id`.
    pub fn new(id: CpuId) -> Self {
        Self {
            id,
            resched: AtomicBool::new(true),
            timers: Lock::default(),
            loaded: Lock::default(),
        }
    }

    /// Says whether it is to ask the scheduler before it goes on.
    ///
    /// Another processor that wants it to kicks it afterwards, so that it looks again.
    #[inline(always)]
    pub fn is_to_ask(&self) -> bool {
        machine::step();
        self.resched.load(Ordering::Relaxed)
    }

    /// Says whether it must ask the scheduler now, which it then does.
    pub fn must_ask(&self) -> bool {
        // Only this processor clears the flag, so looking first, which is cheaper, loses nothing.
        let must = self.is_to_ask();
        if must {
            self.resched.store(false, Ordering::SeqCst);
        }
        must
    }

    /// Makes it ask the scheduler before it goes on.
    pub fn ask_scheduler(&self) {
        machine::step();
        self.resched.store(true, Ordering::SeqCst);
    }
}

impl Hypervisor {
    /// Returns the domain `id`, dying or not.
    pub fn domain(&self, id: DomId) -> Option<Arc<Domain>> {
        self.domains.lock().get(&id).cloned()
    }

    /// Returns the domains in ascending order of their number.
    pub fn all_domains(&self) -> Result<Vec<Arc<Domain>>, NoRoom> {
        let mut all = Vec::new();
        let _alone = self.heap.lock();
        let domains = self.domains.lock();
        all.try_reserve_exact(domains.len()).map_err(|_| NoRoom)?;
        all.extend(domains.values().cloned());
        drop(domains);
        all.sort_unstable_by_key(|domain| domain.id);
        Ok(all)
    }

    /// Returns the domain whose number is `id`, or the next there is.
    pub fn domain_from(&self, id: u16) -> Option<Arc<Domain>> {
        let domains = self.domains.lock();
        let later = domains.values().filter(|domain| domain.id.0 >= id);
        later.min_by_key(|domain| domain.id).cloned()
    }

    /// Returns processor `cpu`.
    pub fn processor(&self, cpu: CpuId) -> Option<&Processor> {
        self.processors.get(cpu.index())
    }
}
