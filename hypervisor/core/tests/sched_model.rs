//! `Scheduler` as processors drive it, each in its own time: who runs may run, nobody runs twice, and no processor
//! stays idle while somebody waits that it could run.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use hv_core::{
    ids::{CpuId, DomId, VcpuId, VcpuRef},
    sched::{Hold, Kick, SchedId, Scheduler, Share, affinity::CpuSet},
    time::Nanos,
};
use proptest::prelude::{
    ProptestConfig, Strategy, TestCaseError, any, prop, prop_assert, prop_assert_eq, prop_oneof,
    proptest,
};

const CPUS: usize = 3;
const VCPUS: usize = 6;
const ALL: u64 = (1 << CPUS) - 1;

#[derive(Clone, Debug)]
enum Step {
    Hold {
        vcpu: usize,
        hold: Hold,
    },
    Release {
        vcpu: usize,
        hold: Hold,
    },
    Bind {
        vcpu: usize,
        hard: u64,
        soft: u64,
    },
    Share {
        dom: u16,
        weight: u16,
        cap: u16,
    },
    Yield {
        cpu: usize,
    },
    /// A processor that was told to asks the scheduler.
    Ask {
        cpu: usize,
    },
    /// Time goes by; processors whose decision holds no longer are told.
    Wait {
        nanos: u64,
    },
    /// Ends a virtual processor and makes another one in its place.
    Replace {
        vcpu: usize,
    },
    /// Everybody who was told to asks; then nobody may be idle for nothing.
    Settle,
}

fn hold() -> impl Strategy<Value = Hold> {
    (0..4_u8).prop_map(|bit| Hold::from_bits_truncate(1 << bit))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..VCPUS, hold()).prop_map(|(vcpu, hold)| Step::Hold { vcpu, hold }),
        8 => (0..VCPUS, hold()).prop_map(|(vcpu, hold)| Step::Release { vcpu, hold }),
        2 => (0..VCPUS, 1..=ALL, any::<u64>())
            .prop_map(|(vcpu, hard, soft)| Step::Bind { vcpu, hard, soft }),
        1 => (0..3_u16, any::<u16>(), prop_oneof![3 => 0..1_u16, 1 => 1..150_u16])
            .prop_map(|(dom, weight, cap)| Step::Share { dom, weight, cap }),
        2 => (0..CPUS).prop_map(|cpu| Step::Yield { cpu }),
        8 => (0..CPUS).prop_map(|cpu| Step::Ask { cpu }),
        4 => (0..12_000_000_u64).prop_map(|nanos| Step::Wait { nanos }),
        1 => (0..VCPUS).prop_map(|vcpu| Step::Replace { vcpu }),
        3 => (0..1_u8).prop_map(|_| Step::Settle),
    ]
}

/// What the test knows of a virtual processor.
#[derive(Debug)]
struct Vcpu {
    id: SchedId,
    holds: Hold,
    hard: u64,
}

/// A processor, as `hypervisor::vcpu` drives it.
#[derive(Clone, Debug, Default)]
struct Cpu {
    told: bool,
    runs: Option<SchedId>,
    loaded: Option<SchedId>,
    until: Nanos,
}

#[derive(Debug)]
struct Machine {
    scheduler: Scheduler,
    vcpus: Vec<Vcpu>,
    cpus: Vec<Cpu>,
    now: Nanos,
    /// Whether any domain was ever capped: it may have to wait then with a processor idle.
    capped: bool,
}

impl Machine {
    fn new() -> Self {
        let mut scheduler = Scheduler::new(CPUS);
        for cpu in (0..).take(CPUS) {
            scheduler.bring_up(CpuId(cpu), Nanos(0));
        }
        assert!(scheduler.make_room(VCPUS));
        let vcpus = (0..VCPUS).map(|number| add(&mut scheduler, number, Nanos(0))).collect();
        let cpu = Cpu { told: true, until: Nanos::NEVER, ..Cpu::default() };
        Self { scheduler, vcpus, cpus: vec![cpu; CPUS], now: Nanos(0), capped: false }
    }

    fn kick(&mut self, kick: Kick) {
        if let Kick::Cpu(cpu) = kick {
            self.cpus[cpu.index()].told = true;
        }
    }

    /// What a processor does that was told to ask.
    fn ask(&mut self, cpu: usize) -> Result<(), TestCaseError> {
        let this = CpuId(cpu.try_into().unwrap());
        self.cpus[cpu].told = false;
        let decision = self.scheduler.schedule(this, self.now);
        let next = decision.run.map(|chosen| chosen.id);
        if let Some(next) = next {
            let vcpu = self.vcpus.iter().find(|vcpu| vcpu.id == next).expect("it is one of ours");
            prop_assert!(vcpu.holds.is_empty(), "{next:?} is held for {:?}", vcpu.holds);
            prop_assert!(vcpu.hard & 1 << cpu != 0, "{next:?} may not run on {this:?}");
            let elsewhere =
                (0..CPUS).find(|other| *other != cpu && self.cpus[*other].loaded == Some(next));
            prop_assert_eq!(elsewhere, None, "its registers are in another processor");
        }
        self.cpus[cpu].until = decision.until;
        self.kick(decision.help);
        let did_run = self.cpus[cpu].runs.take();
        let previous = self.cpus[cpu].loaded;
        if did_run.is_none() || next != previous {
            if next != previous && (next.is_some() || !decision.keep) {
                self.cpus[cpu].loaded = None;
                if let Some(previous) = previous {
                    let kick = self.scheduler.saved(previous, self.now);
                    self.kick(kick);
                }
            }
            if next.is_some() {
                self.cpus[cpu].loaded = next;
            }
        }
        self.cpus[cpu].runs = next;
        Ok(())
    }

    fn wait(&mut self, nanos: u64) {
        self.now = self.now + Nanos(nanos);
        for cpu in &mut self.cpus {
            cpu.told |= cpu.until <= self.now;
        }
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        for round in 0.. {
            prop_assert!(round < 1000, "they tell each other for ever");
            let Some(cpu) = self.cpus.iter().position(|cpu| cpu.told) else { break };
            self.ask(cpu)?;
        }
        for (cpu, _) in self.cpus.iter().enumerate().filter(|(_, cpu)| cpu.runs.is_none()) {
            let waits = self.vcpus.iter().find(|vcpu| {
                let runs = self.cpus.iter().any(|cpu| cpu.runs == Some(vcpu.id));
                vcpu.holds.is_empty() && !runs && vcpu.hard & 1 << cpu != 0
            });
            if !self.capped {
                prop_assert!(waits.is_none(), "processor {cpu} is idle while {waits:?} waits");
            }
        }
        // It knows of each what it was told.
        for vcpu in &self.vcpus {
            prop_assert_eq!(self.scheduler.holds(vcpu.id), vcpu.holds);
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Hold { vcpu, hold } => {
                self.vcpus[vcpu].holds |= hold;
                let kick = self.scheduler.hold(self.vcpus[vcpu].id, hold, self.now);
                self.kick(kick);
            }
            Step::Release { vcpu, hold } => {
                self.vcpus[vcpu].holds -= hold;
                let kick = self.scheduler.release(self.vcpus[vcpu].id, hold, self.now);
                self.kick(kick);
            }
            Step::Bind { vcpu, hard, soft } => {
                let [hard_set, soft] = [hard, soft].map(CpuSet::from_bits);
                let id = self.vcpus[vcpu].id;
                let kick = self.scheduler.set_affinity(id, hard_set, soft, self.now);
                self.vcpus[vcpu].hard = hard;
                self.kick(kick.expect("there is a processor in the set"));
            }
            Step::Share { dom, weight, cap } => {
                self.capped |= cap != 0;
                self.scheduler.set_share(DomId(dom), Share { weight, cap }, self.now);
            }
            Step::Yield { cpu } => {
                if let Some(id) = self.cpus[cpu].runs {
                    self.scheduler.yield_now(id, self.now);
                    self.cpus[cpu].told = true;
                }
            }
            Step::Ask { cpu } if self.cpus[cpu].told => self.ask(cpu)?,
            Step::Ask { .. } => {}
            Step::Wait { nanos } => self.wait(nanos),
            Step::Replace { vcpu } => self.replace(vcpu)?,
            Step::Settle => self.settle()?,
        }
        Ok(())
    }

    fn replace(&mut self, vcpu: usize) -> Result<(), TestCaseError> {
        let id = self.vcpus[vcpu].id;
        self.vcpus[vcpu].holds |= Hold::DYING;
        let kick = self.scheduler.hold(id, Hold::DYING, self.now);
        self.kick(kick);
        let busy = self.cpus.iter().any(|cpu| cpu.loaded == Some(id));
        prop_assert_eq!(self.scheduler.is_loaded(id), busy);
        prop_assert_eq!(self.scheduler.remove(id), !busy);
        if busy {
            self.settle()?;
            prop_assert!(self.scheduler.remove(id), "it is held, so its processor let go of it");
        }
        self.vcpus[vcpu] = add(&mut self.scheduler, vcpu, self.now);
        Ok(())
    }
}

/// Two virtual processors to a domain, held as new ones are.
fn add(scheduler: &mut Scheduler, number: usize, now: Nanos) -> Vcpu {
    let dom = DomId((number / 2).try_into().unwrap());
    let who = VcpuRef { dom, vcpu: VcpuId((number % 2).try_into().unwrap()) };
    Vcpu { id: scheduler.add(who, Hold::DOWN, now), holds: Hold::DOWN, hard: u64::MAX }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nobody_waits_for_an_idle_processor(steps in prop::collection::vec(step(), 1..120)) {
        let mut machine = Machine::new();
        for step in steps {
            machine.take(step)?;
        }
        machine.settle()?;
    }
}
