//! The scheduler as a guest sees it: yielding, blocking, polling, more vCPUs than processors, runstate. Needs four vCPUs.

use crate::suite::{Outcome, Suite, check, check_eq, check_errno, is_xen, soon, start_vcpu};
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hypercall_abi::hypercall::SCHED_OP;
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::sched::{SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN, SchedPoll, SchedRemoteShutdown};
use hypercall_abi::vcpu::{
    RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, RUNSTATE_RUNNABLE, RUNSTATE_RUNNING, VcpuRunstateInfo,
};
use pv_guest_lib::hypercall::{event_channel, raw, result, sched, vcpu};
use pv_guest_lib::page::SharedPage;
use pv_guest_lib::time::{self, Timer};
use pv_guest_lib::{cpu, event, gic, shared_info, smp};

const VCPUS: usize = 4;
/// 20 ms, as long as a few time slices.
const LONG: u64 = 20_000_000;

static COUNTERS: [AtomicU64; VCPUS] = [const { AtomicU64::new(0) }; VCPUS];
/// What to add to this side's clock to get the hypervisor's system time.
static AHEAD: AtomicU64 = AtomicU64::new(0);
static SPIN: AtomicBool = AtomicBool::new(false);

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    gic::set_handler(Timer::Virtual.interrupt(), |_| Timer::Virtual.stop());
    suite.test("the shared page is mapped", || Ok(shared_info::map()?));
    suite.test("vcpu_info has its own place", || Ok(shared_info::register_vcpu()?));
    event::enable_upcall();
    suite.test("yielding comes back", yielding);
    suite.test("blocking ends with the timer", block_until_timer);
    suite.test("blocking with an event pending ends at once", block_with_event);
    suite.test("the runstate area tells how time was spent", runstate);
    suite.test("polling ends at its time", poll_timeout);
    suite.test("polling a pending port ends at once", poll_pending);
    suite.test("a time that has passed ends polling at once", poll_past);
    suite.test("bad polls are refused", bad_polls);
    suite.test("watchdogs are set, poked and stopped", watchdog);
    suite.test("bad operations are refused", bad_calls);
    suite.test("WFE comes back", wait_for_event);
    suite.test("four vCPUs that never rest all make progress", all_progress);
    suite.test("the second vCPU comes up", || start_vcpu(1));
    suite.test("an event of another vCPU ends polling", poll_other);
    suite.test("a sleeping vCPU wakes while others spin", wake_among_spinners);
    suite.finish();
}

fn yielding() -> Outcome {
    for _ in 0..100 {
        sched::yield_now()?;
    }
    Ok(())
}

/// Returns the hypervisor's system time in nanoseconds, which a guest learns from its runstate.
fn system_time() -> u64 {
    time::nanoseconds().wrapping_add(AHEAD.load(Ordering::SeqCst))
}

/// Blocks until the timer says so; returns when that should have been, in ticks.
fn sleep(microseconds: u64) -> u64 {
    gic::enable(Timer::Virtual.interrupt(), true);
    let end = time::now() + time::microseconds(microseconds);
    Timer::Virtual.start(time::microseconds(microseconds));
    while time::now() < end {
        let _ = sched::block();
    }
    end
}

fn block_until_timer() -> Outcome {
    let end = sleep(5000);
    check!(time::now() - end < time::microseconds(5000), "it woke late");
    Ok(())
}

fn loopback() -> Result<u32, crate::suite::Failure> {
    let port = event_channel::bind_ipi(0)?;
    event_channel::unmask(port)?;
    Ok(port)
}

fn block_with_event() -> Outcome {
    let port = loopback()?;
    let before = event::taken(port);
    let start = system_time();
    cpu::without_interrupts(|| {
        event_channel::send(port)?;
        sched::block()
    })?;
    check!(system_time() - start < LONG);
    check!(soon(|| event::taken(port) == before + 1));
    event_channel::close(port)?;
    Ok(())
}

fn poll_timeout() -> Outcome {
    let port = loopback()?;
    event::mask(port);
    for ports in [&[][..], &[port]] {
        let end = system_time() + 5_000_000;
        sched::poll(ports, end)?;
        let now = system_time();
        // The two clocks were compared to within some microseconds.
        check!(now + 100_000 >= end, "it ended {} ns early", end - now);
        check!(now.saturating_sub(end) < LONG, "it ended {} ns late", now - end);
    }
    event_channel::close(port)?;
    Ok(())
}

fn poll_pending() -> Outcome {
    let port = loopback()?;
    event::mask(port);
    event_channel::send(port)?;
    let start = system_time();
    sched::poll(&[port], start + 200_000_000)?;
    check!(system_time() - start < LONG, "it waited");
    check!(event::is_pending(port));
    event::clear(port);
    event_channel::close(port)?;
    Ok(())
}

fn poll_past() -> Outcome {
    let start = system_time();
    sched::poll(&[], 1)?;
    check!(system_time() - start < LONG, "it waited");
    Ok(())
}

fn bad_polls() -> Outcome {
    check_errno!(sched::poll(&[0xffff_ffff], 1), EINVAL);
    check_errno!(sched::poll(&[1; 129], 1), EINVAL);
    let mut request = SchedPoll { ports: 0x3f_0000_0000, nr_ports: 1, pad: 0, timeout: 1 };
    check_errno!(sched::plain(SCHEDOP_POLL, &mut request), EFAULT);
    Ok(())
}

/// Reads a runstate area that the hypervisor may be writing.
fn read(page: SharedPage) -> VcpuRunstateInfo {
    let word = |offset: usize| page.word64(offset).load(Ordering::SeqCst);
    let times = offset_of!(VcpuRunstateInfo, time);
    VcpuRunstateInfo {
        state: page.word32(0).load(Ordering::SeqCst),
        pad: 0,
        state_entry_time: word(offset_of!(VcpuRunstateInfo, state_entry_time)),
        time: [0, 1, 2, 3].map(|state| word(times + state * 8)),
    }
}

fn state_time(info: &VcpuRunstateInfo, state: u32) -> u64 {
    let index = usize::try_from(state).unwrap_or(usize::MAX);
    info.time.get(index).copied().unwrap_or_default()
}

fn runstate() -> Outcome {
    let page = SharedPage::allocate();
    vcpu::register_runstate(0, page)?;
    let first = read(page);
    check_eq!(first.state, RUNSTATE_RUNNING);
    sleep(10_000);
    let second = read(page);
    // It just began to run, by the hypervisor's clock.
    AHEAD.store(second.state_entry_time.wrapping_sub(time::nanoseconds()), Ordering::SeqCst);
    check_eq!(second.state, RUNSTATE_RUNNING);
    let slept = state_time(&second, RUNSTATE_BLOCKED) - state_time(&first, RUNSTATE_BLOCKED);
    check!((9_500_000..30_000_000).contains(&slept), "{slept} ns of 10 ms were slept");
    check!(second.state_entry_time > first.state_entry_time);
    check!(state_time(&second, RUNSTATE_RUNNING) > 0);
    let _ = (state_time(&second, RUNSTATE_RUNNABLE), state_time(&second, RUNSTATE_OFFLINE));
    check!(vcpu::register_runstate(77, page).is_err());
    Ok(())
}

fn watchdog() -> Outcome {
    let id = sched::watchdog(0, 100)?;
    check!(id == 1 || id == 2, "its number is {id}");
    let id = u32::try_from(id).unwrap_or_default();
    check_eq!(sched::watchdog(id, 50)?, 0);
    check_eq!(sched::watchdog(id, 0)?, 0);
    check_errno!(sched::watchdog(99, 10), EINVAL);
    Ok(())
}

fn bad_calls() -> Outcome {
    // SAFETY: the operation does not exist.
    check_errno!(result(unsafe { raw(SCHED_OP, [77, 0, 0, 0, 0]) }), ENOSYS);
    for operation in [2, 3, 4, 5, 6] {
        // SAFETY: there is no memory at this address.
        let answer = result(unsafe { raw(SCHED_OP, [operation, 0x3f_0000_0000, 0, 0, 0]) });
        check_errno!(answer, EFAULT);
    }
    let mut request = SchedRemoteShutdown { domain_id: 0x7000, pad: 0, reason: 0 };
    check_errno!(sched::plain(SCHEDOP_REMOTE_SHUTDOWN, &mut request), ESRCH);
    let mut request = SchedRemoteShutdown { domain_id: DOMID_SELF, pad: 0, reason: 0 };
    if !is_xen() {
        check!(sched::plain(SCHEDOP_REMOTE_SHUTDOWN, &mut request).is_err());
    }
    Ok(())
}

fn wait_for_event() -> Outcome {
    let start = system_time();
    for _ in 0..10 {
        cpu::wait_for_event();
    }
    check!(system_time() - start < 10 * LONG);
    Ok(())
}

fn spin() {
    let counter = COUNTERS.get(cpu::number());
    while SPIN.load(Ordering::SeqCst) {
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn start_spinners() -> Outcome {
    SPIN.store(true, Ordering::SeqCst);
    for number in 1..VCPUS {
        if !smp::is_on(number) {
            smp::start(number, spin)?;
        }
    }
    Ok(())
}

fn stop_spinners() -> bool {
    SPIN.store(false, Ordering::SeqCst);
    soon(|| !smp::is_on(2) && !smp::is_on(3))
}

fn all_progress() -> Outcome {
    start_spinners()?;
    let counter =
        |number: usize| COUNTERS.get(number).map_or(0, |counter| counter.load(Ordering::SeqCst));
    let started = soon(|| (1..VCPUS).all(|number| counter(number) > 0));
    let before: [u64; VCPUS] = core::array::from_fn(counter);
    time::wait_until(150, || false);
    let after: [u64; VCPUS] = core::array::from_fn(counter);
    SPIN.store(false, Ordering::SeqCst);
    check!(started, "not all vCPUs started");
    let shares = [1, 2, 3].map(|number| {
        let read = |counts: &[u64; VCPUS]| counts.get(number).copied().unwrap_or_default();
        read(&after) - read(&before)
    });
    let (least, most) = (shares.iter().min(), shares.iter().max());
    check!(least.zip(most).is_some_and(|(least, most)| *least > most / 4), "shares {shares:?}");
    check!(soon(|| (1..VCPUS).all(|number| !smp::is_on(number))), "they did not go off");
    Ok(())
}

fn poll_other() -> Outcome {
    // vCPU 1 answers an SGI by sending the event.
    static PORT: AtomicU64 = AtomicU64::new(0);
    let port = loopback()?;
    event::mask(port);
    PORT.store(u64::from(port), Ordering::SeqCst);
    gic::set_handler(7, |_| {
        let port = u32::try_from(PORT.load(Ordering::SeqCst)).unwrap_or_default();
        let _ = event_channel::send(port);
    });
    for _ in 0..5 {
        let start = system_time();
        gic::send(1, 7);
        sched::poll(&[port], start + 250_000_000)?;
        check!(system_time() - start < 200_000_000, "the event did not end it");
        check!(event::is_pending(port));
        event::clear(port);
    }
    event_channel::close(port)?;
    Ok(())
}

fn wake_among_spinners() -> Outcome {
    start_spinners()?;
    let mut worst = 0;
    for _ in 0..10 {
        let end = system_time() + 3_000_000;
        sched::poll(&[], end)?;
        worst = worst.max(system_time().saturating_sub(end));
    }
    let stopped = stop_spinners();
    check!(worst < 60_000_000, "it woke {worst} ns late");
    check!(stopped, "the spinners did not go off");
    Ok(())
}
