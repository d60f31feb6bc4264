//! A vCPU's redistributor: its control frame, and the registers of its SGIs and PPIs.
//!
//! Offsets: GICv3 architecture (IHI 0069) 12.11, "The GIC Redistributor register map". There are no LPIs, so
//! that `GICR_CTLR` and the tables' registers read as zero, and a redistributor is always awake.

use super::dist::{Field, IIDR, MmioRead, Work};
use super::v3::PIDR2;
use super::{ListRegisters, Vgic, affinity};
use crate::exit::Width;
use crate::ids::VcpuId;

/// The second frame starts here.
const SGI_FRAME: u64 = 0x1_0000;
const LAST: u64 = 1 << 4;

impl Vgic {
    pub(super) fn read_redistributor(
        &mut self,
        reader: VcpuId,
        owner: VcpuId,
        offset: u64,
        width: Width,
        registers: &mut impl ListRegisters,
    ) -> MmioRead {
        if let Some(offset) = offset.checked_sub(SGI_FRAME) {
            return match Field::decode(offset, width).filter(|field| field.is_private()) {
                Some(field) => self.read_field(reader, owner, field, width, registers),
                None => MmioRead::Value(0),
            };
        }
        MmioRead::Value(match (offset, width) {
            (0x4, Width::Word) => IIDR.into(),
            (0x8, Width::Double) => self.redistributor_type(owner),
            (0x8, Width::Word) => self.redistributor_type(owner) & Width::Word.mask(),
            (0xc, Width::Word) => self.redistributor_type(owner) >> 32,
            (0xffe8, Width::Word) => PIDR2.into(),
            _ => 0,
        })
    }

    pub(super) fn write_redistributor(
        &mut self,
        writer: VcpuId,
        owner: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
        registers: &mut impl ListRegisters,
    ) -> Work {
        let field = offset
            .checked_sub(SGI_FRAME)
            .and_then(|offset| Field::decode(offset, width))
            .filter(|field| field.is_private());
        match field {
            Some(field) => self.write_field(writer, owner, field, width, value, registers),
            None => Work::default(),
        }
    }

    /// `GICR_TYPER`: affinity, number, and whether it is the last of its region.
    fn redistributor_type(&self, owner: VcpuId) -> u64 {
        let last = if self.layout.is_last(owner, self.vcpus()) { LAST } else { 0 };
        affinity(owner) << 32 | u64::from(owner.0) << 8 | last
    }
}
