//! The virtual interrupt controller of a domain: a GICv2 or a GICv3.
//!
//! It holds the true state of every interrupt (pending, active, enabled, priority, trigger, target) and
//! decides which of them go in a vCPU's list registers. `hv-arch` owns those registers behind
//! [`ListRegisters`]; the caller wakes or kicks whom a [`Kick`] names and carries out [`HardwareWork`].
//!
//! # What the run loop owes
//!
//! - [`Vgic::load`] when a vCPU's registers are put on a processor, [`Vgic::unload`] when they are taken
//!   off. In between the list registers stay as they are, also while the processor idles.
//! - [`Vgic::fill`] before each entry to the guest; with nothing new it looks at three words.
//! - After a physical maintenance interrupt nothing but that `fill`.
//! - A physical interrupt of a guest: priority drop (`ICC_EOIR1_EL1` or `GICC_EOIR`, `EOImode` = 1), *no*
//!   deactivation, then [`Vgic::inject_hardware`]. The guest's own end of interrupt deactivates it, through
//!   the list register's HW bit.
//! - The virtual timer is such an interrupt, PPI 27, so that an expiry costs no access to the timer and no
//!   exit when it ends: `CNTV_CTL_EL0.IMASK` stays the guest's. What a PPI needs beyond an SPI is in the
//!   answers of `load` and `unload`: a vCPU takes the active state of its PPIs along.
//! - [`Looks`] before it sleeps and when it sets its timer: not every controller signals what is pending
//!   again at the guest's end.
//!
//! # What is not kept
//!
//! All interrupts are of one group. Pending state that arises while an interrupt is in another vCPU's list
//! registers is merged when that vCPU next comes back, which the [`Kick`] sees to.

mod dist;
mod fill;
mod hardware;
mod interface;
mod interrupt;
mod kick;
mod layout;
mod lend;
mod list_register;
mod looks;
mod redist;
mod v2;
mod v3;

pub use dist::{MmioRead, Work};
pub use fill::{Filled, PhysicalPpis, Source, Unloaded};
pub use hardware::{HardwareWork, Route};
pub use kick::{Kick, VcpuSet};
pub use layout::{INTERFACE_SIZE, Layout, Location, MAX_VCPUS_V2, RedistributorRegion};
pub use lend::{LendError, Lent};
#[cfg(any(test, feature = "fakes"))]
pub use list_register::FakeListRegisters;
pub use list_register::{ListRegister, ListRegisters, MAX_LIST_REGISTERS, Maintenance};
pub use looks::Looks;
pub use v3::{SgiRequest, SgiTargets, affinity, vcpu_with_affinity};

use crate::bits::ones;
use crate::ids::{Irq, VcpuId};
use alloc::vec::Vec;
use interface::Interface;
use interrupt::{BANK, Bank, SGIS};

/// The most vCPUs a domain may have (`GUEST_VCPUS`, `public/arch-arm.h`).
pub const MAX_VCPUS: u32 = 128;

/// Says what a domain's interrupt controller is to be.
#[derive(Clone, Debug)]
pub struct VgicConfig {
    /// How many vCPUs there are, or will be: 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// How many shared interrupts there are; rounded up to whole registers, at most 992.
    pub spis: u32,
    /// Where the guest sees the controller.
    pub layout: Layout,
}

/// What became of a physical interrupt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "an interrupt that is not the domain's stays active for ever unless it is deactivated"]
pub enum Injected {
    /// It is pending; the guest's end of it will deactivate the physical one.
    Pending(Kick),
    /// Nothing here stands for it: deactivate it.
    NotOurs,
}

/// How an interrupt stands, for a report; what a list register holds is as of when it was last seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    /// May be signalled.
    pub enabled: bool,
    /// Pending, and not in a list register.
    pub pending: bool,
    /// Taken and not ended.
    pub active: bool,
    /// In a list register.
    pub listed: bool,
    /// Waits for a list register.
    pub queued: bool,
    /// The vCPU that has it, or last had it.
    pub holder: VcpuId,
}

/// The interrupt controller of one domain: plain data.
#[derive(Clone, Debug)]
pub struct Vgic {
    /// SGIs and PPIs, by vCPU.
    private: Vec<Bank>,
    /// SPIs from INTID 32 on.
    shared: Vec<Bank>,
    interfaces: Vec<Interface>,
    /// `GICD_CTLR`.
    control: u32,
    /// The bit of it that lets a guest's interrupts through.
    switch: u32,
    /// Counts the moments at which list registers were taken back or asked for.
    clock: u64,
    layout: Layout,
}

impl Vgic {
    /// Returns how many bytes [`Vgic::new`] allocates at most.
    pub const fn bytes(vcpus: u32, spis: u32) -> usize {
        let banks = spis.div_ceil(BANK) as usize;
        let vcpus = vcpus as usize;
        (vcpus + banks) * size_of::<Bank>() + vcpus * size_of::<Interface>()
    }

    /// Creates a controller as reset leaves it.
    pub fn new(config: VgicConfig) -> Self {
        let vcpus = config.vcpus.clamp(1, config.layout.max_vcpus());
        let banks = config.spis.div_ceil(BANK).min(31);
        let private = |vcpu| {
            let mut bank = Bank::new(VcpuId(vcpu));
            bank.edge = SGIS;
            bank
        };
        Self {
            private: (0..vcpus).map(private).collect(),
            shared: (0..banks).map(|_| Bank::new(VcpuId(0))).collect(),
            interfaces: (0..vcpus).map(|_| Interface::new()).collect(),
            control: 0,
            switch: match config.layout {
                Layout::V2 { .. } => v2::ENABLE,
                Layout::V3 { .. } => v3::ENABLE_GROUP_1,
            },
            clock: 1,
            layout: config.layout,
        }
    }

    /// Returns how many vCPUs there are.
    pub fn vcpus(&self) -> u32 {
        u32::try_from(self.interfaces.len()).unwrap_or(MAX_VCPUS)
    }

    /// Returns how many shared interrupts there are.
    pub fn spis(&self) -> u32 {
        u32::try_from(self.shared.len()).unwrap_or(0) * BANK
    }

    /// Makes an interrupt pending: an edge.
    ///
    /// For a private one `vcpu` says whose; a shared one goes to its target. An interrupt that is pending
    /// already, or does not exist, changes nothing.
    pub fn inject(&mut self, vcpu: VcpuId, irq: Irq) -> Kick {
        let (bank, bit) = place(irq);
        let Some(state) = self.bank_mut(vcpu, bank) else { return Kick::Nobody };
        if state.latched & bit != 0 {
            return Kick::Nobody;
        }
        state.latched |= bit;
        self.requeue(vcpu, bank, bit.trailing_zeros())
    }

    /// Makes an interrupt pending because its physical namesake is, which was acknowledged and not
    /// deactivated.
    ///
    /// For a private one `vcpu` says whose; a shared one goes to its target.
    pub fn inject_hardware(&mut self, vcpu: VcpuId, irq: Irq) -> Injected {
        let (bank, bit) = place(irq);
        let known = self.bank_mut(vcpu, bank).filter(|state| state.hardware & bit != 0);
        let Some(state) = known else { return Injected::NotOurs };
        state.latched |= bit;
        state.live |= bit;
        Injected::Pending(self.requeue(vcpu, bank, bit.trailing_zeros()))
    }

    /// Says that an emulated device asserts its level-sensitive interrupt, or no longer does.
    pub fn set_line(&mut self, vcpu: VcpuId, irq: Irq, high: bool) -> Kick {
        let (bank, bit) = place(irq);
        let Some(state) = self.bank_mut(vcpu, bank) else { return Kick::Nobody };
        if (state.line & bit != 0) == high {
            return Kick::Nobody;
        }
        state.line ^= bit;
        if high && state.edge & bit != 0 {
            state.latched |= bit;
        }
        let withdrawn = if high { Kick::Nobody } else { self.withdraw(vcpu, bank, bit) };
        withdrawn.and(self.requeue(vcpu, bank, bit.trailing_zeros()))
    }

    /// Sends a software-generated interrupt, as vCPU `from` asked, which runs on the processor with these list registers.
    ///
    /// One to itself goes straight where the last one ended, if it can.
    pub fn send_sgi_from_here(
        &mut self,
        from: VcpuId,
        request: SgiRequest,
        registers: &mut impl ListRegisters,
    ) -> Kick {
        let renewed =
            request.is_only_for(from) && self.renew(from, request.irq, Source::Software, registers);
        if renewed { Kick::Nobody } else { self.send_sgi(from, request) }
    }

    /// Sends a software-generated interrupt, as vCPU `from` asked with a write to `ICC_SGI1R_EL1` or
    /// `GICD_SGIR`.
    pub fn send_sgi(&mut self, from: VcpuId, request: SgiRequest) -> Kick {
        let mut kick = Kick::Nobody;
        match request.targets {
            // Nearly always it is for one.
            SgiTargets::List { base, mask } if mask.is_power_of_two() => {
                return self.send(from, VcpuId(base + mask.trailing_zeros()), request.irq);
            }
            SgiTargets::List { base, mask } => {
                for bit in ones(u32::from(mask)) {
                    kick = kick.and(self.send(from, VcpuId(base + bit), request.irq));
                }
            }
            SgiTargets::Others => {
                for vcpu in (0..self.vcpus()).map(VcpuId).filter(|vcpu| *vcpu != from) {
                    kick = kick.and(self.send(from, vcpu, request.irq));
                }
            }
        }
        kick
    }

    fn send(&mut self, from: VcpuId, to: VcpuId, irq: Irq) -> Kick {
        match self.layout {
            Layout::V2 { .. } => self.inject_from(from, to, irq),
            Layout::V3 { .. } => self.inject(to, irq),
        }
    }

    /// Makes `irq` stand for the physical interrupt of the same number: for a PPI, on every vCPU.
    ///
    /// The guest's settings so far are carried over to a shared one.
    pub fn assign_hardware(&mut self, irq: Irq) -> HardwareWork {
        let (bank, bit) = place(irq);
        if bank == 0 {
            for private in &mut self.private {
                private.hardware |= bit;
            }
            return HardwareWork::NOTHING;
        }
        let Some(state) = self.bank_mut(VcpuId(0), bank) else { return HardwareWork::NOTHING };
        state.hardware |= bit;
        HardwareWork {
            base: irq.intid() & !(BANK - 1),
            edge: state.edge & bit,
            level: !state.edge & bit,
            enable: state.enabled & bit,
            route: [
                Route { irqs: bit, to: state.target(bit.trailing_zeros()) },
                Route::NONE,
                Route::NONE,
                Route::NONE,
            ],
            ..HardwareWork::NOTHING
        }
    }

    /// Returns how `irq` stands: for a private one, `vcpu`'s.
    pub fn state(&self, vcpu: VcpuId, irq: Irq) -> Option<State> {
        let (bank, bit) = place(irq);
        let state = self.bank(vcpu, bank)?;
        Some(State {
            enabled: state.enabled & bit != 0,
            pending: state.pending() & bit != 0,
            active: state.active & bit != 0,
            listed: state.resident & bit != 0,
            queued: state.queued & bit != 0,
            holder: state.holder(bit.trailing_zeros()),
        })
    }

    /// Says whether `irq` stands for a physical interrupt.
    pub fn is_hardware(&self, irq: Irq) -> bool {
        let (bank, bit) = place(irq);
        self.bank(VcpuId(0), bank).is_some_and(|state| state.hardware & bit != 0)
    }

    /// Gives up a shared interrupt's physical namesake.
    ///
    /// If the guest has it in hand, its end will not reach the physical one any more.
    pub fn release_hardware(&mut self, irq: Irq) -> HardwareWork {
        let (bank, bit) = place(irq);
        match self.bank_mut(VcpuId(0), bank) {
            Some(state) if bank != 0 && state.hardware & bit != 0 => give_up(state, bank, bit),
            _ => HardwareWork::NOTHING,
        }
    }

    /// Gives up all physical interrupts, because the domain ends.
    pub fn release_all_hardware(&mut self) -> impl Iterator<Item = HardwareWork> {
        let held = |(bank, state): (usize, &mut Bank)| {
            let all = state.hardware;
            (all != 0).then(|| give_up(state, bank, all))
        };
        (1..).zip(&mut self.shared).filter_map(held)
    }

    /// Returns the physical shared interrupts that are aimed at `vcpu`, to send them after it when it
    /// changes processors.
    pub fn hardware_aimed_at(&self, vcpu: VcpuId) -> impl Iterator<Item = Irq> {
        (1..).zip(&self.shared).flat_map(move |(bank, state): (u32, &Bank)| {
            ones(state.hardware)
                .filter(move |index| state.target(*index) == vcpu)
                .filter_map(move |index| Irq::new(bank * BANK + index))
        })
    }

    fn gate(&self) -> u32 {
        if self.control & self.switch != 0 { u32::MAX } else { 0 }
    }

    fn bank(&self, vcpu: VcpuId, bank: usize) -> Option<&Bank> {
        match bank.checked_sub(1) {
            None => self.private.get(vcpu.index()),
            Some(shared) => self.shared.get(shared),
        }
    }

    fn bank_mut(&mut self, vcpu: VcpuId, bank: usize) -> Option<&mut Bank> {
        bank_of(&mut self.private, &mut self.shared, vcpu, bank)
    }

    /// Puts interrupt `index` of a bank in the list of the vCPU that should have it, or takes it out.
    fn requeue(&mut self, vcpu: VcpuId, bank: usize, index: u32) -> Kick {
        let gate = self.gate();
        let state = bank_of(&mut self.private, &mut self.shared, vcpu, bank);
        let Some(state) = state else { return Kick::Nobody };
        let bit = 1 << index;
        let wanted = state.wanted() & gate & bit != 0;
        let active = state.active & bit != 0;
        let (holder, target) = (state.holder(index), state.target(index));
        if state.resident & bit != 0 {
            if !wanted {
                return Kick::Nobody;
            }
            if let Some(interface) = self.interfaces.get_mut(holder.index()) {
                if holder == target {
                    interface.mark(bank, bit);
                } else {
                    interface.refold = true;
                }
            }
            return Kick::Vcpu(holder);
        }
        let queued = state.queued & bit != 0;
        // An active interrupt stays with the vCPU that took it.
        let keeper = if active { holder } else { target };
        let wants_place = wanted || active;
        if queued
            && (!wants_place || keeper != holder)
            && let Some(interface) = self.interfaces.get_mut(holder.index())
        {
            interface.unmark(bank, bit);
            state.queued &= !bit;
        }
        if wants_place && let Some(interface) = self.interfaces.get_mut(keeper.index()) {
            interface.mark(bank, bit);
            state.queued |= bit;
            state.set_holder(index, keeper);
            if wanted {
                return Kick::Vcpu(keeper);
            }
        }
        Kick::Nobody
    }

    fn requeue_all(&mut self, vcpu: VcpuId, bank: usize, which: u32) -> Kick {
        ones(which).fold(Kick::Nobody, |kick, index| kick.and(self.requeue(vcpu, bank, index)))
    }

    /// Has the interrupts of `which` that are in list registers taken back.
    fn withdraw(&mut self, vcpu: VcpuId, bank: usize, which: u32) -> Kick {
        let mut kick = Kick::Nobody;
        let state = bank_of(&mut self.private, &mut self.shared, vcpu, bank);
        let Some(state) = state else { return kick };
        for index in ones(state.resident & which) {
            let holder = state.holder(index);
            if let Some(interface) = self.interfaces.get_mut(holder.index()) {
                interface.refold = true;
                kick = kick.and(Kick::Vcpu(holder));
            }
        }
        kick
    }
}

fn give_up(state: &mut Bank, bank: usize, which: u32) -> HardwareWork {
    let work = HardwareWork {
        base: u32::try_from(bank).unwrap_or(0) * BANK,
        disable: which,
        deactivate: which,
        ..HardwareWork::NOTHING
    };
    state.hardware &= !which;
    state.live &= !which;
    state.held &= !which;
    work
}

fn bank_of<'a>(
    private: &'a mut [Bank],
    shared: &'a mut [Bank],
    vcpu: VcpuId,
    bank: usize,
) -> Option<&'a mut Bank> {
    match bank.checked_sub(1) {
        None => private.get_mut(vcpu.index()),
        Some(index) => shared.get_mut(index),
    }
}

/// Returns an interrupt's bank and its bit there.
fn place(irq: Irq) -> (usize, u32) {
    (irq.index() / BANK as usize, 1 << (irq.intid() % BANK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestAddr;
    use crate::exit::Width;

    const V0: VcpuId = VcpuId(0);
    const V1: VcpuId = VcpuId(1);
    const DIST: u64 = 0x0300_1000;
    const REDIST: u64 = 0x0302_0000;
    const SGI: u64 = 0x1_0000;

    /// A domain of two vCPUs, each with its own processor and two list registers.
    struct Guest {
        vgic: Vgic,
        cpus: [FakeListRegisters; 2],
    }

    impl Guest {
        fn new() -> Self {
            let layout = Layout::V3 {
                distributor: GuestAddr::new(DIST),
                redistributors: [RedistributorRegion { base: GuestAddr::new(REDIST), vcpus: 128 }]
                    .into_iter()
                    .collect(),
            };
            let vgic = Vgic::new(VgicConfig { vcpus: 2, spis: 64, layout });
            let cpus = core::array::from_fn(|_| FakeListRegisters::new(2));
            let mut guest = Self { vgic, cpus };
            for vcpu in [V0, V1] {
                assert_eq!(guest.vgic.load(vcpu), PhysicalPpis(0));
                guest.write(vcpu, REDIST + 0x2_0000 * u64::from(vcpu.0) + SGI + 0x100, u32::MAX);
            }
            guest.write(V0, DIST, 0x12);
            guest
        }

        fn write_wide(&mut self, vcpu: VcpuId, address: u64, width: Width, value: u64) -> Work {
            let location = self.vgic.locate(GuestAddr::new(address)).unwrap();
            self.vgic.write(vcpu, location, width, value, &mut self.cpus[vcpu.index()])
        }

        fn work(&mut self, vcpu: VcpuId, address: u64, value: u32) -> Work {
            self.write_wide(vcpu, address, Width::Word, value.into())
        }

        fn write(&mut self, vcpu: VcpuId, address: u64, value: u32) {
            let _ = self.work(vcpu, address, value);
        }

        fn read_wide(&mut self, vcpu: VcpuId, address: u64, width: Width) -> MmioRead {
            let location = self.vgic.locate(GuestAddr::new(address)).unwrap();
            self.vgic.read(vcpu, location, width, &mut self.cpus[vcpu.index()])
        }

        fn read(&mut self, vcpu: VcpuId, address: u64) -> u64 {
            match self.read_wide(vcpu, address, Width::Word) {
                MmioRead::Value(value) => value,
                MmioRead::Again(kick) => panic!("{kick:?}"),
            }
        }

        fn fill(&mut self, vcpu: VcpuId) -> Filled {
            self.vgic.fill(vcpu, &mut self.cpus[vcpu.index()])
        }

        /// Enters the guest, which takes an interrupt if there is one.
        fn take(&mut self, vcpu: VcpuId) -> Option<Irq> {
            let _ = self.fill(vcpu);
            self.cpus[vcpu.index()].acknowledge()
        }

        fn end(&mut self, vcpu: VcpuId, irq: Irq) {
            assert_eq!(self.cpus[vcpu.index()].end(), Some(irq));
        }
    }

    fn spi(number: u32) -> Irq {
        Irq::spi(number).unwrap()
    }

    #[test]
    fn an_edge_is_signalled_once() {
        let mut guest = Guest::new();
        let upcall = Irq::ppi(15);
        assert_eq!(guest.vgic.inject(V1, upcall), Kick::Vcpu(V1));
        assert_eq!(guest.vgic.inject(V1, upcall), Kick::Nobody);
        assert_eq!(guest.take(V0), None);
        assert_eq!(guest.take(V1), Some(upcall));
        guest.end(V1, upcall);
        assert_eq!(guest.take(V1), None);
    }

    #[test]
    fn an_edge_while_active_is_signalled_after_the_end() {
        let mut guest = Guest::new();
        let upcall = Irq::ppi(15);
        let _ = guest.vgic.inject(V0, upcall);
        assert_eq!(guest.take(V0), Some(upcall));
        assert_eq!(guest.vgic.inject(V0, upcall), Kick::Vcpu(V0));
        assert_eq!(guest.take(V0), None);
        guest.end(V0, upcall);
        assert_eq!(guest.take(V0), Some(upcall));
    }

    #[test]
    fn a_disabled_interrupt_stays_pending_until_enabled() {
        let mut guest = Guest::new();
        assert_eq!(guest.vgic.inject(V0, spi(1)), Kick::Nobody);
        assert_eq!(guest.take(V0), None);
        assert_eq!(guest.read(V0, DIST + 0x204), 1 << 1);
        assert_eq!(guest.work(V0, DIST + 0x104, 1 << 1).kick, Kick::Vcpu(V0));
        assert_eq!(guest.take(V0), Some(spi(1)));
    }

    #[test]
    fn a_line_that_stays_high_is_signalled_again_and_one_that_fell_is_withdrawn() {
        let mut guest = Guest::new();
        guest.write(V0, DIST + 0x104, u32::MAX);
        assert_eq!(guest.vgic.set_line(V0, spi(0), true), Kick::Vcpu(V0));
        assert_eq!(guest.take(V0), Some(spi(0)));
        guest.end(V0, spi(0));
        assert_eq!(guest.take(V0), Some(spi(0)));
        guest.end(V0, spi(0));
        let _ = guest.fill(V0);
        assert_eq!(guest.vgic.set_line(V0, spi(0), false), Kick::Vcpu(V0));
        assert_eq!(guest.take(V0), None);
    }

    #[test]
    fn sgis_reach_the_listed_and_the_others() {
        let mut guest = Guest::new();
        let request = SgiRequest::decode(3 << 24 | 0b110);
        assert_eq!(guest.vgic.send_sgi(V0, request), Kick::Vcpu(V1));
        let request = SgiRequest::decode(1 << 40 | 4 << 24);
        assert_eq!(guest.vgic.send_sgi(V1, request), Kick::Vcpu(V0));
        assert_eq!(guest.take(V1), Some(Irq::sgi(3)));
        assert_eq!(guest.take(V0), Some(Irq::sgi(4)));
        let absent = SgiRequest::decode(1 << 32 | 0b1);
        assert_eq!(guest.vgic.send_sgi(V0, absent), Kick::Nobody);
        let cluster = SgiRequest::decode(2 << 16 | 0b1);
        assert_eq!(cluster.targets, SgiTargets::List { base: 32, mask: 1 });
    }

    #[test]
    fn the_guests_end_deactivates_a_physical_interrupt() {
        let mut guest = Guest::new();
        let work = guest.vgic.assign_hardware(spi(2));
        assert_eq!((work.base, work.route[0].irqs, work.enable), (32, 1 << 2, 0));
        assert_eq!(guest.work(V0, DIST + 0x104, 1 << 2).hardware.enable, 1 << 2);
        let kick = Kick::Vcpu(V0);
        assert_eq!(guest.vgic.inject_hardware(V0, spi(2)), Injected::Pending(kick));
        assert_eq!(guest.take(V0), Some(spi(2)));
        assert!(guest.cpus[0].read(0).is_hardware());
        guest.end(V0, spi(2));
        assert_eq!(guest.cpus[0].deactivated, [spi(2)]);
        let _ = guest.vgic.fold(V0, &mut guest.cpus[0]);
        assert_eq!(guest.cpus[0].deactivated, [spi(2)]);
    }

    #[test]
    fn a_physical_interrupt_the_guest_drops_is_deactivated() {
        let mut guest = Guest::new();
        let _ = guest.vgic.assign_hardware(spi(2));
        guest.write(V0, DIST + 0x104, 1 << 2);
        let _ = guest.vgic.inject_hardware(V0, spi(2));
        let _ = guest.fill(V0);
        assert_eq!(guest.work(V0, DIST + 0x284, 1 << 2).hardware.deactivate, 1 << 2);
        assert_eq!(guest.take(V0), None);
        let _ = guest.vgic.inject_hardware(V0, spi(2));
        assert_eq!(guest.take(V0), Some(spi(2)));
        assert_eq!(guest.work(V0, DIST + 0x384, u32::MAX).hardware.deactivate, 1 << 2);
        assert_eq!(guest.work(V0, DIST + 0x184, 1 << 2).hardware.disable, 1 << 2);
    }

    #[test]
    fn a_physical_interrupt_that_nothing_stands_for_is_given_back() {
        let mut guest = Guest::new();
        assert_eq!(guest.vgic.inject_hardware(V0, spi(33)), Injected::NotOurs);
        assert_eq!(guest.vgic.inject_hardware(V0, spi(900)), Injected::NotOurs);
    }

    #[test]
    fn the_timers_physical_state_goes_where_the_vcpu_goes() {
        let mut guest = Guest::new();
        let timer = Irq::ppi(11);
        assert!(guest.vgic.assign_hardware(timer).is_nothing());
        let _ = guest.vgic.inject_hardware(V0, timer);
        assert_eq!(guest.take(V0), Some(timer));
        let unloaded = guest.vgic.unload(V0, &mut guest.cpus[0]);
        assert_eq!(unloaded.deactivate, PhysicalPpis(1 << 27));
        assert!(guest.cpus[0].read(0).is_empty());
        assert_eq!(guest.vgic.load(V0), PhysicalPpis(1 << 27));
        assert_eq!(guest.take(V0), None);
        guest.end(V0, timer);
        assert_eq!(guest.cpus[0].deactivated, [timer]);
        let unloaded = guest.vgic.unload(V0, &mut guest.cpus[0]);
        assert_eq!(unloaded.deactivate, PhysicalPpis(0));
    }

    #[test]
    fn with_too_few_list_registers_the_most_urgent_go_first() {
        let mut guest = Guest::new();
        guest.write(V0, DIST + 0x104, u32::MAX);
        for number in 0..5 {
            let address = DIST + 0x420 + u64::from(number);
            let _ = guest.write_wide(V0, address, Width::Byte, u64::from(0xa0 - 8 * number));
            let _ = guest.vgic.inject(V0, spi(number));
        }
        assert_eq!(guest.fill(V0).maintenance, Maintenance::UNDERFLOW);
        for number in [4, 3, 2, 1, 0] {
            assert_eq!(guest.take(V0), Some(spi(number)));
            guest.end(V0, spi(number));
        }
        assert_eq!(guest.fill(V0).maintenance, Maintenance::empty());
        assert_eq!(guest.take(V0), None);
    }

    #[test]
    fn more_active_interrupts_than_list_registers_all_end() {
        let mut guest = Guest::new();
        guest.write(V0, DIST + 0x104, u32::MAX);
        for number in 0..4 {
            let address = DIST + 0x420 + u64::from(number);
            let _ = guest.write_wide(V0, address, Width::Byte, u64::from(0xa0 - 8 * number));
            let _ = guest.vgic.inject(V0, spi(number));
            assert_eq!(guest.take(V0), Some(spi(number)));
        }
        assert_eq!(guest.read(V0, DIST + 0x304), 0b1111);
        assert!(guest.fill(V0).maintenance.contains(Maintenance::END_NOT_PRESENT));
        for number in [3, 2, 1, 0] {
            guest.end(V0, spi(number));
        }
        let _ = guest.fill(V0);
        assert_eq!(guest.read(V0, DIST + 0x304), 0);
    }

    #[test]
    fn a_pending_interrupt_follows_its_new_target_and_an_active_one_stays() {
        let mut guest = Guest::new();
        guest.write(V0, DIST + 0x104, u32::MAX);
        let _ = guest.vgic.inject(V0, spi(3));
        let _ = guest.fill(V0);
        // The other vCPU moves it to itself while it is in list registers elsewhere.
        let work = guest.write_wide(V1, DIST + 0x6000 + 8 * 35, Width::Double, 1);
        assert_eq!(work.kick, Kick::Vcpu(V0));
        assert_eq!(guest.fill(V0).kick, Kick::Vcpu(V1));
        assert_eq!(guest.take(V0), None);
        assert_eq!(guest.take(V1), Some(spi(3)));
        let _ = guest.write_wide(V0, DIST + 0x6000 + 8 * 35, Width::Double, 0);
        let _ = guest.fill(V1);
        let _ = guest.vgic.inject(V0, spi(3));
        assert_eq!(guest.take(V0), None);
        let _ = guest.fill(V1);
        guest.end(V1, spi(3));
        assert_eq!(guest.fill(V1).kick, Kick::Vcpu(V0));
        assert_eq!(guest.take(V0), Some(spi(3)));
        assert_eq!(guest.read(V0, DIST + 0x6000 + 8 * 35), 0);
    }

    #[test]
    fn a_vcpu_that_has_what_another_waits_for_does_not_go_to_sleep() {
        let mut guest = Guest::new();
        guest.write(V0, DIST + 0x104, u32::MAX);
        let _ = guest.write_wide(V0, DIST + 0x6000 + 8 * 35, Width::Double, 1);
        let _ = guest.vgic.inject(V0, spi(3));
        assert_eq!(guest.take(V1), Some(spi(3)));
        guest.end(V1, spi(3));
        // The list register still has it, empty by now, when it is sent to the other vCPU.
        let _ = guest.write_wide(V0, DIST + 0x6000 + 8 * 35, Width::Double, 0);
        assert_eq!(guest.vgic.inject(V0, spi(3)), Kick::Vcpu(V1));
        assert!(guest.vgic.deliverable(V1, &guest.cpus[1], 0xf0));
        assert_eq!(guest.fill(V1).kick, Kick::Vcpu(V0));
        assert!(!guest.vgic.deliverable(V1, &guest.cpus[1], 0xf0));
        assert_eq!(guest.take(V0), Some(spi(3)));
    }

    #[test]
    fn another_vcpus_active_state_is_read_after_it_came_back() {
        let mut guest = Guest::new();
        guest.write(V0, DIST + 0x104, u32::MAX);
        let _ = guest.vgic.inject(V0, spi(3));
        assert_eq!(guest.take(V0), Some(spi(3)));
        let again = MmioRead::Again(Kick::Vcpu(V0));
        assert_eq!(guest.read_wide(V1, DIST + 0x304, Width::Word), again);
        assert_eq!(guest.read_wide(V1, DIST + 0x304, Width::Word), again);
        let _ = guest.fill(V0);
        assert_eq!(guest.read(V1, DIST + 0x304), 1 << 3);
        guest.end(V0, spi(3));
        assert_eq!(guest.read_wide(V1, DIST + 0x304, Width::Word), again);
        let _ = guest.fill(V0);
        assert_eq!(guest.read(V1, DIST + 0x304), 0);
    }

    #[test]
    fn turning_the_distributor_off_withdraws_what_is_pending() {
        let mut guest = Guest::new();
        let _ = guest.vgic.inject(V1, Irq::sgi(1));
        let _ = guest.fill(V1);
        assert_eq!(guest.work(V0, DIST, 0).kick, Kick::Vcpu(V1));
        assert_eq!(guest.take(V1), None);
        assert_eq!(guest.work(V0, DIST, 2).kick, Kick::Vcpu(V1));
        assert_eq!(guest.take(V1), Some(Irq::sgi(1)));
        assert_eq!(guest.read(V0, DIST), 0x12);
    }

    #[test]
    fn identification_is_that_of_a_gicv3() {
        let mut guest = Guest::new();
        assert_eq!(guest.read(V0, DIST + 4), 1 << 25 | 9 << 19 | 1 << 5 | 2);
        assert_eq!(guest.read(V0, DIST + 0xc), 0);
        assert_eq!(guest.read(V0, DIST + 0xffe8), 0x30);
        assert_eq!(guest.read(V0, REDIST + 0xffe8), 0x30);
        assert_eq!(guest.read(V0, REDIST + 0x14), 0);
        let second = REDIST + 0x2_0000 + 8;
        assert_eq!(guest.read_wide(V0, second, Width::Double), MmioRead::Value(1 << 32 | 0x110));
        assert_eq!(guest.read(V0, REDIST + 8), 0);
        assert_eq!(guest.vgic.locate(GuestAddr::new(REDIST + 0x4_0000)), None);
        assert_eq!(guest.vgic.locate(GuestAddr::new(DIST - 1)), None);
        // A vCPU's own interrupts are not in the distributor, and a wrong width finds nothing.
        assert_eq!(guest.read(V0, DIST + 0x100), 0);
        assert_eq!(guest.read_wide(V0, DIST + 0x104, Width::Byte), MmioRead::Value(0));
    }

    #[test]
    fn special_numbers_are_no_interrupts() {
        let mut guest = Guest::new();
        let layout = guest.vgic.layout.clone();
        guest.vgic = Vgic::new(VgicConfig { vcpus: 2, spis: 992, layout });
        let _ = guest.vgic.load(V0);
        guest.write(V0, DIST, 0x12);
        guest.write(V0, DIST + 0x17c, u32::MAX);
        guest.write(V0, DIST + 0x27c, 0xf000_0000);
        assert_eq!(guest.read(V0, DIST + 0x27c), 0);
        assert_eq!(guest.read(V0, DIST + 0x17c), 0x0fff_ffff);
        assert_eq!(guest.take(V0), None);
        assert!(!guest.vgic.needs_fill(V0));
        guest.write(V0, DIST + 0x27c, 1 << 27);
        assert_eq!(guest.take(V0), Irq::new(1019));
    }

    #[test]
    fn triggers_and_priorities_read_back_as_written() {
        let mut guest = Guest::new();
        let _ = guest.vgic.assign_hardware(spi(1));
        let work = guest.work(V0, DIST + 0xc08, 0b1000);
        assert_eq!((work.hardware.edge, work.hardware.level), (1 << 1, 0));
        assert_eq!(guest.read(V0, DIST + 0xc08), 0b1000);
        assert_eq!(guest.work(V0, DIST + 0xc08, 0).hardware.level, 1 << 1);
        guest.write(V0, REDIST + SGI + 0xc00, 0);
        assert_eq!(guest.read(V0, REDIST + SGI + 0xc00), 0xaaaa_aaaa);
        guest.write(V0, REDIST + SGI + 0x404, 0xa7_a0_ff_08);
        assert_eq!(guest.read(V0, REDIST + SGI + 0x404), 0xa0_a0_f8_08);
        let byte = guest.read_wide(V0, REDIST + SGI + 0x405, Width::Byte);
        assert_eq!(byte, MmioRead::Value(0xf8));
    }

    #[test]
    fn a_waiting_vcpu_sees_what_its_mask_lets_through() {
        let mut guest = Guest::new();
        let _ = guest.write_wide(V0, REDIST + SGI + 0x401, Width::Byte, 0xa0);
        assert!(!guest.vgic.deliverable(V0, &guest.cpus[0], 0xf0));
        let _ = guest.vgic.inject(V0, Irq::sgi(1));
        for _ in 0..2 {
            assert!(guest.vgic.deliverable(V0, &guest.cpus[0], 0xf0));
            assert!(!guest.vgic.deliverable(V0, &guest.cpus[0], 0xa0));
            let _ = guest.fill(V0);
        }
        assert_eq!(guest.take(V0), Some(Irq::sgi(1)));
        assert!(!guest.vgic.deliverable(V0, &guest.cpus[0], 0xf0));
    }

    #[test]
    fn a_domain_that_ends_gives_its_physical_interrupts_back() {
        let mut guest = Guest::new();
        let _ = guest.vgic.assign_hardware(spi(2));
        let _ = guest.vgic.assign_hardware(spi(40));
        assert_eq!(guest.vgic.hardware_aimed_at(V0).collect::<Vec<_>>(), [spi(2), spi(40)]);
        let works: Vec<_> = guest.vgic.release_all_hardware().collect();
        assert_eq!(works.len(), 2);
        assert_eq!((works[0].base, works[0].disable, works[0].deactivate), (32, 4, 4));
        assert!(!guest.vgic.is_hardware(spi(2)));
    }

    #[test]
    fn affinities_are_16_to_a_cluster() {
        assert_eq!(affinity(VcpuId(17)), 0x101);
        assert_eq!(vcpu_with_affinity(0x101, 18), Some(VcpuId(17)));
        assert_eq!(vcpu_with_affinity(0x101, 17), None);
        assert_eq!(vcpu_with_affinity(0x10, 128), None);
        assert_eq!(vcpu_with_affinity(0x1_0000, 128), None);
    }
}
