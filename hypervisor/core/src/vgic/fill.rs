//! Between the interrupts' state and a processor's list registers.

use super::interface::{Interface, Slot};
use super::interrupt::{BANK, Bank};
use super::{Kick, ListRegister, ListRegisters, Maintenance, Vgic, bank_of};
use crate::bits::ones;
use crate::ids::{Irq, VcpuId};

/// What remains to be done after the list registers were filled.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "the maintenance bits have to be written, and the vCPUs told"]
pub struct Filled {
    /// The bits for `ICH_HCR_EL2`, beside its enable bit.
    pub maintenance: Maintenance,
    /// Other vCPUs that shared interrupts moved to.
    pub kick: Kick,
}

/// Physical PPIs of the processor this runs on: bit `n` is INTID `n`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "their active state belongs to the vCPU that comes or goes"]
pub struct PhysicalPpis(pub u32);

/// What remains to be done after a vCPU was taken off its processor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Unloaded {
    /// Deactivate these (`GICR_ICACTIVER0`), so that the next vCPU gets its own.
    pub deactivate: PhysicalPpis,
    /// Other vCPUs that shared interrupts moved to.
    pub kick: Kick,
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The hypervisor or a vCPU.
    Software,
    /// The physical interrupt of the same number, acknowledged and not deactivated.
    Physical,
}

/// Whether the short way of filling list registers led to the end.
enum Simply {
    Done,
    Not,
}

impl Vgic {
    /// Says that a vCPU's registers are now on the processor this runs on.
    ///
    /// The answer's PPIs are to be made active there (`GICR_ISACTIVER0`) before their devices are started:
    /// the guest has them in hand, and its end of interrupt deactivates them.
    pub fn load(&mut self, vcpu: VcpuId) -> PhysicalPpis {
        if let Some(interface) = self.interfaces.get_mut(vcpu.index()) {
            interface.loaded = true;
        }
        PhysicalPpis(self.private.get(vcpu.index()).map_or(0, |bank| bank.live | bank.held))
    }

    /// Takes a vCPU's interrupts back from the processor this runs on, whose list registers end up empty.
    pub fn unload(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Unloaded {
        let kick = self.fold(vcpu, registers);
        if let Some(interface) = self.interfaces.get_mut(vcpu.index()) {
            interface.loaded = false;
        }
        let ppis = self.private.get(vcpu.index()).map_or(0, |bank| bank.live | bank.held);
        Unloaded { deactivate: PhysicalPpis(ppis), kick }
    }

    /// Brings the list registers up to date, before the guest is entered.
    pub fn fill(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Filled {
        match self.interfaces.get(vcpu.index()) {
            Some(interface) if !interface.is_settled() => self.fill_unsettled(vcpu, registers),
            _ => Filled::default(),
        }
    }

    /// Says whether a vCPU's list registers are to be brought up to date before it runs on.
    pub fn needs_fill(&self, vcpu: VcpuId) -> bool {
        self.interfaces.get(vcpu.index()).is_some_and(|interface| !interface.is_settled())
    }

    /// Takes all interrupts of a vCPU back from its list registers, which end up empty.
    ///
    /// The answer names other vCPUs only; this one is to be filled before it runs on.
    pub fn fold(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Kick {
        let mut kick = self.end_unlisted(vcpu, registers);
        for slot in ones(self.used(vcpu)) {
            let content = registers.read(slot as usize);
            let moved = self.take_back(vcpu, slot, content, registers);
            // Nearly always nobody: joining that copies the kick about, at each switch.
            if moved != Kick::Nobody {
                kick = kick.and(moved);
            }
            registers.write(slot as usize, ListRegister::EMPTY);
        }
        self.clock += 1;
        if let Some(interface) = self.interfaces.get_mut(vcpu.index()) {
            interface.refold = false;
            interface.folded_at = self.clock;
        }
        kick
    }

    /// Says whether the guest has an interrupt to take, which ends its wait for one.
    ///
    /// `mask` is its priority mask (`ICH_VMCR_EL2.VPMR`), or 0 if it has group 1 off (`VENG1`). A vCPU
    /// whose list registers another one wants back does not wait either: it would keep what is in them.
    pub fn deliverable(&self, vcpu: VcpuId, registers: &impl ListRegisters, mask: u8) -> bool {
        let Some(interface) = self.interfaces.get(vcpu.index()) else { return false };
        if interface.refold {
            return true;
        }
        let listed = ones(interface.used).any(|slot| {
            let content = registers.read(slot as usize);
            content.is_pending() && !content.is_active() && content.priority() < mask
        });
        listed
            || ones(interface.summary).any(|number| {
                let ready = interface.ready(number as usize);
                self.bank(vcpu, number as usize).is_some_and(|bank| {
                    let waiting = ready & bank.wanted() & !bank.active & self.gate();
                    ones(waiting).any(|index| bank.priority(index) < mask)
                })
            })
    }

    /// Makes an interrupt pending right where it was before: in a list register whose last round the guest
    /// has ended, on the processor this runs on. Says no, having done nothing, if it is not as simple as
    /// that; then [`Self::inject`] or [`Self::inject_hardware`] do it.
    ///
    /// A vCPU's timer, its upcall and its own SGIs come this way nearly always: an SGI is one that it sent itself.
    #[must_use = "if it says no, the interrupt is still to be injected"]
    pub fn renew(
        &mut self,
        vcpu: VcpuId,
        irq: Irq,
        source: Source,
        registers: &mut impl ListRegisters,
    ) -> bool {
        let gate = self.gate();
        let sender = self.names_sender(irq).then(|| vcpu.0.to_le_bytes()[0] & 0b111);
        let (bank, bit) = super::place(irq);
        let Some(interface) = self.interfaces.get_mut(vcpu.index()) else { return false };
        let state = bank_of(&mut self.private, &mut self.shared, vcpu, bank);
        let Some(state) = state else { return false };
        let physical = match source {
            Source::Software => u32::MAX,
            Source::Physical => state.hardware,
        };
        let asked = state.drop_pending | state.drop_active | state.make_active;
        let special = asked | state.active | state.latched | state.line;
        let index = bit.trailing_zeros();
        if state.resident & state.enabled & gate & physical & !special & bit == 0
            || interface.refold
            || state.holder(index) != vcpu
            || state.target(index) != vcpu
        {
            return false;
        }
        let Some(slot) = interface.find(irq.intid()) else { return false };
        if interface.watched >> slot & 1 != 0 || registers.empty() >> slot & 1 == 0 {
            return false;
        }
        let Some(entry) = interface.slots.get_mut(slot as usize) else { return false };
        entry.hardware = source == Source::Physical;
        entry.latched = true;
        entry.sender = sender;
        let content = ListRegister::new(irq, state.priority(index)).pending();
        let content = match sender {
            Some(sender) => content.from_processor(sender),
            None if entry.hardware => content.hardware(),
            None => content,
        };
        registers.write(slot as usize, content);
        true
    }

    fn fill_unsettled(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Filled {
        match self.fill_simply(vcpu, registers) {
            Simply::Done => Filled::default(),
            Simply::Not => self.fill_anew(vcpu, registers),
        }
    }

    /// Does what nearly always is to be done: forgets what the guest has ended, adds what is new. What it
    /// leaves, it leaves as it was.
    fn fill_simply(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Simply {
        let gate = self.gate();
        let Some(interface) = self.interfaces.get_mut(vcpu.index()) else { return Simply::Done };
        if interface.refold || interface.unlisted_active || interface.watched != 0 {
            return Simply::Not;
        }
        let mut ended = interface.used;
        if ended != 0 {
            ended &= registers.empty();
        }
        while ended != 0 {
            let slot = ended.trailing_zeros();
            ended &= ended - 1;
            let intid = interface.slot(slot).intid;
            let (bank, bit) = ((intid / BANK) as usize, 1 << (intid % BANK));
            let state = bank_of(&mut self.private, &mut self.shared, vcpu, bank);
            let Some(state) = state else { return Simply::Not };
            let asked = state.drop_pending | state.drop_active | state.make_active;
            // Pending again, it goes back at once, unless by now it is for another.
            if (asked | state.line) & bit != 0 || state.target(intid % BANK) != vcpu {
                return Simply::Not;
            }
            interface.used &= !(1 << slot);
            state.resident &= !bit;
            state.offered &= !bit;
            state.active &= !bit;
            state.held &= !bit;
            if state.wanted() & gate & bit != 0 {
                place(interface, state, vcpu, gate, slot, (bank, intid % BANK), registers);
            } else {
                interface.unmark(bank, bit);
            }
        }
        if interface.summary == 0 {
            return Simply::Done;
        }
        let mut free = all(registers.count()) & !interface.used;
        while interface.summary != 0 {
            let bank = interface.summary.trailing_zeros() as usize;
            let state = bank_of(&mut self.private, &mut self.shared, vcpu, bank);
            let Some(state) = state else { return Simply::Not };
            let ready = interface.ready(bank);
            if ready & state.resident != 0 || free == 0 {
                return Simply::Not;
            }
            let slot = free.trailing_zeros();
            free &= free - 1;
            place(interface, state, vcpu, gate, slot, (bank, ready.trailing_zeros()), registers);
        }
        Simply::Done
    }

    #[cold]
    fn fill_anew(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Filled {
        let mut kick = self.end_unlisted(vcpu, registers);
        if self.interfaces.get(vcpu.index()).is_some_and(|interface| interface.refold) {
            kick = kick.and(self.fold(vcpu, registers));
        }
        kick = kick.and(self.retire(vcpu, registers)).and(self.merge(vcpu, registers));
        if self.place_all(vcpu, registers) {
            return Filled { maintenance: Maintenance::empty(), kick };
        }
        kick = kick.and(self.fold(vcpu, registers));
        Filled { maintenance: self.place_most_urgent(vcpu, registers), kick }
    }

    fn used(&self, vcpu: VcpuId) -> u32 {
        self.interfaces.get(vcpu.index()).map_or(0, |interface| interface.used)
    }

    /// Takes back the interrupts that the guest has ended.
    fn retire(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Kick {
        let Some(interface) = self.interfaces.get(vcpu.index()) else { return Kick::Nobody };
        let (used, watched) = (interface.used, interface.watched);
        if used == 0 {
            return Kick::Nobody;
        }
        let ended = if watched == 0 { 0 } else { registers.ended() & watched };
        let mut kick = Kick::Nobody;
        for slot in ones(used & (registers.empty() | ended)) {
            kick = kick.and(self.take_back(vcpu, slot, ListRegister::EMPTY, registers));
            if ended & 1 << slot != 0 {
                registers.write(slot as usize, ListRegister::EMPTY);
            }
        }
        kick
    }

    /// Updates the list registers whose interrupts became pending again.
    fn merge(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Kick {
        let mut kick = Kick::Nobody;
        let Some(interface) = self.interfaces.get(vcpu.index()) else { return kick };
        for number in ones(interface.summary) {
            let bank = number as usize;
            let resident = self.bank(vcpu, bank).map_or(0, |state| state.resident);
            let ready = self.interfaces.get(vcpu.index()).map_or(0, |mine| mine.ready(bank));
            for index in ones(ready & resident) {
                let intid = number * BANK + index;
                let found = self.interfaces.get(vcpu.index()).and_then(|mine| mine.find(intid));
                let Some(slot) = found else { continue };
                let content = registers.read(slot as usize);
                kick = kick.and(self.take_back(vcpu, slot, content, registers));
                if self.is_ready(vcpu, bank, index) {
                    self.place(vcpu, slot, bank, index, registers);
                } else {
                    registers.write(slot as usize, ListRegister::EMPTY);
                }
            }
        }
        kick
    }

    /// Puts all that waits in list registers; says no, half done, if there are too few.
    fn place_all(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> bool {
        let Some(interface) = self.interfaces.get(vcpu.index()) else { return true };
        let mut free = all(registers.count()) & !interface.used;
        for number in ones(interface.summary) {
            let bank = number as usize;
            let ready = self.interfaces.get(vcpu.index()).map_or(0, |mine| mine.ready(bank));
            for index in ones(ready) {
                if free == 0 {
                    return false;
                }
                self.place(vcpu, free.trailing_zeros(), bank, index, registers);
                free &= free - 1;
            }
        }
        true
    }

    /// Puts the most urgent in the list registers, which are all free, and asks to be told when the rest
    /// may follow.
    fn place_most_urgent(
        &mut self,
        vcpu: VcpuId,
        registers: &mut impl ListRegisters,
    ) -> Maintenance {
        for slot in ones(all(registers.count())) {
            let Some((bank, index)) = self.most_urgent(vcpu) else { break };
            self.place(vcpu, slot, bank, index, registers);
        }
        let mut maintenance = Maintenance::empty();
        let Some(interface) = self.interfaces.get(vcpu.index()) else { return maintenance };
        let mut unlisted_active = false;
        for number in ones(interface.summary) {
            maintenance |= Maintenance::UNDERFLOW;
            let bank = number as usize;
            let ready = interface.ready(bank);
            unlisted_active |= self.bank(vcpu, bank).is_some_and(|state| state.active & ready != 0);
        }
        if unlisted_active {
            maintenance |= Maintenance::END_NOT_PRESENT;
        }
        if let Some(interface) = self.interfaces.get_mut(vcpu.index()) {
            interface.unlisted_active = unlisted_active;
        }
        maintenance
    }

    /// Finds what should be in a list register first: by priority, an active one before a pending one.
    fn most_urgent(&self, vcpu: VcpuId) -> Option<(usize, u32)> {
        let interface = self.interfaces.get(vcpu.index())?;
        let candidates = ones(interface.summary).flat_map(|number| {
            let bank = number as usize;
            let state = self.bank(vcpu, bank);
            ones(interface.ready(bank)).filter_map(move |index| {
                let state = state?;
                Some((state.priority(index), state.active >> index & 1 == 0, bank, index))
            })
        });
        candidates.min().map(|(_, _, bank, index)| (bank, index))
    }

    fn is_ready(&self, vcpu: VcpuId, bank: usize, index: u32) -> bool {
        let interface = self.interfaces.get(vcpu.index());
        interface.is_some_and(|interface| interface.ready(bank) >> index & 1 != 0)
    }

    /// Puts an interrupt that waits in list register `slot`.
    fn place(
        &mut self,
        vcpu: VcpuId,
        slot: u32,
        bank: usize,
        index: u32,
        registers: &mut impl ListRegisters,
    ) {
        let gate = self.gate();
        let Some(interface) = self.interfaces.get_mut(vcpu.index()) else { return };
        let state = bank_of(&mut self.private, &mut self.shared, vcpu, bank);
        let Some(state) = state else { return };
        place(interface, state, vcpu, gate, slot, (bank, index), registers);
    }

    /// Takes the interrupt in list register `slot`, of which `content` was read, back into the state. The
    /// register itself is left to the caller.
    fn take_back(
        &mut self,
        vcpu: VcpuId,
        slot: u32,
        content: ListRegister,
        registers: &mut impl ListRegisters,
    ) -> Kick {
        let Some(interface) = self.interfaces.get_mut(vcpu.index()) else { return Kick::Nobody };
        let entry = interface.slot(slot);
        interface.used &= !(1 << slot);
        interface.watched &= !(1 << slot);
        let (bank, index) = ((entry.intid / BANK) as usize, entry.intid % BANK);
        interface.unmark(bank, 1 << index);
        let state = bank_of(&mut self.private, &mut self.shared, vcpu, bank);
        let Some(state) = state else { return Kick::Nobody };
        let bit = 1 << index;
        let dropped = state.drop_pending & bit != 0;
        let ended = state.drop_active & bit != 0;
        let mut deactivate = false;
        for word in [
            &mut state.resident,
            &mut state.offered,
            &mut state.active,
            &mut state.held,
            &mut state.drop_pending,
            &mut state.drop_active,
        ] {
            *word &= !bit;
        }
        if content.is_active() {
            let tied = entry.hardware || entry.owes;
            if ended {
                deactivate |= tied;
            } else {
                state.active |= bit;
                state.held |= if tied { bit } else { 0 };
                interface.senders.note_active(entry.intid, entry.sender);
            }
        } else {
            deactivate |= entry.owes;
        }
        if content.is_pending() {
            let tied = entry.hardware && !content.is_active();
            if dropped {
                deactivate |= tied;
            } else {
                state.latched |= if entry.latched { bit } else { 0 };
                state.live |= if tied { bit } else { 0 };
                interface.senders.give_back(entry.intid, entry.sender);
            }
        }
        state.active |= state.make_active & bit;
        state.make_active &= !bit;
        // Ended and not raised again, as most are, it is in no list and belongs in none.
        let settled = (state.wanted() | state.active | state.queued) & bit == 0;
        if deactivate && let Some(irq) = Irq::new(entry.intid) {
            registers.deactivate_physical(irq);
        }
        if settled { Kick::Nobody } else { others(vcpu, self.requeue(vcpu, bank, index)) }
    }

    /// Ends active interrupts that the guest ended while they were in no list register.
    ///
    /// A guest ends its interrupts most urgent first, which tells which they were.
    #[inline]
    fn end_unlisted(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Kick {
        let Some(interface) = self.interfaces.get_mut(vcpu.index()) else { return Kick::Nobody };
        if !core::mem::take(&mut interface.unlisted_active) {
            return Kick::Nobody;
        }
        self.end_most_urgent(vcpu, registers)
    }

    #[cold]
    #[inline(never)]
    fn end_most_urgent(&mut self, vcpu: VcpuId, registers: &mut impl ListRegisters) -> Kick {
        let mut kick = Kick::Nobody;
        for _ in 0..registers.take_end_count() {
            let Some(interface) = self.interfaces.get(vcpu.index()) else { return kick };
            let active = ones(interface.summary).flat_map(|number| {
                let bank = number as usize;
                let ready = interface.ready(bank);
                let state = self.bank(vcpu, bank);
                let waiting = state.map_or(0, |state| state.active & !state.resident & ready);
                ones(waiting).filter_map(move |index| Some((state?.priority(index), bank, index)))
            });
            let Some((_, bank, index)) = active.min() else { return kick };
            if let Some(state) = self.bank_mut(vcpu, bank) {
                let bit = 1 << index;
                state.active &= !bit;
                let held = state.held & bit != 0;
                state.held &= !bit;
                let intid = u32::try_from(bank).unwrap_or(0) * BANK + index;
                if held && let Some(irq) = Irq::new(intid) {
                    registers.deactivate_physical(irq);
                }
            }
            kick = kick.and(others(vcpu, self.requeue(vcpu, bank, index)));
        }
        kick
    }
}

/// Puts interrupt `index` of a bank, which waits, in list register `slot`.
#[inline]
fn place(
    interface: &mut Interface,
    state: &mut Bank,
    vcpu: VcpuId,
    gate: u32,
    slot: u32,
    (bank, index): (usize, u32),
    registers: &mut impl ListRegisters,
) {
    let intid = u32::try_from(bank).unwrap_or(0) * BANK + index;
    let Some(irq) = Irq::new(intid) else { return };
    let bit = 1 << index;
    let content = ListRegister::new(irq, state.priority(index));
    let mut entry = Slot { intid, ..Slot::default() };
    let by_line = state.line & !state.edge & bit != 0;
    let (content, watch) = if state.active & bit == 0 {
        entry.hardware = state.live & bit != 0;
        entry.latched = state.latched & bit != 0;
        state.offered |= bit;
        state.latched &= !bit;
        state.live &= !bit;
        let content = content.pending();
        let sent = interface.senders.take(irq);
        if let Some(sent) = sent {
            entry.sender = Some(sent.sender);
            state.latched |= if sent.more { bit } else { 0 };
            (content.from_processor(sent.sender), sent.more)
        } else if entry.hardware {
            (content.hardware(), false)
        } else {
            // A line that is still high when the guest is done means another round.
            (content, by_line)
        }
    } else {
        let wanted = state.wanted() & gate & bit != 0;
        let content = content.active();
        if let Some(sender) = interface.senders.active(irq) {
            // One list register tells of one sender.
            entry.sender = Some(sender);
            (content.from_processor(sender), wanted)
        } else {
            place_active(state, vcpu, index, wanted, content, &mut entry)
        }
    };
    let content = if watch {
        interface.watched |= 1 << slot;
        content.maintenance_at_end()
    } else {
        content
    };
    state.resident |= bit;
    state.queued &= !bit;
    state.set_holder(index, vcpu);
    interface.unmark(bank, bit);
    interface.used |= 1 << slot;
    if let Some(place) = interface.slots.get_mut(slot as usize) {
        *place = entry;
    }
    registers.write(slot as usize, content);
}

/// Decides how an active interrupt stands in its list register, and whether its end is of interest.
fn place_active(
    state: &mut Bank,
    vcpu: VcpuId,
    index: u32,
    wanted: bool,
    content: ListRegister,
    entry: &mut Slot,
) -> (ListRegister, bool) {
    let bit = 1 << index;
    let held = state.held & bit != 0;
    if !wanted {
        entry.hardware = held;
        return if held { (content.hardware(), false) } else { (content, false) };
    }
    let latched = state.latched & !state.live & bit != 0;
    if latched && !held && state.target(index) == vcpu {
        entry.latched = true;
        state.latched &= !bit;
        state.offered |= bit;
        return (content.pending(), state.line & !state.edge & bit != 0);
    }
    // What is pending can follow only when this one has ended.
    entry.owes = held;
    (content, true)
}

/// Leaves `vcpu` out: it is filled before it runs on anyway.
fn others(vcpu: VcpuId, kick: Kick) -> Kick {
    if kick == Kick::Vcpu(vcpu) { Kick::Nobody } else { kick }
}

const fn all(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}
