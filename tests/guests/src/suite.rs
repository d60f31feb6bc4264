//! Runs tests one after another and keeps count.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use hypercall_abi::version::{EXTRAVERSION_LEN, XENVER_EXTRAVERSION};
use pv_guest_lib::exception::Fault;
use pv_guest_lib::hypercall::{HypercallError, sched, version};
use pv_guest_lib::smp::PsciError;
use pv_guest_lib::{cpu, event, say, shared_info, smp, time, tree};

/// Why a test failed.
pub(crate) struct Failure(pub(crate) String);

/// What a test came to.
pub(crate) type Outcome = Result<(), Failure>;

impl From<HypercallError> for Failure {
    fn from(error: HypercallError) -> Self {
        Self(format!("a hypercall failed: {error:?}"))
    }
}

impl From<PsciError> for Failure {
    fn from(error: PsciError) -> Self {
        Self(format!("a PSCI call failed: {error:?}"))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self(format!("an access failed: {fault:x?}"))
    }
}

/// The count.
#[derive(Default)]
pub(crate) struct Suite {
    passed: u32,
    failed: u32,
}

impl Suite {
    /// Runs one test and prints what it came to.
    pub(crate) fn test(&mut self, name: &str, test: impl FnOnce() -> Outcome) {
        match test() {
            Ok(()) => {
                self.passed += 1;
                say!("ok {name}");
            }
            Err(Failure(why)) => {
                self.failed += 1;
                say!("not ok {name}: {why}");
            }
        }
    }

    /// Runs a test of something that Xen 4.20 does not do right; there it counts as passed.
    pub(crate) fn beyond_xen(&mut self, name: &str, test: impl FnOnce() -> Outcome) {
        if is_xen() {
            self.test(&format!("{name} (not tried on Xen)"), || Ok(()));
        } else {
            self.test(name, test);
        }
    }

    /// Prints the count.
    pub(crate) fn finish(self) {
        say!("{} passed, {} failed", self.passed, self.failed);
    }

    /// Returns whether all tests passed so far.
    pub(crate) fn all_passed(&self) -> bool {
        self.failed == 0
    }
}

/// Ends a test unless a condition holds.
macro_rules! check {
    ($condition:expr $(,)?) => { $crate::suite::check!($condition, "{}", stringify!($condition)) };
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            let why = alloc::format!($($why)+);
            return Err($crate::suite::Failure(alloc::format!("{why} (line {})", line!())));
        }
    };
}
pub(crate) use check;

/// Ends a test unless two values are equal.
macro_rules! check_eq {
    ($found:expr, $expected:expr $(,)?) => {{
        let (found, expected) = ($found, $expected);
        $crate::suite::check!(
            found == expected,
            "{} is {found:x?}, not {expected:x?}",
            stringify!($found)
        );
    }};
}
pub(crate) use check_eq;

/// Ends a test unless a hypercall failed with this error.
macro_rules! check_errno {
    ($call:expr, $errno:ident) => {{
        let found = $call;
        let expected =
            pv_guest_lib::hypercall::HypercallError::from(hypercall_abi::errno::Errno::$errno);
        match found {
            Err(error) if error == expected => {}
            found => {
                return Err($crate::suite::Failure(alloc::format!(
                    "{} gave {found:x?}, not {} (line {})",
                    stringify!($call),
                    stringify!($errno),
                    line!()
                )));
            }
        }
    }};
}
pub(crate) use check_errno;

/// Returns whether the hypervisor is Xen itself, by its extra version.
pub(crate) fn is_xen() -> bool {
    let mut text = [0u8; EXTRAVERSION_LEN];
    let asked = version::into(XENVER_EXTRAVERSION, &mut text);
    asked.is_err() || !text.windows(5).any(|part| part == b"domus")
}

/// Returns a free guest frame, in memory's own part of the address map, the `number`th of a few.
pub(crate) fn hole(number: u64) -> u64 {
    let regions = &tree::get().extended;
    let start = regions.first().map_or(0, |region| region.start);
    (start >> 12) + number
}

/// Set when vCPUs that wait for events are to stop.
static STOP: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicU32 = AtomicU32::new(0);

/// Starts a vCPU that takes events and interrupts until [`stop_vcpus`].
pub(crate) fn start_vcpu(number: usize) -> Outcome {
    fn wait() {
        let registered = shared_info::register_vcpu();
        event::enable_upcall();
        WAITING.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = registered {
            say!("vCPU {} has no vcpu_info: {error:?}", cpu::number());
        }
        while !STOP.load(Ordering::SeqCst) {
            cpu::without_interrupts(|| {
                if !STOP.load(Ordering::SeqCst) {
                    cpu::wait_for_interrupt();
                }
            });
        }
        event::disable_upcall();
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
    let before = WAITING.load(Ordering::SeqCst);
    STOP.store(false, Ordering::SeqCst);
    smp::start(number, wait)?;
    check!(
        time::wait_until(1000, || WAITING.load(Ordering::SeqCst) > before),
        "vCPU {number} did not come up"
    );
    Ok(())
}

/// Waits until something is true, at most a second.
pub(crate) fn soon(done: impl Fn() -> bool) -> bool {
    time::wait_until(1000, || {
        // Whoever is waited for may need this processor.
        let _ = sched::yield_now();
        done()
    })
}

/// Gives what must not happen the time to happen.
pub(crate) fn a_while() {
    time::wait_until(5, || false);
}
