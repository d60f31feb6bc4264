//! Names of registers in trapped instructions.

use core::fmt;

/// A general-purpose register of an instruction: 0–30, or 31 for the zero register or the stack pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(transparent)]
pub struct Register(u8);

impl Register {
    /// Number 31: reads as zero and ignores writes where a value moves; the stack pointer as a base.
    pub const ZERO_OR_SP: Self = Self(31);

    /// Returns register `number`; numbers from 32 on wrap.
    pub const fn new(number: u8) -> Self {
        Self(number & 31)
    }

    /// Takes the five bits of `word` from bit `shift` on.
    pub(super) const fn from_field(word: u64, shift: u32) -> Self {
        Self((word >> shift & 31).to_le_bytes()[0])
    }

    /// Returns the number, 0–31.
    pub const fn number(self) -> usize {
        self.0 as usize
    }

    /// Reads the register from `file`, x0 to x30; number 31 is zero.
    pub fn get(self, file: &[u64; 31]) -> u64 {
        file.get(self.number()).copied().unwrap_or(0)
    }

    /// Writes the register in `file`, x0 to x30; number 31 ignores it.
    pub fn set(self, file: &mut [u64; 31], value: u64) {
        if let Some(slot) = file.get_mut(self.number()) {
            *slot = value;
        }
    }
}

/// A system register, or a system instruction, by its encoding.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
#[repr(transparent)]
pub struct SysReg(u32);

impl SysReg {
    /// The bits of the syndrome that name the register.
    const FIELDS: u32 = 0x003f_fc1e;

    /// Names the register with this encoding.
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self((op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1) & Self::FIELDS)
    }

    pub(super) const fn from_syndrome(esr: u64) -> Self {
        let bytes = esr.to_le_bytes();
        Self(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & Self::FIELDS)
    }

    /// Returns `op0`, 0–3.
    pub const fn op0(self) -> u32 {
        self.0 >> 20 & 3
    }

    /// Returns `op1`, 0–7.
    pub const fn op1(self) -> u32 {
        self.0 >> 14 & 7
    }

    /// Returns `CRn`, 0–15.
    pub const fn crn(self) -> u32 {
        self.0 >> 10 & 15
    }

    /// Returns `CRm`, 0–15.
    pub const fn crm(self) -> u32 {
        self.0 >> 1 & 15
    }

    /// Returns `op2`, 0–7.
    pub const fn op2(self) -> u32 {
        self.0 >> 17 & 7
    }
}

impl fmt::Debug for SysReg {
    /// Prints the generic name, as assemblers take it: `S3_0_C12_C11_5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op0, op1, crn) = (self.op0(), self.op1(), self.crn());
        write!(f, "S{op0}_{op1}_C{crn}_C{}_{}", self.crm(), self.op2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_31_is_zero_and_ignores_writes() {
        let mut file = [7; 31];
        Register::ZERO_OR_SP.set(&mut file, 1);
        Register::new(30).set(&mut file, 2);
        assert_eq!(Register::ZERO_OR_SP.get(&file), 0);
        assert_eq!(Register::new(30).get(&file), 2);
        assert_eq!(file[..30], [7; 30]);
    }

    #[test]
    fn a_system_register_prints_its_generic_name() {
        assert_eq!(format!("{:?}", SysReg::new(3, 0, 12, 11, 5)), "S3_0_C12_C11_5");
        assert_eq!(format!("{:?}", SysReg::new(2, 3, 0, 15, 7)), "S2_3_C0_C15_7");
    }
}
