//! The way from the loader's jump to the guest's first function, and what happens when that returns.

use crate::range::{self, Range};
use crate::{console, cpu, exception, gic, heap, map, page, power, smp, time, tree};
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
    /// The most bytes of memory that the heap takes; [`entry!`](crate::entry) defines it.
    safe fn pv_guest_heap() -> u64;
}

unsafe extern "C" {
    /// The image's end, from `image.ld`.
    static image_end: u8;
    /// The image's start, in `boot.S`.
    static image_head: u8;
}

/// Names the guest's first function, a `fn()`.
///
/// The heap takes all memory; `entry!(main, heap: 1 << 20)` leaves it no more than so many bytes, and the rest untouched.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, heap: u64::MAX);
    };
    ($main:path, heap: $heap:expr) => {
        #[unsafe(export_name = "pv_guest_main")]
        fn pv_guest_main() {
            let main: fn() = $main;
            main()
        }

        #[unsafe(export_name = "pv_guest_heap")]
        fn pv_guest_heap() -> u64 {
            $heap
        }
    };
}

/// Goes on from `boot.S` on the first processor: `offset` turns linked addresses into real ones, `began` is the virtual counter at the
/// guest's first instruction.
extern "C" fn first_main(device_tree: u64, offset: u64, began: u64) -> ! {
    map::init(offset);
    time::began(began);
    heap::init();
    tree::init(device_tree);
    grow_heap();
    console::init();
    gic::init_distributor();
    gic::init_this_cpu();
    cpu::enable_interrupts();
    pv_guest_main();
    power::shutdown(SHUTDOWN_POWEROFF)
}

/// Gives the heap the memory that is nobody's, the largest pieces first.
fn grow_heap() {
    let address = |place: *const u8| map::physical(place.expose_provenance() as u64);
    let image = Range::between(address(&raw const image_head), address(&raw const image_end));
    let out_of_reach = [Range::between(0, 1 << 30), Range::between(map::MEMORY_END, u64::MAX)];
    let tree = tree::get();
    let memory = range::without(&tree.memory, &tree.taken);
    let memory = range::without(&memory, &out_of_reach);
    let mut memory = range::without(&memory, &[image]);
    memory.sort_unstable_by_key(|range| core::cmp::Reverse(range.len));
    let mut left = pv_guest_heap();
    for Range { start, len } in memory {
        let len = len.min(left);
        if len >= page::SIZE {
            // SAFETY: the device tree says that it is memory and nobody else's; `boot.S` mapped it.
            unsafe { heap::add(Range { start, len }) };
            left -= len;
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cpu::disable_interrupts();
    console::last_words(format_args!("panic on vCPU {}: {info}", cpu::number()));
    exception::print_callers(cpu::frame_pointer());
    power::shutdown(SHUTDOWN_CRASH)
}
