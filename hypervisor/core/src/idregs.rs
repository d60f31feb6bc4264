//! Identification registers: what a guest sees of the processor.
//!
//! A guest gets the least that any processor has, without the features whose registers are not switched
//! with it or that belong to levels above its own. Fields: Arm ARM D24.2, `ID_AA64*_EL1`.

use crate::exit::SysReg;

/// The registers with op0 = 3, op1 = 0, CRn = 0, for CRm 1 to 7: element `[CRm - 1][op2]`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct IdRegisters([[u64; 8]; 7]);

/// `(CRm, op2)` of a register, and the lowest bits of its fields that are signed numbers.
const SIGNED_FIELDS: [(usize, usize, &[u32]); 3] = [
    (4, 0, &[16, 20]),     // ID_AA64PFR0_EL1: FP, AdvSIMD
    (5, 0, &[8, 36]),      // ID_AA64DFR0_EL1: PMUVer, DoubleLock
    (7, 0, &[24, 28, 36]), // ID_AA64MMFR0_EL1: TGran64, TGran4, TGran64_2
];

/// What is done to a field for a guest.
#[derive(Clone, Copy)]
enum Rule {
    /// It is this.
    Is(u64),
    /// It is what the processor has, but at most this.
    AtMost(u64),
}
use Rule::{AtMost, Is};

/// `(CRm, op2, lowest bit, rule)`. Fields that are not named are passed on.
const RULES: &[(usize, usize, u32, Rule)] = &[
    // ID_PFR0_EL1: AMU, RAS. ID_PFR1_EL1: Virtualization, Virt_frac. ID_DFR0_EL1: traces, PMU.
    (1, 0, 20, Is(0)),
    (1, 0, 28, Is(0)),
    (1, 1, 12, Is(0)),
    (1, 1, 24, Is(0)),
    (1, 2, 12, Is(0)),
    (1, 2, 16, Is(0)),
    (1, 2, 20, Is(0)),
    (1, 2, 24, Is(0)),
    (1, 2, 28, Is(0)),
    // ID_AA64PFR0_EL1: EL1 and above, GIC system registers, RAS, SVE, SEL2, MPAM, AMU, RME.
    (4, 0, 4, Is(1)),
    (4, 0, 8, Is(0)),
    (4, 0, 12, Is(0)),
    (4, 0, 24, AtMost(1)),
    (4, 0, 28, Is(0)),
    (4, 0, 32, Is(0)),
    (4, 0, 36, Is(0)),
    (4, 0, 40, Is(0)),
    (4, 0, 44, Is(0)),
    (4, 0, 52, Is(0)),
    // ID_AA64DFR0_EL1: v8.0 debug with the fewest breakpoints and watchpoints, and nothing else.
    (5, 0, 0, Is(6)),
    (5, 0, 4, Is(0)),
    (5, 0, 8, Is(0)),
    (5, 0, 12, Is(1)),
    (5, 0, 16, Is(0)),
    (5, 0, 20, Is(1)),
    (5, 0, 24, Is(0)),
    (5, 0, 28, Is(0)),
    (5, 0, 32, Is(0)),
    (5, 0, 36, Is(0xf)),
    (5, 0, 40, Is(0)),
    (5, 0, 44, Is(0)),
    (5, 0, 48, Is(0)),
    (5, 0, 52, Is(0)),
    (5, 0, 56, Is(0)),
    (5, 0, 60, Is(0)),
    // ID_AA64ISAR0_EL1: TME.
    (6, 0, 24, Is(0)),
    // ID_AA64ISAR1_EL1: pointer authentication, XS, LS64.
    (6, 1, 4, Is(0)),
    (6, 1, 8, Is(0)),
    (6, 1, 24, Is(0)),
    (6, 1, 28, Is(0)),
    (6, 1, 56, Is(0)),
    (6, 1, 60, Is(0)),
    // ID_AA64MMFR0_EL1: no stage 2, no LPA2, no FGT.
    (7, 0, 20, AtMost(1)),
    (7, 0, 32, Is(0)),
    (7, 0, 36, Is(0)),
    (7, 0, 40, Is(0)),
    (7, 0, 56, Is(0)),
    (7, 0, 60, AtMost(1)),
    // ID_AA64MMFR1_EL1: HAFDBS without HAFT, VMIDBits, VH, LO, XNX, TWED, HCX, TIDCP1, CMOW, ECBHB.
    (7, 1, 0, AtMost(2)),
    (7, 1, 4, Is(0)),
    (7, 1, 8, Is(0)),
    (7, 1, 16, Is(0)),
    (7, 1, 28, Is(0)),
    (7, 1, 32, Is(0)),
    (7, 1, 40, Is(0)),
    (7, 1, 52, Is(0)),
    (7, 1, 56, Is(0)),
    // ID_AA64MMFR2_EL1: IESB, NV, IDS, FWB, EVT.
    (7, 2, 12, Is(0)),
    (7, 2, 24, Is(0)),
    (7, 2, 36, Is(0)),
    (7, 2, 40, Is(0)),
    (7, 2, 56, Is(0)),
];

/// `ID_AA64PFR1_EL1` has more fields to hide than to show: these are BT, SSBS and `CSV2_frac`.
const PFR1_SHOWN: u64 = 0xf << 32 | 0xf << 4 | 0xf;

impl IdRegisters {
    /// Takes the registers of one processor, as read: element `[CRm - 1][op2]`.
    pub const fn from_raw(raw: [[u64; 8]; 7]) -> Self {
        Self(raw)
    }

    /// Returns what both processors have.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        let mut common = self;
        let rows = (1..).zip(common.0.iter_mut().zip(&other.0));
        for (crm, (mine, others)) in rows {
            for (op2, (value, other)) in mine.iter_mut().zip(others).enumerate() {
                *value = common_fields(*value, *other, signed_fields(crm, op2));
            }
        }
        common
    }

    /// Returns what a guest may see whose addresses have `ipa_bits`.
    #[must_use]
    pub fn for_guest(self, ipa_bits: u8) -> Self {
        let mut guest = self;
        for (crm, row) in (1..).zip(&mut guest.0) {
            for (op2, value) in row.iter_mut().enumerate() {
                if !is_passed_on(crm, op2) {
                    *value = 0;
                }
            }
        }
        for &(crm, op2, shift, rule) in RULES {
            guest.set_field(crm, op2, shift, rule);
        }
        // ID_AA64MMFR0_EL1.PARange.
        guest.set_field(7, 0, 0, AtMost(range_of(ipa_bits)));
        guest.hide_large_addresses();
        if let Some(pfr1) = guest.0.get_mut(3).and_then(|row| row.get_mut(1)) {
            *pfr1 &= PFR1_SHOWN;
        }
        guest
    }

    /// Returns the value of a register that is in the identification space; nothing for any other.
    pub fn get(&self, sysreg: SysReg) -> Option<u64> {
        if (sysreg.op0(), sysreg.op1(), sysreg.crn()) != (3, 0, 0) {
            return None;
        }
        let row = self.0.get(usize::try_from(sysreg.crm()).ok()?.checked_sub(1)?)?;
        row.get(usize::try_from(sysreg.op2()).ok()?).copied()
    }

    fn set_field(&mut self, crm: usize, op2: usize, shift: u32, rule: Rule) {
        let Some(value) = self.0.get_mut(crm - 1).and_then(|row| row.get_mut(op2)) else { return };
        let new = match rule {
            Is(new) => new,
            AtMost(most) => (*value >> shift & 0xf).min(most),
        };
        *value = *value & !(0xf << shift) | new << shift;
    }

    /// 4 KiB pages with 52-bit addresses become 4 KiB pages; `TGran4` is signed: -1 is "none".
    fn hide_large_addresses(&mut self) {
        const SHIFT: u32 = 28;
        let Some(value) = self.0.get_mut(6).and_then(|row| row.first_mut()) else { return };
        if *value >> SHIFT & 0xf != 0xf {
            *value &= !(0xf << SHIFT);
        }
    }
}

/// Returns the largest `PARange` that promises no more than `bits`, at most 48.
fn range_of(bits: u8) -> u64 {
    match bits {
        0..36 => 0,
        36..40 => 1,
        40..42 => 2,
        42..44 => 3,
        44..48 => 4,
        48.. => 5,
    }
}

/// All of AArch32's, and the AArch64 registers whose fields the rules know. Later ones read as zero, which
/// hides what they describe, as on Xen.
fn is_passed_on(crm: usize, op2: usize) -> bool {
    match crm {
        1..=3 => true,
        4 => op2 <= 1,
        5 => op2 == 0,
        6 => op2 <= 1,
        7 => op2 <= 2,
        _ => false,
    }
}

fn signed_fields(crm: usize, op2: usize) -> &'static [u32] {
    let found = SIGNED_FIELDS.iter().find(|(row, column, _)| (*row, *column) == (crm, op2));
    found.map_or(&[], |(_, _, fields)| fields)
}

fn common_fields(one: u64, other: u64, signed: &[u32]) -> u64 {
    (0..u64::BITS).step_by(4).fold(0, |common, shift| {
        // Adding 8 modulo 16 puts signed numbers in unsigned order.
        let bias = if signed.contains(&shift) { 8 } else { 0 };
        let order = |value: u64| (value >> shift & 0xf) ^ bias;
        common | (order(one).min(order(other)) ^ bias) << shift
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(crm: u32, op2: u32) -> SysReg {
        SysReg::new(3, 0, 0, crm, op2)
    }

    fn with(crm: usize, op2: usize, value: u64) -> IdRegisters {
        let mut raw = [[0; 8]; 7];
        raw[crm - 1][op2] = value;
        IdRegisters::from_raw(raw)
    }

    #[test]
    fn a_guest_of_a_processor_with_everything_sees_no_sve_pmu_or_pointer_authentication() {
        let guest = IdRegisters::from_raw([[u64::MAX; 8]; 7]).for_guest(48);
        let pfr0 = guest.get(register(4, 0)).unwrap();
        assert_eq!(pfr0, 0xff0f_0000_01ff_001f);
        assert_eq!(guest.get(register(4, 1)), Some(0xf_0000_00ff));
        let dfr0 = guest.get(register(5, 0)).unwrap();
        assert_eq!(dfr0, 0xf0_0010_1006);
        assert_eq!(guest.get(register(6, 1)).unwrap() & 0xff00_0000_ff00_0ff0, 0);
        for (crm, op2) in [(4, 4), (4, 5), (5, 1), (6, 2), (7, 3), (7, 4)] {
            assert_eq!(guest.get(register(crm, op2)), Some(0), "{crm} {op2}");
        }
    }

    #[test]
    fn large_addresses_are_hidden_and_a_missing_granule_stays_missing() {
        let mmfr0 = |value| with(7, 0, value).for_guest(48).get(register(7, 0)).unwrap();
        assert_eq!(mmfr0(0x1020_0006), 0x0010_0005);
        assert_eq!(mmfr0(0xf000_0002), 0xf000_0002);
        assert_eq!(mmfr0(2 << 60 | 1 << 56), 1 << 60);
    }

    #[test]
    fn a_guest_is_told_of_no_larger_addresses_than_it_has() {
        let range = |value, bits| with(7, 0, value).for_guest(bits).get(register(7, 0)).unwrap();
        assert_eq!([range(4, 40), range(4, 44), range(6, 48)], [2, 4, 5]);
        assert_eq!([range(1, 40), range(5, 42), range(5, 32)], [1, 3, 0]);
    }

    #[test]
    fn what_both_have_is_the_lesser_also_of_signed_fields() {
        let pfr0 = |one, other| with(4, 0, one).common(with(4, 0, other)).get(register(4, 0));
        assert_eq!(pfr0(0xf0_0000, 0x10_0000), Some(0xf0_0000));
        assert_eq!(pfr0(0x2, 0x1), Some(0x1));
        let isar0 = |one, other| with(6, 0, one).common(with(6, 0, other)).get(register(6, 0));
        assert_eq!(isar0(0x2_0000_0010, 0x1_0000_0020), Some(0x1_0000_0010));
    }

    #[test]
    fn other_registers_are_not_in_the_identification_space() {
        let registers = IdRegisters::default();
        assert_eq!(registers.get(SysReg::new(3, 0, 1, 0, 0)), None);
        assert_eq!(registers.get(register(0, 0)), None);
        assert_eq!(registers.get(register(8, 0)), None);
    }
}
