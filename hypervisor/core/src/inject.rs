//! Exceptions given to a guest: what the processor itself would do on taking one to EL1.
//!
//! [`Entry`] is the decision; the caller writes its registers. Arm ARM D1.3.1, "Exception entry".

/// Where the guest was, and how its EL1 takes exceptions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Context {
    /// The guest's program counter (`ELR_EL2`): of the faulting instruction.
    pub pc: u64,
    /// The guest's processor state (`SPSR_EL2`).
    pub pstate: u64,
    /// The guest's `VBAR_EL1`.
    pub vector_base: u64,
    /// The guest's `SCTLR_EL1`.
    pub sctlr: u64,
}

/// The guest's registers after it took an exception.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the guest goes on as if nothing had happened unless these are written"]
pub struct Entry {
    /// The new program counter (`ELR_EL2`).
    pub pc: u64,
    /// The new processor state (`SPSR_EL2`).
    pub pstate: u64,
    /// The guest's `ELR_EL1`.
    pub elr: u64,
    /// The guest's `SPSR_EL1`.
    pub spsr: u64,
    /// The guest's `ESR_EL1`.
    pub esr: u64,
    /// The guest's `FAR_EL1`.
    pub far: FaultRegister,
}

/// What becomes of the guest's `FAR_EL1`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultRegister {
    /// It keeps its value.
    Kept,
    /// It holds this virtual address.
    Set(u64),
}

const MODE_MASK: u64 = 0xf;
const EL1H: u64 = 0b0101;
const AARCH32: u64 = 1 << 4;
const ALL_MASKED: u64 = 0xf << 6;
const SSBS: u64 = 1 << 12;
const PAN: u64 = 1 << 22;
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;
const FLAGS: u64 = 0xf << 28;
/// `PSTATE.DIT`; where AArch32 keeps it differs.
const DIT: u64 = 1 << 24;
const DIT_AARCH32: u64 = 1 << 21;

const INSTRUCTION_LENGTH: u64 = 1 << 25;
/// "Synchronous External abort, not on translation table walk".
const EXTERNAL_ABORT: u64 = 0x10;
const WRITE_NOT_READ: u64 = 1 << 6;
const CACHE_MAINTENANCE: u64 = 1 << 8;

/// Says what an undefined instruction does.
pub fn undefined(context: &Context) -> Entry {
    enter(context, INSTRUCTION_LENGTH, FaultRegister::Kept)
}

/// Says what an access to data that no device answers does: a synchronous external abort at `address`.
pub fn data_abort(context: &Context, address: u64, write: bool, cache_maintenance: bool) -> Entry {
    let class = if from_el0(context) { 0x24 } else { 0x25 };
    let write = if write { WRITE_NOT_READ } else { 0 };
    let maintenance = if cache_maintenance { CACHE_MAINTENANCE } else { 0 };
    let syndrome = class << 26 | INSTRUCTION_LENGTH | maintenance | write | EXTERNAL_ABORT;
    enter(context, syndrome, FaultRegister::Set(address))
}

/// Says what a fetch from where there is no memory does: a synchronous external abort at `address`.
pub fn instruction_abort(context: &Context, address: u64) -> Entry {
    let class = if from_el0(context) { 0x20 } else { 0x21 };
    let syndrome = class << 26 | INSTRUCTION_LENGTH | EXTERNAL_ABORT;
    enter(context, syndrome, FaultRegister::Set(address))
}

fn enter(context: &Context, esr: u64, far: FaultRegister) -> Entry {
    Entry {
        pc: context.vector_base.wrapping_add(vector_offset(context.pstate)),
        pstate: new_state(context),
        elr: context.pc,
        spsr: context.pstate,
        esr,
        far,
    }
}

const fn from_el0(context: &Context) -> bool {
    context.pstate & AARCH32 != 0 || context.pstate & MODE_MASK == 0
}

/// EL1 is always AArch64, so AArch32 can only be EL0.
const fn vector_offset(pstate: u64) -> u64 {
    if pstate & AARCH32 != 0 {
        return 0x600;
    }
    match pstate & MODE_MASK {
        0 => 0x400,
        EL1H => 0x200,
        _ => 0x000,
    }
}

fn new_state(context: &Context) -> u64 {
    let old = context.pstate;
    let dit = if old & AARCH32 != 0 { old & DIT_AARCH32 != 0 } else { old & DIT != 0 };
    let pan = if context.sctlr & SCTLR_SPAN == 0 { PAN } else { old & PAN };
    let ssbs = if context.sctlr & SCTLR_DSSBS != 0 { SSBS } else { 0 };
    EL1H | ALL_MASKED | old & FLAGS | pan | ssbs | if dit { DIT } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pstate: u64) -> Context {
        Context { pc: 0x4000, pstate, vector_base: 0xffff_0000_0001_0800, sctlr: SCTLR_SPAN }
    }

    #[test]
    fn an_undefined_instruction_of_the_kernel_comes_to_its_current_el_vector() {
        let entry = undefined(&context(0x6000_0005));
        assert_eq!(entry.pc, 0xffff_0000_0001_0a00);
        assert_eq!(entry.pstate, 0x6000_03c5);
        assert_eq!((entry.elr, entry.spsr), (0x4000, 0x6000_0005));
        assert_eq!((entry.esr, entry.far), (0x0200_0000, FaultRegister::Kept));
    }

    #[test]
    fn a_dead_access_of_a_program_comes_to_the_lower_el_vector_with_its_address() {
        let entry = data_abort(&context(0), 0xdead_0000, true, false);
        assert_eq!(entry.pc, 0xffff_0000_0001_0c00);
        assert_eq!(entry.esr, 0x9200_0050);
        assert_eq!(entry.far, FaultRegister::Set(0xdead_0000));
        let entry = data_abort(&context(5), 0xdead_0000, false, true);
        assert_eq!(entry.esr, 0x9600_0110);
    }

    #[test]
    fn each_state_has_its_vector() {
        assert_eq!(undefined(&context(0x4)).pc & 0x7ff, 0x000);
        let aarch32 = instruction_abort(&context(0x10), 0x10);
        assert_eq!(aarch32.pc, 0xffff_0000_0001_0e00);
        assert_eq!(aarch32.esr, 0x8200_0010);
        assert_eq!(instruction_abort(&context(5), 0x10).esr, 0x8600_0010);
    }

    #[test]
    fn entry_sets_the_state_bits_that_sctlr_asks_for() {
        let mut context = context(5 | DIT | 1 << 21 | 1 << 20 | 3 << 10);
        assert_eq!(undefined(&context).pstate, 0x3c5 | DIT);
        context.sctlr = SCTLR_DSSBS;
        assert_eq!(undefined(&context).pstate, 0x3c5 | DIT | PAN | SSBS);
    }
}
