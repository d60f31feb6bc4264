//! A virtual processor's registers, and running it.
//!
//! [`VcpuContext::enter`] is a function call into the guest that returns why it came back. It moves the
//! general registers only; the rest of the guest's state is in the machine from
//! [`VcpuContext::load`] to [`VcpuContext::save`], which happen when another virtual processor is put
//! on the processor. Accessors work in both states.
//!
//! That holds for the guest's program counter and processor state too: the hypervisor survives no exception
//! of its own, so `ELR_EL2` and `SPSR_EL2` are the guest's while it is loaded, and no entry or exit moves them.

use crate::gic::CpuInterface;
use crate::regs::{
    self, AFSR0_EL1, AFSR1_EL1, AMAIR_EL1, CNTKCTL_EL1, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVOFF_EL2,
    CONTEXTIDR_EL1, CPACR_EL1, CSSELR_EL1, ELR_EL1, ELR_EL2, ESR_EL1, FAR_EL1, FAR_EL2, HCR_EL2,
    HPFAR_EL2, MAIR_EL1, PAR_EL1, Readable, SCTLR_EL1, SP_EL0, SP_EL1, SPSR_EL1, SPSR_EL2, TCR_EL1,
    TPIDR_EL0, TPIDR_EL1, TPIDRRO_EL0, TTBR0_EL1, TTBR1_EL1, VBAR_EL1, VMPIDR_EL2, Vdisr,
    Writeable,
};
use crate::{cpu, stage2, this_cpu};
use core::arch::{asm, global_asm};
use core::fmt;
use core::mem::offset_of;
use hv_core::ids::CpuId;

/// Why the guest came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExitReason {
    /// The guest did something that traps; `ESR_EL2` says what. [`fault_address`] and
    /// [`fault_page`] hold until the next entry.
    Sync {
        /// `ESR_EL2`.
        esr: u64,
    },
    /// A physical interrupt (IRQ or FIQ) is pending: acknowledge it.
    Irq,
    /// A physical SError arrived while the guest ran.
    Serror {
        /// `ESR_EL2`.
        esr: u64,
    },
}

/// Returns `FAR_EL2`: the guest virtual address of the last trapped abort.
#[inline(always)]
pub fn fault_address() -> u64 {
    FAR_EL2.get()
}

/// Returns `HPFAR_EL2`: the guest physical page of the last stage-2 abort, page number from bit 4 up.
#[inline(always)]
pub fn fault_page() -> u64 {
    HPFAR_EL2.get()
}

/// What every entry and exit moves. `context.S` and `vectors.S` know the layout.
#[repr(C)]
struct Frame {
    general: [u64; 31],
    hypervisor_sp: u64,
}

/// The guest's virtual timer, as its registers have it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VirtualTimer {
    /// `CNTV_CTL_EL0`: enable (bit 0), mask (bit 1), condition met (bit 2).
    pub control: u64,
    /// `CNTV_CVAL_EL0`, in ticks of the virtual counter.
    pub compare: u64,
}

/// SIMD and floating-point registers.
#[repr(C, align(16))]
struct FloatingPoint {
    vectors: [[u64; 2]; 32],
    control: u64,
    status: u64,
}

/// The register state of one virtual processor.
///
/// Whoever holds `&mut` to it decides for it. While it is loaded on a processor, only that processor
/// sees current values: ask [`VcpuContext::loaded_on`] and have it saved there first.
#[repr(C, align(64))]
pub struct VcpuContext {
    frame: Frame,
    system: SystemRegisters,
    floating_point: FloatingPoint,
    interrupts: CpuInterface,
    timer: VirtualTimer,
    /// One more than the number of the processor whose registers hold it, or [`NOWHERE`].
    loaded_on: u32,
}

/// Names the registers that `load` and `save` exchange, with their accessors.
macro_rules! system_registers {
    ($($(#[$doc:meta])* $vis:vis $field:ident, $set:ident, $register:ident $(, $last:ident)?;)*) => {
        /// What `load` and `save` exchange with the machine.
        #[derive(Default)]
        struct SystemRegisters { $($field: u64,)* }

        impl SystemRegisters {
            /// Loads all but those that are marked as last.
            fn load(&self) { $(system_registers!(@load self $field $register $($last)?);)* }
            fn save(&mut self) { $(self.$field = $register.get();)* }
        }

        impl VcpuContext {
            $(
                $(#[$doc])*
                #[inline]
                $vis fn $field(&self) -> u64 {
                    if self.is_loaded() { $register.get() } else { self.system.$field }
                }

                $(#[$doc])*
                #[inline]
                $vis fn $set(&mut self, value: u64) {
                    if self.is_loaded() { $register.set(value) } else { self.system.$field = value }
                }
            )*
        }
    };
    (@load $self:ident $field:ident $register:ident last) => {};
    (@load $self:ident $field:ident $register:ident) => { $register.set($self.$field) };
}

system_registers! {
    /// `SCTLR_EL1`.
    pub sctlr_el1, set_sctlr_el1, SCTLR_EL1, last;
    /// `CPACR_EL1`.
    pub cpacr_el1, set_cpacr_el1, CPACR_EL1;
    /// `TTBR0_EL1`.
    pub ttbr0_el1, set_ttbr0_el1, TTBR0_EL1;
    /// `TTBR1_EL1`.
    pub ttbr1_el1, set_ttbr1_el1, TTBR1_EL1;
    /// `TCR_EL1`.
    pub tcr_el1, set_tcr_el1, TCR_EL1, last;
    /// `MAIR_EL1`.
    pub mair_el1, set_mair_el1, MAIR_EL1;
    /// `AMAIR_EL1`.
    pub amair_el1, set_amair_el1, AMAIR_EL1;
    /// `CONTEXTIDR_EL1`.
    pub contextidr_el1, set_contextidr_el1, CONTEXTIDR_EL1;
    /// `ESR_EL1`.
    pub esr_el1, set_esr_el1, ESR_EL1;
    /// `FAR_EL1`.
    pub far_el1, set_far_el1, FAR_EL1;
    /// `AFSR0_EL1`.
    pub afsr0_el1, set_afsr0_el1, AFSR0_EL1;
    /// `AFSR1_EL1`.
    pub afsr1_el1, set_afsr1_el1, AFSR1_EL1;
    /// `VBAR_EL1`.
    pub vbar_el1, set_vbar_el1, VBAR_EL1;
    /// `PAR_EL1`.
    pub par_el1, set_par_el1, PAR_EL1;
    /// `ELR_EL1`.
    pub elr_el1, set_elr_el1, ELR_EL1;
    /// `SPSR_EL1`.
    pub spsr_el1, set_spsr_el1, SPSR_EL1;
    /// `SP_EL0`.
    pub sp_el0, set_sp_el0, SP_EL0;
    /// `SP_EL1`.
    pub sp_el1, set_sp_el1, SP_EL1;
    /// `TPIDR_EL0`.
    pub tpidr_el0, set_tpidr_el0, TPIDR_EL0;
    /// `TPIDRRO_EL0`.
    pub tpidrro_el0, set_tpidrro_el0, TPIDRRO_EL0;
    /// `TPIDR_EL1`.
    pub tpidr_el1, set_tpidr_el1, TPIDR_EL1;
    /// `CSSELR_EL1`.
    pub csselr_el1, set_csselr_el1, CSSELR_EL1;
    /// `CNTKCTL_EL1`.
    pub cntkctl_el1, set_cntkctl_el1, CNTKCTL_EL1;
    /// `CNTVOFF_EL2`: what the virtual counter lags behind the physical one, in ticks.
    pub counter_offset, set_counter_offset, CNTVOFF_EL2;
    /// `VMPIDR_EL2`: what the guest reads as `MPIDR_EL1`.
    pub vmpidr, set_vmpidr, VMPIDR_EL2;
    /// `HCR_EL2`.
    hcr, set_hcr, HCR_EL2;
    /// The address of the guest's next instruction (`ELR_EL2`).
    pub pc, set_pc, ELR_EL2;
    /// `SPSR_EL2`.
    state, set_state, SPSR_EL2;
}

impl VcpuContext {
    /// `SPSR` of EL1 with its own stack, all exceptions masked: how PSCI starts a processor.
    pub const SPSR_EL1H_MASKED: u64 = 0x3c5;
    /// `SCTLR_EL1` as PSCI starts a processor: MMU and caches off, reserved bits as they read.
    const SCTLR_RESET: u64 = 0x00c5_0078;

    /// Makes the state of a processor that was just turned on, at `pc`; `vmpidr` is what it reads as
    /// its `MPIDR_EL1`.
    pub fn new(pc: u64, vmpidr: u64) -> Self {
        Self {
            frame: Frame { general: [0; 31], hypervisor_sp: 0 },
            system: SystemRegisters {
                sctlr_el1: Self::SCTLR_RESET,
                vmpidr,
                hcr: regs::HCR_GUEST,
                pc,
                state: Self::SPSR_EL1H_MASKED,
                ..SystemRegisters::default()
            },
            floating_point: FloatingPoint { vectors: [[0; 2]; 32], control: 0, status: 0 },
            interrupts: CpuInterface::new(),
            timer: VirtualTimer::default(),
            loaded_on: NOWHERE,
        }
    }

    /// Runs the guest until something makes it stop.
    ///
    /// # Panics
    ///
    /// If the context is not loaded.
    #[inline(always)]
    pub fn enter(&mut self) -> ExitReason {
        assert!(self.loaded_on != NOWHERE, "only a loaded virtual processor is entered");
        let mut reason = core::ptr::from_mut(&mut self.frame).expose_provenance() as u64;
        let esr: u64;
        // SAFETY: `guest_enter` gets a frame that is exclusively ours and writes nothing else; stage 2,
        // on in every `HCR_EL2` we load, confines the guest to the domain's own memory. It keeps x19,
        // x29 and the stack pointer; all other general registers are named as overwritten, and the
        // guest's floating-point registers are never the hypervisor's.
        unsafe {
            asm!(
                "bl {enter}",
                enter = sym guest_enter,
                inout("x0") reason, lateout("x1") esr,
                lateout("x2") _, lateout("x3") _, lateout("x4") _, lateout("x5") _,
                lateout("x6") _, lateout("x7") _, lateout("x8") _, lateout("x9") _,
                lateout("x10") _, lateout("x11") _, lateout("x12") _, lateout("x13") _,
                lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
                lateout("x18") _, lateout("x20") _, lateout("x21") _, lateout("x22") _,
                lateout("x23") _, lateout("x24") _, lateout("x25") _, lateout("x26") _,
                lateout("x27") _, lateout("x28") _, lateout("x30") _,
            );
        }
        match reason {
            REASON_SYNC => ExitReason::Sync { esr },
            REASON_IRQ => ExitReason::Irq,
            _ => ExitReason::Serror { esr },
        }
    }

    /// Puts the guest's system, floating-point, timer and interrupt state into the machine.
    ///
    /// Activate the domain's stage 2 ([`crate::stage2::activate`]) before this. Until all is loaded
    /// no translation is walked: it would be by registers of two guests.
    ///
    /// # Panics
    ///
    /// If it is loaded already.
    pub fn load(&mut self) {
        assert!(self.loaded_on == NOWHERE, "a virtual processor is on one processor at a time");
        self.system.load();
        clear_deferred_error();
        stage2::allow_walks(self.system.sctlr_el1, self.system.tcr_el1);
        CNTV_CVAL_EL0.set(self.timer.compare);
        CNTV_CTL_EL0.set(self.timer.control);
        let vectors = core::ptr::from_ref(&self.floating_point);
        // SAFETY: `fp_load` reads the structure and writes only registers Rust code here never uses.
        unsafe { fp_load(vectors) };
        self.interrupts.load();
        self.loaded_on = this_cpu().0.wrapping_add(1);
    }

    /// Takes the guest's state out of the machine, and silences its timer.
    ///
    /// # Panics
    ///
    /// If it is not loaded on this processor.
    pub fn save(&mut self) {
        assert!(self.is_loaded(), "a virtual processor is saved where it was loaded");
        self.system.save();
        stage2::forbid_walks();
        self.timer = VirtualTimer { control: CNTV_CTL_EL0.get(), compare: CNTV_CVAL_EL0.get() };
        CNTV_CTL_EL0.set(0);
        let vectors = core::ptr::from_mut(&mut self.floating_point);
        // SAFETY: `fp_save` writes the structure, which is ours, and reads only registers.
        unsafe { fp_save(vectors) };
        self.interrupts.save();
        self.loaded_on = NOWHERE;
    }

    /// Returns the processor whose registers hold this state, if one does.
    #[inline(always)]
    pub fn loaded_on(&self) -> Option<CpuId> {
        self.loaded_on.checked_sub(1).map(CpuId)
    }

    /// Says whether this processor's registers hold the state.
    #[inline(always)]
    pub fn is_loaded(&self) -> bool {
        self.loaded_on == this_cpu().0.wrapping_add(1)
    }

    /// Returns general register `number`; 31 is the zero register.
    #[inline(always)]
    pub fn gpr(&self, number: usize) -> u64 {
        self.frame.general.get(number).copied().unwrap_or(0)
    }

    /// Returns the first general registers: the arguments of a call.
    #[inline(always)]
    pub fn arguments<const COUNT: usize>(&self) -> &[u64; COUNT] {
        const { assert!(COUNT <= 31, "there are no more") };
        self.frame.general.first_chunk().expect("there are as many")
    }

    /// Sets general register `number`; 31 is the zero register.
    #[inline(always)]
    pub fn set_gpr(&mut self, number: usize, value: u64) {
        if let Some(register) = self.frame.general.get_mut(number) {
            *register = value;
        }
    }

    /// Steps over the instruction that trapped (4 bytes; a 16-bit one if `esr` says so).
    #[inline(always)]
    pub fn skip_instruction(&mut self, esr: u64) {
        const IL: u64 = 1 << 25;
        let length = if esr & IL != 0 { 4 } else { 2 };
        // Asked once where this processor holds them, which it does but in tests.
        if self.is_loaded() {
            ELR_EL2.set(ELR_EL2.get().wrapping_add(length));
        } else {
            self.set_pc(self.pc().wrapping_add(length));
        }
    }

    /// Returns the guest's processor state (`SPSR_EL2`).
    #[inline(always)]
    pub fn spsr(&self) -> u64 {
        self.state()
    }

    /// Sets the guest's processor state. A mode a guest cannot be in (EL2, EL3, AArch32 but for user
    /// mode) becomes EL1 with its own stack: returning to it would be an error of the hypervisor's.
    #[inline(always)]
    pub fn set_spsr(&mut self, spsr: u64) {
        const MODE: u64 = 0x1f;
        const AARCH32_USER: u64 = 0x10;
        const EL1H: u64 = 0b0101;
        self.set_state(match spsr & MODE {
            0b0000 | 0b0100 | EL1H | AARCH32_USER => spsr,
            _ => spsr & !MODE | EL1H,
        });
    }

    /// Returns the guest's virtual timer.
    pub fn virtual_timer(&self) -> VirtualTimer {
        if self.is_loaded() {
            VirtualTimer { control: CNTV_CTL_EL0.get(), compare: CNTV_CVAL_EL0.get() }
        } else {
            self.timer
        }
    }

    /// Sets the guest's virtual timer.
    pub fn set_virtual_timer(&mut self, timer: VirtualTimer) {
        if self.is_loaded() {
            CNTV_CVAL_EL0.set(timer.compare);
            CNTV_CTL_EL0.set(timer.control);
        } else {
            self.timer = timer;
        }
    }

    /// Returns the saved virtual CPU interface; current only while not loaded.
    pub fn interrupts(&mut self) -> &mut CpuInterface {
        &mut self.interrupts
    }

    /// Makes writes of the virtual-memory registers trap, or not (`HCR_EL2.TVM`).
    pub fn trap_memory_registers(&mut self, trap: bool) {
        self.change_hcr(regs::HCR_TVM, trap);
    }

    /// Says whether writes of the virtual-memory registers trap.
    pub fn traps_memory_registers(&self) -> bool {
        self.hcr() & regs::HCR_TVM != 0
    }

    /// Makes WFI and WFE trap, or not.
    pub fn trap_waiting(&mut self, trap: bool) {
        self.change_hcr(regs::HCR_TWI | regs::HCR_TWE, trap);
    }

    /// Makes a virtual SError pending; the guest takes it when it unmasks them.
    pub fn inject_serror(&mut self) {
        self.change_hcr(regs::HCR_VSE, true);
    }

    fn change_hcr(&mut self, bits: u64, on: bool) {
        let hcr = self.hcr();
        self.set_hcr(if on { hcr | bits } else { hcr & !bits });
    }

    /// Returns SIMD register `number` as two halves, low first; current only while not loaded.
    pub fn vector(&self, number: usize) -> Option<[u64; 2]> {
        self.floating_point.vectors.get(number).copied()
    }
}

impl fmt::Debug for VcpuContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pc {:016x}  spsr {:08x}  hcr {:016x}", self.pc(), self.spsr(), self.hcr())?;
        for (row, registers) in self.frame.general.chunks(4).enumerate() {
            for (column, value) in registers.iter().enumerate() {
                write!(f, "x{:<2} {value:016x}  ", row * 4 + column)?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "sp_el0 {:016x}  sp_el1 {:016x}  elr_el1 {:016x}  spsr_el1 {:08x}",
            self.sp_el0(),
            self.sp_el1(),
            self.elr_el1(),
            self.spsr_el1()
        )?;
        writeln!(
            f,
            "sctlr_el1 {:016x}  tcr_el1 {:016x}  ttbr0_el1 {:016x}  ttbr1_el1 {:016x}",
            self.sctlr_el1(),
            self.tcr_el1(),
            self.ttbr0_el1(),
            self.ttbr1_el1()
        )?;
        write!(
            f,
            "vbar_el1 {:016x}  esr_el1 {:08x}  far_el1 {:016x}",
            self.vbar_el1(),
            self.esr_el1(),
            self.far_el1()
        )
    }
}

/// Clears `VDISR_EL2`, which a guest reads and writes as `DISR_EL1` if the processor has RAS: that
/// traps no other way. It is not kept for the guest, which is told of no RAS.
fn clear_deferred_error() {
    if cpu::has_ras() {
        Vdisr::set(0);
    }
}

/// Not loaded.
const NOWHERE: u32 = 0;

const REASON_SYNC: u64 = 0;
const REASON_IRQ: u64 = 1;
pub(crate) const REASON_SERROR: u64 = 2;

unsafe extern "C" {
    fn guest_enter();
    fn fp_load(from: *const FloatingPoint);
    fn fp_save(to: *mut FloatingPoint);
}

global_asm!(
    include_str!("context.S"),
    HYPERVISOR_SP = const offset_of!(Frame, hypervisor_sp),
    REASON_SYNC = const REASON_SYNC,
    REASON_IRQ = const REASON_IRQ,
    REASON_SERROR = const REASON_SERROR,
    FP_CONTROL = const offset_of!(FloatingPoint, control),
);

// `context.S` moves these in pairs.
const _: () = assert!(offset_of!(Frame, general) == 0);
const _: () = assert!(offset_of!(FloatingPoint, status) == offset_of!(FloatingPoint, control) + 8);
