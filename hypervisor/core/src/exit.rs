//! Why a guest came back: the syndrome of an exception taken to EL2, as an [`Exit`].
//!
//! `hv-arch` hands over the raw registers of a synchronous exception; the run loop matches on the answer.
//! Encodings: Arm ARM (DDI 0487) D24.2.40, `ESR_EL2`.

mod instruction;
mod register;

pub use instruction::{Plan, Transfer, Unsupported, Width, Writeback, decode_instruction};
pub use register::{Register, SysReg};

use crate::addr::{GuestAddr, PAGE_SIZE};

/// What a guest did that only the hypervisor can go on with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// An access to data that stage 2 does not allow.
    DataAbort(DataAbort),
    /// A fetch that stage 2 does not allow.
    InstructionAbort(InstructionAbort),
    /// `HVC #immediate`; the guest's PC is already past it.
    Hypercall {
        /// The number in the instruction.
        immediate: u16,
    },
    /// `SMC #immediate`; the guest's PC still points at it.
    SecureCall {
        /// The number in the instruction.
        immediate: u16,
    },
    /// `MRS`, `MSR` or `SYS` on a trapped register; the guest's PC still points at it.
    Register(RegisterAccess),
    /// `WFI`; the guest's PC still points at it.
    WaitForInterrupt,
    /// `WFE`; the guest's PC still points at it.
    WaitForEvent,
    /// Floating point or SIMD while `CPTR_EL2` traps it; the instruction is to run again.
    FloatingPoint,
    /// A trapped AArch32 instruction whose condition does not hold: it does nothing.
    Skipped,
    /// Anything the guest's virtual machine does not have: it gets an undefined-instruction exception.
    Undefined,
}

/// A stage-2 data abort.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DataAbort {
    /// The guest virtual address (`FAR_EL2`).
    pub virtual_address: u64,
    /// Where that lies in the guest's physical space.
    pub address: FaultAddress,
    /// What stage 2 objected to.
    pub fault: Fault,
    /// Whether it was a write; for a fault on a table walk, whether the access that needed it was.
    pub write: bool,
    /// Whether the walk of the guest's own tables faulted, not the access itself.
    pub on_walk: bool,
    /// Whether a cache maintenance instruction (`DC ZVA` among them) faulted.
    pub cache_maintenance: bool,
    /// What was to be moved, if the processor says; if not, the instruction has to be decoded.
    pub access: Option<Access>,
}

/// What an access was to move, as the processor reports it (`ISS.ISV` = 1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Access {
    /// The register and width.
    pub transfer: Transfer,
}

/// A stage-2 instruction abort.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InstructionAbort {
    /// The guest virtual address (`FAR_EL2`).
    pub virtual_address: u64,
    /// Where that lies in the guest's physical space.
    pub address: FaultAddress,
    /// What stage 2 objected to.
    pub fault: Fault,
    /// Whether the walk of the guest's own tables faulted, not the fetch itself.
    pub on_walk: bool,
}

/// The guest physical address of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultAddress {
    /// The address, to the byte; for a fault on a table walk, the page of the table.
    Known(GuestAddr),
    /// The processor does not say (a permission fault): the virtual address must be translated.
    MustTranslate,
}

/// What stage 2 objected to (Arm ARM D24.2.40, "DFSC").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The address has more bits than stage 2 translates.
    AddressSize,
    /// Nothing is mapped.
    Translation,
    /// The access flag is clear.
    AccessFlag,
    /// The mapping does not allow this.
    Permission,
    /// Memory answered with an error.
    External,
    /// Any other code.
    Other(u8),
}

/// A trapped access to a system register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RegisterAccess {
    /// Which.
    pub sysreg: SysReg,
    /// Where a value read goes, or a value to write stands.
    pub register: Register,
    /// Whether it is a read.
    pub read: bool,
}

const SPSR_AARCH32: u64 = 1 << 4;
/// The class of a data abort from a lower level.
const DATA_ABORT: u64 = 0x24;

/// Decodes a synchronous exception from a guest: `ESR_EL2`, `FAR_EL2`, `HPFAR_EL2`, and `SPSR_EL2`, which is
/// asked for only where it matters.
#[inline]
pub fn decode(esr: u64, far: u64, hpfar: u64, spsr: impl FnOnce() -> u64) -> Exit {
    let class = esr >> 26 & 0x3f;
    // A device's register, by far most often of what comes here.
    if class == DATA_ABORT {
        return Exit::DataAbort(data_abort(esr, far, hpfar));
    }
    if matches!(class, 0x01..=0x0c) {
        let spsr = spsr();
        if spsr & SPSR_AARCH32 != 0 && !condition_holds(esr, spsr) {
            return Exit::Skipped;
        }
    }
    match class {
        0x01 => match esr & 3 {
            0 => Exit::WaitForInterrupt,
            1 => Exit::WaitForEvent,
            // WFIT and WFET are hidden from guests (ID_AA64ISAR2_EL1.WFxT).
            _ => Exit::Undefined,
        },
        0x07 => Exit::FloatingPoint,
        0x16 => Exit::Hypercall { immediate: low_half(esr) },
        0x17 => Exit::SecureCall { immediate: low_half(esr) },
        0x18 => Exit::Register(RegisterAccess {
            sysreg: SysReg::from_syndrome(esr),
            register: Register::from_field(esr, 5),
            read: esr & 1 != 0,
        }),
        0x20 => Exit::InstructionAbort(instruction_abort(esr, far, hpfar)),
        _ => Exit::Undefined,
    }
}

/// Returns the length of the trapped instruction in bytes, by which the guest's PC goes on.
pub const fn instruction_length(esr: u64) -> u64 {
    if esr & 1 << 25 != 0 { 4 } else { 2 }
}

fn data_abort(esr: u64, far: u64, hpfar: u64) -> DataAbort {
    let fault = fault(esr);
    let on_walk = esr & 1 << 7 != 0;
    let valid = esr & 1 << 24 != 0;
    let transfer = Transfer {
        register: Register::from_field(esr, 16),
        width: Width::from_field(esr, 22),
        sign_extend: esr & 1 << 21 != 0,
        wide: esr & 1 << 15 != 0,
    };
    DataAbort {
        virtual_address: far,
        address: fault_address(fault, on_walk, far, hpfar),
        fault,
        write: esr & 1 << 6 != 0,
        on_walk,
        cache_maintenance: esr & 1 << 8 != 0,
        access: valid.then_some(Access { transfer }),
    }
}

fn instruction_abort(esr: u64, far: u64, hpfar: u64) -> InstructionAbort {
    let fault = fault(esr);
    let on_walk = esr & 1 << 7 != 0;
    InstructionAbort {
        virtual_address: far,
        address: fault_address(fault, on_walk, far, hpfar),
        fault,
        on_walk,
    }
}

fn fault(esr: u64) -> Fault {
    match esr.to_le_bytes()[0] & 0x3f {
        0x00..=0x03 => Fault::AddressSize,
        0x04..=0x07 => Fault::Translation,
        0x08..=0x0b => Fault::AccessFlag,
        0x0c..=0x0f => Fault::Permission,
        0x10 | 0x13..=0x17 => Fault::External,
        code => Fault::Other(code),
    }
}

/// `HPFAR_EL2` holds for these faults only (Arm ARM D24.2.61); it names a page, the rest is in `FAR_EL2`.
fn fault_address(fault: Fault, on_walk: bool, far: u64, hpfar: u64) -> FaultAddress {
    let page = (hpfar & 0xfff_ffff_fff0) << 8;
    if on_walk {
        return FaultAddress::Known(GuestAddr::new(page));
    }
    match fault {
        Fault::AddressSize | Fault::Translation | Fault::AccessFlag => {
            FaultAddress::Known(GuestAddr::new(page | far & (PAGE_SIZE - 1)))
        }
        Fault::Permission | Fault::External | Fault::Other(_) => FaultAddress::MustTranslate,
    }
}

/// Says whether a trapped AArch32 instruction would have run, by its condition and the guest's flags.
fn condition_holds(esr: u64, spsr: u64) -> bool {
    const VALID: u64 = 1 << 24;
    let condition = if esr & VALID != 0 {
        esr >> 20 & 0xf
    } else {
        // T32 without a reported condition: that of the IT block, if any (ITSTATE is SPSR[15:10,26:25]).
        let state = (spsr >> 8 & 0xfc) | (spsr >> 25 & 3);
        if state == 0 { 0xe } else { state >> 4 }
    };
    let [n, z, c, v] = [31, 30, 29, 28].map(|bit| spsr >> bit & 1 != 0);
    let holds = match condition >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    holds != (condition & 1 != 0)
}

fn low_half(esr: u64) -> u16 {
    let bytes = esr.to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const IL: u64 = 1 << 25;
    const EL1H: u64 = 0x5;

    fn decode(esr: u64, far: u64, hpfar: u64, spsr: u64) -> Exit {
        super::decode(esr, far, hpfar, || spsr)
    }

    fn class(ec: u64) -> u64 {
        ec << 26 | IL
    }

    #[test]
    fn a_data_abort_with_a_syndrome_names_register_width_and_address() {
        // ISV, 32 bits, register 3, write, translation fault at level 3.
        let esr = class(0x24) | 1 << 24 | 2 << 22 | 3 << 16 | 1 << 6 | 7;
        let Exit::DataAbort(abort) = decode(esr, 0xffff_8000_0800_0104, 0x80000, EL1H) else {
            panic!("it is a data abort");
        };
        assert_eq!(abort.address, FaultAddress::Known(GuestAddr::new(0x0800_0104)));
        assert_eq!((abort.fault, abort.write, abort.on_walk), (Fault::Translation, true, false));
        let transfer = abort.access.unwrap().transfer;
        assert_eq!(transfer.register, Register::new(3));
        assert_eq!(transfer.width, Width::Word);
        assert!(!transfer.sign_extend && !transfer.wide);
    }

    #[test]
    fn a_permission_fault_leaves_the_address_to_be_translated_unless_on_a_walk() {
        let esr = class(0x24) | 0xf;
        let Exit::DataAbort(abort) = decode(esr, 0x1234, 0x80000, EL1H) else { panic!() };
        assert_eq!((abort.fault, abort.address), (Fault::Permission, FaultAddress::MustTranslate));
        assert_eq!(abort.access, None);
        let Exit::DataAbort(abort) = decode(esr | 1 << 7, 0x1234, 0x80000, EL1H) else { panic!() };
        assert_eq!(abort.address, FaultAddress::Known(GuestAddr::new(0x0800_0000)));
    }

    #[test]
    fn calls_and_waits_are_told_apart() {
        let decode = |esr| decode(esr, 0, 0, EL1H);
        assert_eq!(decode(class(0x16) | 0xea1), Exit::Hypercall { immediate: 0xea1 });
        assert_eq!(decode(class(0x17) | 1), Exit::SecureCall { immediate: 1 });
        assert_eq!(decode(class(0x01)), Exit::WaitForInterrupt);
        assert_eq!(decode(class(0x01) | 1), Exit::WaitForEvent);
        assert_eq!(decode(class(0x01) | 2), Exit::Undefined);
        assert_eq!(decode(class(0x07)), Exit::FloatingPoint);
        for ec in [0x00, 0x0e, 0x19, 0x1d, 0x3f] {
            assert_eq!(decode(class(ec)), Exit::Undefined);
        }
    }

    #[test]
    fn an_instruction_abort_names_the_page() {
        let Exit::InstructionAbort(abort) = decode(class(0x20) | 6, 0x4008, 0x4_0000, EL1H) else {
            panic!("it is an instruction abort");
        };
        assert_eq!(abort.address, FaultAddress::Known(GuestAddr::new(0x0400_0008)));
        assert_eq!(abort.fault, Fault::Translation);
    }

    #[test]
    fn a_register_trap_names_its_register() {
        // MSR ICC_SGI1R_EL1 (3, 0, 12, 11, 5), x7.
        let iss = 3 << 20 | 5 << 17 | 12 << 10 | 7 << 5 | 11 << 1;
        let Exit::Register(access) = decode(class(0x18) | iss, 0, 0, EL1H) else { panic!() };
        assert_eq!(access.sysreg, SysReg::new(3, 0, 12, 11, 5));
        assert_eq!(access.register, Register::new(7));
        assert!(!access.read);
    }

    #[test]
    fn an_aarch32_instruction_whose_condition_fails_is_skipped() {
        const AARCH32_USER: u64 = 0x10;
        let wfi_if = |condition: u64| class(0x01) | 1 << 24 | condition << 20;
        let zero = AARCH32_USER | 1 << 30;
        assert_eq!(decode(wfi_if(0x0), 0, 0, zero), Exit::WaitForInterrupt);
        assert_eq!(decode(wfi_if(0x1), 0, 0, zero), Exit::Skipped);
        assert_eq!(decode(wfi_if(0xe), 0, 0, AARCH32_USER), Exit::WaitForInterrupt);
        assert_eq!(decode(wfi_if(0xc), 0, 0, zero), Exit::Skipped);
        assert_eq!(decode(class(0x03) | 1 << 24, 0, 0, zero), Exit::Undefined);
    }

    #[test]
    fn a_thumb_instruction_is_two_bytes_long() {
        assert_eq!(instruction_length(class(1)), 4);
        assert_eq!(instruction_length(1 << 26), 2);
    }
}
