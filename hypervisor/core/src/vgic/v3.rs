//! What is particular to GICv3: affinities, the distributor's routers, `ICC_SGI1R_EL1`.

use super::dist::{Field, IIDR, MmioRead, Work, low_word};
use super::interrupt::BANK;
use super::{ListRegisters, Vgic};
use crate::exit::Width;
use crate::ids::{Irq, VcpuId};

/// `GICD_CTLR.EnableGrp1A`, as a non-secure guest sees it.
pub(super) const ENABLE_GROUP_1: u32 = 1 << 1;
const ENABLE_GROUP_1_LEGACY: u32 = 1 << 0;
const AFFINITY_ROUTING: u32 = 1 << 4;
/// GIC architecture 3.
pub(super) const PIDR2: u32 = 0x30;
/// The guest's interrupt numbers have ten bits.
const ID_BITS: u32 = 10;
/// "1 of N" routing is not offered.
const NO_ONE_OF_N: u32 = 1 << 25;
/// `GICD_IROUTER<n>`: Aff3 and Aff2 to Aff0.
const AFFINITY_BITS: u64 = 0xff_00ff_ffff;

impl Vgic {
    pub(super) fn read_distributor_v3(
        &mut self,
        reader: VcpuId,
        offset: u64,
        width: Width,
        registers: &mut impl ListRegisters,
    ) -> MmioRead {
        match (offset, width) {
            (0x0, Width::Word) => MmioRead::Value((self.control | AFFINITY_ROUTING).into()),
            (0x4, Width::Word) => MmioRead::Value(self.typer().into()),
            (0x8, Width::Word) => MmioRead::Value(IIDR.into()),
            (0xffe8, Width::Word) => MmioRead::Value(PIDR2.into()),
            _ => self.read_interrupts_v3(reader, offset, width, registers),
        }
    }

    /// Reads what the distributor has for each interrupt: a function of its own, whose registers the others need not save.
    #[inline(never)]
    fn read_interrupts_v3(
        &mut self,
        reader: VcpuId,
        offset: u64,
        width: Width,
        registers: &mut impl ListRegisters,
    ) -> MmioRead {
        if let Some(field) = Field::decode(offset, width) {
            // With affinity routing a vCPU's own interrupts are in its redistributor only.
            if field.is_private() {
                return MmioRead::Value(0);
            }
            return self.read_field(reader, reader, field, width, registers);
        }
        MmioRead::Value(self.read_router(offset, width))
    }

    pub(super) fn write_distributor_v3(
        &mut self,
        writer: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
        registers: &mut impl ListRegisters,
    ) -> Work {
        if let Some(field) = Field::decode(offset, width) {
            if field.is_private() {
                return Work::default();
            }
            return self.write_field(writer, writer, field, width, value, registers);
        }
        match (offset, width) {
            (0x0, Width::Word) => {
                let control = low_word(value) & (ENABLE_GROUP_1 | ENABLE_GROUP_1_LEGACY);
                self.write_control(writer, control, registers).into()
            }
            _ => self.write_router(writer, offset, width, value, registers),
        }
    }

    fn typer(&self) -> u32 {
        let lines = u32::try_from(self.shared.len()).unwrap_or(31);
        let legacy_cpus = (self.vcpus() - 1).min(7);
        NO_ONE_OF_N | (ID_BITS - 1) << 19 | legacy_cpus << 5 | lines
    }

    fn read_router(&self, offset: u64, width: Width) -> u64 {
        let Some((bank, index)) = router(offset, width) else { return 0 };
        let Some(state) = self.bank(VcpuId(0), bank) else { return 0 };
        match (width, offset & 4) {
            (Width::Double, _) | (_, 0) => affinity(state.target(index)),
            // The upper half: Aff3, which no vCPU has.
            _ => 0,
        }
    }

    fn write_router(
        &mut self,
        writer: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
        registers: &mut impl ListRegisters,
    ) -> Work {
        let Some((bank, index)) = router(offset, width) else { return Work::default() };
        let value = match (width, offset & 4) {
            (Width::Double, _) => value,
            (_, 0) => value & Width::Word.mask(),
            _ => return Work::default(),
        };
        // A target that does not exist leaves the old one, as on Xen.
        let target = vcpu_with_affinity(value & AFFINITY_BITS, self.vcpus());
        let Some(target) = target else { return Work::default() };
        let moved = self.fold(writer, registers);
        let mut work = self.retarget(bank, index, target);
        work.kick = work.kick.and(moved);
        work
    }
}

/// Returns the bank and index of the interrupt whose `GICD_IROUTER` is at `offset`.
fn router(offset: u64, width: Width) -> Option<(usize, u32)> {
    if !matches!(width, Width::Word | Width::Double) {
        return None;
    }
    let number = u32::try_from(offset.checked_sub(0x6000)? / 8).ok()?;
    let irq = Irq::new(number).filter(|irq| !irq.is_private())?;
    Some(((irq.intid() / BANK) as usize, irq.intid() % BANK))
}

/// Returns a vCPU's affinity as `MPIDR_EL1` has it: 16 to a cluster, as on Xen.
pub const fn affinity(vcpu: VcpuId) -> u64 {
    ((vcpu.0 & 0xf) | (vcpu.0 >> 4) << 8) as u64
}

/// Finds the vCPU of a domain of `vcpus` that has this affinity (Aff3 in bits 39–32, then 23–0).
pub fn vcpu_with_affinity(affinity: u64, vcpus: u32) -> Option<VcpuId> {
    let aff0 = affinity & 0xff;
    let cluster = affinity >> 8;
    if aff0 > 0xf || cluster > 0xff {
        return None;
    }
    let number = u32::try_from(cluster << 4 | aff0).ok()?;
    (number < vcpus).then_some(VcpuId(number))
}

/// A request for a software-generated interrupt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SgiRequest {
    /// The interrupt, 0–15.
    pub irq: Irq,
    /// Who is to get it.
    pub targets: SgiTargets,
}

/// Who is to get a software-generated interrupt. vCPUs that do not exist are left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SgiTargets {
    /// vCPU `base + n` for each bit `n` of `mask`.
    List {
        /// The first vCPU the mask speaks of.
        base: u32,
        /// A bit for each.
        mask: u16,
    },
    /// All but the sender.
    Others,
}

impl SgiRequest {
    /// Says whether it is for `vcpu` alone, by name.
    #[inline]
    pub const fn is_only_for(&self, vcpu: VcpuId) -> bool {
        match self.targets {
            SgiTargets::List { base, mask } => {
                let bit = vcpu.0.wrapping_sub(base);
                bit < u16::BITS && mask == 1 << bit
            }
            SgiTargets::Others => false,
        }
    }

    /// Decodes a write to `ICC_SGI1R_EL1`, or one of its siblings: GICv3 architecture 12.2.
    pub fn decode(value: u64) -> Self {
        let irq = Irq::sgi(u32::from((value >> 24).to_le_bytes()[0] & 0xf));
        if value >> 40 & 1 != 0 {
            return Self { irq, targets: SgiTargets::Others };
        }
        let bytes = value.to_le_bytes();
        let [low, high, cluster, _, aff2, range, aff3, _] = bytes;
        // Bits 47–44 select a range of Aff0 past 15, and Aff2 and Aff3 are 0 in every vCPU.
        let exists = aff2 == 0 && aff3 == 0 && range >> 4 == 0;
        let mask = if exists { u16::from_le_bytes([low, high]) } else { 0 };
        Self { irq, targets: SgiTargets::List { base: u32::from(cluster) << 4, mask } }
    }
}
