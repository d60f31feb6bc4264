//! `PortTable` against a naive model, with a guest that consumes events as Linux does.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use hv_core::{
    addr::MachineAddr,
    evtchn::{Delivery, EvtchnError, Notify, Peer, PortTable, Status},
    fake::FakeMemory,
    ids::{DomId, Port, VcpuId},
    memory::FrameMemory,
};
use proptest::prelude::{
    ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest,
};
use std::collections::{BTreeMap, BTreeSet};

const DOMAINS: u16 = 3;
const VCPUS: u32 = 2;
const LAST_PORT: u32 = 90;
const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const LINK: u32 = (1 << 17) - 1;

/// Where a domain's pages are: its shared page, then one control block a processor, then its words.
fn shared(dom: u16) -> MachineAddr {
    MachineAddr::new(0x4000_0000 + u64::from(dom) * 0x1_0000)
}

fn info(dom: u16, vcpu: u32) -> MachineAddr {
    MachineAddr::new(shared(dom).raw() + 0x1000 + u64::from(vcpu) * 64)
}

fn control(dom: u16, vcpu: u32) -> MachineAddr {
    MachineAddr::new(shared(dom).raw() + 0x2000 + u64::from(vcpu) * 0x1000)
}

fn words(dom: u16) -> MachineAddr {
    MachineAddr::new(shared(dom).raw() + 0x5000)
}

fn word(dom: u16, port: u32) -> MachineAddr {
    MachineAddr::new(words(dom).raw() + u64::from(port) * 4)
}

#[derive(Clone, Debug)]
enum Step {
    Alloc { dom: u16, remote: u16 },
    Bind { dom: u16, remote: u16, port: u32 },
    Ipi { dom: u16, vcpu: u32 },
    Virq { dom: u16, virq: u32, vcpu: u32 },
    Raise { dom: u16, virq: u32, vcpu: u32 },
    Close { dom: u16, port: u32 },
    Send { dom: u16, port: u32 },
    Mask { dom: u16, port: u32 },
    Unmask { dom: u16, port: u32 },
    BindVcpu { dom: u16, port: u32, vcpu: u32 },
    Priority { dom: u16, port: u32, priority: u32 },
    Fifo { dom: u16 },
    Expand { dom: u16 },
    Consume { dom: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    let dom = || 0..DOMAINS;
    let port = || prop_oneof![8 => 1..12_u32, 1 => 60..70_u32, 1 => any::<u32>()];
    let vcpu = || prop_oneof![8 => 0..VCPUS, 1 => any::<u32>()];
    let virq = || prop_oneof![4 => 0..4_u32, 1 => any::<u32>()];
    prop_oneof![
        3 => (dom(), dom()).prop_map(|(dom, remote)| Step::Alloc { dom, remote }),
        4 => (dom(), dom(), port())
            .prop_map(|(dom, remote, port)| Step::Bind { dom, remote, port }),
        1 => (dom(), vcpu()).prop_map(|(dom, vcpu)| Step::Ipi { dom, vcpu }),
        1 => (dom(), virq(), vcpu()).prop_map(|(dom, virq, vcpu)| Step::Virq { dom, virq, vcpu }),
        1 => (dom(), 0..4_u32, 0..VCPUS)
            .prop_map(|(dom, virq, vcpu)| Step::Raise { dom, virq, vcpu }),
        2 => (dom(), port()).prop_map(|(dom, port)| Step::Close { dom, port }),
        8 => (dom(), port()).prop_map(|(dom, port)| Step::Send { dom, port }),
        2 => (dom(), 1..12_u32).prop_map(|(dom, port)| Step::Mask { dom, port }),
        2 => (dom(), port()).prop_map(|(dom, port)| Step::Unmask { dom, port }),
        2 => (dom(), port(), vcpu())
            .prop_map(|(dom, port, vcpu)| Step::BindVcpu { dom, port, vcpu }),
        2 => (dom(), port(), 0..18_u32)
            .prop_map(|(dom, port, priority)| Step::Priority { dom, port, priority }),
        1 => dom().prop_map(|dom| Step::Fifo { dom }),
        1 => dom().prop_map(|dom| Step::Expand { dom }),
        4 => dom().prop_map(|dom| Step::Consume { dom }),
    ]
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bound {
    Unbound(u16),
    Interdomain(u16, u32),
    Virq(u32),
    Ipi,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Abi {
    #[default]
    TwoLevel,
    /// There are no words yet: events wait.
    Empty,
    Fifo,
}

#[derive(Debug, Default)]
struct Domain {
    ports: BTreeMap<u32, (Bound, u32)>,
    virqs: BTreeMap<(u32, u32), u32>,
    pending: BTreeSet<u32>,
    masked: BTreeSet<u32>,
    abi: Abi,
}

/// The ports as a few maps, and every event as a member of a set.
struct Model {
    domains: Vec<Domain>,
}

impl Model {
    fn dom(&mut self, dom: u16) -> &mut Domain {
        &mut self.domains[usize::from(dom)]
    }

    fn raise(&mut self, dom: u16, port: u32) {
        self.dom(dom).pending.insert(port);
    }

    fn send(&mut self, dom: u16, port: u32) -> Result<(), EvtchnError> {
        match self.dom(dom).ports.get(&port) {
            Some((Bound::Unbound(_), _)) => Ok(()),
            Some((Bound::Interdomain(remote, port), _)) => {
                let (remote, port) = (*remote, *port);
                self.raise(remote, port);
                Ok(())
            }
            Some((Bound::Ipi, _)) => {
                self.raise(dom, port);
                Ok(())
            }
            Some((Bound::Virq(_), _)) | None => Err(EvtchnError::BadPort),
        }
    }

    fn close(&mut self, dom: u16, port: u32) -> Result<(), EvtchnError> {
        let (bound, _) = self.dom(dom).ports.remove(&port).ok_or(EvtchnError::BadPort)?;
        self.dom(dom).pending.remove(&port);
        self.dom(dom).virqs.retain(|_, bound| *bound != port);
        if let Bound::Interdomain(remote, remote_port) = bound {
            self.dom(remote).ports.get_mut(&remote_port).unwrap().0 = Bound::Unbound(dom);
        }
        Ok(())
    }
}

struct World {
    memory: FakeMemory,
    tables: Vec<PortTable>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let memory = FakeMemory::default();
        let mut tables = Vec::new();
        for dom in 0..DOMAINS {
            let mut table = PortTable::new(DomId(dom), LAST_PORT, LAST_PORT, VCPUS, shared(dom));
            for vcpu in 0..VCPUS {
                let told = table.register_vcpu_info(&memory, VcpuId(vcpu), info(dom, vcpu));
                assert_eq!(told.unwrap().upcall(), Some(VcpuId(vcpu)));
                // The guest takes the upcall that comes with it and finds nothing.
                memory.swap_u8(info(dom, vcpu), 0);
                memory.store_u64(MachineAddr::new(info(dom, vcpu).raw() + 8), 0);
            }
            tables.push(table);
        }
        let domains = (0..DOMAINS).map(|_| Domain::default()).collect();
        Self { memory, tables, model: Model { domains } }
    }

    /// Has the port that was just opened the lowest number that is free and in no queue?
    fn check_new(&self, dom: u16, port: u32) {
        let domain = &self.model.domains[usize::from(dom)];
        assert!(!domain.ports.contains_key(&port), "it was free");
        for lower in (1..port).filter(|lower| !domain.ports.contains_key(lower)) {
            let linked = self.memory.load_u32(word(dom, lower)) & LINKED != 0;
            assert!(domain.abi == Abi::Fifo && linked, "port {lower} was free");
        }
    }

    fn with_peer<R>(
        &mut self,
        dom: u16,
        remote: Option<u16>,
        action: impl FnOnce(&FakeMemory, &mut PortTable, Peer<'_>) -> R,
    ) -> R {
        let index = usize::from(dom);
        match remote {
            None => action(&self.memory, &mut self.tables[index], Peer::Nobody),
            Some(remote) if remote == dom => {
                action(&self.memory, &mut self.tables[index], Peer::Itself)
            }
            Some(remote) => {
                let [table, other] =
                    self.tables.get_disjoint_mut([index, usize::from(remote)]).unwrap();
                action(&self.memory, table, Peer::Other(other))
            }
        }
    }

    /// Nobody may be told who has nothing to look at.
    fn check_notify(&mut self, dom: u16, notify: Notify) {
        let told = self.tables[usize::from(dom)].take_told();
        assert_eq!(notify.has_more(), !told.upcalls.is_empty());
        assert!(told.pollers.is_empty());
        for vcpu in told.upcalls.chain(notify.upcall()) {
            assert_eq!(self.memory.load_u8(info(dom, vcpu.0)), 1);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Alloc { dom, remote } => {
                let opened =
                    self.tables[usize::from(dom)].alloc_unbound(&self.memory, DomId(remote));
                let Ok(Port(port)) = opened else { return self.check_full(dom) };
                self.check_new(dom, port);
                self.model.dom(dom).ports.insert(port, (Bound::Unbound(remote), 0));
            }
            Step::Bind { dom, remote, port } => self.bind(dom, remote, port),
            Step::Ipi { dom, vcpu } => {
                let opened = self.tables[usize::from(dom)].bind_ipi(&self.memory, vcpu);
                match opened {
                    Ok(Port(port)) => {
                        self.check_new(dom, port);
                        self.model.dom(dom).ports.insert(port, (Bound::Ipi, vcpu));
                    }
                    Err(EvtchnError::NoSuchVcpu) => assert!(vcpu >= VCPUS),
                    Err(error) => {
                        assert_eq!(error, EvtchnError::NoFreePort);
                        self.check_full(dom);
                    }
                }
            }
            Step::Virq { dom, virq, vcpu } => self.virq(dom, virq, vcpu),
            Step::Raise { dom, virq, vcpu } => {
                let table = &mut self.tables[usize::from(dom)];
                let virq = hv_core::evtchn::Virq::new(virq).unwrap();
                let notify = table.raise(&self.memory, virq, VcpuId(vcpu));
                self.check_notify(dom, notify);
                let on = if virq.is_global() { 0 } else { vcpu };
                let bound = self.model.dom(dom).virqs.get(&(virq.number(), on)).copied();
                if let Some(port) = bound {
                    self.model.raise(dom, port);
                }
            }
            Step::Close { dom, port } => {
                let peer = self.tables[usize::from(dom)].peer(port).map(|peer| peer.0);
                let outcome = self
                    .with_peer(dom, peer, |memory, table, peer| table.close(memory, port, peer));
                assert_eq!(outcome, self.model.close(dom, port));
            }
            Step::Send { dom, port } => self.send(dom, port),
            Step::Mask { dom, port } => self.mask(dom, port),
            Step::Unmask { dom, port } => {
                let notify = self.tables[usize::from(dom)].unmask(&self.memory, port);
                if let Ok(notify) = notify {
                    self.check_notify(dom, notify);
                }
                if self.model.dom(dom).ports.contains_key(&port) {
                    assert!(notify.is_ok());
                    self.model.dom(dom).masked.remove(&port);
                }
            }
            Step::BindVcpu { dom, port, vcpu } => {
                let outcome = self.tables[usize::from(dom)].bind_vcpu(port, vcpu);
                let expected = match self.model.dom(dom).ports.get_mut(&port) {
                    _ if vcpu >= VCPUS => Err(EvtchnError::NoSuchVcpu),
                    Some((Bound::Virq(0 | 1) | Bound::Ipi, _)) | None => Err(EvtchnError::BadPort),
                    Some((_, told)) => {
                        *told = vcpu;
                        Ok(())
                    }
                };
                assert_eq!(outcome, expected);
            }
            Step::Priority { dom, port, priority } => {
                let outcome = self.tables[usize::from(dom)].set_priority(port, priority);
                if outcome.is_ok() {
                    assert!(priority < 16 && self.model.dom(dom).abi != Abi::TwoLevel);
                    assert!(self.model.dom(dom).ports.contains_key(&port));
                }
            }
            Step::Fifo { dom } => self.fifo(dom),
            Step::Expand { dom } => {
                let table = &mut self.tables[usize::from(dom)];
                if self.model.domains[usize::from(dom)].abi == Abi::Empty {
                    let notify = table.expand_array(&self.memory, words(dom).frame()).unwrap();
                    self.check_notify(dom, notify);
                    self.model.dom(dom).abi = Abi::Fifo;
                }
            }
            Step::Consume { dom } => self.consume(dom),
        }
    }

    fn check_full(&self, dom: u16) {
        let domain = &self.model.domains[usize::from(dom)];
        for port in (1..=LAST_PORT).filter(|port| !domain.ports.contains_key(port)) {
            assert!(self.memory.load_u32(word(dom, port)) & LINKED != 0, "port {port} was free");
        }
    }

    fn bind(&mut self, dom: u16, remote: u16, port: u32) {
        let waits = self.model.dom(remote).ports.get(&port).map(|(bound, _)| *bound)
            == Some(Bound::Unbound(dom));
        let outcome = self.with_peer(dom, Some(remote), |memory, table, peer| {
            table.bind_interdomain(memory, peer, port)
        });
        match outcome {
            Ok((Port(local), notify)) => {
                assert!(waits);
                self.check_notify(dom, notify);
                self.check_new(dom, local);
                self.model.dom(dom).ports.insert(local, (Bound::Interdomain(remote, port), 0));
                self.model.dom(remote).ports.get_mut(&port).unwrap().0 =
                    Bound::Interdomain(dom, local);
                self.model.raise(dom, local);
            }
            Err(EvtchnError::NoFreePort) => self.check_full(dom),
            Err(error) => {
                assert_eq!(error, EvtchnError::BadPort);
                assert!(!waits);
            }
        }
    }

    fn virq(&mut self, dom: u16, virq: u32, vcpu: u32) {
        let outcome = self.tables[usize::from(dom)].bind_virq(&self.memory, virq, vcpu);
        let bound = self.model.dom(dom).virqs.contains_key(&(virq, vcpu));
        match outcome {
            Ok(Port(port)) => {
                assert!(!bound);
                self.check_new(dom, port);
                self.model.dom(dom).ports.insert(port, (Bound::Virq(virq), vcpu));
                self.model.dom(dom).virqs.insert((virq, vcpu), port);
            }
            Err(EvtchnError::Bound) => assert!(bound),
            Err(EvtchnError::BadVirq) => assert!(virq >= 24 || (virq > 1 && vcpu != 0)),
            Err(EvtchnError::NoSuchVcpu) => assert!(vcpu >= VCPUS),
            Err(error) => {
                assert_eq!(error, EvtchnError::NoFreePort);
                self.check_full(dom);
            }
        }
    }

    fn send(&mut self, dom: u16, port: u32) {
        let delivery = self.tables[usize::from(dom)].send(&self.memory, port);
        let expected = self.model.send(dom, port);
        match delivery {
            Ok(Delivery::Nowhere) => assert_eq!(expected, Ok(())),
            Ok(Delivery::Here(notify)) => {
                assert_eq!(expected, Ok(()));
                self.check_notify(dom, notify);
            }
            Ok(Delivery::To(event)) => {
                assert_eq!(expected, Ok(()));
                let target = &mut self.tables[usize::from(event.dom.0)];
                let hv_core::evtchn::Arrival::Guest(notify) = target.receive(&self.memory, event)
                else {
                    panic!("the hypervisor listens nowhere")
                };
                self.check_notify(event.dom.0, notify);
            }
            Err(error) => assert_eq!(expected, Err(error)),
        }
    }

    fn mask(&mut self, dom: u16, port: u32) {
        match self.model.dom(dom).abi {
            Abi::TwoLevel => {
                let at = MachineAddr::new(shared(dom).raw() + 560 + u64::from(port / 64) * 8);
                self.memory.fetch_or_u64(at, 1 << (port % 64));
            }
            Abi::Empty => return,
            Abi::Fifo => {
                self.memory.fetch_or_u32(word(dom, port), MASKED);
            }
        }
        self.model.dom(dom).masked.insert(port);
    }

    fn fifo(&mut self, dom: u16) {
        if self.model.dom(dom).abi != Abi::TwoLevel {
            return;
        }
        for vcpu in 0..VCPUS {
            let table = &mut self.tables[usize::from(dom)];
            table.init_control(&self.memory, vcpu, control(dom, vcpu).frame(), 0).unwrap();
        }
        self.model.dom(dom).abi = Abi::Empty;
        // The words say who is masked from now on, and they are all zero.
        self.model.dom(dom).masked.clear();
    }

    /// Takes every event the guest can see; those must be what is pending and not masked.
    fn consume(&mut self, dom: u16) {
        let mut seen = BTreeSet::new();
        for vcpu in 0..VCPUS {
            if self.memory.swap_u8(info(dom, vcpu), 0) == 0 {
                continue;
            }
            match self.model.dom(dom).abi {
                Abi::TwoLevel => take_two_level(&self.memory, dom, vcpu, &mut seen),
                Abi::Empty => {}
                Abi::Fifo => take_fifo(&self.memory, control(dom, vcpu), words(dom), &mut seen),
            }
        }
        let domain = self.model.dom(dom);
        let mut expected: BTreeSet<u32> =
            domain.pending.difference(&domain.masked).copied().collect();
        if domain.abi == Abi::Empty {
            expected.clear();
        }
        domain.pending.retain(|port| !expected.contains(port));
        assert_eq!(seen, expected);
    }

    fn check_status(&self) {
        for (table, domain) in self.tables.iter().zip(&self.model.domains) {
            assert_eq!(table.open_ports() as usize, domain.ports.len());
            for (port, (bound, vcpu)) in &domain.ports {
                let expected = match *bound {
                    Bound::Unbound(remote) => Status::Unbound(DomId(remote)),
                    Bound::Interdomain(remote, port) => {
                        Status::Interdomain(DomId(remote), Port(port))
                    }
                    Bound::Virq(virq) => Status::Virq(hv_core::evtchn::Virq::new(virq).unwrap()),
                    Bound::Ipi => Status::Ipi,
                };
                assert_eq!(table.status(*port), Ok((expected, VcpuId(*vcpu))));
            }
        }
    }
}

fn take_two_level(memory: &FakeMemory, dom: u16, vcpu: u32, seen: &mut BTreeSet<u32>) {
    let selector = MachineAddr::new(info(dom, vcpu).raw() + 8);
    let selected = memory.fetch_and_u64(selector, 0);
    for index in (0..64_u32).filter(|index| selected >> index & 1 != 0) {
        let at = |base: u64| MachineAddr::new(shared(dom).raw() + base + u64::from(index) * 8);
        let ready = memory.load_u64(at(48)) & !memory.load_u64(at(560));
        memory.fetch_and_u64(at(48), !ready);
        seen.extend((0..64).filter(|bit| ready >> bit & 1 != 0).map(|bit| index * 64 + bit));
    }
}

/// Empties all queues of a processor, the most urgent first, as Linux's `events_fifo.c` does.
fn take_fifo(
    memory: &FakeMemory,
    control: MachineAddr,
    words: MachineAddr,
    seen: &mut BTreeSet<u32>,
) {
    let word = |port: u32| MachineAddr::new(words.raw() + u64::from(port) * 4);
    loop {
        let ready = memory.fetch_and_u32(control, 0);
        if ready == 0 {
            return;
        }
        for queue in (0..16_u64).filter(|queue| ready >> queue & 1 != 0) {
            let mut port = memory.load_u32(MachineAddr::new(control.raw() + 8 + queue * 4));
            while port != 0 {
                let old = memory.fetch_and_u32(word(port), !(LINKED | LINK));
                if old & (PENDING | MASKED) == PENDING {
                    memory.fetch_and_u32(word(port), !PENDING);
                    seen.insert(port);
                }
                port = old & LINK;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_port_and_event_is_as_the_model_says(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.check_status();
        for dom in 0..DOMAINS {
            world.take(&Step::Consume { dom });
        }
    }

    #[test]
    fn a_guest_that_writes_anything_anywhere_breaks_only_itself(
        steps in prop::collection::vec((step(), any::<u16>(), any::<u32>()), 1..150),
    ) {
        let mut world = World::new();
        world.take(&Step::Fifo { dom: 1 });
        world.take(&Step::Expand { dom: 1 });
        for (step, offset, value) in &steps {
            // Its own pages only: from its shared page on, which is 64 KiB apart from the next.
            let at = shared(1).raw() + u64::from(*offset) / 4 * 4;
            world.memory.store_u32(MachineAddr::new(at), *value);
            let memory = &world.memory;
            let table = &mut world.tables[1];
            match *step {
                Step::Send { port, .. } => _ = table.send(memory, port),
                Step::Unmask { port, .. } => _ = table.unmask(memory, port),
                Step::Ipi { vcpu, .. } => _ = table.bind_ipi(memory, vcpu),
                Step::Alloc { .. } => _ = table.alloc_unbound(memory, DomId(1)),
                Step::Bind { port, .. } => {
                    _ = table.bind_interdomain(memory, Peer::Itself, port);
                }
                Step::Close { port, .. } => _ = table.close(memory, port, Peer::Itself),
                Step::Priority { port, priority, .. } => _ = table.set_priority(port, priority),
                Step::BindVcpu { port, vcpu, .. } => _ = table.bind_vcpu(port, vcpu),
                _ => {}
            }
        }
        for dom in [0, 2] {
            for offset in (0..0x6000).step_by(8).filter(|offset| offset / 0x1000 != 1) {
                let at = MachineAddr::new(shared(dom).raw() + offset);
                prop_assert_eq!(world.memory.load_u64(at), 0);
            }
        }
        prop_assert_eq!(world.tables[0].open_ports() + world.tables[2].open_ports(), 0);
    }
}

#[test]
fn a_guest_that_consumes_at_the_same_time_loses_nothing() {
    const EVENTS: u32 = 5_000;
    let memory = FakeMemory::default();
    let mut table = PortTable::new(DomId(0), 1023, 63, 1, shared(0));
    let ports: Vec<u32> = (0..40).map(|_| table.bind_ipi(&memory, 0).unwrap().number()).collect();
    table.init_control(&memory, 0, control(0, 0).frame(), 0).unwrap();
    assert!(table.expand_array(&memory, words(0).frame()).unwrap().is_none());
    for port in &ports {
        table.set_priority(*port, port % 3).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let ordering = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            let mut total = 0;
            loop {
                let last = done.load(ordering);
                let mut seen = BTreeSet::new();
                take_fifo(&memory, control(0, 0), words(0), &mut seen);
                total += seen.len();
                if last {
                    return total;
                }
            }
        });
        let mut state = 12345_u32;
        for _ in 0..EVENTS {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let port = ports[(state >> 16) as usize % ports.len()];
            let Ok(Delivery::Here(_)) = table.send(&memory, port) else {
                panic!("the port is open")
            };
        }
        done.store(true, ordering);
        assert!(consumer.join().unwrap() > 0);
    });
    for port in ports {
        assert_eq!(memory.load_u32(word(0, port)), 0, "port {port} is left in a queue");
    }
}
