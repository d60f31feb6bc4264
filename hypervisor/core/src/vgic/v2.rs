//! What is particular to GICv2: targets by bits of a byte, and software-generated interrupts that remember
//! who sent them.
//!
//! Offsets and behaviour: GICv2 architecture (IHI 0048) 4.3, "Distributor register descriptions". There is
//! one security state, so that a guest's interrupts are group 0 and `GICD_CTLR` has one bit for them. A
//! vCPU's own interrupts are in the distributor too, each vCPU seeing its own.

use super::dist::{Field, IIDR, MmioRead, Work, low_word, width_bytes};
use super::interrupt::{BANK, SGIS};
use super::{HardwareWork, Kick, Layout, ListRegisters, Route, SgiRequest, SgiTargets, Vgic};
use crate::bits::ones;
use crate::exit::Width;
use crate::ids::{Irq, VcpuId};

/// `GICD_CTLR.EnableGrp0`.
pub(super) const ENABLE: u32 = 1 << 0;
/// `GICD_ICPIDR2`: GIC architecture 2.
const PIDR2: u32 = 0x20;
const SGI_COUNT: usize = 16;
/// `GICD_SGIR`.
const SGIR: u64 = 0xf00;

/// Who sent the software-generated interrupts of one vCPU that wait, and those it has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Senders {
    /// A bit for each vCPU that sent interrupt `n`.
    waiting: [u8; SGI_COUNT],
    /// The vCPU that sent the interrupt `n` that is active.
    active: [Option<u8>; SGI_COUNT],
}

/// A sender whose interrupt goes into a list register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// The vCPU.
    pub(super) sender: u8,
    /// Whether another one's waits behind it.
    pub(super) more: bool,
}

impl Senders {
    /// Nobody.
    pub(super) const NOBODY: Self = Self { waiting: [0; SGI_COUNT], active: [None; SGI_COUNT] };

    /// Takes one of those that sent `irq`; nothing where senders are not told apart.
    pub(super) fn take(&mut self, irq: Irq) -> Option<Sent> {
        let waiting = self.waiting.get_mut(irq.index()).filter(|waiting| **waiting != 0)?;
        let sender = waiting.trailing_zeros().to_le_bytes()[0];
        *waiting &= *waiting - 1;
        Some(Sent { sender, more: *waiting != 0 })
    }

    /// Returns who sent `irq`, which is active; nothing where senders are not told apart.
    pub(super) fn active(&self, irq: Irq) -> Option<u8> {
        self.active.get(irq.index()).copied().flatten()
    }

    /// Notes who sent the interrupt that is active.
    pub(super) fn note_active(&mut self, intid: u32, sender: Option<u8>) {
        if let Some(active) = self.active.get_mut(intid as usize) {
            *active = sender;
        }
    }

    /// Takes back what was taken out and has not reached the guest.
    pub(super) fn give_back(&mut self, intid: u32, sender: Option<u8>) {
        if let (Some(waiting), Some(sender)) = (self.waiting.get_mut(intid as usize), sender) {
            *waiting |= 1 << sender;
        }
    }
}

impl Vgic {
    pub(super) fn read_distributor_v2(
        &mut self,
        reader: VcpuId,
        offset: u64,
        width: Width,
        registers: &mut impl ListRegisters,
    ) -> MmioRead {
        match (offset, width) {
            (0x0, Width::Word) => MmioRead::Value(self.control.into()),
            (0x4, Width::Word) => MmioRead::Value(self.typer_v2().into()),
            (0x8, Width::Word) => MmioRead::Value(IIDR.into()),
            (0xfe8, Width::Word) => MmioRead::Value(PIDR2.into()),
            _ => self.read_interrupts_v2(reader, offset, width, registers),
        }
    }

    /// Reads what the distributor has for each interrupt: a function of its own, whose registers the others need not save.
    #[inline(never)]
    fn read_interrupts_v2(
        &mut self,
        reader: VcpuId,
        offset: u64,
        width: Width,
        registers: &mut impl ListRegisters,
    ) -> MmioRead {
        if let Some(field) = Field::decode(offset, width) {
            return self.read_field(reader, reader, field, width, registers);
        }
        if let Some(first) = sender_bytes(offset, width) {
            return match self.see_truth(reader, reader, 0, registers) {
                Ok(Kick::Nobody) => MmioRead::Value(self.senders(reader, first, width)),
                Ok(kick) | Err(kick) => MmioRead::Again(kick),
            };
        }
        MmioRead::Value(match (offset, width) {
            (0x800..0xc00, Width::Byte | Width::Word) => self.targets(reader, offset, width),
            _ => 0,
        })
    }

    pub(super) fn write_distributor_v2(
        &mut self,
        writer: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
        registers: &mut impl ListRegisters,
    ) -> Work {
        if offset == SGIR && width == Width::Word {
            let request = SgiRequest::decode_v2(writer, low_word(value));
            return request.map_or(Work::default(), |request| {
                self.send_sgi_from_here(writer, request, registers).into()
            });
        }
        if let Some(field) = Field::decode(offset, width) {
            // Who made a software-generated interrupt pending is written elsewhere.
            let fixed = if field.is_private() && field.is_pending() { SGIS } else { 0 };
            let value = value & !u64::from(fixed);
            return self.write_field(writer, writer, field, width, value, registers);
        }
        match (offset, width) {
            (0x0, Width::Word) => {
                self.write_control(writer, low_word(value) & ENABLE, registers).into()
            }
            (0x800..0xc00, Width::Byte | Width::Word) => {
                self.write_targets(writer, offset, width, low_word(value), registers)
            }
            _ => match sender_bytes(offset, width) {
                Some(first) => {
                    let set = offset >= 0xf20;
                    self.write_senders(writer, first, width, low_word(value), set, registers)
                }
                None => Work::default(),
            },
        }
    }

    /// Says whether `irq` tells its receiver who sent it.
    pub(super) fn names_sender(&self, irq: Irq) -> bool {
        irq.is_sgi() && matches!(self.layout, Layout::V2 { .. })
    }

    /// Makes software-generated interrupt `irq` of `from` wait at `to`.
    pub(super) fn inject_from(&mut self, from: VcpuId, to: VcpuId, irq: Irq) -> Kick {
        let Some(interface) = self.interfaces.get_mut(to.index()) else { return Kick::Nobody };
        let Some(waiting) = interface.senders.waiting.get_mut(irq.index()) else {
            return Kick::Nobody;
        };
        let sender = 1 << (from.0 & 0b111);
        if *waiting & sender != 0 {
            return Kick::Nobody;
        }
        *waiting |= sender;
        if let Some(state) = self.bank_mut(to, 0) {
            state.latched |= 1 << irq.intid();
        }
        self.requeue(to, 0, irq.intid())
    }

    /// `GICD_TYPER`: processors and interrupt lines.
    fn typer_v2(&self) -> u32 {
        (self.vcpus() - 1).min(7) << 5 | u32::try_from(self.shared.len()).unwrap_or(31)
    }

    /// Returns a bit for each vCPU there is.
    fn existing_vcpus(&self) -> u32 {
        u32::MAX >> (u32::BITS - self.vcpus().min(8))
    }

    /// Returns the targets of the interrupts at `offset`, a byte each. A private one's is its reader.
    fn targets(&self, reader: VcpuId, offset: u64, width: Width) -> u64 {
        let first = low_word(offset - 0x800);
        (0..width_bytes(width)).fold(0, |word, byte| {
            let (bank, index) = ((first + byte) / BANK, (first + byte) % BANK);
            let target = match bank {
                0 => Some(reader),
                _ => self.bank(reader, bank as usize).map(|state| state.target(index)),
            };
            let bit = target.map_or(0, |target| 1 << (target.0 & 0b111));
            word | bit << (8 * byte)
        })
    }

    /// Aims shared interrupts at vCPUs. Of several the first is taken, as on Xen; none leaves it as it is.
    fn write_targets(
        &mut self,
        writer: VcpuId,
        offset: u64,
        width: Width,
        value: u32,
        registers: &mut impl ListRegisters,
    ) -> Work {
        let first = low_word(offset - 0x800);
        if first < BANK {
            return Work::default();
        }
        let mut work: Work = self.fold(writer, registers).into();
        let mut route = [Route::NONE; 4];
        for (byte, route) in (0..width_bytes(width)).zip(&mut route) {
            let wanted = value >> (8 * byte) & self.existing_vcpus();
            let Some(irq) = Irq::new(first + byte).filter(|_| wanted != 0) else { continue };
            let target = VcpuId(wanted.trailing_zeros());
            let (bank, index) = (irq.index() / BANK as usize, irq.intid() % BANK);
            let one = self.retarget(bank, index, target);
            work.kick = work.kick.and(one.kick);
            let [to, ..] = one.hardware.route;
            *route = to;
        }
        // A word's four interrupts are of one bank.
        work.hardware = HardwareWork { base: first & !(BANK - 1), route, ..HardwareWork::NOTHING };
        work
    }

    /// Returns who sent the interrupts from `first` on that wait at `reader`, a byte each.
    fn senders(&self, reader: VcpuId, first: u32, width: Width) -> u64 {
        let Some(interface) = self.interfaces.get(reader.index()) else { return 0 };
        let waiting = interface.senders.waiting.iter().skip(first as usize);
        let bytes = (0..width_bytes(width)).zip(waiting);
        bytes.fold(0, |word, (byte, senders)| word | u64::from(*senders) << (8 * byte))
    }

    /// Makes interrupts from `first` on wait at their writer, or no longer, as if others had sent them.
    fn write_senders(
        &mut self,
        writer: VcpuId,
        first: u32,
        width: Width,
        value: u32,
        set: bool,
        registers: &mut impl ListRegisters,
    ) -> Work {
        let mut kick = self.fold(writer, registers);
        for byte in 0..width_bytes(width) {
            let senders = value >> (8 * byte) & self.existing_vcpus();
            let number = first + byte;
            if set {
                for from in ones(senders).map(VcpuId) {
                    kick = kick.and(self.inject_from(from, writer, Irq::sgi(number)));
                }
            } else {
                self.withdraw_from(senders.to_le_bytes()[0], writer, number);
                kick = kick.and(self.requeue(writer, 0, number));
            }
        }
        kick.into()
    }

    /// Forgets that these vCPUs sent software-generated interrupt `number` to `to`.
    fn withdraw_from(&mut self, senders: u8, to: VcpuId, number: u32) {
        let Some(interface) = self.interfaces.get_mut(to.index()) else { return };
        let Some(waiting) = interface.senders.waiting.get_mut(number as usize) else { return };
        *waiting &= !senders;
        let left = *waiting;
        if let Some(state) = self.bank_mut(to, 0).filter(|_| left == 0) {
            state.latched &= !(1 << number);
        }
    }
}

/// Returns the first interrupt that `GICD_CPENDSGIR` or `GICD_SPENDSGIR` at `offset` speaks of.
fn sender_bytes(offset: u64, width: Width) -> Option<u32> {
    let within = matches!(width, Width::Byte | Width::Word) && (0xf10..0xf30).contains(&offset);
    within.then(|| low_word(offset & 0xf))
}

impl SgiRequest {
    /// Decodes a write of `from` to `GICD_SGIR`; nothing if its filter is the reserved one.
    pub fn decode_v2(from: VcpuId, value: u32) -> Option<Self> {
        let [number, _, list, filter] = value.to_le_bytes();
        let own = 1 << (from.0 & 0b111);
        let targets = match filter & 0b11 {
            0 => SgiTargets::List { base: 0, mask: list.into() },
            1 => SgiTargets::Others,
            2 => SgiTargets::List { base: 0, mask: own },
            _ => return None,
        };
        Some(Self { irq: Irq::sgi(number.into()), targets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestAddr;
    use crate::vgic::{FakeListRegisters, VgicConfig};

    const V0: VcpuId = VcpuId(0);
    const V1: VcpuId = VcpuId(1);
    const GICD: u64 = 0x0300_1000;

    /// A domain of three vCPUs with everything on; the first two run.
    struct Guest {
        vgic: Vgic,
        cpus: [FakeListRegisters; 2],
    }

    impl Guest {
        fn new() -> Self {
            let distributor = GuestAddr::new(GICD);
            let interface = GuestAddr::new(GICD + 0x1000);
            let layout = Layout::V2 { distributor, interface };
            let vgic = Vgic::new(VgicConfig { vcpus: 3, spis: 64, layout });
            let cpus = core::array::from_fn(|_| FakeListRegisters::new(4));
            let mut guest = Self { vgic, cpus };
            for vcpu in [V0, V1] {
                let _ = guest.vgic.load(vcpu);
                let _ = guest.write(vcpu, 0x100, u32::MAX);
            }
            let _ = guest.write(V0, 0x104, u32::MAX);
            let _ = guest.write(V0, 0, 1);
            guest
        }

        fn write(&mut self, vcpu: VcpuId, offset: u64, value: u32) -> Work {
            self.write_width(vcpu, offset, Width::Word, value)
        }

        fn write_width(&mut self, vcpu: VcpuId, offset: u64, width: Width, value: u32) -> Work {
            let location = self.vgic.locate(GuestAddr::new(GICD + offset)).unwrap();
            let registers = &mut self.cpus[vcpu.index()];
            self.vgic.write(vcpu, location, width, value.into(), registers)
        }

        fn read(&mut self, vcpu: VcpuId, offset: u64) -> u64 {
            let location = self.vgic.locate(GuestAddr::new(GICD + offset)).unwrap();
            loop {
                let registers = &mut self.cpus[vcpu.index()];
                if let MmioRead::Value(value) =
                    self.vgic.read(vcpu, location, Width::Word, registers)
                {
                    return value;
                }
            }
        }

        /// Enters the guest, which takes an interrupt if there is one, and tells who sent it.
        fn take(&mut self, vcpu: VcpuId) -> Option<(u32, u8)> {
            let registers = &mut self.cpus[vcpu.index()];
            let _ = self.vgic.fill(vcpu, registers);
            registers.acknowledge().map(|irq| (irq.intid(), registers.sender))
        }

        fn end(&mut self, vcpu: VcpuId) {
            self.cpus[vcpu.index()].end().unwrap();
        }
    }

    #[test]
    fn identification_is_that_of_a_gicv2() {
        let mut guest = Guest::new();
        assert_eq!(guest.read(V0, 4), 2 << 5 | 2);
        assert_eq!((guest.read(V0, 8), guest.read(V0, 0xfe8)), (0x43b, 0x20));
        assert_eq!(guest.read(V0, 0), 1);
        assert_eq!(guest.vgic.locate(GuestAddr::new(GICD + 0x1000)), None);
    }

    #[test]
    fn each_vcpu_sees_its_own_private_interrupts() {
        let mut guest = Guest::new();
        let _ = guest.write(V0, 0x180, 1 << 20);
        let _ = guest.write_width(V1, 0x400 + 20, Width::Byte, 0x40);
        assert_eq!(guest.read(V0, 0x100) >> 20 & 1, 0);
        assert_eq!(guest.read(V1, 0x100) >> 20 & 1, 1);
        assert_eq!((guest.read(V0, 0x414), guest.read(V1, 0x414)), (0, 0x40));
    }

    #[test]
    fn the_targets_of_private_interrupts_are_their_reader() {
        let mut guest = Guest::new();
        assert_eq!(guest.read(V0, 0x800), 0x0101_0101);
        let _ = guest.write(V1, 0x81c, 0x0101_0101);
        assert_eq!(guest.read(V1, 0x81c), 0x0202_0202);
    }

    #[test]
    fn a_word_of_targets_sends_each_interrupt_its_own_way() {
        let mut guest = Guest::new();
        for number in 4..8 {
            let _ = guest.vgic.assign_hardware(Irq::spi(number).unwrap());
        }
        let work = guest.write(V0, 0x824, 0xff_08_02_04);
        let routes = work.hardware.route.map(|route| (route.irqs, route.to.0));
        assert_eq!(work.hardware.base, 32);
        assert_eq!(routes, [(1 << 4, 2), (1 << 5, 1), (0, 0), (0, 0)]);
        // A vCPU that does not exist changes nothing; of several the first is taken.
        assert_eq!(guest.read(V0, 0x824), 0x01_01_02_04);
        let _ = guest.write_width(V0, 0x827, Width::Byte, 0x06);
        assert_eq!(guest.read(V0, 0x824), 0x02_01_02_04);
        let _ = guest.vgic.inject(V0, Irq::spi(5).unwrap());
        assert_eq!((guest.take(V0), guest.take(V1)), (None, Some((37, 0))));
    }

    #[test]
    fn sgis_go_to_the_list_to_the_others_or_back() {
        let mut guest = Guest::new();
        assert_eq!(guest.write(V0, 0xf00, 0b010 << 16 | 3).kick, Kick::Vcpu(V1));
        assert_eq!(guest.take(V1), Some((3, 0)));
        guest.end(V1);
        let _ = guest.write(V1, 0xf00, 1 << 24 | 4);
        assert_eq!((guest.take(V0), guest.take(V1)), (Some((4, 1)), None));
        guest.end(V0);
        let _ = guest.write(V1, 0xf00, 2 << 24 | 5);
        assert_eq!((guest.take(V0), guest.take(V1)), (None, Some((5, 1))));
        guest.end(V1);
        assert_eq!(guest.write(V0, 0xf00, 3 << 24 | 5), Work::default());
    }

    #[test]
    fn an_sgi_to_oneself_goes_where_the_last_one_ended() {
        let mut guest = Guest::new();
        for _ in 0..2 {
            let _ = guest.write(V1, 0xf00, 2 << 24 | 9);
            assert_eq!(guest.take(V1), Some((9, 1)));
            guest.end(V1);
        }
        let _ = guest.write(V1, 0xf00, 2 << 24 | 9);
        assert!(!guest.vgic.needs_fill(V1));
        let taken = guest.cpus[1].acknowledge().map(Irq::intid);
        assert_eq!((taken, guest.cpus[1].sender), (Some(9), 1));
        // Not so while another one's waits.
        let _ = guest.write(V0, 0xf00, 0b010 << 16 | 9);
        guest.end(V1);
        let _ = guest.write(V1, 0xf00, 2 << 24 | 9);
        assert!(guest.vgic.needs_fill(V1));
        let mut senders = [0; 2];
        for sender in &mut senders {
            let taken = guest.take(V1);
            assert_eq!(taken.map(|(number, _)| number), Some(9));
            *sender = taken.unwrap().1;
            guest.end(V1);
        }
        assert_eq!((senders, guest.take(V1)), ([0, 1], None));
    }

    #[test]
    fn the_same_sgi_of_two_senders_comes_twice() {
        let mut guest = Guest::new();
        for sender in [V1, V0, V1] {
            let _ = guest.write(sender, 0xf00, 0b001 << 16 | 7);
        }
        assert_eq!(guest.read(V0, 0xf24), 0b011 << 24);
        assert_eq!(guest.take(V0), Some((7, 0)));
        assert_eq!(guest.take(V0), None, "it is active");
        assert!(guest.cpus[0].running().len() == 1);
        guest.end(V0);
        assert_eq!(guest.take(V0), Some((7, 1)));
        guest.end(V0);
        assert_eq!(guest.take(V0), None);
    }

    #[test]
    fn an_sgi_keeps_its_sender_when_its_vcpu_moves() {
        let mut guest = Guest::new();
        let _ = guest.write(V1, 0xf00, 0b001 << 16 | 7);
        assert_eq!(guest.take(V0), Some((7, 1)));
        let _ = guest.write(V0, 0xf00, 0b001 << 16 | 7);
        let _ = guest.vgic.unload(V0, &mut guest.cpus[0]);
        let _ = guest.vgic.load(V0);
        assert_eq!(guest.take(V0), None);
        let listed = (0..4).map(|slot| guest.cpus[0].read(slot)).find(|it| it.is_active()).unwrap();
        assert_eq!((listed.intid(), listed.sender()), (7, 1));
        guest.end(V0);
        assert_eq!(guest.take(V0), Some((7, 0)));
    }

    #[test]
    fn who_sent_an_sgi_is_read_set_and_cleared() {
        let mut guest = Guest::new();
        let _ = guest.write(V0, 0xf20, 0xff);
        assert_eq!(guest.read(V0, 0xf10), 0b111, "there are three vCPUs");
        assert_eq!(guest.read(V1, 0xf10), 0);
        assert_eq!(guest.read(V0, 0x200), 1);
        let _ = guest.write(V0, 0xf10, 0b101);
        // The plain registers only show what these say.
        let _ = guest.write(V0, 0x280, 1);
        let _ = guest.write(V0, 0x200, 2);
        assert_eq!(guest.read(V0, 0x280), 1);
        assert_eq!(guest.take(V0), Some((0, 1)));
        guest.end(V0);
        assert_eq!((guest.take(V0), guest.read(V0, 0x200)), (None, 0));
    }

    #[test]
    fn turned_off_it_signals_nothing() {
        let mut guest = Guest::new();
        let _ = guest.write(V0, 0, 0b10);
        assert_eq!(guest.read(V0, 0), 0);
        let _ = guest.vgic.inject(V0, Irq::ppi(15));
        assert_eq!(guest.take(V0), None);
        let _ = guest.write(V0, 0, 0b11);
        assert_eq!(guest.take(V0), Some((31, 0)));
    }
}
