//! From the loader to Rust: what `boot.S` needs, and where the image is.
//!
//! No Rust runs before the MMU and caches are on: locks need them (Arm ARM B2.9). The image is linked at
//! one virtual address and may be loaded anywhere that is aligned to 4 KiB.

use crate::lock::Once;
use crate::mmu;
use crate::percpu::{self, MAX_CPUS};
use crate::{cpu, regs, timer};
use core::arch::global_asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use hv_core::addr::MachineAddr;
use hv_core::ids::CpuId;

/// What the loader left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootInfo {
    /// The flattened device tree: see [`crate::direct_map::device_tree`].
    pub device_tree: MachineAddr,
    /// The hypervisor's image, its working memory included.
    pub image: Range<MachineAddr>,
}

/// Names the function, `fn(BootInfo) -> !`, that the first processor runs.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn hypervisor_main(boot: $crate::BootInfo) -> ! {
            let main: fn($crate::BootInfo) -> ! = $main;
            main(boot)
        }
    };
}

unsafe extern "Rust" {
    fn hypervisor_main(boot: BootInfo) -> !;
}

unsafe extern "C" {
    static image_end: u8;
    static stacks_start: u8;
    fn secondary_start();
    fn waiting_start();
}

/// Distance between the stacks of two processors: a guard page, the emergency stack, a guard page, the
/// stack proper. `boot.S` leaves the guard pages unmapped.
const STACK_STRIDE: u64 = 0x1_0000;
const EMERGENCY_STACK: u64 = 0x4000;
const GUARD: u64 = 0x1000;

/// The number of the processor that [`prepare_waiting`] was called for last.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);
static IMAGE_AT: AtomicU64 = AtomicU64::new(0);
static SECONDARY_MAIN: Once<fn(CpuId) -> !> = Once::new();

/// Returns the machine addresses of the image, its working memory included.
pub fn image() -> Range<MachineAddr> {
    let len = (&raw const image_end).addr() as u64 - mmu::IMAGE_BASE;
    let start = IMAGE_AT.load(Ordering::Relaxed);
    MachineAddr::new(start)..MachineAddr::new(start + len)
}

/// Returns where the byte of the image at virtual address `address` really is.
pub(crate) fn machine_address(address: u64) -> MachineAddr {
    MachineAddr::new(address - mmu::IMAGE_BASE + IMAGE_AT.load(Ordering::Relaxed))
}

/// Returns the virtual address of the byte of the image at `at`.
pub(crate) fn image_address(at: MachineAddr) -> u64 {
    at.raw() - IMAGE_AT.load(Ordering::Relaxed) + mmu::IMAGE_BASE
}

/// Says whether the `len` bytes from `address` are in a mapped part of the stacks.
pub(crate) fn is_stack(address: u64, len: u64) -> bool {
    let start = (&raw const stacks_start).addr() as u64;
    let all = MAX_CPUS as u64 * STACK_STRIDE;
    let Some(offset) = address.checked_sub(start).filter(|offset| *offset < all) else {
        return false;
    };
    let offset = offset % STACK_STRIDE;
    let emergency = GUARD..GUARD + EMERGENCY_STACK;
    let proper = EMERGENCY_STACK + 2 * GUARD..STACK_STRIDE;
    [emergency, proper].iter().any(|part| part.contains(&offset) && offset + len <= part.end)
}

/// Notes what other processors run, and returns where they start.
pub(crate) fn prepare_secondary(main: fn(CpuId) -> !) -> MachineAddr {
    SECONDARY_MAIN.call_once(|| main);
    machine_address(secondary_start as *const () as u64)
}

/// Notes what the next processor runs that was left waiting, which number it has, and returns where it starts.
pub(crate) fn prepare_waiting(cpu: CpuId, main: fn(CpuId) -> !) -> MachineAddr {
    SECONDARY_MAIN.call_once(|| main);
    NEXT_NUMBER.store(cpu.0.into(), Ordering::SeqCst);
    // It looks there before its caches are on.
    crate::cache::clean_and_invalidate((&raw const NEXT_NUMBER).addr() as u64, 8);
    machine_address(waiting_start as *const () as u64)
}

/// The first Rust: processor 0, on its stack, at virtual addresses.
extern "C" fn first_main(device_tree: u64, image_at: u64) -> ! {
    IMAGE_AT.store(image_at, Ordering::Relaxed);
    timer::init();
    crate::heap::init();
    start_processor(CpuId(0));
    let boot = BootInfo { device_tree: MachineAddr::new(device_tree), image: image() };
    // SAFETY: the platform defines it with `entry!`, which gives it this type.
    unsafe { hypervisor_main(boot) }
}

/// The first Rust of every other processor.
extern "C" fn next_main(number: u64) -> ! {
    let cpu = CpuId(u32::try_from(number).expect("`start_cpu` passes a processor's number"));
    start_processor(cpu);
    let main = SECONDARY_MAIN.get().expect("`start_cpu` set it first");
    main(cpu)
}

fn start_processor(cpu: CpuId) {
    let start = (&raw const stacks_start).addr() as u64;
    let emergency = start + u64::from(cpu.0) * STACK_STRIDE + GUARD + EMERGENCY_STACK;
    percpu::claim(cpu, cpu::affinity(), emergency);
    cpu::init_this();
}

global_asm!(
    include_str!("boot.S"),
    HCR = const 1_u64 << 31,
    MAIR = const regs::MAIR,
    TCR = const regs::TCR,
    SCTLR = const regs::SCTLR,
    SCTLR_OFF = const 0x30c5_0830,
    PAGE_TEXT = const mmu::PAGE_TEXT,
    PAGE_CONSTANTS = const mmu::PAGE_CONSTANTS,
    PAGE_DATA = const mmu::PAGE_DATA,
    IMAGE_BASE = const mmu::IMAGE_BASE,
    IMAGE_TABLES = const mmu::IMAGE_TABLES,
    STACK_STRIDE = const STACK_STRIDE,
    EMERGENCY_STACK = const EMERGENCY_STACK,
    MAX_CPUS = const MAX_CPUS,
    next_number = sym NEXT_NUMBER,
    root = sym mmu::ROOT,
    image_l1 = sym mmu::IMAGE_LEVEL_1,
    image_l2 = sym mmu::IMAGE_LEVEL_2,
    image_l3 = sym mmu::IMAGE_LEVEL_3,
    identity_l1 = sym mmu::IDENTITY_LEVEL_1,
    identity_l2 = sym mmu::IDENTITY_LEVEL_2,
    identity_l3 = sym mmu::IDENTITY_LEVEL_3,
    first_main = sym first_main,
    next_main = sym next_main,
);
