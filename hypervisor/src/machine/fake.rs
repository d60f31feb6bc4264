//! A machine of values: memory in a map, a clock that stands, and a list of what was asked.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use hv_core::addr::{GuestAddr, MachineAddr, Mfn};
pub use hv_core::fake::FakeMemory as Memory;
use hv_core::guest::{Fault, GuestMemory};
use hv_core::ids::{CpuId, Irq};
use hv_core::p2m::Stale;
use hv_core::time::Nanos;
use hv_core::vgic::{FakeListRegisters, ListRegister, ListRegisters, Maintenance};
use spin::Mutex;

/// Waits for a lock: in a model another processor goes on.
#[derive(Clone, Copy, Debug)]
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    fn relax() {
        #[cfg(test)]
        crate::model::relax();
        core::hint::spin_loop();
    }
}

/// Marks a place where another processor may get in between, which it does in a model.
#[inline]
pub fn step() {
    #[cfg(test)]
    crate::model::step();
}

/// List registers: in a model those of this processor, otherwise fresh ones each time.
#[derive(Clone, Debug)]
pub struct Lists(Arc<Mutex<FakeListRegisters>>);

impl Lists {
    /// Creates `count` list registers, all empty.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(FakeListRegisters::new(count))))
    }

    /// Takes the most urgent pending interrupt and ends it, as a guest does.
    pub fn take_one(&self) -> Option<Irq> {
        let mut registers = self.0.lock();
        registers.acknowledge()?;
        registers.end()
    }
}

impl ListRegisters for Lists {
    fn count(&self) -> usize {
        self.0.lock().count()
    }

    fn read(&self, index: usize) -> ListRegister {
        self.0.lock().read(index)
    }

    fn write(&mut self, index: usize, value: ListRegister) {
        self.0.lock().write(index, value);
    }

    fn empty(&self) -> u32 {
        self.0.lock().empty()
    }

    fn ended(&self) -> u32 {
        self.0.lock().ended()
    }

    fn take_end_count(&mut self) -> u32 {
        self.0.lock().take_end_count()
    }

    fn deactivate_physical(&mut self, irq: Irq) {
        self.0.lock().deactivate_physical(irq);
    }
}

/// What the hypervisor asked of the machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// To interrupt this processor.
    Kick(CpuId),
    /// To forget translations of the root table at this address.
    Flush(u64),
    /// To deactivate this physical interrupt.
    Deactivate(Irq),
    /// To let this physical interrupt in.
    Enable(Irq),
    /// To keep this physical interrupt out.
    Disable(Irq),
    /// To turn off, or restart if true.
    PowerOff(bool),
}

/// The stand-in for the machine.
#[derive(Debug, Default)]
pub struct Machine {
    /// Memory.
    pub memory: Memory,
    /// What [`Machine::now`] says, in nanoseconds.
    pub clock: AtomicU64,
    /// What [`Machine::this_cpu`] says.
    pub cpu: AtomicU32,
    /// What [`Machine::interrupt_pending`] says.
    pub interrupted: AtomicBool,
    /// If not 0, one arrives for each so many looks for it.
    pub interrupt_period: AtomicU32,
    /// How often was looked since.
    pub looks: AtomicU32,
    /// Bytes of the heap that are taken.
    pub heap_taken: AtomicUsize,
    /// List registers for [`Machine::lists`] to hand out.
    pub lists: Mutex<Vec<Lists>>,
    /// What was asked, in order.
    pub asked: Mutex<Vec<Asked>>,
    /// What was written to the serial port.
    pub serial: Mutex<Vec<u8>>,
}

impl Machine {
    /// Makes a machine whose memory of `frames` frames from `first` on is there from the start.
    pub fn with_ram(first: Mfn, frames: u64) -> Self {
        Self { memory: Memory::covering(first, frames), ..Self::default() }
    }

    /// Makes room for what the stand-ins themselves keep during a few calls, so that what is allocated
    /// meanwhile is the hypervisor's.
    pub fn stock(&self) {
        self.asked.lock().reserve(1 << 12);
        self.serial.lock().reserve(1 << 16);
        self.memory.stock(2 * 64 + 16);
        self.lists.lock().resize_with(1 << 8, || Lists::new(4));
    }

    /// Returns the memory of guests and tables.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Returns the time since the hypervisor started.
    pub fn now(&self) -> Nanos {
        Nanos(self.clock.load(Ordering::Relaxed))
    }

    /// Returns the system counter, in ticks: here one a nanosecond.
    pub fn ticks(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Returns how long `ticks` take.
    pub fn to_nanos(&self, ticks: u64) -> Nanos {
        Nanos(ticks)
    }

    /// Returns when the counter reads `ticks`.
    pub fn moment(&self, ticks: u64) -> Nanos {
        Nanos(ticks)
    }

    /// Returns the processor this runs on.
    pub fn this_cpu(&self) -> CpuId {
        #[cfg(test)]
        if let Some(cpu) = crate::model::this_cpu() {
            return cpu;
        }
        CpuId(self.cpu.load(Ordering::Relaxed))
    }

    /// Returns the list registers: in a model those of this processor, otherwise some that hold
    /// nothing.
    pub fn lists(&self) -> Lists {
        #[cfg(test)]
        if let Some(lists) = crate::model::lists() {
            return lists;
        }
        self.lists.lock().pop().unwrap_or_else(|| Lists::new(4))
    }

    /// Chooses when the virtual interface of this processor calls the hypervisor.
    pub fn set_maintenance(&self, _: Maintenance) {}

    /// Returns how many bytes of the hypervisor's heap nobody uses: all but what a test takes away.
    pub fn heap_free(&self) -> usize {
        (64_usize << 20).saturating_sub(self.heap_taken.load(Ordering::Relaxed))
    }

    /// Makes `cpu` leave its guest or its sleep.
    pub fn kick(&self, cpu: CpuId) {
        #[cfg(test)]
        crate::model::interrupt(cpu);
        self.asked.lock().push(Asked::Kick(cpu));
    }

    /// Says whether long work should stop and let an interrupt in.
    pub fn interrupt_pending(&self) -> bool {
        let period = self.interrupt_period.load(Ordering::Relaxed);
        let looks = self.looks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let arrives = looks.checked_rem(period).is_some_and(|past| past == 0);
        arrives || self.interrupted.load(Ordering::Relaxed)
    }

    /// Writes to the serial port.
    pub fn serial_write(&self, bytes: &[u8]) {
        self.serial.lock().extend_from_slice(bytes);
    }

    /// Makes what was written to translation tables seen by every processor's walks: here it is at
    /// once.
    pub fn complete_table_writes(&self) {}

    /// Forgets stale translations of the table whose `VTTBR_EL2` is `vttbr`, on every processor.
    pub fn flush_stage2(&self, vttbr: u64, _: Stale) {
        self.asked.lock().push(Asked::Flush(vttbr));
    }

    /// Forgets all guests' translations on every processor.
    pub fn flush_all_guests(&self) {
        self.asked.lock().push(Asked::Flush(0));
    }

    /// Ends a physical interrupt that a guest never will.
    pub fn deactivate(&self, irq: Irq) {
        self.asked.lock().push(Asked::Deactivate(irq));
    }

    /// Lets a shared physical interrupt in, or keeps it out, on the processor it is routed to.
    pub fn enable_irq(&self, irq: Irq, enable: bool) {
        self.asked.lock().push(if enable { Asked::Enable(irq) } else { Asked::Disable(irq) });
    }

    /// Sets how a shared physical interrupt is triggered.
    pub fn configure_irq(&self, _: Irq, _edge: bool) {}

    /// Sends a shared physical interrupt to `cpu`.
    pub fn route_irq(&self, _: Irq, _: CpuId) {}

    /// Sets what a physical interrupt's pending state is.
    pub fn set_irq_pending(&self, _: Irq, _pending: bool) {}

    /// Sets what a physical interrupt's active state is.
    pub fn set_irq_active(&self, _: Irq, _active: bool) {}

    /// Turns the machine off, or restarts it.
    pub fn power_off(&self, restart: bool) {
        self.asked.lock().push(Asked::PowerOff(restart));
    }

    /// Returns the priority mask of the virtual processor that is loaded here.
    pub fn priority_mask(&self) -> u8 {
        0xff
    }

    /// Returns `FAR_EL2` and `HPFAR_EL2` of the trap just taken.
    pub fn fault() -> (u64, u64) {
        (0, 0)
    }
}

/// The calling guest's virtual memory: bytes from address 0x1000 up to where the vector ends.
///
/// The first page is missing, as it is in any sensible guest: a null pointer faults.
#[derive(Debug, Default)]
pub struct GuestSpace {
    bytes: Mutex<Vec<u8>>,
    /// Makes every write fault, as memory the guest has write-protected does.
    pub read_only: AtomicBool,
}

impl GuestSpace {
    /// Address of the first byte.
    pub const BASE: u64 = 0x1000;

    /// Creates a memory of `size` zero bytes.
    pub fn new(size: usize) -> Self {
        Self { bytes: Mutex::new(alloc::vec![0; size]), read_only: AtomicBool::new(false) }
    }

    /// Returns the guest physical address of the guest's `address`: the same number.
    pub fn translate(&self, address: u64) -> Result<GuestAddr, Fault> {
        self.span(address, 1).map(|_| GuestAddr::new(address))
    }

    /// Returns where the guest's `address` is in memory, if the guest may write there: at the same
    /// address of the machine's memory.
    pub fn locate(&self, address: u64) -> Result<MachineAddr, Fault> {
        self.span(address, 1).map(|_| MachineAddr::new(address))
    }

    fn span(&self, address: u64, len: usize) -> Result<core::ops::Range<usize>, Fault> {
        let start = address.checked_sub(Self::BASE).ok_or(Fault)?;
        let start = usize::try_from(start).map_err(|_| Fault)?;
        let end = start.checked_add(len).ok_or(Fault)?;
        if end <= self.bytes.lock().len() { Ok(start..end) } else { Err(Fault) }
    }
}

impl GuestMemory for GuestSpace {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let span = self.span(address, bytes.len())?;
        bytes.copy_from_slice(self.bytes.lock().get(span).ok_or(Fault)?);
        Ok(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        if self.read_only.load(Ordering::Relaxed) {
            return Err(Fault);
        }
        let span = self.span(address, bytes.len())?;
        self.bytes.lock().get_mut(span).ok_or(Fault)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// The guest's virtual timer, as its registers have it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VirtualTimer {
    /// `CNTV_CTL_EL0`.
    pub control: u64,
    /// `CNTV_CVAL_EL0`, in ticks of the virtual counter.
    pub compare: u64,
}

macro_rules! registers {
    ($($field:ident, $set:ident;)*) => {
        /// The registers of a virtual processor.
        #[derive(Clone, Debug, Default)]
        pub struct VcpuContext {
            general: [u64; 31],
            pc: u64,
            spsr: u64,
            timer: VirtualTimer,
            $($field: u64,)*
        }

        impl VcpuContext {
            $(
                #[doc = concat!("Returns `", stringify!($field), "`.")]
                pub fn $field(&self) -> u64 {
                    self.$field
                }

                #[doc = concat!("Sets `", stringify!($field), "`.")]
                pub fn $set(&mut self, value: u64) {
                    self.$field = value;
                }
            )*
        }
    };
}

registers! {
    sctlr_el1, set_sctlr_el1;
    cpacr_el1, set_cpacr_el1;
    ttbr0_el1, set_ttbr0_el1;
    ttbr1_el1, set_ttbr1_el1;
    tcr_el1, set_tcr_el1;
    mair_el1, set_mair_el1;
    amair_el1, set_amair_el1;
    contextidr_el1, set_contextidr_el1;
    esr_el1, set_esr_el1;
    far_el1, set_far_el1;
    afsr0_el1, set_afsr0_el1;
    afsr1_el1, set_afsr1_el1;
    vbar_el1, set_vbar_el1;
    elr_el1, set_elr_el1;
    spsr_el1, set_spsr_el1;
    sp_el0, set_sp_el0;
    sp_el1, set_sp_el1;
    counter_offset, set_counter_offset;
    vmpidr, set_vmpidr;
    hcr, set_hcr;
}

impl VcpuContext {
    /// Makes the state of a processor that was just turned on.
    pub fn new(pc: u64, vmpidr: u64) -> Self {
        Self { pc, vmpidr, spsr: 0x3c5, sctlr_el1: 0x00c5_0078, ..Self::default() }
    }

    /// Returns general register `number`; 31 is the zero register.
    pub fn gpr(&self, number: usize) -> u64 {
        self.general.get(number).copied().unwrap_or(0)
    }

    /// Returns the first general registers: the arguments of a call.
    pub fn arguments<const COUNT: usize>(&self) -> &[u64; COUNT] {
        self.general.first_chunk().expect("there are as many")
    }

    /// Sets general register `number`; 31 is the zero register.
    pub fn set_gpr(&mut self, number: usize, value: u64) {
        if let Some(register) = self.general.get_mut(number) {
            *register = value;
        }
    }

    /// Returns the address of the next instruction.
    pub fn pc(&self) -> u64 {
        self.pc
    }

    /// Sets the address of the next instruction.
    pub fn set_pc(&mut self, pc: u64) {
        self.pc = pc;
    }

    /// Returns the processor state.
    pub fn spsr(&self) -> u64 {
        self.spsr
    }

    /// Sets the processor state.
    pub fn set_spsr(&mut self, spsr: u64) {
        self.spsr = spsr;
    }

    /// Steps over the instruction that trapped.
    pub fn skip_instruction(&mut self, esr: u64) {
        self.pc = self.pc.wrapping_add(if esr & (1 << 25) != 0 { 4 } else { 2 });
    }

    /// Returns the virtual timer.
    pub fn virtual_timer(&self) -> VirtualTimer {
        self.timer
    }

    /// Sets the virtual timer.
    pub fn set_virtual_timer(&mut self, timer: VirtualTimer) {
        self.timer = timer;
    }

    /// Says whether writes of the virtual-memory registers trap.
    pub fn traps_memory_registers(&self) -> bool {
        const TVM: u64 = 1 << 26;
        self.hcr & TVM != 0
    }

    /// Makes WFI and WFE trap, or not (`HCR_EL2.TWI`, `TWE`).
    pub fn trap_waiting(&mut self, trap: bool) {
        const WAITS: u64 = 0b11 << 13;
        self.hcr = if trap { self.hcr | WAITS } else { self.hcr & !WAITS };
    }

    /// Makes writes of the virtual-memory registers trap, or not (`HCR_EL2.TVM`).
    pub fn trap_memory_registers(&mut self, trap: bool) {
        const TVM: u64 = 1 << 26;
        self.hcr = if trap { self.hcr | TVM } else { self.hcr & !TVM };
    }
}
