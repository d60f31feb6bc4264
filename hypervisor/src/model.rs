//! Processors that run virtual ones at the same time, in many orders of their steps.
//!
//! Each processor is a thread of `shuttle`'s, which passes from one to another wherever the
//! hypervisor takes a lock or touches a word that others read ([`machine::step`]). What they run is
//! the hypervisor's own code but for the run loop, of which `vcpu` has the one that moves
//! registers. Guests are closures. A wake-up that is lost leaves all processors asleep, which
//! `shuttle` reports.
//!
//! Memory is sequentially consistent here: what needs a weaker one is for `loom`
//! (`hv_core::reach`).

use crate::domain::Domain;
use crate::domain::destroy::Progress;
use crate::hypercall::Caller;
use crate::machine::{self, GuestSpace, Lists, VcpuContext};
use crate::state::{Hypervisor, Processor};
use crate::switch::Taken;
use crate::testbed::Testbed;
use crate::trap::smc;
use hv_core::addr::GuestAddr;
use hv_core::exit::Width;
use hv_core::ids::{CpuId, DomId, VcpuId, VcpuRef};
use hv_core::sched::Hold;
use hv_core::sched::affinity::CpuSet;
use hv_core::time::Nanos;
use hv_core::vpsci;
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex as Modelled};
use shuttle::{Config, Runner, thread};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const CPUS: u32 = 2;
/// How long a guest runs from one entry to the next.
const ENTRY: u64 = 1_000_000;
/// Orders that each model tries: as many by chance, and as many in which somebody stalls.
const ORDERS: usize = 200;
/// How often somebody stalls.
const STALLS: usize = 3;
/// What chance begins with: a failure comes again. Change it to try other orders.
const SEED: u64 = 0x5eed;

thread_local! {
    /// What is modelled on this thread of the host, on which `shuttle` runs all of its own.
    static MODEL: RefCell<Option<Arc<Model>>> = const { RefCell::new(None) };
}

shuttle::thread_local! {
    /// The processor that a thread of `shuttle`'s is.
    static CPU: Cell<u32> = Cell::new(0);
}

/// Marks a place where another processor may go on, if this is a model.
pub(crate) fn step() {
    if let Some(model) = MODEL.with_borrow(Clone::clone) {
        model.point.load(Ordering::SeqCst);
    }
}

/// Has another processor go on, if this is a model.
pub(crate) fn relax() {
    if MODEL.with_borrow(Option::is_some) {
        thread::yield_now();
    }
}

/// Returns the processor this runs on, if this is a model.
pub(crate) fn this_cpu() -> Option<CpuId> {
    MODEL.with_borrow(Option::is_some).then(|| CpuId(CPU.with(Cell::get)))
}

/// Returns the list registers of this processor, if this is a model.
pub(crate) fn lists() -> Option<Lists> {
    let cpu = this_cpu()?;
    MODEL.with_borrow(|model| Some(model.as_ref()?.lists[cpu.index()].clone()))
}

/// Makes `cpu` leave its guest or its sleep, if this is a model.
pub(crate) fn interrupt(cpu: CpuId) {
    let Some(model) = MODEL.with_borrow(Clone::clone) else { return };
    let (waits, changed) = &model.interrupts[cpu.index()];
    *waits.lock().unwrap() = true;
    changed.notify_all();
}

/// What a guest does after it has done what it wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// It goes on.
    On,
    /// It stays in until an interrupt makes it leave.
    Spin,
}

/// What a guest does when it is entered: it has taken all its interrupts.
type Program = Box<dyn FnMut(&Caller<'_>, &mut VcpuContext) -> Next + Send>;

struct Model {
    bed: Testbed,
    /// Touched wherever another processor may go on.
    point: shuttle::sync::atomic::AtomicBool,
    interrupts: Vec<(Modelled<bool>, Condvar)>,
    lists: Vec<Lists>,
    programs: Mutex<HashMap<VcpuRef, Program>>,
    /// Guests that have not done yet what they are to do.
    busy: AtomicUsize,
}

impl Model {
    fn new() -> Arc<Self> {
        let model = Self {
            bed: Testbed::new(),
            point: Default::default(),
            interrupts: (0..CPUS).map(|_| Default::default()).collect(),
            lists: (0..CPUS).map(|_| Lists::new(4)).collect(),
            programs: Mutex::default(),
            busy: AtomicUsize::new(0),
        };
        for id in 0..3 {
            model.enable_interrupts(&model.bed.domain(id));
        }
        Arc::new(model)
    }

    fn enable_interrupts(&self, domain: &Domain) {
        let write = |vcpu, address, value| {
            let mut vgic = domain.vgic.lock();
            let location = vgic.locate(GuestAddr::new(address)).unwrap();
            let _ = vgic.write(vcpu, location, Width::Word, value, &mut Lists::new(4));
        };
        write(VcpuId(0), 0x0300_1000, 0x12);
        for vcpu in [0, 1] {
            write(VcpuId(vcpu), 0x0303_0100 + 0x2_0000 * u64::from(vcpu), 0xffff_ffff);
        }
    }

    /// Has a virtual processor run `program` until it is [`Model::done`]; the others turn
    /// themselves off.
    fn runs(
        &self,
        dom: u16,
        vcpu: u32,
        program: impl FnMut(&Caller<'_>, &mut VcpuContext) -> Next + Send + 'static,
    ) {
        let who = VcpuRef { dom: DomId(dom), vcpu: VcpuId(vcpu) };
        self.programs.lock().unwrap().insert(who, Box::new(program));
    }

    /// Says that one of the busy ones is done, which with the last ends it all.
    fn done(&self) {
        if self.busy.fetch_sub(1, Ordering::SeqCst) == 1 {
            (0..CPUS).for_each(|cpu| interrupt(CpuId(cpu)));
        }
    }

    fn is_over(&self) -> bool {
        self.busy.load(Ordering::SeqCst) == 0
    }

    /// Does what `vcpu::Runner::run` does.
    fn processor(&self, cpu: u32) {
        CPU.with(|this| this.set(cpu));
        let hv = &self.bed.hv;
        let mut runner = Loop {
            model: self,
            hv,
            processor: hv.processor(CpuId(cpu)).unwrap(),
            loaded: None,
            running: false,
            until: Nanos::NEVER,
        };
        while !self.is_over() {
            if runner.processor.must_ask() {
                runner.reschedule();
            }
            if runner.running { runner.run_guest() } else { self.sleep(CpuId(cpu)) }
        }
    }

    /// Takes the interrupt that waits for `cpu`, if one does.
    fn take_interrupt(&self, cpu: CpuId) -> bool {
        std::mem::take(&mut *self.interrupts[cpu.index()].0.lock().unwrap())
    }

    /// Waits for an interrupt, and takes it.
    fn sleep(&self, cpu: CpuId) {
        let (waits, changed) = &self.interrupts[cpu.index()];
        let mut waits = waits.lock().unwrap();
        while !*waits && !self.is_over() {
            waits = changed.wait(waits).unwrap();
        }
        *waits = false;
    }

    /// Enters a guest once.
    fn enter(&self, caller: &Caller<'_>, context: &mut VcpuContext) -> Next {
        let lists = caller.hv.machine.lists();
        while lists.take_one().is_some() {}
        let who = caller.vcpu.who;
        let program = self.programs.lock().unwrap().remove(&who);
        let Some(mut program) = program else {
            caller.hv.hold(caller.vcpu, Hold::DOWN);
            return Next::On;
        };
        machine::step();
        let next = program(caller, context);
        machine::step();
        assert!(caller.hv.domain(who.dom).is_some(), "a domain that is gone does not run");
        let other = self.programs.lock().unwrap().insert(who, program);
        assert!(other.is_none(), "a virtual processor is on one processor at a time");
        next
    }
}

/// The loop of one processor.
struct Loop<'a> {
    model: &'a Model,
    hv: &'a Hypervisor,
    processor: &'a Processor,
    loaded: Option<Taken>,
    running: bool,
    until: Nanos,
}

impl Loop<'_> {
    fn run_guest(&mut self) {
        let Some(Taken { domain, vcpu, context }) = &mut self.loaded else { unreachable!() };
        let guest = GuestSpace::default();
        let caller = Caller { hv: self.hv, domain, vcpu, guest: &guest };
        loop {
            if vcpu.must_refill() {
                let filled = domain.vgic.lock().fill(vcpu.who.vcpu, &mut self.hv.machine.lists());
                self.hv.wake(domain, filled.kick);
            }
            let next = self.model.enter(&caller, context);
            // A guest that asks again and again does not keep the others from going on.
            thread::yield_now();
            let now = self.hv.machine.clock.fetch_add(ENTRY, Ordering::SeqCst) + ENTRY;
            if self.until <= Nanos(now) {
                self.processor.ask_scheduler();
            } else if next == Next::Spin {
                return self.model.sleep(self.processor.id);
            } else if self.model.take_interrupt(self.processor.id) {
                return;
            }
            if self.processor.is_to_ask() || self.model.is_over() {
                return;
            }
        }
    }

    fn reschedule(&mut self) {
        let now = self.hv.machine.now();
        let decision = self.hv.scheduler.lock().schedule(self.processor.id, now);
        self.until = decision.until;
        self.hv.kick_cpu(decision.help);
        let was_running = std::mem::take(&mut self.running);
        let previous = self.loaded.as_ref().map(|loaded| loaded.vcpu.who);
        let next = decision.run.map(|chosen| chosen.who);
        if was_running && next == previous {
            self.running = true;
            return;
        }
        if was_running && let Some(loaded) = &self.loaded {
            self.hv.stops(&loaded.vcpu, now);
        }
        let mut left = None;
        if next != previous && (next.is_some() || !decision.keep) {
            left = self.unload(now);
        }
        let Some(next) = next else { return };
        if self.loaded.is_none() {
            let taken = self.hv.take(next, left).expect("what the scheduler chose has registers");
            let _ = taken.domain.vgic.lock().load(next.vcpu);
            self.hv.taken(self.processor, &taken.vcpu);
            self.loaded = Some(taken);
        }
        let loaded = self.loaded.as_ref().unwrap();
        self.hv.starts(self.processor, &loaded.vcpu, now);
        self.running = true;
    }

    fn unload(&mut self, now: Nanos) -> Option<Arc<Domain>> {
        let Taken { domain, vcpu, context } = self.loaded.take()?;
        let lists = &mut self.hv.machine.lists();
        let unloaded = domain.vgic.lock().unload(vcpu.who.vcpu, lists);
        self.hv.wake(&domain, unloaded.kick);
        self.hv.put(self.processor, &vcpu, context, now);
        Some(domain)
    }
}

/// Runs what `set_up` makes, on all processors, in many orders.
fn explore(set_up: impl Fn(&Arc<Model>) + Send + Sync + 'static) {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            MODEL.set(None);
        }
    }
    let _clear = Clear;
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    let set_up = Arc::new(set_up);
    let by_chance = Arc::clone(&set_up);
    Runner::new(RandomScheduler::new_from_seed(SEED, ORDERS), config.clone())
        .run(move || in_one_order(&*by_chance));
    // One of them has to wait for long while others go on.
    Runner::new(PctScheduler::new_from_seed(SEED, STALLS, ORDERS), config)
        .run(move || in_one_order(&*set_up));
}

fn in_one_order(set_up: &impl Fn(&Arc<Model>)) {
    MODEL.set(None);
    let model = Model::new();
    set_up(&model);
    MODEL.set(Some(Arc::clone(&model)));
    let processors = (0..CPUS).map(|cpu| {
        let model = Arc::clone(&model);
        thread::spawn(move || model.processor(cpu))
    });
    for processor in processors.collect::<Vec<_>>() {
        processor.join().unwrap();
    }
    MODEL.set(None);
}

/// Domain 2 sends domain 1 a few events, which waits for each as `next` says, while Dom0 pauses it.
fn events(model: &Arc<Model>, waits: bool) {
    const EVENTS: usize = 3;
    let sent = Arc::new(AtomicUsize::new(0));
    let paused = Arc::new(AtomicBool::new(false));
    model.busy.store(3, Ordering::SeqCst);
    let (over, seen, stopped) = (Arc::clone(model), Arc::clone(&sent), Arc::clone(&paused));
    let mut is_done = false;
    model.runs(1, 0, move |caller, _| {
        assert!(!stopped.load(Ordering::SeqCst), "a paused domain does not run");
        if seen.load(Ordering::SeqCst) == EVENTS {
            if !std::mem::replace(&mut is_done, true) {
                over.done();
            }
            caller.hv.hold(caller.vcpu, Hold::DOWN);
        } else if waits {
            caller.hv.wait_for_interrupt(caller.domain, caller.vcpu);
        } else {
            return Next::Spin;
        }
        Next::On
    });
    let over = Arc::clone(model);
    model.runs(2, 0, move |caller, _| {
        if sent.load(Ordering::SeqCst) < EVENTS {
            sent.fetch_add(1, Ordering::SeqCst);
            let target = caller.hv.domain(DomId(1)).unwrap();
            caller.hv.raise_upcall(&target, VcpuId(0));
        } else {
            over.done();
            caller.hv.hold(caller.vcpu, Hold::DOWN);
        }
        Next::On
    });
    let over = Arc::clone(model);
    let mut rounds = 0;
    model.runs(0, 0, move |caller, _| {
        rounds += 1;
        if rounds > 2 {
            over.done();
            caller.hv.hold(caller.vcpu, Hold::DOWN);
            return Next::On;
        }
        let domain = caller.hv.domain(DomId(1)).unwrap();
        let change = domain.life.lock().pause().unwrap();
        caller.hv.apply(&domain, change, Hold::PAUSED);
        caller.hv.wait_until_stopped(&domain);
        paused.store(true, Ordering::SeqCst);
        machine::step();
        paused.store(false, Ordering::SeqCst);
        let change = domain.life.lock().unpause().unwrap();
        caller.hv.apply(&domain, change, Hold::PAUSED);
        Next::On
    });
}

#[test]
fn no_event_is_lost_on_a_guest_that_waits() {
    explore(|model| events(model, true));
}

#[test]
fn no_event_is_lost_on_a_guest_that_stays_in() {
    explore(|model| events(model, false));
}

/// Four virtual processors wake each other in a ring; each then waits, or lets others go first. Dom0
/// binds them to one processor and another.
fn ring(model: &Arc<Model>) {
    const ENTRIES: u32 = 8;
    const MEMBERS: [(u16, u32); 4] = [(1, 0), (2, 0), (1, 1), (2, 1)];
    model.busy.store(MEMBERS.len(), Ordering::SeqCst);
    for (place, (dom, vcpu)) in MEMBERS.into_iter().enumerate() {
        let (next_dom, next_vcpu) = MEMBERS[(place + 1) % MEMBERS.len()];
        let over = Arc::clone(model);
        let mut entries = 0;
        model.runs(dom, vcpu, move |caller, _| {
            entries += 1;
            if entries == ENTRIES {
                over.done();
            }
            let next = caller.hv.domain(DomId(next_dom)).unwrap();
            caller.hv.raise_upcall(&next, VcpuId(next_vcpu));
            if shuttle::rand::thread_rng().gen_bool(0.5) {
                caller.hv.yield_now(caller.vcpu);
            } else {
                // There is always one with an interrupt: the last that was sent to.
                caller.hv.wait_for_interrupt(caller.domain, caller.vcpu);
            }
            Next::On
        });
    }
    model.runs(0, 0, move |caller, _| {
        let mut chance = shuttle::rand::thread_rng();
        let (dom, vcpu) = MEMBERS[chance.gen_range(0..MEMBERS.len())];
        let domain = caller.hv.domain(DomId(dom)).unwrap();
        let sched = domain.vcpu(VcpuId(vcpu)).unwrap().sched;
        let only = CpuSet::only(CpuId(chance.gen_range(0..CPUS)));
        let now = caller.hv.machine.now();
        let bound = caller.hv.scheduler.lock().set_affinity(sched, only, CpuSet::ALL, now);
        caller.hv.kick_cpu(bound.expect("the processor is there"));
        caller.hv.yield_now(caller.vcpu);
        Next::On
    });
}

#[test]
fn those_that_change_processors_are_run_by_one_at_a_time_and_always_by_one() {
    explore(ring);
}

/// Turns virtual processor 1 of domain 1 on again and again, from its processor 0; it turns itself
/// off.
fn power(model: &Arc<Model>) {
    const ROUNDS: u64 = 3;
    const ENTRY_POINT: u64 = 0x4000_0000;
    const CPU_ON: u64 = 0xc400_0003;
    const CPU_OFF: u64 = 0x8400_0002;
    let over = Arc::clone(model);
    let mut asked = 0;
    model.runs(1, 0, move |caller, context| {
        if asked == ROUNDS {
            over.done();
            caller.hv.hold(caller.vcpu, Hold::DOWN);
            return Next::On;
        }
        for (number, value) in [CPU_ON, 1, ENTRY_POINT + asked * 8, asked].into_iter().enumerate() {
            context.set_gpr(number, value);
        }
        smc::handle(caller, context);
        match context.gpr(0) {
            vpsci::SUCCESS => asked += 1,
            // It has not turned itself off yet, or its processor has not let go of it.
            vpsci::ALREADY_ON | CPU_ON => {}
            other => panic!("{other:#x} is no answer to CPU_ON"),
        }
        Next::On
    });
    let over = Arc::clone(model);
    let mut started = 0;
    let mut is_off = false;
    model.runs(1, 1, move |caller, context| {
        if std::mem::take(&mut is_off) {
            let expected = (ENTRY_POINT + started * 8, started);
            assert_eq!((context.pc(), context.gpr(0)), expected, "it starts where it was asked to");
            started += 1;
            context.set_pc(0);
            if started == ROUNDS {
                over.done();
            }
        } else {
            is_off = true;
            context.set_gpr(0, CPU_OFF);
            smc::handle(caller, context);
        }
        Next::On
    });
}

#[test]
fn a_processor_starts_as_often_as_it_is_turned_on_and_where_it_was_asked_to() {
    explore(|model| {
        model.busy.store(2, Ordering::SeqCst);
        power(model);
    });
}

#[test]
fn a_domain_ends_while_it_turns_processors_on_and_off_and_gets_events() {
    explore(|model| {
        model.busy.store(1 + 2, Ordering::SeqCst);
        power(model);
        let target = model.bed.domain(1);
        let free = model.bed.hv.frames.lock().free();
        model.runs(2, 0, move |caller, _| {
            caller.hv.raise_upcall(&target, VcpuId(0));
            caller.hv.yield_now(caller.vcpu);
            Next::On
        });
        let over = Arc::clone(model);
        let mut rounds = shuttle::rand::thread_rng().gen_range(0..8_u32);
        model.runs(0, 0, move |caller, _| {
            if let Some(left) = rounds.checked_sub(1) {
                rounds = left;
                caller.hv.yield_now(caller.vcpu);
                return Next::On;
            }
            let domain = caller.hv.domain(DomId(1)).unwrap();
            if caller.hv.destroy(&domain) == Progress::Done {
                assert!(caller.hv.domain(DomId(1)).is_none(), "nothing of it is left");
                assert!(caller.hv.frames.lock().free() > free, "its memory came back");
                // Those of the dead will never be done.
                over.busy.store(1, Ordering::SeqCst);
                over.done();
                caller.hv.hold(caller.vcpu, Hold::DOWN);
            }
            Next::On
        });
    });
}
