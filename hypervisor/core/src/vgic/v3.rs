//! What is particular to GICv3: where the frames are, affinities, `ICC_SGI1R_EL1`.

use super::dist::{MmioRead, Work};
use super::{ListRegisters, Vgic};
use crate::addr::GuestAddr;
use crate::exit::Width;
use crate::ids::{Irq, VcpuId};
use arrayvec::ArrayVec;

/// Bytes of the distributor's frame.
const DISTRIBUTOR_SIZE: u64 = 0x1_0000;
/// Bytes of one vCPU's two redistributor frames.
const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// The most regions of redistributors a machine is taken to have.
const MAX_REGIONS: usize = 8;

/// Where the guest sees its interrupt controller.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The distributor.
    pub distributor: GuestAddr,
    /// The redistributors, in the order of the vCPUs.
    pub redistributors: ArrayVec<RedistributorRegion, MAX_REGIONS>,
}

/// Adjoining redistributors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RedistributorRegion {
    /// The first frame.
    pub base: GuestAddr,
    /// How many vCPUs' redistributors fit in.
    pub vcpus: u32,
}

/// A register's place in the interrupt controller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Location {
    /// In the distributor.
    Distributor {
        /// Bytes from its start.
        offset: u64,
    },
    /// In a vCPU's redistributor.
    Redistributor {
        /// Whose.
        owner: VcpuId,
        /// Bytes from its start.
        offset: u64,
    },
}

impl Layout {
    /// Finds the register at `address`; nothing if the interrupt controller does not answer there.
    fn locate(&self, address: GuestAddr, vcpus: u32) -> Option<Location> {
        let offset = address.raw().wrapping_sub(self.distributor.raw());
        if offset < DISTRIBUTOR_SIZE {
            return Some(Location::Distributor { offset });
        }
        let mut first = 0;
        for region in &self.redistributors {
            let offset = address.raw().wrapping_sub(region.base.raw());
            let number = u32::try_from(offset / REDISTRIBUTOR_SIZE).unwrap_or(u32::MAX);
            if number < region.vcpus {
                let owner = VcpuId(first + number);
                let offset = offset % REDISTRIBUTOR_SIZE;
                return (owner.0 < vcpus).then_some(Location::Redistributor { owner, offset });
            }
            first += region.vcpus;
        }
        None
    }

    /// Says whether `vcpu` has the last redistributor in its region.
    pub(super) fn is_last(&self, vcpu: VcpuId, vcpus: u32) -> bool {
        let ends = self.redistributors.iter().scan(0, |end, region| {
            *end += region.vcpus;
            Some(*end)
        });
        vcpu.0 + 1 == vcpus || ends.into_iter().any(|end| end == vcpu.0 + 1)
    }
}

impl Vgic {
    /// Finds the register at a guest physical address; nothing if it is not the controller's.
    pub fn locate(&self, address: GuestAddr) -> Option<Location> {
        self.layout.locate(address, self.vcpus())
    }

    /// Reads a register for `reader`, whose list registers `registers` are.
    ///
    /// Registers that do not exist, and widths that a register does not allow, read as zero.
    pub fn read(
        &mut self,
        reader: VcpuId,
        location: Location,
        width: Width,
        registers: &mut impl ListRegisters,
    ) -> MmioRead {
        match location {
            Location::Distributor { offset } if is_aligned(offset, width) => {
                self.read_distributor(reader, offset, width, registers)
            }
            Location::Redistributor { owner, offset } if is_aligned(offset, width) => {
                self.read_redistributor(reader, owner, offset, width, registers)
            }
            _ => MmioRead::Value(0),
        }
    }

    /// Writes a register for `writer`, whose list registers `registers` are.
    ///
    /// Registers that do not exist, and widths that a register does not allow, ignore it.
    pub fn write(
        &mut self,
        writer: VcpuId,
        location: Location,
        width: Width,
        value: u64,
        registers: &mut impl ListRegisters,
    ) -> Work {
        match location {
            Location::Distributor { offset } if is_aligned(offset, width) => {
                self.write_distributor(writer, offset, width, value, registers)
            }
            Location::Redistributor { owner, offset } if is_aligned(offset, width) => {
                self.write_redistributor(writer, owner, offset, width, value, registers)
            }
            _ => Work::default(),
        }
    }
}

const fn is_aligned(offset: u64, width: Width) -> bool {
    offset & (width.bytes() - 1) == 0
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
