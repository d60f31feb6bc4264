//! Every hypercall and trap, made by Dom0 and by hostile guests on a hypervisor whose machine is values.
//!
//! A campaign is steps of `draw::STEP` bytes: who does what, with which numbers. After each step all
//! that must hold of the hypervisor is checked; at the end every domain is destroyed, and nothing of it
//! may be left.

mod calls;
mod control;
mod draw;
mod invariants;
mod start;
mod traps;

use draw::{Draw, STEP};
use hv_core::addr::{Gfn, MachineAddr, PAGE_SIZE};
use hv_core::guest::GuestMemory;
use hv_core::ids::{DomId, Irq, VcpuId};
use hv_core::lifecycle::Dying;
use hv_core::memory::FrameMemory;
use hypercall_abi::errno::Errno;
use hypervisor::command_line::Options;
use hypervisor::domain::Domain;
use hypervisor::domain::vcpu::Vcpu;
use hypervisor::hypercall::{Arguments, Caller, Outcome, dispatch};
use hypervisor::testbed::{REQUEST, Testbed};
use invariants::{How, check_invariants, end_everything};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Where requests keep what they point to.
const BUFFER: u64 = REQUEST + 0x1000;
/// Frames of the machine: few, so that they run out now and then.
const RAM: u64 = 2048;
/// So many steps are made between two looks at each frame.
const GLANCES: usize = 8;
/// Steps of a campaign, at most.
const STEPS: usize = 96;
/// How often a call that is not done is made again before its caller does something else.
const PATIENCE: u8 = 48;

/// Who acts in a step.
struct Actor {
    domain: Arc<Domain>,
    vcpu: Arc<Vcpu>,
}

/// A campaign that goes on.
struct Play {
    bed: Testbed,
    actor: Actor,
    /// A call that its caller has not finished: who made it, and with what it would go on.
    unfinished: Option<(DomId, u64, Arguments)>,
}

/// Plays the campaign that `bytes` describe.
pub fn run(bytes: &[u8]) {
    let Some((options, steps)) = bytes.split_first() else { return };
    let begins_alone = options / 2 % 4 == 0;
    let options = Options { domains_may_share: options % 2 == 1, ..Options::default() };
    let bed = Testbed::with_frames(options, RAM);
    if !begins_alone {
        start::connect(&bed);
    }
    bed.domain(0).devices.lock().insert(0..1000);
    let domain = bed.domain(0);
    let vcpu = Arc::clone(domain.vcpu(VcpuId(0)).expect("Dom0 has two"));
    let mut play = Play { bed, actor: Actor { domain, vcpu }, unfinished: None };
    for (number, step) in steps.chunks(STEP).take(STEPS).enumerate() {
        let mut bytes = [0; STEP];
        bytes.iter_mut().zip(step).for_each(|(to, from)| *to = *from);
        play.step(&mut Draw::new(bytes));
        let how = if number % GLANCES == 0 { How::FrameByFrame } else { How::Quickly };
        check_invariants(&play.bed, how);
        play.bed.hv.machine.asked.lock().clear();
        play.bed.hv.machine.serial.lock().clear();
    }
    let Play { bed, actor, .. } = play;
    drop(actor);
    bed.hv.machine.interrupt_period.store(0, Relaxed);
    end_everything(&bed);
}

impl Play {
    fn step(&mut self, draw: &mut Draw) {
        let (what, who) = (draw.byte(), draw.byte());
        if !self.choose(who) {
            return;
        }
        match what % 16 {
            0..3 => self.events(draw),
            3..6 => self.grants(draw),
            6..8 => self.memory(draw),
            8 => self.others(draw),
            9 => self.any_call(draw),
            10 => self.trap(draw),
            11 => self.poke(draw),
            12 => self.surroundings(draw),
            _ => {
                // Most control is Dom0's, and guests that ask are refused.
                if !draw.seldom(16) {
                    self.choose(0);
                }
                self.control(draw);
            }
        }
    }

    /// Chooses who acts: Dom0, or more often a guest. A domain at its end acts no more.
    fn choose(&mut self, who: u8) -> bool {
        const ACTORS: [u16; 8] = [1, 2, 1, 2, 0, 3, 4, 1];
        let id = if who == 0 { 0 } else { ACTORS[usize::from(who % 8)] };
        let Some(domain) = self.bed.hv.domain(DomId(id)) else { return false };
        let Some(vcpu) = domain.vcpu(VcpuId(u32::from(who >> 7))).cloned() else { return false };
        if domain.life.lock().dying() != Dying::No {
            return false;
        }
        self.actor = Actor { domain, vcpu };
        true
    }

    fn caller(&self) -> Caller<'_> {
        let Actor { domain, vcpu } = &self.actor;
        Caller { hv: &self.bed.hv, domain, vcpu, guest: &self.bed.guest }
    }

    /// Makes a call, and makes it again as often as it asks for that and the caller likes.
    fn call(
        &mut self,
        draw: &mut Draw,
        number: u64,
        arguments: Arguments,
    ) -> Option<Result<u64, Errno>> {
        let (period, patience) = match draw.byte() {
            byte @ 0..64 => (u32::from(byte % 4 + 1), byte / 4 % PATIENCE),
            byte @ 64..80 => (u32::from(byte), PATIENCE),
            _ => (10_000, PATIENCE),
        };
        let machine = &self.bed.hv.machine;
        machine.interrupt_period.store(period, Relaxed);
        machine.looks.store(0, Relaxed);
        let mut arguments = arguments;
        let mut result = None;
        for _ in 0..=patience {
            match dispatch(&self.caller(), number, &arguments) {
                Outcome::Done(done) => {
                    result = Some(done);
                    break;
                }
                Outcome::Again(rest) => arguments = rest,
            }
        }
        if result.is_none() {
            self.unfinished = Some((self.actor.domain.id, number, arguments));
        }
        result
    }

    /// Makes an operation on `request`: command in x0, its address in x1, `count` in x2.
    fn op<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        draw: &mut Draw,
        number: u64,
        command: impl Into<u64>,
        request: &T,
        count: u64,
    ) -> Option<Result<u64, Errno>> {
        self.put(REQUEST, request);
        self.call(draw, number, [command.into(), REQUEST, count, 0, 0])
    }

    /// Writes as the guest does, which may where the hypervisor may not.
    fn put<T: IntoBytes + Immutable + ?Sized>(&self, at: u64, value: &T) {
        let protected = self.bed.guest.read_only.swap(false, Relaxed);
        self.bed.guest.write(at, value.as_bytes()).expect("it is in the caller's memory");
        self.bed.write_protect(protected);
    }

    fn get<T: FromBytes + Immutable + IntoBytes>(&self, at: u64) -> T {
        let mut value = T::new_zeroed();
        self.bed.guest.read(at, value.as_mut_bytes()).expect("it is in the caller's memory");
        value
    }

    /// Writes what other processors of a guest may write at any time: words that it shares.
    fn poke(&mut self, draw: &mut Draw) {
        let Some(page) = self.shared_page(draw) else { return };
        let offset = match draw.byte() {
            byte @ 0..200 => u64::from(byte % 32) * 4,
            byte => u64::from(byte) * 16,
        };
        let at = MachineAddr::new(page.raw() + offset % PAGE_SIZE / 4 * 4);
        let value = match draw.below(6) {
            0 => u32::from(draw.byte()) << 24,
            1 => 1 << 29 | draw.port(),
            2 => u32::MAX,
            3 => draw.port(),
            4 => u32::from(draw.half()),
            _ => draw.word(),
        };
        self.bed.memory().store_u32(at, value);
    }

    /// Returns a page that the acting guest may write.
    fn shared_page(&self, draw: &mut Draw) -> Option<MachineAddr> {
        let domain = &self.actor.domain;
        match draw.below(8) {
            0 => Some(domain.shared_info),
            1 => domain.grants.lock().frames().first().map(|frame| frame.base()),
            _ => {
                let gfn = Gfn::new(draw.gfn());
                let mapping = domain.p2m.lock().lookup(self.bed.memory(), gfn)?;
                mapping.kind.is_writable().then(|| mapping.mfn.base())
            }
        }
    }

    /// Changes what is around the domains: time, devices, unfinished calls, write-protected memory.
    fn surroundings(&mut self, draw: &mut Draw) {
        let hv = &self.bed.hv;
        match draw.below(8) {
            0 => self.bed.write_protect(draw.seldom(2)),
            1 => {
                let passed = draw.long() % 1_000_000_000_000;
                hv.machine.clock.fetch_add(passed, Relaxed);
                let now = hv.machine.now();
                for processor in &hv.processors {
                    loop {
                        let expired = processor.timers.lock().expired(now);
                        let Some(timer) = expired else { break };
                        hv.timer_expired(timer, now);
                    }
                }
            }
            2 => {
                let irq = Irq::spi(u32::from(draw.below(40)));
                if let (Some(dom0), Some(irq)) = (hv.domain(DomId::DOM0), irq) {
                    let _ = hv.inject_device(&dom0, irq);
                }
            }
            3 => {
                let _ = hv.scrub_some();
            }
            4 => hv.machine.cpu.store(u32::from(draw.below(2)), Relaxed),
            5 => {
                let _ = hv.console.typed(draw.byte());
            }
            _ => {
                // What is not finished is gone on with, by whoever began it.
                let Some((who, number, mut arguments)) = self.unfinished.take() else { return };
                if who != self.actor.domain.id && !draw.seldom(8) {
                    return;
                }
                if draw.seldom(4) {
                    let which = usize::from(draw.below(5));
                    arguments[which] = draw.long();
                }
                self.call(draw, number, arguments);
            }
        }
    }
}

/// Returns as many requests as a batch has, most often one.
fn batch<T>(draw: &mut Draw, mut make: impl FnMut(&mut Draw) -> T) -> Vec<T> {
    let count = match draw.byte() {
        0..200 => 1,
        byte => usize::from(byte % 5),
    };
    (0..count).map(|_| make(draw)).collect()
}
