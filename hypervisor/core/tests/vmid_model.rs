//! `Vmids` with TLBs that remember: in every order of steps no domain gets another's translations,
//! nor its own old ones.
//!
//! A TLB is the set of what it has cached. To forget is a step of its own for each of them, as
//! `tlbi` takes effect on one processor after the other. `loom` tries every order in which three
//! steps at most are interrupted where they need not be. Each rule is broken once on purpose, to
//! show that the model notices.
#![cfg(not(miri))] // Miri runs no other stacks than its own, and loom has some.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use hv_core::ids::CpuId;
use hv_core::p2m::{Vmid, Vmids};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use std::collections::BTreeSet;

const CPUS: usize = 2;
/// Domains that have run before the model begins: one for each number of 8 bits but 0.
const EARLY: usize = 255;
/// A domain that both processors know but have not loaded: its number goes to another when they
/// have run out.
const IDLE: usize = 0;
/// The domains that the processors have loaded at the beginning.
const LOADED: [usize; CPUS] = [1, 2];
/// The first domains that have no number yet.
const NEW: [usize; 2] = [EARLY, EARLY + 1];

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Broken {
    None,
    /// The TLBs forget after the lock is let go of.
    ForgetsLater,
    /// The tag is loaded after the lock is let go of.
    LoadsLater,
    /// The number is looked at before the table is changed.
    LooksEarly,
}

/// A translation that a TLB has cached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Cached {
    number: u16,
    /// Whose table it was read from, and how often that had been changed.
    domain: usize,
    version: usize,
}

struct Processor {
    /// What is loaded: a number and the table of a domain.
    loaded: (u16, usize),
    tlb: BTreeSet<Cached>,
}

/// The table of a domain.
struct Table {
    version: AtomicUsize,
    /// What older versions mapped is somebody else's.
    flushed: AtomicUsize,
}

struct Machine {
    broken: Broken,
    vmids: Mutex<Vmids>,
    processors: Vec<Mutex<Processor>>,
    /// The tags and tables of [`IDLE`], [`LOADED`] and [`NEW`].
    domains: Vec<(Mutex<Option<Vmid>>, Table)>,
}

impl Machine {
    /// Makes a machine on which every number is taken.
    fn new(broken: Broken) -> Self {
        let mut vmids = Vmids::new(8, CPUS);
        let mut enter = |cpu, vmid| {
            let cpu = CpuId(u32::try_from(cpu).unwrap());
            vmids.enter(cpu, vmid).carry_out(|| panic!("there are enough"), |_| {})
        };
        let early: Vec<Vmid> = (0..EARLY).map(|_| enter(0, None)).collect();
        // The rest have numbers that nobody gets here.
        let tlb: BTreeSet<Cached> = (0..8)
            .map(|domain| Cached { number: early[domain].number(), domain, version: 0 })
            .collect();
        let processors = LOADED.iter().enumerate().map(|(cpu, domain)| {
            let vmid = enter(cpu, Some(early[*domain]));
            Mutex::new(Processor { loaded: (vmid.number(), *domain), tlb: tlb.clone() })
        });
        let processors = processors.collect();
        let tags = [IDLE, LOADED[0], LOADED[1], NEW[0], NEW[1]].map(|id| early.get(id).copied());
        let table = || Table { version: AtomicUsize::new(0), flushed: AtomicUsize::new(0) };
        let domains = tags.map(|tag| (Mutex::new(tag), table())).into();
        Self { broken, vmids: Mutex::new(vmids), processors, domains }
    }

    fn domain(&self, id: usize) -> &(Mutex<Option<Vmid>>, Table) {
        let place = if id < EARLY { id } else { id - EARLY + 3 };
        &self.domains[place]
    }

    /// Does what `Hypervisor::activate` does.
    fn activate(&self, cpu: usize, domain: usize) {
        let mut tag = self.domain(domain).0.lock().unwrap();
        let mut vmids = self.vmids.lock().unwrap();
        let mut forgets_later = false;
        let forget_all = || match self.broken {
            Broken::ForgetsLater => forgets_later = true,
            _ => self.forget(|_| true),
        };
        let load = |vmid: Vmid| {
            self.processors[cpu].lock().unwrap().loaded = (vmid.number(), domain);
        };
        let load_now = |vmid| match self.broken {
            Broken::LoadsLater => {}
            _ => load(vmid),
        };
        let cpu = CpuId(u32::try_from(cpu).unwrap());
        let vmid = vmids.enter(cpu, *tag).carry_out(forget_all, load_now);
        *tag = Some(vmid);
        drop((vmids, tag));
        if forgets_later {
            self.forget(|_| true);
        }
        if self.broken == Broken::LoadsLater {
            load(vmid);
        }
    }

    /// Has one TLB after the other forget.
    fn forget(&self, what: impl Fn(&Cached) -> bool) {
        for processor in &self.processors {
            processor.lock().unwrap().tlb.retain(|cached| !what(cached));
        }
    }

    /// Reads memory as the guest that runs on `cpu`.
    fn access(&self, cpu: usize) {
        let mut processor = self.processors[cpu].lock().unwrap();
        let (number, domain) = processor.loaded;
        let table = &self.domain(domain).1;
        let oldest = table.flushed.load(Ordering::Acquire);
        let version = table.version.load(Ordering::Acquire);
        processor.tlb.insert(Cached { number, domain, version });
        for cached in processor.tlb.iter().filter(|cached| cached.number == number) {
            assert_eq!(cached.domain, domain, "another domain's translation answers");
            assert!(cached.version >= oldest, "an old translation answers");
        }
    }

    /// Looks a translation up ahead of the program, as the processor may at any moment.
    fn speculate(&self, cpu: usize) {
        let mut processor = self.processors[cpu].lock().unwrap();
        let (number, domain) = processor.loaded;
        let version = self.domain(domain).1.version.load(Ordering::Acquire);
        processor.tlb.insert(Cached { number, domain, version });
    }

    /// Changes a domain's table and has all TLBs forget, as `Hypervisor::flush` does.
    fn change(&self, domain: usize) {
        let (tag, table) = self.domain(domain);
        let number = || tag.lock().unwrap().map(Vmid::number);
        let change = || table.version.store(1, Ordering::Release);
        let number = if self.broken == Broken::LooksEarly {
            let number = number();
            change();
            number
        } else {
            change();
            number()
        };
        self.forget(|cached| Some(cached.number) == number);
        table.flushed.store(1, Ordering::Release);
    }
}

/// Runs `steps`, each on a processor of its own, in every order, then `last`.
fn in_every_order(broken: Broken, steps: &'static [fn(&Machine)], last: fn(&Machine)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let machine = Arc::new(Machine::new(broken));
        let threads = steps.iter().map(|step| {
            let machine = Arc::clone(&machine);
            loom::thread::spawn(move || step(&machine))
        });
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            thread.join().unwrap();
        }
        last(&machine);
    });
}

/// Both processors start a domain of which they know nothing, when there are no numbers left.
fn two_new_domains(broken: Broken) {
    fn start(machine: &Machine, cpu: usize) {
        machine.activate(cpu, NEW[cpu]);
        machine.access(cpu);
    }
    in_every_order(broken, &[|m| start(m, 0), |m| start(m, 1)], |_| {});
}

/// One processor begins a generation while the other leaves a domain, of which it looks something
/// up as late as it can; then it runs whoever got that number.
fn a_late_walk(broken: Broken) {
    in_every_order(
        broken,
        &[|m| m.activate(0, NEW[0]), |m| m.activate(1, IDLE), |m| m.speculate(1)],
        |machine| {
            machine.activate(0, NEW[1]);
            for domain in NEW {
                machine.activate(1, domain);
                machine.access(1);
            }
        },
    );
}

/// A domain's table is changed by one that does not run it, while it gets another number.
fn a_change_of_one_that_is_renewed(broken: Broken) {
    in_every_order(
        broken,
        &[
            |machine| {
                machine.activate(0, NEW[0]);
                machine.activate(0, IDLE);
                machine.access(0);
                machine.access(0);
            },
            |machine| machine.change(IDLE),
        ],
        |machine| machine.access(0),
    );
}

/// A domain runs on where a generation begins, is entered on the other processor too, and its table
/// is changed.
fn a_change_of_one_that_runs_on(broken: Broken) {
    in_every_order(
        broken,
        &[
            |machine| {
                machine.activate(0, NEW[0]);
                machine.activate(0, LOADED[1]);
                machine.access(0);
                machine.change(LOADED[1]);
                machine.access(0);
            },
            |machine| {
                machine.access(1);
                machine.access(1);
            },
        ],
        |machine| machine.access(1),
    );
}

#[test]
fn a_domain_never_gets_what_a_tlb_has_of_another() {
    two_new_domains(Broken::None);
    a_late_walk(Broken::None);
}

#[test]
fn a_flush_reaches_a_domain_that_gets_another_number_meanwhile() {
    a_change_of_one_that_is_renewed(Broken::None);
    a_change_of_one_that_runs_on(Broken::None);
}

#[test]
#[should_panic(expected = "another domain's translation answers")]
fn the_model_notices_tlbs_that_forget_after_the_lock_is_let_go_of() {
    two_new_domains(Broken::ForgetsLater);
}

#[test]
#[should_panic(expected = "another domain's translation answers")]
fn the_model_notices_a_tag_that_is_loaded_after_the_lock_is_let_go_of() {
    a_late_walk(Broken::LoadsLater);
}

#[test]
#[should_panic(expected = "an old translation answers")]
fn the_model_notices_a_number_that_is_looked_at_before_the_table_is_changed() {
    a_change_of_one_that_is_renewed(Broken::LooksEarly);
}
