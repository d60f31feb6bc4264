//! What a load or store moves, decoded from its A64 encoding.
//!
//! The processor describes a faulting access only if it moves one register and leaves its base alone. For
//! the rest (pre- and post-indexed forms, pairs) the instruction itself says it: Arm ARM C4.1.94, "Loads
//! and stores".

use super::Register;

/// How many bytes a transfer moves.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl Width {
    pub(super) const fn from_field(word: u64, shift: u32) -> Self {
        match word >> shift & 3 {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Double,
        }
    }

    /// Returns the size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// Returns a mask of the bits moved.
    pub const fn mask(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => 0xffff_ffff,
            Self::Double => u64::MAX,
        }
    }
}

/// One register's share of an access.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transfer {
    /// The register.
    pub register: Register,
    /// How much moves.
    pub width: Width,
    /// Whether a load copies the sign bit upwards.
    pub sign_extend: bool,
    /// Whether the register is a 64-bit one; it matters to loads with sign extension.
    pub wide: bool,
}

impl Transfer {
    /// Puts `value`, as it was read, in the register.
    pub fn load(self, file: &mut [u64; 31], value: u64) {
        self.register.set(file, self.extend(value));
    }

    /// Returns the bits of the register that are written.
    pub fn store(self, file: &[u64; 31]) -> u64 {
        self.register.get(file) & self.width.mask()
    }

    /// Returns what the register holds after a load of `value`.
    pub const fn extend(self, value: u64) -> u64 {
        let value = value & self.width.mask();
        if !self.sign_extend {
            return value;
        }
        let sign = (self.width.mask() >> 1) + 1;
        let extended = (value ^ sign).wrapping_sub(sign);
        if self.wide { extended } else { extended & Width::Word.mask() }
    }
}

/// What a load or store does, in the order in which it does it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Whether it stores.
    pub write: bool,
    /// The register that holds the base address.
    pub base: Register,
    /// How far from the base the first byte lies.
    pub displacement: i64,
    /// The register at the lower address.
    pub first: Transfer,
    /// The register right after it, for a pair.
    pub second: Option<Transfer>,
    /// What becomes of the base afterwards.
    pub writeback: Writeback,
}

/// What becomes of the base register.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writeback {
    /// It stays.
    Nothing,
    /// It moves by this many bytes.
    Add(i64),
}

impl Writeback {
    /// Returns the base's new value.
    pub const fn apply(self, base: u64) -> u64 {
        match self {
            Self::Nothing => base,
            Self::Add(offset) => base.wrapping_add_signed(offset),
        }
    }
}

/// The instruction is not a load or store that can be carried out for the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unsupported;

/// Decodes the A64 instruction `word`.
///
/// Exclusives, atomics, SIMD and floating-point transfers, tag stores and unprivileged accesses are
/// [`Unsupported`], and so are forms whose outcome the architecture leaves open.
pub fn decode_instruction(word: u32) -> Result<Plan, Unsupported> {
    const VECTOR: u32 = 1 << 26;
    if word & VECTOR != 0 {
        return Err(Unsupported);
    }
    let plan = match word >> 27 & 7 {
        0b101 => pair(word)?,
        0b111 => single(word)?,
        _ => return Err(Unsupported),
    };
    // A base that is also loaded, or stored after it moved, is CONSTRAINED UNPREDICTABLE.
    let clashes =
        |transfer: Transfer| transfer.register == plan.base && plan.base != Register::ZERO_OR_SP;
    let moves = plan.writeback != Writeback::Nothing;
    if moves && (clashes(plan.first) || plan.second.is_some_and(clashes)) {
        return Err(Unsupported);
    }
    Ok(plan)
}

fn single(word: u32) -> Result<Plan, Unsupported> {
    let width = Width::from_field(u64::from(word), 30);
    let (write, sign_extend, wide) = match (word >> 22 & 3, width) {
        (0, _) => (true, false, width == Width::Double),
        (1, _) => (false, false, width == Width::Double),
        (2, Width::Byte | Width::Half | Width::Word) => (false, true, true),
        (3, Width::Byte | Width::Half) => (false, true, false),
        _ => return Err(Unsupported),
    };
    let scaled = i64::from(word >> 10 & 0xfff) * width.bytes().cast_signed();
    let unscaled = signed(word >> 12, 9);
    let (displacement, writeback) = match (word >> 24 & 3, word >> 21 & 1, word >> 10 & 3) {
        (1, _, _) => (scaled, Writeback::Nothing),
        (0, 0, 0) => (unscaled, Writeback::Nothing),
        (0, 0, 1) => (0, Writeback::Add(unscaled)),
        (0, 0, 3) => (unscaled, Writeback::Add(unscaled)),
        _ => return Err(Unsupported),
    };
    Ok(Plan {
        write,
        base: field(word, 5),
        displacement,
        first: Transfer { register: field(word, 0), width, sign_extend, wide },
        second: None,
        writeback,
    })
}

fn pair(word: u32) -> Result<Plan, Unsupported> {
    let write = word >> 22 & 1 == 0;
    let (width, sign_extend, wide) = match (word >> 30, write) {
        (0, _) => (Width::Word, false, false),
        (1, false) => (Width::Word, true, true),
        (2, _) => (Width::Double, false, true),
        _ => return Err(Unsupported),
    };
    let offset = signed(word >> 15, 7) * width.bytes().cast_signed();
    let (displacement, writeback) = match word >> 23 & 7 {
        0 | 2 => (offset, Writeback::Nothing),
        1 => (0, Writeback::Add(offset)),
        3 => (offset, Writeback::Add(offset)),
        _ => return Err(Unsupported),
    };
    let (first, second) = (field(word, 0), field(word, 10));
    if !write && first == second {
        return Err(Unsupported);
    }
    let transfer = |register| Transfer { register, width, sign_extend, wide };
    Ok(Plan {
        write,
        base: field(word, 5),
        displacement,
        first: transfer(first),
        second: Some(transfer(second)),
        writeback,
    })
}

const fn field(word: u32, shift: u32) -> Register {
    Register::from_field(word as u64, shift)
}

/// Returns the low `bits` of `value` as a signed number.
const fn signed(value: u32, bits: u32) -> i64 {
    let unused = u32::BITS - bits;
    ((value << unused).cast_signed() >> unused) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(word: u32) -> Plan {
        decode_instruction(word).unwrap()
    }

    const X: fn(u8) -> Register = Register::new;

    #[test]
    fn indexed_loads_and_stores_move_their_base() {
        let ldr_w1_x2_post_4 = plan(0xb840_4441);
        assert_eq!(ldr_w1_x2_post_4.first.register, X(1));
        assert_eq!(ldr_w1_x2_post_4.first.width, Width::Word);
        assert_eq!(ldr_w1_x2_post_4.base, X(2));
        assert_eq!(ldr_w1_x2_post_4.displacement, 0);
        assert_eq!(ldr_w1_x2_post_4.writeback, Writeback::Add(4));
        assert!(!ldr_w1_x2_post_4.write);

        let str_x3_sp_pre_minus_16 = plan(0xf81f_0fe3);
        assert_eq!(str_x3_sp_pre_minus_16.base, Register::ZERO_OR_SP);
        assert_eq!(str_x3_sp_pre_minus_16.displacement, -16);
        assert_eq!(str_x3_sp_pre_minus_16.writeback, Writeback::Add(-16));
        assert_eq!(str_x3_sp_pre_minus_16.first.width, Width::Double);
        assert!(str_x3_sp_pre_minus_16.write);
    }

    #[test]
    fn sign_extension_goes_as_far_as_the_register() {
        let ldrsb_w0_x1_post_1 = plan(0x38c0_1420);
        let ldrsh_x0_x1_pre_2 = plan(0x7880_2c20);
        let ldrsw_x0_x1_post_4 = plan(0xb880_4420);
        let ldrb_w0_x1_post_1 = plan(0x3840_1420);
        let loaded = |plan: Plan, value| {
            let mut file = [u64::MAX; 31];
            plan.first.load(&mut file, value);
            file[0]
        };
        assert_eq!(loaded(ldrsb_w0_x1_post_1, 0x80), 0xffff_ff80);
        assert_eq!(loaded(ldrsb_w0_x1_post_1, 0xf7f), 0x7f);
        assert_eq!(loaded(ldrsh_x0_x1_pre_2, 0x8000), 0xffff_ffff_ffff_8000);
        assert_eq!(loaded(ldrsw_x0_x1_post_4, 0x8000_0000), 0xffff_ffff_8000_0000);
        assert_eq!(loaded(ldrb_w0_x1_post_1, 0x80), 0x80);
    }

    #[test]
    fn pairs_name_both_registers() {
        let ldp_x0_x1_x2_post_16 = plan(0xa8c1_0440);
        assert_eq!(ldp_x0_x1_x2_post_16.first.register, X(0));
        assert_eq!(ldp_x0_x1_x2_post_16.second.unwrap().register, X(1));
        assert_eq!(ldp_x0_x1_x2_post_16.writeback, Writeback::Add(16));
        let stp_w3_w4_x5_minus_8 = plan(0x293f_10a3);
        assert!(stp_w3_w4_x5_minus_8.write);
        assert_eq!(stp_w3_w4_x5_minus_8.displacement, -8);
        assert_eq!(stp_w3_w4_x5_minus_8.first.width, Width::Word);
        let ldpsw_x0_x1_x2 = plan(0x6940_0440);
        assert!(ldpsw_x0_x1_x2.first.sign_extend && ldpsw_x0_x1_x2.first.wide);
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        for word in [
            0x885f_7c20,                               // ldxr w0, [x1]
            0xb820_0020,                               // ldadd w0, w0, [x1]
            0x3cc0_1420,                               // ldr q0, [x1], #1
            0xb840_4421_u32.wrapping_sub(0x20) | 0x21, // ldr w1, [x1], #4
            0xa8c1_0040,                               // ldp x0, x0, [x2], #16
            0xb840_0820,                               // ldtr w0, [x1]
            0xf9a0_0020,                               // prfm
            0xd503_201f,                               // nop
            0x0000_0000,
            0xffff_ffff,
        ] {
            assert_eq!(decode_instruction(word), Err(Unsupported), "{word:#x}");
        }
    }

    #[test]
    fn a_store_takes_only_its_width() {
        let strb_w0_x1_post_1 = plan(0x3800_1420);
        let mut file = [0; 31];
        file[0] = 0x1234;
        assert_eq!(strb_w0_x1_post_1.first.store(&file), 0x34);
    }

    #[test]
    fn the_base_wraps_like_an_address() {
        assert_eq!(Writeback::Add(-16).apply(8), u64::MAX - 7);
        assert_eq!(Writeback::Nothing.apply(8), 8);
    }
}
