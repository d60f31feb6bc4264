//! The way from the loader's jump to the guest's first function, and what happens when that returns.

use crate::{console, cpu, exception, gic, heap, map, power, smp, tree};
use core::arch::global_asm;
use core::panic::PanicInfo;
use hypercall_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF};

/// Attributes 0: normal memory, write-back. Attributes 1: device registers, nGnRE.
const MAIR: u64 = 0x04ff;
/// 39-bit addresses from TTBR0 alone, 4 KiB pages, tables in write-back inner-shareable memory.
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23;
/// MMU and both caches on, beside the bits that are 1 in Armv8.0.
const SCTLR: u64 = 0x30d0_0800 | 1 | 1 << 2 | 1 << 12;

global_asm!(
    include_str!("boot.S"),
    root = sym map::ROOT,
    low = sym map::LOW,
    image = sym map::IMAGE,
    DEVICE_BLOCK = const map::DEVICE_BLOCK,
    NORMAL_BLOCK = const map::NORMAL_BLOCK,
    MAIR = const MAIR,
    TCR = const TCR,
    SCTLR = const SCTLR,
    first_main = sym first_main,
    next_main = sym smp::next_main,
);

unsafe extern "Rust" {
    /// The guest's first function; [`entry!`](crate::entry) defines it.
    safe fn pv_guest_main();
}

/// Names the guest's first function, a `fn()`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(export_name = "pv_guest_main")]
        fn pv_guest_main() {
            let main: fn() = $main;
            main()
        }
    };
}

/// Goes on from `boot.S` on the first processor: `offset` turns linked addresses into real ones.
extern "C" fn first_main(device_tree: u64, offset: u64) -> ! {
    map::init(offset);
    heap::init();
    console::init();
    tree::init(device_tree);
    gic::init_distributor();
    gic::init_this_cpu();
    cpu::enable_interrupts();
    pv_guest_main();
    power::shutdown(SHUTDOWN_POWEROFF)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cpu::disable_interrupts();
    console::last_words(format_args!("panic on vCPU {}: {info}", cpu::number()));
    exception::print_callers(cpu::frame_pointer());
    power::shutdown(SHUTDOWN_CRASH)
}
