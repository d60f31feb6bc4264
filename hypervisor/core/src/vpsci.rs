//! Power calls and what else a guest asks of its firmware.
//!
//! Functions: Arm PSCI 1.1 (DEN 0022), SMC calling convention 1.2 (DEN 0028), and the identification that
//! Xen's `public/arch-arm/smccc.h` gives. Guests reach them by `HVC #0` and by `SMC #0` alike.

use crate::ids::VcpuId;
use crate::vgic::vcpu_with_affinity;

/// What a call asks of the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the guest waits for its answer"]
pub enum PsciAction {
    /// Nothing but an answer in x0.
    Answer(u64),
    /// Nothing but an answer in x0 to x3.
    Answers([u64; 4]),
    /// Wait for an interrupt, as WFI does; x0 is 0 afterwards.
    Suspend,
    /// Turn the calling vCPU off.
    Off,
    /// Turn a vCPU on that is off: MMU off, x0 = `context`. The answer is [`SUCCESS`], or
    /// [`ALREADY_ON`] if another was faster.
    On {
        /// Which.
        vcpu: VcpuId,
        /// Where it starts: a guest physical address.
        entry: u64,
        /// Its first argument.
        context: u64,
    },
    /// Shut the domain down: power off.
    SystemOff,
    /// Shut the domain down: restart.
    SystemReset,
}

/// It is done.
pub const SUCCESS: u64 = 0;
/// There is no such function.
pub const NOT_SUPPORTED: u64 = (-1_i64).cast_unsigned();
/// An argument makes no sense.
pub const INVALID_PARAMETERS: u64 = (-2_i64).cast_unsigned();
/// The vCPU is on.
pub const ALREADY_ON: u64 = (-4_i64).cast_unsigned();
/// It cannot start there.
pub const INVALID_ADDRESS: u64 = (-9_i64).cast_unsigned();

const PSCI_1_1: u64 = 0x0001_0001;
const SMCCC_1_2: u64 = 0x0001_0002;
const NO_TRUSTED_OS: u64 = 2;
/// The convention bit: arguments have 64 bits.
const WIDE: u32 = 1 << 30;

const CPU_OFF_0_1: u32 = 1;
const CPU_ON_0_1: u32 = 2;
const VERSION: u32 = 0x8400_0000;
const CPU_SUSPEND: u32 = 0x8400_0001;
const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON: u32 = 0x8400_0003;
const AFFINITY_INFO: u32 = 0x8400_0004;
const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;
const PSCI_FEATURES: u32 = 0x8400_000a;
const SMCCC_VERSION: u32 = 0x8000_0000;
const ARCH_FEATURES: u32 = 0x8000_0001;
const WORKAROUND_1: u32 = 0x8000_8000;
const WORKAROUND_2: u32 = 0x8000_7fff;
const WORKAROUND_3: u32 = 0x8000_3fff;
const STANDARD_COUNT: u32 = 0x8400_ff00;
const STANDARD_UID: u32 = 0x8400_ff01;
const STANDARD_REVISION: u32 = 0x8400_ff03;
const HYPERVISOR_COUNT: u32 = 0x8600_ff00;
const HYPERVISOR_UID: u32 = 0x8600_ff01;
const HYPERVISOR_REVISION: u32 = 0x8600_ff03;

/// a71812dc-c698-4369-9acf-79d18ddee667, Xen's.
const XEN: [u64; 4] = [0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d];
/// f863386f-4b39-4cbd-9220-ce1641e59f6f.
const STANDARD: [u64; 4] = [0x6f38_63f8, 0xbd4c_394b, 0x16ce_2092, 0x6f9f_e541];

/// Whether a vCPU's processor is protected against attacks on speculation when it enters the hypervisor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mitigations {
    /// Branch target injection (`SMCCC_ARCH_WORKAROUND_1`).
    pub branch_target: bool,
    /// Speculative store bypass: not needed, or always on (`SMCCC_ARCH_WORKAROUND_2`).
    pub store_bypass: bool,
    /// Branch history injection (`SMCCC_ARCH_WORKAROUND_3`).
    pub branch_history: bool,
}

/// Decides a call with x0 to x3 = `registers`, by a guest of `vcpus` of which `is_on` says which are on.
pub fn decide(
    registers: [u64; 4],
    vcpus: u32,
    is_on: impl Fn(VcpuId) -> bool,
    mitigations: Mitigations,
) -> PsciAction {
    let function = low_word(registers[0]);
    let narrow = [registers[1], registers[2], registers[3]].map(|value| low_word(value).into());
    let wide = [registers[1], registers[2], registers[3]];
    let is_wide = function & WIDE != 0;
    let [first, second, third] = if is_wide { wide } else { narrow };
    // Only these exist with 64-bit arguments.
    let base = match function & !WIDE {
        base @ (CPU_SUSPEND | CPU_ON | AFFINITY_INFO) => base,
        _ => function,
    };
    PsciAction::Answer(match base {
        VERSION => PSCI_1_1,
        CPU_SUSPEND => return PsciAction::Suspend,
        CPU_OFF | CPU_OFF_0_1 => return PsciAction::Off,
        CPU_ON | CPU_ON_0_1 => return turn_on(first, second, third, vcpus, is_on),
        AFFINITY_INFO => affinity_info(first, second, vcpus, is_on),
        MIGRATE_INFO_TYPE => NO_TRUSTED_OS,
        SYSTEM_OFF => return PsciAction::SystemOff,
        SYSTEM_RESET => return PsciAction::SystemReset,
        PSCI_FEATURES => feature(low_word(first)),
        SMCCC_VERSION => SMCCC_1_2,
        ARCH_FEATURES => architecture_feature(low_word(first), mitigations),
        WORKAROUND_1 | WORKAROUND_2 | WORKAROUND_3 => SUCCESS,
        STANDARD_COUNT => 14,
        STANDARD_UID => return PsciAction::Answers(STANDARD),
        HYPERVISOR_COUNT => 3,
        HYPERVISOR_UID => return PsciAction::Answers(XEN),
        STANDARD_REVISION | HYPERVISOR_REVISION => return PsciAction::Answers([0, 1, 0, 0]),
        _ => NOT_SUPPORTED,
    })
}

fn turn_on(
    affinity: u64,
    entry: u64,
    context: u64,
    vcpus: u32,
    is_on: impl Fn(VcpuId) -> bool,
) -> PsciAction {
    const INSTRUCTION_BYTES: u64 = 4;
    let Some(vcpu) = vcpu_with_affinity(affinity, vcpus) else {
        return PsciAction::Answer(INVALID_PARAMETERS);
    };
    if !entry.is_multiple_of(INSTRUCTION_BYTES) {
        return PsciAction::Answer(INVALID_ADDRESS);
    }
    if is_on(vcpu) {
        return PsciAction::Answer(ALREADY_ON);
    }
    PsciAction::On { vcpu, entry, context }
}

/// Says whether a vCPU, or any whose affinity agrees from `level` upwards, is on: 0, or 1 if not.
fn affinity_info(affinity: u64, level: u64, vcpus: u32, is_on: impl Fn(VcpuId) -> bool) -> u64 {
    const OFF: u64 = 1;
    let mask: u64 = match level {
        0 => 0xff_00ff_ffff,
        1 => 0xff_00ff_ff00,
        2 => 0xff_00ff_0000,
        3 => 0xff_0000_0000,
        _ => return INVALID_PARAMETERS,
    };
    let meant = |vcpu: &VcpuId| (crate::vgic::affinity(*vcpu) ^ affinity) & mask == 0;
    let mut known = (0..vcpus).map(VcpuId).filter(meant).peekable();
    if known.peek().is_none() {
        return INVALID_PARAMETERS;
    }
    if known.any(is_on) { SUCCESS } else { OFF }
}

fn feature(function: u32) -> u64 {
    match function {
        VERSION | CPU_SUSPEND | CPU_OFF | CPU_ON | AFFINITY_INFO | MIGRATE_INFO_TYPE
        | SYSTEM_OFF | SYSTEM_RESET | PSCI_FEATURES | SMCCC_VERSION => SUCCESS,
        wide if matches!(wide & !WIDE, CPU_SUSPEND | CPU_ON | AFFINITY_INFO) => SUCCESS,
        _ => NOT_SUPPORTED,
    }
}

fn architecture_feature(function: u32, mitigations: Mitigations) -> u64 {
    const NOT_REQUIRED: u64 = (-2_i64).cast_unsigned();
    match function {
        SMCCC_VERSION | ARCH_FEATURES => SUCCESS,
        WORKAROUND_1 if mitigations.branch_target => SUCCESS,
        WORKAROUND_2 if mitigations.store_bypass => NOT_REQUIRED,
        WORKAROUND_3 if mitigations.branch_history => SUCCESS,
        _ => NOT_SUPPORTED,
    }
}

fn low_word(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use PsciAction::{Answer, Answers};

    /// A guest of 20, of which vCPU 0 and 16 are on.
    fn call(registers: [u64; 4]) -> PsciAction {
        let is_on = |vcpu: VcpuId| vcpu.0.is_multiple_of(16);
        decide(registers, 20, is_on, Mitigations::default())
    }

    #[test]
    fn versions_are_those_of_xen_4_20() {
        assert_eq!(call([0x8400_0000, 0, 0, 0]), Answer(0x1_0001));
        assert_eq!(call([0x8000_0000, 0, 0, 0]), Answer(0x1_0002));
        assert_eq!(call([0x8400_0006, 0, 0, 0]), Answer(2));
        let uid = [0xdc12_18a7, 0x6943_98c6, 0xd179_cf9a, 0x67e6_de8d];
        assert_eq!(call([0x8600_ff01, 0, 0, 0]), Answers(uid));
        assert_eq!(call([0x8600_ff03, 0, 0, 0]), Answers([0, 1, 0, 0]));
    }

    #[test]
    fn cpu_on_checks_target_address_and_state_in_this_order() {
        let on = |target, entry| call([0xc400_0003, target, entry, 0x1_2345_6789]);
        let expected =
            PsciAction::On { vcpu: VcpuId(17), entry: 0x1_4000_0000, context: 0x1_2345_6789 };
        assert_eq!(on(0x101, 0x1_4000_0000), expected);
        assert_eq!(on(0x100, 0x4000_0000), Answer(ALREADY_ON));
        assert_eq!(on(0x104, 0x4000_0000), Answer(INVALID_PARAMETERS));
        assert_eq!(on(0x10, 0x4000_0000), Answer(INVALID_PARAMETERS));
        assert_eq!(on(1, 0x4000_0001), Answer(INVALID_ADDRESS));
        let narrow = call([0x8400_0003, 1, 0x1_4000_0000, 0x1_0000_0007]);
        assert_eq!(narrow, PsciAction::On { vcpu: VcpuId(1), entry: 0x4000_0000, context: 7 });
    }

    #[test]
    fn affinity_info_looks_at_a_processor_or_a_cluster() {
        let info = |affinity, level| call([0xc400_0004, affinity, level, 0]);
        assert_eq!(info(0x100, 0), Answer(0));
        assert_eq!(info(0x101, 0), Answer(1));
        assert_eq!(info(0x103, 1), Answer(0));
        assert_eq!(info(0x200, 1), Answer(INVALID_PARAMETERS));
        assert_eq!(info(0, 4), Answer(INVALID_PARAMETERS));
    }

    #[test]
    fn features_name_what_there_is() {
        for function in [0x8400_0001, 0xc400_0001, 0xc400_0003, 0x8400_000a, 0x8000_0000] {
            assert_eq!(call([0x8400_000a, function, 0, 0]), Answer(SUCCESS));
        }
        for function in [0x8400_000e, 0xc400_0000, 0xc400_0002, 0x8400_0012, 0] {
            assert_eq!(call([0x8400_000a, function, 0, 0]), Answer(NOT_SUPPORTED));
        }
    }

    #[test]
    fn mitigations_are_claimed_only_when_there() {
        let ask =
            |function, mitigations| decide([0x8000_0001, function, 0, 0], 1, |_| true, mitigations);
        let all = Mitigations { branch_target: true, store_bypass: true, branch_history: true };
        assert_eq!(ask(0x8000_8000, Mitigations::default()), Answer(NOT_SUPPORTED));
        assert_eq!(ask(0x8000_8000, all), Answer(SUCCESS));
        assert_eq!(ask(0x8000_7fff, all), Answer((-2_i64).cast_unsigned()));
        assert_eq!(ask(0x8000_3fff, all), Answer(SUCCESS));
        assert_eq!(ask(0x8000_0000, Mitigations::default()), Answer(SUCCESS));
    }

    #[test]
    fn unknown_functions_are_not_supported() {
        for function in [0, 3, 0x8400_0050, 0xc500_0020, 0xc400_0008, 0xffff_ffff] {
            assert_eq!(call([function, 0, 0, 0]), Answer(u64::MAX), "{function:#x}");
        }
        assert_eq!(call([1, 0, 0, 0]), PsciAction::Off);
        assert_eq!(call([0x8400_0008, 0, 0, 0]), PsciAction::SystemOff);
        assert_eq!(call([0x8400_0009, 0, 0, 0]), PsciAction::SystemReset);
        assert_eq!(call([0xc400_0001, 0, 0, 0]), PsciAction::Suspend);
    }
}
