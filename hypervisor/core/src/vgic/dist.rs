//! Registers that speak of single interrupts, which GICv2's distributor, GICv3's and its redistributors have
//! in common.
//!
//! Offsets and behaviour: GICv3 architecture (IHI 0069) 12.9, "The GIC Distributor register map". A guest
//! is in the non-secure state of a controller with two security states: all its interrupts are group 1, and
//! the group registers read as zero, as on Xen.

use super::interrupt::{BANK, Bank, SGIS};
use super::{HardwareWork, Kick, ListRegisters, Route, Vgic};
use crate::bits::ones;
use crate::exit::Width;
use crate::ids::{Irq, VcpuId};

/// What a guest's read of a register gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the guest waits for the value"]
pub enum MmioRead {
    /// The value.
    Value(u64),
    /// The truth is in the list registers of vCPUs that run elsewhere. Kick them, and let the guest run the
    /// instruction again: its PC stays.
    Again(Kick),
}

/// What a guest's write to a register asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "the write has no effect until this is carried out"]
pub struct Work {
    /// Whom to wake or kick.
    pub kick: Kick,
    /// What to do at the physical controller.
    pub hardware: HardwareWork,
}

impl From<Kick> for Work {
    fn from(kick: Kick) -> Self {
        Self { kick, hardware: HardwareWork::NOTHING }
    }
}

/// Implementer: Arm.
pub(super) const IIDR: u32 = 0x43b;
/// Implemented bits of a priority: 32 levels.
const PRIORITY_MASK: u8 = 0xf8;
/// A register, or a part of one, that speaks of single interrupts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Field {
    kind: Kind,
    /// The first interrupt it speaks of.
    first: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
    Priority,
    Config,
}

impl Field {
    /// Decodes an offset in the distributor, or in a redistributor's SGI frame, that is a multiple of
    /// `width`. Any other register is nothing.
    pub(super) fn decode(offset: u64, width: Width) -> Option<Self> {
        let offset = u32::try_from(offset).ok()?;
        let word = width == Width::Word;
        let (kind, per_byte, within) = match offset {
            0x100..0x180 if word => (Kind::SetEnable, 8, offset - 0x100),
            0x180..0x200 if word => (Kind::ClearEnable, 8, offset - 0x180),
            0x200..0x280 if word => (Kind::SetPending, 8, offset - 0x200),
            0x280..0x300 if word => (Kind::ClearPending, 8, offset - 0x280),
            0x300..0x380 if word => (Kind::SetActive, 8, offset - 0x300),
            0x380..0x400 if word => (Kind::ClearActive, 8, offset - 0x380),
            0x400..0x800 if width != Width::Double => (Kind::Priority, 1, offset - 0x400),
            0xc00..0xd00 if word => (Kind::Config, 4, offset - 0xc00),
            _ => return None,
        };
        Some(Self { kind, first: within * per_byte })
    }

    /// Says whether it makes interrupts pending, or no longer so.
    pub(super) const fn is_pending(self) -> bool {
        matches!(self.kind, Kind::SetPending | Kind::ClearPending)
    }

    /// Says whether it belongs to SGIs and PPIs.
    pub(super) const fn is_private(self) -> bool {
        self.first < BANK
    }

    const fn bank(self) -> usize {
        (self.first / BANK) as usize
    }
}

impl Vgic {
    /// Sets `GICD_CTLR`, of which `self.switch` lets interrupts through.
    pub(super) fn write_control(
        &mut self,
        writer: VcpuId,
        control: u32,
        registers: &mut impl ListRegisters,
    ) -> Kick {
        if (self.control ^ control) & self.switch == 0 {
            self.control = control;
            return Kick::Nobody;
        }
        let mut kick = self.fold(writer, registers);
        self.control = control;
        for vcpu in (0..self.vcpus()).map(VcpuId) {
            let private = self.bank(vcpu, 0).map_or(0, Bank::wanted);
            kick = kick.and(self.withdraw(vcpu, 0, u32::MAX));
            kick = kick.and(self.requeue_all(vcpu, 0, private));
        }
        for bank in 1..=self.shared.len() {
            let shared = self.bank(writer, bank).map_or(0, Bank::wanted);
            kick = kick.and(self.withdraw(writer, bank, u32::MAX));
            kick = kick.and(self.requeue_all(writer, bank, shared));
        }
        kick
    }

    pub(super) fn read_field(
        &mut self,
        reader: VcpuId,
        owner: VcpuId,
        field: Field,
        width: Width,
        registers: &mut impl ListRegisters,
    ) -> MmioRead {
        let bank = field.bank();
        let known = match field.kind {
            Kind::SetPending | Kind::ClearPending | Kind::SetActive | Kind::ClearActive => {
                self.see_truth(reader, owner, bank, registers)
            }
            _ => Ok(Kick::Nobody),
        };
        let kick = match known {
            Ok(kick) => kick,
            Err(kick) => return MmioRead::Again(kick),
        };
        // Taking the reader's own interrupts back may have moved some to other vCPUs: they are told, and the
        // register is read once more.
        if kick != Kick::Nobody {
            return MmioRead::Again(kick);
        }
        let Some(state) = self.bank(owner, bank) else { return MmioRead::Value(0) };
        let word = match field.kind {
            Kind::SetEnable | Kind::ClearEnable => state.enabled,
            Kind::SetPending | Kind::ClearPending => state.pending() | state.offered,
            Kind::SetActive | Kind::ClearActive => state.active,
            Kind::Config => {
                let half = state.edge >> (field.first % BANK) & 0xffff;
                ones(half).fold(0, |word, index| word | 2 << (2 * index))
            }
            Kind::Priority => (0..width_bytes(width)).fold(0, |word, byte| {
                let priority = u32::from(state.priority(field.first % BANK + byte));
                word | priority << (8 * byte)
            }),
        };
        MmioRead::Value(word.into())
    }

    pub(super) fn write_field(
        &mut self,
        writer: VcpuId,
        owner: VcpuId,
        field: Field,
        width: Width,
        value: u64,
        registers: &mut impl ListRegisters,
    ) -> Work {
        let moved = match field.kind {
            Kind::SetEnable | Kind::Priority | Kind::Config => Kick::Nobody,
            _ => self.fold(writer, registers),
        };
        let bank = field.bank();
        let value = match field.kind {
            Kind::Priority | Kind::Config => low_word(value),
            _ => low_word(value) & existing(bank),
        };
        let mut work = match field.kind {
            Kind::SetEnable => self.enable(owner, bank, value),
            Kind::ClearEnable => self.disable(owner, bank, value),
            Kind::SetPending => self.set_pending(owner, bank, value),
            Kind::ClearPending => self.clear_pending(writer, owner, bank, value, registers),
            Kind::SetActive => self.set_active(owner, bank, value),
            Kind::ClearActive => self.clear_active(writer, owner, bank, value, registers),
            Kind::Priority => self.set_priorities(owner, field, width, value),
            Kind::Config => self.configure(owner, field, value),
        };
        work.kick = work.kick.and(moved);
        work
    }

    /// Makes sure that the pending and active state of a bank is what it is now; if it cannot be, says whom
    /// to kick before it can.
    pub(super) fn see_truth(
        &mut self,
        reader: VcpuId,
        owner: VcpuId,
        bank: usize,
        registers: &mut impl ListRegisters,
    ) -> Result<Kick, Kick> {
        let resident = self.bank(owner, bank).map_or(0, |state| state.resident);
        if resident == 0 {
            if let Some(interface) = self.interfaces.get_mut(reader.index()) {
                interface.asked_at = 0;
            }
            return Ok(Kick::Nobody);
        }
        let moved = self.fold(reader, registers);
        let asked_at = self.interfaces.get(reader.index()).map_or(0, |mine| mine.asked_at);
        let mut stale = Kick::Nobody;
        if let Some(state) = self.bank(owner, bank) {
            for index in ones(state.resident) {
                let holder = state.holder(index);
                let folded_at = self.interfaces.get(holder.index()).map_or(0, |it| it.folded_at);
                if asked_at == 0 || folded_at <= asked_at {
                    stale = stale.and(Kick::Vcpu(holder));
                }
            }
        }
        let waits = stale != Kick::Nobody;
        for holder in stale.iter() {
            if let Some(interface) = self.interfaces.get_mut(holder.index()) {
                interface.refold = true;
            }
        }
        let clock = self.clock;
        if let Some(interface) = self.interfaces.get_mut(reader.index()) {
            interface.asked_at = match (waits, asked_at) {
                (false, _) => 0,
                (true, 0) => clock,
                (true, asked_at) => asked_at,
            };
        }
        if waits { Err(stale.and(moved)) } else { Ok(moved) }
    }

    fn enable(&mut self, owner: VcpuId, bank: usize, value: u32) -> Work {
        let Some(state) = self.bank_mut(owner, bank) else { return Work::default() };
        let newly = value & !state.enabled;
        state.enabled |= newly;
        let work = HardwareWork { enable: newly, ..HardwareWork::NOTHING };
        self.finish(owner, bank, newly, work)
    }

    fn disable(&mut self, owner: VcpuId, bank: usize, value: u32) -> Work {
        let Some(state) = self.bank_mut(owner, bank) else { return Work::default() };
        let newly = value & state.enabled;
        state.enabled &= !newly;
        let withdrawn = self.withdraw(owner, bank, newly);
        let work = HardwareWork { disable: newly, ..HardwareWork::NOTHING };
        let mut work = self.finish(owner, bank, newly, work);
        work.kick = work.kick.and(withdrawn);
        work
    }

    fn set_pending(&mut self, owner: VcpuId, bank: usize, value: u32) -> Work {
        let Some(state) = self.bank_mut(owner, bank) else { return Work::default() };
        let newly = value & !state.latched;
        state.latched |= newly;
        self.finish(owner, bank, newly, HardwareWork::NOTHING)
    }

    fn clear_pending(
        &mut self,
        writer: VcpuId,
        owner: VcpuId,
        bank: usize,
        value: u32,
        registers: &mut impl ListRegisters,
    ) -> Work {
        let Some(state) = self.bank_mut(owner, bank) else { return Work::default() };
        let mut cleared = value;
        // A physical PPI can only be deactivated on its own processor.
        if bank == 0 && owner != writer {
            cleared &= !state.live;
        }
        state.latched &= !cleared;
        let deactivate = state.live & cleared;
        state.live &= !deactivate;
        state.drop_pending |= state.resident & cleared;
        let withdrawn = self.withdraw(owner, bank, cleared);
        let mut work = self.deactivate(owner, bank, cleared, deactivate, registers);
        work.kick = work.kick.and(withdrawn);
        work
    }

    fn set_active(&mut self, owner: VcpuId, bank: usize, value: u32) -> Work {
        let Some(state) = self.bank_mut(owner, bank) else { return Work::default() };
        let newly = value & !state.active & !state.resident;
        state.make_active |= value & state.resident;
        for index in ones(newly & !state.queued) {
            state.set_holder(index, state.target(index));
        }
        state.active |= newly;
        let withdrawn = self.withdraw(owner, bank, value);
        let mut work = self.finish(owner, bank, newly, HardwareWork::NOTHING);
        work.kick = work.kick.and(withdrawn);
        // It has nothing to take, but an end that it is about to make belongs to what is active now.
        if let Some(state) = self.bank_mut(owner, bank) {
            let holders = ones(newly).map(|index| Kick::Vcpu(state.holder(index)));
            work.kick = holders.fold(work.kick, Kick::and);
        }
        work
    }

    fn clear_active(
        &mut self,
        writer: VcpuId,
        owner: VcpuId,
        bank: usize,
        value: u32,
        registers: &mut impl ListRegisters,
    ) -> Work {
        let Some(state) = self.bank_mut(owner, bank) else { return Work::default() };
        let mut cleared = value & !state.resident;
        if bank == 0 && owner != writer {
            cleared &= !state.held;
        }
        state.drop_active |= value & state.resident;
        state.active &= !cleared;
        let deactivate = state.held & cleared;
        state.held &= !deactivate;
        let withdrawn = self.withdraw(owner, bank, value);
        let mut work = self.deactivate(owner, bank, cleared, deactivate, registers);
        work.kick = work.kick.and(withdrawn);
        work
    }

    fn set_priorities(&mut self, owner: VcpuId, field: Field, width: Width, value: u32) -> Work {
        let Some(state) = self.bank_mut(owner, field.bank()) else { return Work::default() };
        let first = (field.first % BANK) as usize;
        let bytes = value.to_le_bytes().into_iter().take(width_bytes(width) as usize);
        for (priority, byte) in state.priority.iter_mut().skip(first).zip(bytes) {
            *priority = byte & PRIORITY_MASK;
        }
        Work::default()
    }

    fn configure(&mut self, owner: VcpuId, field: Field, value: u32) -> Work {
        let Some(state) = self.bank_mut(owner, field.bank()) else { return Work::default() };
        let shift = field.first % BANK;
        let edge = (0..16).fold(0, |word, index| word | (value >> (2 * index + 1) & 1) << index);
        let fixed = if field.is_private() { SGIS } else { 0 };
        let span = 0xffff << shift & !fixed;
        let changed = (state.edge ^ edge << shift) & span;
        state.edge ^= changed;
        let work = HardwareWork {
            edge: changed & state.edge,
            level: changed & !state.edge,
            ..HardwareWork::NOTHING
        };
        self.finish(owner, field.bank(), changed, work)
    }

    /// Aims the shared interrupt `index` of a bank at `target`.
    ///
    /// The writer's own interrupts have been taken back, and the answer's route is the only one.
    pub(super) fn retarget(&mut self, bank: usize, index: u32, target: VcpuId) -> Work {
        let Some(state) = self.bank_mut(target, bank) else { return Work::default() };
        if state.target(index) == target {
            return Work::default();
        }
        state.set_target(index, target);
        let bit = 1 << index;
        let withdrawn = self.withdraw(target, bank, bit);
        let route = [Route { irqs: bit, to: target }, Route::NONE, Route::NONE, Route::NONE];
        let mut work =
            self.finish(target, bank, bit, HardwareWork { route, ..HardwareWork::NOTHING });
        work.kick = work.kick.and(withdrawn);
        work
    }

    /// Requeues what changed, and narrows `work` to what stands for physical interrupts.
    fn finish(&mut self, owner: VcpuId, bank: usize, changed: u32, work: HardwareWork) -> Work {
        let kick = self.requeue_all(owner, bank, changed);
        let shared = if bank == 0 { 0 } else { u32::MAX };
        let hardware = self.bank(owner, bank).map_or(0, |state| state.hardware) & shared;
        let work = HardwareWork {
            base: u32::try_from(bank).unwrap_or(0) * BANK,
            disable: work.disable & hardware,
            edge: work.edge & hardware,
            level: work.level & hardware,
            deactivate: work.deactivate & shared,
            route: work.route.map(|route| Route { irqs: route.irqs & hardware, ..route }),
            enable: work.enable & hardware,
        };
        Work { kick, hardware: work }
    }

    /// Finishes a change that leaves physical interrupts without anybody to end them.
    fn deactivate(
        &mut self,
        owner: VcpuId,
        bank: usize,
        changed: u32,
        deactivate: u32,
        registers: &mut impl ListRegisters,
    ) -> Work {
        if bank == 0 {
            ones(deactivate)
                .filter_map(Irq::new)
                .for_each(|irq| registers.deactivate_physical(irq));
        }
        let work = HardwareWork { deactivate, ..HardwareWork::NOTHING };
        self.finish(owner, bank, changed, work)
    }
}

/// Returns which interrupts of a bank exist: the numbers from 1020 on are special.
const fn existing(bank: usize) -> u32 {
    if bank == (Irq::SPI_END / BANK) as usize { (1 << (Irq::SPI_END % BANK)) - 1 } else { u32::MAX }
}

pub(super) fn width_bytes(width: Width) -> u32 {
    match width {
        Width::Byte => 1,
        Width::Half => 2,
        Width::Word | Width::Double => 4,
    }
}

pub(super) fn low_word(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
