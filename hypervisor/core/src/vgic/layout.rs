//! Where a guest sees its interrupt controller, and which register an address is.

use super::dist::{MmioRead, Work};
use super::{ListRegisters, MAX_VCPUS, Vgic};
use crate::addr::GuestAddr;
use crate::exit::Width;
use crate::ids::VcpuId;
use arrayvec::ArrayVec;

/// Bytes of a GICv2's distributor.
const DISTRIBUTOR_SIZE_V2: u64 = 0x1000;
/// Bytes of a GICv3's distributor.
const DISTRIBUTOR_SIZE_V3: u64 = 0x1_0000;
/// Bytes of one vCPU's two redistributor frames.
const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// The most regions of redistributors a machine is taken to have.
const MAX_REGIONS: usize = 8;
/// Bytes of a GICv2's processor interface.
pub const INTERFACE_SIZE: u64 = 0x2000;
/// The most vCPUs that a GICv2's registers can name (`GICD_ITARGETSR`).
pub const MAX_VCPUS_V2: u32 = 8;

/// Where the guest sees its interrupt controller, and so which version it is.
#[derive(Clone, Debug)]
pub enum Layout {
    /// A GICv2.
    V2 {
        /// The distributor.
        distributor: GuestAddr,
        /// The processor interface, which does not trap: whoever makes the guest maps the host's virtual one
        /// there, [`INTERFACE_SIZE`] bytes.
        interface: GuestAddr,
    },
    /// A GICv3.
    V3 {
        /// The distributor.
        distributor: GuestAddr,
        /// The redistributors, in the order of the vCPUs.
        redistributors: ArrayVec<RedistributorRegion, MAX_REGIONS>,
    },
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
    /// Returns how many vCPUs such a controller can serve.
    pub const fn max_vcpus(&self) -> u32 {
        match self {
            Self::V2 { .. } => MAX_VCPUS_V2,
            Self::V3 { .. } => MAX_VCPUS,
        }
    }

    /// Finds the register at `address`; nothing if the interrupt controller does not answer there.
    fn locate(&self, address: GuestAddr, vcpus: u32) -> Option<Location> {
        match self {
            Self::V2 { distributor, .. } => {
                let offset = address.raw().wrapping_sub(distributor.raw());
                (offset < DISTRIBUTOR_SIZE_V2).then_some(Location::Distributor { offset })
            }
            Self::V3 { distributor, redistributors } => {
                let offset = address.raw().wrapping_sub(distributor.raw());
                if offset < DISTRIBUTOR_SIZE_V3 {
                    return Some(Location::Distributor { offset });
                }
                locate_redistributor(redistributors, address, vcpus)
            }
        }
    }

    /// Says whether `vcpu` has the last redistributor in its region.
    pub(super) fn is_last(&self, vcpu: VcpuId, vcpus: u32) -> bool {
        let Self::V3 { redistributors, .. } = self else { return false };
        let ends = redistributors.iter().scan(0, |end, region| {
            *end += region.vcpus;
            Some(*end)
        });
        vcpu.0 + 1 == vcpus || ends.into_iter().any(|end| end == vcpu.0 + 1)
    }
}

fn locate_redistributor(
    regions: &[RedistributorRegion],
    address: GuestAddr,
    vcpus: u32,
) -> Option<Location> {
    let mut first = 0;
    for region in regions {
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
            Location::Distributor { offset } if is_aligned(offset, width) => match self.layout {
                Layout::V2 { .. } => self.read_distributor_v2(reader, offset, width, registers),
                Layout::V3 { .. } => self.read_distributor_v3(reader, offset, width, registers),
            },
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
            Location::Distributor { offset } if is_aligned(offset, width) => match self.layout {
                Layout::V2 { .. } => {
                    self.write_distributor_v2(writer, offset, width, value, registers)
                }
                Layout::V3 { .. } => {
                    self.write_distributor_v3(writer, offset, width, value, registers)
                }
            },
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
