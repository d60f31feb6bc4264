//! Exceptions: interrupts go to their handlers, an expected fault is recorded, any other ends the guest with a report.

use crate::cpu::{self, MAX_CPUS};
use crate::{console, gic, map, power, system_register};
use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hypercall_abi::sched::SHUTDOWN_CRASH;

/// Size of [`Frame`] on the stack, a multiple of 16.
const FRAME_SIZE: usize = 0x110;
const CLASS_INSTRUCTION_ABORT: u64 = 0x21;

global_asm!(include_str!("vectors.S"), FRAME_SIZE = const FRAME_SIZE, handle = sym handle);

/// What `vectors.S` saves.
#[repr(C)]
struct Frame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
}
const _: () = assert!(size_of::<Frame>() <= FRAME_SIZE);

/// A synchronous exception that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// Where it happened.
    pub elr: u64,
}

impl Fault {
    /// Returns the exception class (Arm ARM D24.2.40): 0 unknown, 0x25 data abort, 0x21 instruction abort.
    pub fn class(self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    /// Returns the fault status code of an abort, such as 0x10 for an external abort.
    pub fn status(self) -> u64 {
        self.esr & 0x3f
    }
}

/// What a processor expects, and what came of it.
struct Catcher {
    armed: AtomicBool,
    caught: AtomicBool,
    esr: AtomicU64,
    far: AtomicU64,
    elr: AtomicU64,
}

static CATCHERS: [Catcher; MAX_CPUS] = [const {
    Catcher {
        armed: AtomicBool::new(false),
        caught: AtomicBool::new(false),
        esr: AtomicU64::new(0),
        far: AtomicU64::new(0),
        elr: AtomicU64::new(0),
    }
}; MAX_CPUS];

fn catcher() -> &'static Catcher {
    CATCHERS.get(cpu::number()).expect("a started processor has a number below MAX_CPUS")
}

/// Runs `work`, in which one instruction may fault; that instruction is then skipped.
///
/// Of an instruction abort the caller's return address is taken instead, so `work` has to *call* what it tries.
/// Interrupts are kept out meanwhile.
pub fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Fault> {
    cpu::without_interrupts(|| {
        let catcher = catcher();
        catcher.caught.store(false, Ordering::Relaxed);
        catcher.armed.store(true, Ordering::SeqCst);
        let result = work();
        catcher.armed.store(false, Ordering::SeqCst);
        if catcher.caught.load(Ordering::SeqCst) {
            return Err(Fault {
                esr: catcher.esr.load(Ordering::Relaxed),
                far: catcher.far.load(Ordering::Relaxed),
                elr: catcher.elr.load(Ordering::Relaxed),
            });
        }
        Ok(result)
    })
}

/// Acts on an exception; `vector` is its place in the table (0 to 15).
extern "C" fn handle(frame: &mut Frame, vector: u64) {
    const SYNCHRONOUS: u64 = 4;
    const INTERRUPT: u64 = 5;
    match vector {
        INTERRUPT => gic::dispatch(),
        SYNCHRONOUS if catcher().armed.load(Ordering::SeqCst) => record(frame),
        _ => report(frame, vector),
    }
}

fn record(frame: &mut Frame) {
    let catcher = catcher();
    let esr = system_register!("esr_el1");
    if catcher.caught.swap(true, Ordering::SeqCst) {
        report(frame, 4);
    }
    catcher.esr.store(esr, Ordering::Relaxed);
    catcher.far.store(system_register!("far_el1"), Ordering::Relaxed);
    catcher.elr.store(frame.elr, Ordering::Relaxed);
    if esr >> 26 & 0x3f == CLASS_INSTRUCTION_ABORT {
        frame.elr = frame.x[30];
    } else {
        frame.elr += 4;
    }
}

fn report(frame: &Frame, vector: u64) -> ! {
    const KINDS: [&str; 4] = ["synchronous exception", "interrupt", "fast interrupt", "SError"];
    let kind = usize::try_from(vector % 4).ok().and_then(|kind| KINDS.get(kind));
    console::last_words(format_args!(
        "unexpected {} (vector {vector}) on vCPU {}: ESR {:#x} FAR {:#x}",
        kind.unwrap_or(&"exception"),
        cpu::number(),
        system_register!("esr_el1"),
        system_register!("far_el1"),
    ));
    console::last_words(format_args!("at {:#x}, state {:#x}", frame.elr, frame.spsr));
    for (number, value) in frame.x.iter().enumerate() {
        console::last_words(format_args!("x{number:<2} {value:#018x}"));
    }
    print_callers(frame.x[29]);
    power::shutdown(SHUTDOWN_CRASH)
}

/// Prints return addresses, the innermost first, by the frame records from `pointer` on.
pub(crate) fn print_callers(pointer: u64) {
    let mut pointer = pointer;
    for _ in 0..16 {
        if pointer == 0 || !pointer.is_multiple_of(8) {
            return;
        }
        let record = map::pointer::<[u64; 2]>(pointer);
        // SAFETY: the compiler keeps frame records on the stack (forced by .cargo/config.toml), whose chain ends with 0.
        let [next, caller] = unsafe { record.read() };
        if caller == 0 {
            return;
        }
        console::last_words(format_args!("called from {caller:#x}"));
        pointer = next;
    }
}
