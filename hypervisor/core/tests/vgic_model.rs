//! `Vgic` against a model of the architecture that keeps one record an interrupt.
//!
//! After each step a vCPU that is loaded must be offered the most urgent interrupt it may take, and no
//! other; a physical interrupt must be active for exactly as long as a virtual one stands for it.
#![expect(clippy::indexing_slicing, reason = "vCPUs and interrupts are in range as generated")]

use hv_core::{
    addr::GuestAddr,
    exit::Width,
    ids::{Irq, VcpuId},
    vgic::{
        FakeListRegisters, Injected, Kick, Layout, Maintenance, MmioRead, RedistributorRegion,
        SgiRequest, Source, Vgic, VgicConfig, Work,
    },
};
use proptest::prelude::{Strategy, any, prop_oneof, proptest};

const VCPUS: usize = 2;
const DIST: u64 = 0x0300_1000;
const REDIST: u64 = 0x0302_0000;
const PPI_HARDWARE: u32 = 27;
const SPI_HARDWARE: u32 = 33;
const INTIDS: [u32; 6] = [1, PPI_HARDWARE, 31, 32, SPI_HARDWARE, 34];
/// With as many list registers as this, no interrupt ever lacks one.
const PLENTY: usize = 8;

/// An interrupt of the model.
#[derive(Clone, Copy, Debug, Default)]
struct Interrupt {
    latch: bool,
    line: bool,
    edge: bool,
    enabled: bool,
    active: bool,
    owner: usize,
    hw_pending: bool,
    hw_active: bool,
    /// Of a GICv2's SGI: which vCPUs' wait, the latch being whether there is one.
    senders: u8,
    priority: u8,
    target: usize,
}

impl Interrupt {
    fn pending(&self) -> bool {
        self.latch || self.line && !self.edge
    }

    fn stands_for_physical(&self) -> bool {
        self.hw_pending || self.hw_active
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Inject { vcpu: usize, which: usize },
    Line { vcpu: usize, which: usize, high: bool },
    Physical { vcpu: usize, which: bool },
    Sgi { from: usize, mask: u8 },
    Take { vcpu: usize },
    End { vcpu: usize },
    Enable { writer: usize, owner: usize, which: usize, on: bool },
    Pending { writer: usize, owner: usize, which: usize, on: bool },
    Active { writer: usize, owner: usize, which: usize, on: bool },
    Edge { writer: usize, which: usize, edge: bool },
    Priority { writer: usize, which: usize, level: u8 },
    Route { writer: usize, which: usize, target: usize },
    Distributor { writer: usize, on: bool },
    Move { vcpu: usize },
    Read { reader: usize, owner: usize, active: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let vcpu = || 0..VCPUS;
    let which = || 0..INTIDS.len();
    prop_oneof![
        4 => (vcpu(), which()).prop_map(|(vcpu, which)| Step::Inject { vcpu, which }),
        2 => (vcpu(), which(), any::<bool>())
            .prop_map(|(vcpu, which, high)| Step::Line { vcpu, which, high }),
        3 => (vcpu(), any::<bool>()).prop_map(|(vcpu, which)| Step::Physical { vcpu, which }),
        2 => (vcpu(), 0..4_u8).prop_map(|(from, mask)| Step::Sgi { from, mask }),
        8 => vcpu().prop_map(|vcpu| Step::Take { vcpu }),
        8 => vcpu().prop_map(|vcpu| Step::End { vcpu }),
        2 => (vcpu(), vcpu(), which(), any::<bool>())
            .prop_map(|(writer, owner, which, on)| Step::Enable { writer, owner, which, on }),
        2 => (vcpu(), vcpu(), which(), any::<bool>())
            .prop_map(|(writer, owner, which, on)| Step::Pending { writer, owner, which, on }),
        2 => (vcpu(), vcpu(), which(), any::<bool>())
            .prop_map(|(writer, owner, which, on)| Step::Active { writer, owner, which, on }),
        1 => (vcpu(), which(), any::<bool>())
            .prop_map(|(writer, which, edge)| Step::Edge { writer, which, edge }),
        1 => (vcpu(), which(), 0..4_u8)
            .prop_map(|(writer, which, level)| Step::Priority { writer, which, level }),
        2 => (vcpu(), which(), vcpu())
            .prop_map(|(writer, which, target)| Step::Route { writer, which, target }),
        1 => (vcpu(), any::<bool>()).prop_map(|(writer, on)| Step::Distributor { writer, on }),
        1 => vcpu().prop_map(|vcpu| Step::Move { vcpu }),
        3 => (vcpu(), vcpu(), any::<bool>())
            .prop_map(|(reader, owner, active)| Step::Read { reader, owner, active }),
    ]
}

/// Which controller the guest has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    V2,
    V3,
}

/// The controller and its model, side by side.
struct Bench {
    version: Version,
    vgic: Vgic,
    cpus: Vec<FakeListRegisters>,
    maintenance: [Maintenance; VCPUS],
    dirty: [bool; VCPUS],
    loaded: [bool; VCPUS],
    /// The model: by vCPU, then by place in `INTIDS`; a shared interrupt is vCPU 0's.
    model: [[Interrupt; INTIDS.len()]; VCPUS],
    on: bool,
    /// The physical PPI on each processor, and the physical SPI.
    ppi_active: [bool; VCPUS],
    spi_active: bool,
}

impl Bench {
    fn new(version: Version, list_registers: usize) -> Self {
        let region = RedistributorRegion { base: GuestAddr::new(REDIST), vcpus: 2 };
        let distributor = GuestAddr::new(DIST);
        let layout = match version {
            Version::V2 => Layout::V2 { distributor, interface: GuestAddr::new(DIST + 0x1000) },
            Version::V3 => {
                Layout::V3 { distributor, redistributors: [region].into_iter().collect() }
            }
        };
        let mut vgic = Vgic::new(VgicConfig { vcpus: 2, spis: 32, layout });
        for intid in [PPI_HARDWARE, SPI_HARDWARE] {
            let _ = vgic.assign_hardware(irq(intid));
        }
        let mut bench = Self {
            version,
            vgic,
            cpus: vec![FakeListRegisters::new(list_registers); VCPUS],
            maintenance: [Maintenance::empty(); VCPUS],
            dirty: [true; VCPUS],
            loaded: [true; VCPUS],
            model: Default::default(),
            on: false,
            ppi_active: [false; VCPUS],
            spi_active: false,
        };
        for vcpu in 0..VCPUS {
            assert_eq!(bench.vgic.load(id(vcpu)).0, 0);
            bench.model[vcpu][0].edge = true;
            for which in 0..INTIDS.len() {
                bench.step(Step::Enable { writer: vcpu, owner: vcpu, which, on: true });
            }
        }
        bench.step(Step::Distributor { writer: 0, on: true });
        bench
    }

    /// Returns where a vCPU's private interrupts are; a GICv2 shows each its own.
    fn private(&self, vcpu: usize) -> u64 {
        match self.version {
            Version::V2 => DIST,
            Version::V3 => REDIST + 0x2_0000 * vcpu as u64 + 0x1_0000,
        }
    }

    /// Says whether `writer` can reach the registers of `owner`'s interrupt.
    fn reaches(&self, writer: usize, owner: usize, which: usize) -> bool {
        self.version == Version::V3 || writer == owner || INTIDS[which] >= 32
    }

    fn plenty(&self) -> bool {
        use hv_core::vgic::ListRegisters;
        self.cpus[0].count() >= PLENTY
    }

    fn interrupt(&mut self, owner: usize, which: usize) -> &mut Interrupt {
        let owner = if INTIDS[which] < 32 { owner } else { 0 };
        &mut self.model[owner][which]
    }

    fn is_taken(&self, intid: u32) -> bool {
        self.cpus.iter().any(|cpu| cpu.running().iter().any(|(irq, _)| irq.intid() == intid))
    }

    fn kick(&mut self, kick: Kick) {
        for vcpu in kick.iter() {
            self.dirty[vcpu.index()] = true;
        }
    }

    fn work(&mut self, vcpu: usize, work: Work) {
        self.kick(work.kick);
        self.dirty[vcpu] = true;
        for irq in work.hardware.irqs(work.hardware.deactivate) {
            self.deactivate(vcpu, irq);
        }
    }

    fn deactivate(&mut self, cpu: usize, irq: Irq) {
        let active = match irq.intid() {
            PPI_HARDWARE => &mut self.ppi_active[cpu],
            SPI_HARDWARE => &mut self.spi_active,
            _ => panic!("{irq:?} stands for nothing physical"),
        };
        assert!(*active, "{irq:?} is deactivated twice");
        *active = false;
    }

    fn write(&mut self, writer: usize, address: u64, width: Width, value: u64) {
        let location = self.vgic.locate(GuestAddr::new(address)).expect("it is the controller's");
        let id = id(writer);
        let work = self.vgic.write(id, location, width, value, &mut self.cpus[writer]);
        self.work(writer, work);
    }

    /// Writes the bit of one interrupt in the registers that start at `offset`.
    fn write_bit(&mut self, writer: usize, owner: usize, which: usize, offset: u64) {
        let intid = INTIDS[which];
        let base = if intid < 32 { self.private(owner) } else { DIST + 4 };
        self.write(writer, base + offset, Width::Word, 1 << (intid % 32));
    }

    fn read(&mut self, reader: usize, address: u64) -> u64 {
        let location = self.vgic.locate(GuestAddr::new(address)).expect("it is the controller's");
        for _ in 0..4 {
            let id = id(reader);
            let read = self.vgic.read(id, location, Width::Word, &mut self.cpus[reader]);
            self.dirty[reader] |= self.vgic.needs_fill(id);
            match read {
                MmioRead::Value(value) => return value,
                MmioRead::Again(kick) => {
                    self.kick(kick);
                    self.settle();
                }
            }
        }
        panic!("the register's value never becomes known");
    }

    /// Lets each vCPU that was told come back and be filled.
    fn settle(&mut self) {
        for _ in 0..16 {
            for vcpu in 0..VCPUS {
                let deactivated = std::mem::take(&mut self.cpus[vcpu].deactivated);
                deactivated.into_iter().for_each(|irq| self.deactivate(vcpu, irq));
            }
            let calls = |vcpu: usize| self.cpus[vcpu].calls(self.maintenance[vcpu]);
            let due = |vcpu: &usize| self.loaded[*vcpu] && (self.dirty[*vcpu] || calls(*vcpu));
            let Some(vcpu) = (0..VCPUS).find(due) else { return };
            self.dirty[vcpu] = false;
            let filled = self.vgic.fill(id(vcpu), &mut self.cpus[vcpu]);
            self.maintenance[vcpu] = filled.maintenance;
            self.kick(filled.kick);
        }
        panic!("the processors never come to rest");
    }

    fn step(&mut self, step: Step) {
        // Only what runs can write.
        if let Step::Enable { writer, .. }
        | Step::Pending { writer, .. }
        | Step::Active { writer, .. }
        | Step::Edge { writer, .. }
        | Step::Priority { writer, .. }
        | Step::Route { writer, .. }
        | Step::Distributor { writer, .. } = step
            && !self.loaded[writer]
        {
            return;
        }
        match step {
            // A GICv2's SGIs always have a sender.
            Step::Inject { which: 0, .. } if self.version == Version::V2 => {}
            Step::Inject { vcpu, which } => {
                let irq = irq(INTIDS[which]);
                if !self.renew(vcpu, irq, Source::Software) {
                    let kick = self.vgic.inject(id(vcpu), irq);
                    self.kick(kick);
                }
                self.interrupt(vcpu, which).latch = true;
            }
            Step::Line { vcpu, which, high } => {
                // What stands for a physical interrupt has no emulated line, nor have SGIs.
                let is_sent = self.version == Version::V2 && INTIDS[which] < 16;
                if [PPI_HARDWARE, SPI_HARDWARE].contains(&INTIDS[which]) || is_sent {
                    return;
                }
                let irq = irq(INTIDS[which]);
                let kick = self.vgic.set_line(id(vcpu), irq, high);
                self.kick(kick);
                let interrupt = self.interrupt(vcpu, which);
                interrupt.latch |= high && !interrupt.line && interrupt.edge;
                interrupt.line = high;
            }
            Step::Physical { vcpu, which } => self.physical(vcpu, which),
            Step::Sgi { from, mask } => {
                let request = match self.version {
                    Version::V2 => {
                        SgiRequest::decode_v2(id(from), u32::from(mask) << 16 | 1).expect("a list")
                    }
                    Version::V3 => SgiRequest::decode(1 << 24 | u64::from(mask)),
                };
                let kick = if self.loaded[from] {
                    self.vgic.send_sgi_from_here(id(from), request, &mut self.cpus[from])
                } else {
                    self.vgic.send_sgi(id(from), request)
                };
                self.kick(kick);
                for vcpu in (0..VCPUS).filter(|vcpu| mask >> vcpu & 1 != 0) {
                    let interrupt = self.interrupt(vcpu, 0);
                    interrupt.latch = true;
                    interrupt.senders |= 1 << from;
                }
            }
            Step::Take { vcpu } => self.take(vcpu),
            Step::End { vcpu } => self.end(vcpu),
            Step::Enable { writer, owner, which, on } => {
                if !self.reaches(writer, owner, which) {
                    return;
                }
                self.write_bit(writer, owner, which, if on { 0x100 } else { 0x180 });
                self.interrupt(owner, which).enabled = on;
            }
            Step::Pending { writer, owner, which, on } => self.pending(writer, owner, which, on),
            Step::Active { writer, owner, which, on } => self.active(writer, owner, which, on),
            Step::Edge { writer, which, edge } if INTIDS[which] >= 16 => {
                self.configure(writer, which, edge);
            }
            Step::Priority { writer, which, level } => self.prioritise(writer, which, level),
            Step::Route { writer, which, target } if INTIDS[which] >= 32 => {
                let number = u64::from(INTIDS[which]);
                match self.version {
                    Version::V2 => {
                        self.write(writer, DIST + 0x800 + number, Width::Byte, 1 << target)
                    }
                    Version::V3 => {
                        self.write(
                            writer,
                            DIST + 0x6000 + 8 * number,
                            Width::Double,
                            target as u64,
                        );
                    }
                }
                self.interrupt(0, which).target = target;
            }
            Step::Edge { .. } | Step::Route { .. } => {}
            Step::Distributor { writer, on } => {
                let control = match self.version {
                    Version::V2 => u64::from(on),
                    Version::V3 => 0x10 | u64::from(on) << 1,
                };
                self.write(writer, DIST, Width::Word, control);
                self.on = on;
            }
            Step::Move { vcpu } => self.unload_or_load(vcpu),
            Step::Read { reader, owner, active } => self.compare(reader, owner, active),
        }
        self.settle();
        self.check();
    }

    fn renew(&mut self, vcpu: usize, irq: Irq, source: Source) -> bool {
        self.loaded[vcpu] && self.vgic.renew(id(vcpu), irq, source, &mut self.cpus[vcpu])
    }

    fn physical(&mut self, vcpu: usize, private: bool) {
        let which = if private { 1 } else { 4 };
        let active = if private { &mut self.ppi_active[vcpu] } else { &mut self.spi_active };
        if *active || private && !self.loaded[vcpu] {
            return;
        }
        *active = true;
        let irq = irq(INTIDS[which]);
        if !self.renew(vcpu, irq, Source::Physical) {
            let injected = self.vgic.inject_hardware(id(vcpu), irq);
            let Injected::Pending(kick) = injected else { panic!("{irq:?} stands for it") };
            self.kick(kick);
        }
        let interrupt = self.interrupt(vcpu, which);
        interrupt.latch = true;
        interrupt.hw_pending = true;
    }

    fn take(&mut self, vcpu: usize) {
        if !self.loaded[vcpu] {
            return;
        }
        let Some(irq) = self.cpus[vcpu].acknowledge() else { return };
        let which = place(irq);
        let sender = 1 << self.cpus[vcpu].sender;
        let tells = self.version == Version::V2 && irq.is_sgi();
        let interrupt = self.interrupt(vcpu, which);
        assert!(!tells || interrupt.senders & sender != 0, "{irq:?} was not sent by {sender:#b}");
        interrupt.senders &= !sender;
        interrupt.latch = tells && interrupt.senders != 0;
        interrupt.active = true;
        interrupt.owner = vcpu;
        interrupt.hw_active = std::mem::take(&mut interrupt.hw_pending);
    }

    fn end(&mut self, vcpu: usize) {
        if !self.loaded[vcpu] {
            return;
        }
        let Some(irq) = self.cpus[vcpu].end() else { return };
        let which = place(irq);
        let interrupt = self.interrupt(vcpu, which);
        if interrupt.active && interrupt.owner == vcpu {
            interrupt.active = false;
            interrupt.hw_active = false;
        }
    }

    fn pending(&mut self, writer: usize, owner: usize, which: usize, on: bool) {
        if INTIDS[which] == PPI_HARDWARE && writer != owner {
            return;
        }
        if !self.reaches(writer, owner, which) {
            return;
        }
        if self.version == Version::V2 && INTIDS[which] < 16 {
            // As if the other vCPU had sent it.
            let other = 1 - writer;
            let base = if on { 0xf20 } else { 0xf10 };
            self.write(writer, DIST + base + u64::from(INTIDS[which]), Width::Byte, 1 << other);
            let interrupt = self.interrupt(owner, which);
            interrupt.senders = interrupt.senders & !(1 << other) | u8::from(on) << other;
            interrupt.latch = interrupt.senders != 0;
            return;
        }
        self.write_bit(writer, owner, which, if on { 0x200 } else { 0x280 });
        let interrupt = self.interrupt(owner, which);
        interrupt.latch = on;
        interrupt.hw_pending &= on;
    }

    fn active(&mut self, writer: usize, owner: usize, which: usize, on: bool) {
        // An active interrupt that no end belongs to, or an end that no active interrupt belongs to,
        // makes the count of ends of those in no list register ambiguous.
        if !self.plenty() || INTIDS[which] == PPI_HARDWARE && writer != owner {
            return;
        }
        if !self.reaches(writer, owner, which) {
            return;
        }
        self.write_bit(writer, owner, which, if on { 0x300 } else { 0x380 });
        let interrupt = self.interrupt(owner, which);
        if on && !interrupt.active {
            interrupt.owner = if INTIDS[which] < 32 { owner } else { interrupt.target };
        }
        interrupt.active = on;
        interrupt.hw_active &= on;
    }

    fn configure(&mut self, writer: usize, which: usize, edge: bool) {
        let intid = INTIDS[which];
        let base = if intid < 32 { self.private(writer) } else { DIST };
        let address = base + 0xc00 + u64::from(intid / 16 * 4);
        let mut word = self.read(writer, address);
        let bit = 2 << (intid % 16 * 2);
        word = if edge { word | bit } else { word & !bit };
        self.write(writer, address, Width::Word, word);
        self.interrupt(writer, which).edge = edge;
        // A line that became one that counts, or no longer does, is looked at anew.
        let interrupt = *self.interrupt(writer, which);
        if intid != PPI_HARDWARE && intid != SPI_HARDWARE && interrupt.line {
            let irq = irq(intid);
            let kick = self.vgic.set_line(id(writer), irq, false);
            self.kick(kick);
            self.interrupt(writer, which).line = false;
        }
    }

    fn prioritise(&mut self, writer: usize, which: usize, level: u8) {
        let interrupt = *self.interrupt(writer, which);
        // One that waits in a list register keeps the priority it had.
        if interrupt.pending() || interrupt.active || self.is_taken(INTIDS[which]) {
            return;
        }
        let intid = INTIDS[which];
        let base = if intid < 32 { self.private(writer) } else { DIST };
        let priority = 0x80 + 0x10 * level;
        self.write(writer, base + 0x400 + u64::from(intid), Width::Byte, priority.into());
        self.interrupt(writer, which).priority = priority;
    }

    fn unload_or_load(&mut self, vcpu: usize) {
        let id = id(vcpu);
        let held = self.model[vcpu][1].stands_for_physical();
        let mask = if held { 1 << PPI_HARDWARE } else { 0 };
        self.loaded[vcpu] = !self.loaded[vcpu];
        if self.loaded[vcpu] {
            assert_eq!(self.vgic.load(id).0, mask);
            self.ppi_active[vcpu] = held;
            self.dirty[vcpu] = true;
        } else {
            let unloaded = self.vgic.unload(id, &mut self.cpus[vcpu]);
            self.kick(unloaded.kick);
            assert_eq!(unloaded.deactivate.0, mask);
            self.ppi_active[vcpu] = false;
            self.maintenance[vcpu] = Maintenance::empty();
        }
    }

    fn compare(&mut self, reader: usize, owner: usize, active: bool) {
        if !self.loaded[reader] {
            return;
        }
        let owner = if self.version == Version::V2 { reader } else { owner };
        let offset = if active { 0x300 } else { 0x200 };
        let private = self.private(owner);
        for (address, private) in [(private + offset, true), (DIST + 4 + offset, false)] {
            let value = self.read(reader, address);
            for (which, intid) in INTIDS.into_iter().enumerate() {
                if (intid < 32) == private {
                    let interrupt = *self.interrupt(owner, which);
                    let expected = if active { interrupt.active } else { interrupt.pending() };
                    assert_eq!(value >> (intid % 32) & 1 != 0, expected, "INTID {intid}");
                }
            }
        }
    }

    /// Compares what each vCPU is offered with what the model says it may take.
    fn check(&mut self) {
        for vcpu in 0..VCPUS {
            if !self.loaded[vcpu] {
                continue;
            }
            let running = self.cpus[vcpu].running().last().map_or(0x100, |(_, it)| (*it).into());
            let mut may_take = Vec::new();
            for (which, intid) in INTIDS.into_iter().enumerate() {
                let interrupt = *self.interrupt(vcpu, which);
                let mine = intid < 32 || interrupt.target == vcpu;
                if mine
                    && self.on
                    && interrupt.pending()
                    && interrupt.enabled
                    && !interrupt.active
                    && u16::from(interrupt.priority) < running
                {
                    may_take.push((interrupt.priority, intid));
                }
            }
            let best = may_take.iter().map(|(priority, _)| *priority).min();
            may_take.retain(|(priority, _)| Some(*priority) == best);
            let offered = self.cpus[vcpu].clone().acknowledge().map(Irq::intid);
            match offered {
                None => assert!(may_take.is_empty(), "vCPU {vcpu} is not offered {may_take:?}"),
                Some(intid) => assert!(
                    may_take.iter().any(|(_, it)| *it == intid),
                    "vCPU {vcpu} is offered INTID {intid}, not one of {may_take:?}"
                ),
            }
            let held = self.model[vcpu][1].stands_for_physical();
            assert_eq!(self.ppi_active[vcpu], held, "the physical PPI of {vcpu}");
        }
        // A vCPU that is not loaded cannot take its interrupts back, but nothing is lost with it.
        assert_eq!(self.spi_active, self.model[0][4].stands_for_physical(), "the physical SPI");
    }
}

fn irq(intid: u32) -> Irq {
    Irq::new(intid).expect("the model's interrupts exist")
}

fn id(vcpu: usize) -> VcpuId {
    VcpuId(u32::try_from(vcpu).expect("there are two"))
}

fn place(irq: Irq) -> usize {
    INTIDS.iter().position(|intid| *intid == irq.intid()).expect("only the model's are injected")
}

proptest! {
    #[test]
    fn a_gicv3_behaves_as_the_architecture_says(
        list_registers in prop_oneof![2..5_usize, PLENTY..PLENTY + 1],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut bench = Bench::new(Version::V3, list_registers);
        for step in steps {
            bench.step(step);
        }
    }

    #[test]
    fn a_gicv2_behaves_as_the_architecture_says(
        list_registers in prop_oneof![2..5_usize, PLENTY..PLENTY + 1],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut bench = Bench::new(Version::V2, list_registers);
        for step in steps {
            bench.step(step);
        }
    }
}

#[test]
fn the_end_of_an_interrupt_ends_what_another_vcpu_made_active_again_meanwhile() {
    for version in [Version::V2, Version::V3] {
        let mut bench = Bench::new(version, PLENTY);
        let active = |writer, on| Step::Active { writer, owner: 0, which: 3, on };
        bench.step(Step::Inject { vcpu: 0, which: 3 });
        bench.step(Step::Take { vcpu: 0 });
        bench.step(active(0, false));
        bench.step(active(1, true));
        bench.step(Step::End { vcpu: 0 });
        bench.step(Step::Read { reader: 0, owner: 0, active: true });
    }
}
