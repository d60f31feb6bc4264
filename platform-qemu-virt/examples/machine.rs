//! Tries what `hv-arch` claims about the machine, one claim after another, and ends the emulator with
//! status 0 if all hold: memory, heap, timer, interrupts, every processor, a guest, and a stack overflow.
//!
//! ```text
//! cargo build --release -p platform-qemu-virt --example machine --target aarch64-unknown-none-softfloat
//! ```
//! Boot it like the hypervisor, with `-semihosting-config enable=on,target=native`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod machine {
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::fmt::Write;
    use core::hint::black_box;
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use hv_arch::direct_map::{self, BootRegion, ClaimError};
    use hv_arch::guest_copy::LoadedGuest;
    use hv_arch::stage2::{self, Space};
    use hv_arch::uart::{Emergency, Pl011};
    use hv_arch::vcpu::{self, VirtualTimer};
    use hv_arch::{BootInfo, DirectMap, ExitReason, Lock, MAX_CPUS, VcpuContext};
    use hv_arch::{barrier, gic, power, semihosting, this_cpu, timer};
    use hv_core::addr::{Gfn, MachineAddr};
    use hv_core::guest::{Fault, GuestMemory};
    use hv_core::ids::{CpuId, Irq};
    use hv_core::memory::FrameMemory;
    use hv_core::time::Nanos;
    use hv_core::vgic::{ListRegister, ListRegisters};

    hv_arch::entry!(main);

    const RAM: MachineAddr = MachineAddr::new(0x4000_0000);
    const RAM_LEN: u64 = 0x4000_0000;
    const FRAMES: MachineAddr = MachineAddr::new(0x5000_0000);
    const FRAMES_LEN: u64 = 0x0200_0000;
    const HEAP: MachineAddr = MachineAddr::new(0x5400_0000);
    /// How often each processor takes the lock. A lock that hands over by turns is caught out here.
    const ROUNDS: u64 = 1000;
    const SGI: Irq = Irq::sgi(3);

    static STARTED: AtomicU32 = AtomicU32::new(0);
    static LOCKED: Lock<u64> = Lock::new(0);
    static FAULT_EXPECTED: AtomicBool = AtomicBool::new(false);

    macro_rules! say {
        ($($part:tt)*) => {{
            let _ = writeln!(Emergency, $($part)*);
        }};
    }

    fn main(boot: BootInfo) -> ! {
        let uart = Pl011::new(MachineAddr::new(0x0900_0000)).expect("the port is mapped first");
        say!("{uart:?} {boot:x?} {:#x} Hz", timer::frequency());
        let is_v3 = memory(&boot);
        heap();
        interrupts(is_v3);
        processors();
        guest();
        say!("passed; now a stack overflow, which must be reported");
        FAULT_EXPECTED.store(true, Ordering::Relaxed);
        say!("{}", overflow(black_box(1)));
        semihosting::exit(2)
    }

    /// Tries memory; says whether QEMU was told to give the machine a GICv3.
    fn memory(boot: &BootInfo) -> bool {
        const GIC_V3: &[u8] = b"arm,gic-v3";
        let tree = direct_map::device_tree(boot.device_tree).expect("QEMU gives a device tree");
        say!("device tree of {} bytes", tree.bytes().len());
        let is_v3 = tree.bytes().windows(GIC_V3.len()).any(|bytes| bytes == GIC_V3);
        assert_eq!(tree.bytes().get(..4), Some(&[0xd0, 0x0d, 0xfe, 0xed][..]));
        direct_map::map_ram(RAM, RAM_LEN).expect("there is 1 GiB");
        let again = BootRegion::claim(boot.device_tree, 1);
        assert_eq!(again.err(), Some(ClaimError::Taken));
        assert_eq!(BootRegion::claim(boot.image.start, 1).err(), Some(ClaimError::Taken));
        let outside = MachineAddr::new(0x0800_0000);
        assert_eq!(BootRegion::claim(outside, 1).err(), Some(ClaimError::NotMemory));

        let region = BootRegion::claim(FRAMES, 5000).expect("nobody has it");
        assert_eq!(direct_map::manage(FRAMES, FRAMES_LEN), Err(ClaimError::Taken));
        assert_eq!(region.release(), (FRAMES, 0x2000));
        assert!(!DirectMap.covers(FRAMES, 1));
        direct_map::manage(FRAMES, FRAMES_LEN / 2).expect("nobody has it");
        let middle = FRAMES.checked_add(FRAMES_LEN / 2).expect("small numbers");
        assert!(!DirectMap.covers(middle, 1));
        direct_map::manage(middle, FRAMES_LEN / 2).expect("nobody has it");
        let last = FRAMES.checked_add(FRAMES_LEN - 8).expect("small numbers");
        assert!(DirectMap.covers(last, 8) && !DirectMap.covers(last, 9));
        assert!(DirectMap.covers(MachineAddr::new(middle.raw() - 4), 8));
        assert!(!DirectMap.covers(MachineAddr::new(u64::MAX - 3), 8));

        let mut pattern = [0_u8; 300];
        for (value, byte) in (1..=251).cycle().zip(&mut pattern) {
            *byte = value;
        }
        for len in 0..pattern.len() {
            let at = MachineAddr::new(FRAMES.raw() + 4096 - 7);
            DirectMap.zero(FRAMES.frame());
            DirectMap.zero(FRAMES.frame().checked_add(1).expect("small numbers"));
            let part = pattern.get(..len).expect("in range");
            DirectMap.write(at, part);
            let mut back = [0xee_u8; 302];
            DirectMap.read(MachineAddr::new(at.raw() - 1), &mut back);
            assert!(back.first() == Some(&0) && back.get(1..=len) == Some(part));
            assert!(back.iter().skip(len + 1).all(|byte| *byte == 0), "wrote too much at {len}");
        }
        let word = MachineAddr::new(FRAMES.raw() + 8);
        DirectMap.store_u64(word, 0x0123_4567_89ab_cdef);
        assert_eq!(DirectMap.fetch_or_u32(word, 0x10), 0x89ab_cdef);
        assert_eq!(DirectMap.compare_exchange_u32(word, 0, 1), Err(0x89ab_cdff));
        assert_eq!(DirectMap.swap_u8(word, 7), 0xff);
        assert_eq!(DirectMap.load_u64(word), 0x0123_4567_89ab_cd07);
        DirectMap.clean_and_invalidate(FRAMES, 8192);
        is_v3
    }

    fn heap() {
        assert!(!fits(1 << 20), "little can be allocated before there is memory");
        hv_arch::heap::add(BootRegion::claim(HEAP, 1 << 20).expect("nobody has it"));
        assert!(!fits(2 << 20));
        assert!(fits(512 << 10));
    }

    /// Says whether `len` bytes can be allocated. The compiler may not assume that they can.
    fn fits(len: usize) -> bool {
        let mut bytes = Vec::<u8>::new();
        let fits = bytes.try_reserve(len).is_ok();
        black_box(&mut bytes);
        fits
    }

    fn interrupts(is_v3: bool) {
        let at = MachineAddr::new;
        let distributor = at(0x0800_0000);
        if is_v3 {
            let regions = [(at(0x080a_0000), 0x00f6_0000)];
            gic::init_v3(distributor, &regions).expect("the tree says that it is there");
        } else {
            gic::init_v2(distributor, at(0x0801_0000), at(0x0803_0000))
                .expect("the tree says that it is there");
        }
        gic::init_this_cpu();
        say!("{} interrupts, {} list registers", gic::interrupt_count(), gic::ThisCpuLists.count());
        assert_eq!(gic::acknowledge(), None);
        gic::enable(timer::IRQ);
        let deadline = timer::now() + Nanos::from_millis(2);
        timer::set_deadline(deadline);
        while !power::interrupt_pending() {
            power::wait_for_interrupt();
        }
        assert!(timer::now() >= deadline, "the timer is never early");
        assert_eq!(gic::acknowledge(), Some(timer::IRQ));
        assert!(gic::is_active(timer::IRQ));
        timer::clear_deadline();
        gic::drop_priority(timer::IRQ);
        gic::deactivate(timer::IRQ);
        assert!(!gic::is_active(timer::IRQ) && !gic::is_pending(timer::IRQ));
        let spi = Irq::spi(100).expect("in range");
        gic::set_trigger(spi, gic::Trigger::Edge);
        gic::route(spi, this_cpu());
        gic::set_pending(spi, true);
        assert!(!power::interrupt_pending());
        gic::enable(spi);
        barrier::dsb_sy();
        assert_eq!(gic::acknowledge(), Some(spi));
        gic::drop_priority(spi);
        gic::deactivate(spi);
        gic::disable(spi);
    }

    fn processors() {
        let mut expected = 1;
        gic::enable(SGI);
        for number in 1..MAX_CPUS {
            let cpu = CpuId(u32::try_from(number).expect("small numbers"));
            if power::start_cpu(number as u64, cpu, other).is_err() {
                break;
            }
            expected += 1;
        }
        let limit = timer::now() + Nanos::from_millis(5_000);
        let mut heard = 1;
        while heard < expected {
            assert!(timer::now() < limit, "{heard} of {expected} processors were heard");
            heard = STARTED.load(Ordering::SeqCst) + 1;
            while let Some(irq) = gic::acknowledge() {
                assert_eq!(irq, SGI);
                gic::drop_priority(irq);
                gic::deactivate(irq);
            }
        }
        let limit = timer::now() + Nanos::from_millis(10_000);
        loop {
            let count = *LOCKED.lock();
            if count == u64::from(expected - 1) * ROUNDS {
                break;
            }
            assert!(timer::now() < limit, "the lock let only {count} additions through");
        }
        say!("{expected} processors, {} us", timer::now().0 / 1000);
    }

    fn other(cpu: CpuId) -> ! {
        assert_eq!(cpu, this_cpu());
        gic::init_this_cpu();
        gic::send_sgi(CpuId(0), SGI);
        STARTED.fetch_add(1, Ordering::SeqCst);
        for _ in 0..ROUNDS {
            *LOCKED.lock() += 1;
        }
        power::halt()
    }

    /// What the guest does; assembled from the instructions beside.
    const PROGRAM: [u32; 22] = [
        0xd282_4681, // mov x1, #0x1234
        0xd400_0022, // hvc #1
        0xd2a2_0003, // mov x3, #0x10000000
        0xb940_0862, // ldr w2, [x3, #8]
        0x9100_0444, // add x4, x2, #1
        0xd400_0042, // hvc #2
        0xd2a0_0605, // mov x5, #0x300000
        0xd518_1045, // msr cpacr_el1, x5
        0xd503_3fdf, // isb
        0x9e67_0087, // fmov d7, x4
        0xd400_0062, // hvc #3
        0x9e66_00e6, // fmov x6, d7
        0xd400_0082, // hvc #4
        0xd280_7d07, // mov x7, #1000
        0xd51b_e307, // msr cntv_tval_el0, x7
        0xd280_0027, // mov x7, #1
        0xd51b_e327, // msr cntv_ctl_el0, x7
        0x1400_0000, // b .
        0xd503_201f, // nop
        0xd503_201f, // nop
        0xd503_201f, // nop
        0x1400_0000, // b .
    ];
    const GUEST: u64 = 0x8000_0000;

    fn guest() {
        let context = &mut *Box::new(VcpuContext::new(GUEST, 0x8000_0001));
        let space = guest_memory();
        stage2::activate(space);
        context.load();
        run_program(context);
        copy_to_guest();
        cost(context);
        context.save();
        stage2::flush_space(space);
        stage2::flush_all();
        say!("{context:?}");
    }

    /// Maps 2 MiB at `GUEST`, with a root at level 0 or 1.
    fn guest_memory() -> Space {
        const TABLE: u64 = 0b11;
        const NORMAL_BLOCK: u64 = 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 0b01;
        let page = |number: u64| MachineAddr::new(FRAMES.raw() + number * 4096);
        let [level_1, level_2, level_0, ram] = [0, 16, 17, 0x200].map(page);
        for number in 0..18 {
            DirectMap.zero(page(number).frame());
        }
        DirectMap.store_u64(level_0, level_1.raw() | TABLE);
        DirectMap.store_u64(MachineAddr::new(level_1.raw() + 2 * 8), level_2.raw() | TABLE);
        DirectMap.store_u64(level_2, ram.raw() | NORMAL_BLOCK);
        let root = if stage2::config().start_level == 0 { level_0 } else { level_1 };
        for (place, word) in (ram.raw()..).step_by(4).zip(PROGRAM) {
            DirectMap.store_u32(MachineAddr::new(place), word);
        }
        DirectMap.clean_and_invalidate(ram, 4096);
        hv_arch::cache::invalidate_instructions();
        let space = Space::new(root, 7);
        stage2::flush(space, Gfn::new(GUEST >> 12), 1, 0);
        space
    }

    fn run_program(context: &mut VcpuContext) {
        const HVC: u64 = 0x16 << 26 | 1 << 25;
        const DATA_ABORT: u64 = 0x24;
        assert_eq!(context.enter(), ExitReason::Sync { esr: HVC | 1 });
        assert_eq!((context.gpr(1), context.gpr(31)), (0x1234, 0));
        assert_eq!(context.pc(), GUEST + 8);

        let ExitReason::Sync { esr } = context.enter() else { panic!("a load from nothing traps") };
        assert_eq!(esr >> 26, DATA_ABORT);
        assert_eq!((esr >> 16) & 0x1f, 2, "the register is x2");
        assert_eq!(vcpu::fault_address(), 0x1000_0008);
        assert_eq!(vcpu::fault_page() >> 4, 0x1_0000);
        context.set_gpr(2, 0xcafe);
        context.skip_instruction(esr);
        assert_eq!(context.enter(), ExitReason::Sync { esr: HVC | 2 });
        assert_eq!(context.gpr(4), 0xcaff);

        // The floating-point registers outlive another virtual processor.
        assert_eq!(context.enter(), ExitReason::Sync { esr: HVC | 3 });
        context.save();
        assert_eq!(context.vector(7), Some([0xcaff, 0]));
        assert_eq!(context.cpacr_el1(), 0x30_0000);
        let mut second = VcpuContext::new(GUEST + 11 * 4, 0x8000_0002);
        second.set_cpacr_el1(0x30_0000);
        second.load();
        assert_eq!(second.enter(), ExitReason::Sync { esr: HVC | 4 });
        assert_eq!(second.gpr(6), 0);
        second.save();
        context.load();
        assert_eq!(context.enter(), ExitReason::Sync { esr: HVC | 4 });
        assert_eq!(context.gpr(6), 0xcaff);

        // The virtual timer comes as an interrupt that takes the guest out, and goes with its context.
        gic::enable(timer::VIRTUAL_IRQ);
        assert_eq!(context.enter(), ExitReason::Irq);
        assert_eq!(gic::acknowledge(), Some(timer::VIRTUAL_IRQ));
        assert_eq!(context.virtual_timer().control, 0b101);
        context.set_virtual_timer(VirtualTimer { control: 0b11, compare: 0 });
        gic::drop_priority(timer::VIRTUAL_IRQ);
        gic::deactivate(timer::VIRTUAL_IRQ);
        assert!(!power::interrupt_pending());

        // So does a virtual interrupt, when it is in a list register.
        let lr = ListRegister::new(timer::VIRTUAL_IRQ, 0xa0).pending();
        gic::ThisCpuLists.write(0, lr);
        let deadline = timer::now() + Nanos::from_micros(100);
        timer::set_deadline(deadline);
        assert_eq!(context.enter(), ExitReason::Irq);
        assert_eq!(gic::acknowledge(), Some(timer::IRQ));
        timer::clear_deadline();
        gic::drop_priority(timer::IRQ);
        gic::deactivate(timer::IRQ);
        context.save();
        assert_eq!(gic::ThisCpuLists.read(0), ListRegister::EMPTY);
        context.load();
        assert_eq!(gic::ThisCpuLists.read(0), lr);
    }

    fn copy_to_guest() {
        let far = GUEST + 0x2_0000 - 3;
        assert_eq!(LoadedGuest.write(far, b"across two pages"), Ok(()));
        let mut back = [0; 16];
        assert_eq!(LoadedGuest.read(far, &mut back), Ok(()));
        assert_eq!(&back, b"across two pages");
        assert_eq!(LoadedGuest.read(0x1000, &mut back), Err(Fault));
        assert_eq!(LoadedGuest.write(GUEST + 0x20_0000 - 3, &back), Err(Fault));
        assert_eq!(LoadedGuest.translate(far).map(|at| at.raw()), Ok(far));
    }

    /// Measures what is done often; under `-icount shift=0` a nanosecond is an instruction.
    fn cost(context: &mut VcpuContext) {
        let frame = black_box(FRAMES.frame());
        let at = black_box(FRAMES);
        let mut bytes = [0; 24];
        let mut page = [0; 4096];
        measure("nothing", || {});
        measure("a round trip to the guest", || {
            context.set_pc(GUEST + 4);
            context.enter();
        });
        measure("putting a virtual processor away and back", || {
            context.save();
            context.load();
        });
        measure("a word of memory", || {
            black_box(DirectMap.load_u64(at));
        });
        measure("24 bytes of the guest", || {
            assert_eq!(LoadedGuest.read(GUEST + 0x100, black_box(&mut bytes)), Ok(()));
        });
        measure("a page of the guest", || {
            assert_eq!(LoadedGuest.read(GUEST + 0x1000, black_box(&mut page)), Ok(()));
        });
        measure("zeroing a page", || DirectMap.zero(frame));
        measure("the time", || {
            black_box(timer::now());
        });
    }

    fn measure(what: &str, mut action: impl FnMut()) {
        const TIMES: u64 = 100;
        let start = timer::ticks();
        for _ in 0..TIMES {
            action();
        }
        let span = timer::to_nanos(timer::ticks() - start);
        say!("{what}: {} ns", span.0 / TIMES);
    }

    #[expect(unconditional_recursion, reason = "the stack has to run over")]
    fn overflow(depth: u64) -> u64 {
        let here = black_box([depth; 64]);
        overflow(depth + 1) + here.iter().sum::<u64>()
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        say!("{:?}: {info}", this_cpu());
        for address in hv_arch::trap::backtrace().take(8) {
            say!("  from {address:#x}");
        }
        semihosting::exit(u64::from(!FAULT_EXPECTED.load(Ordering::Relaxed)))
    }
}

/// Off the machine there is nothing to try.
#[cfg(not(target_os = "none"))]
fn main() {}
