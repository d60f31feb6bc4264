//! Where Dom0's parts go on boards of different shapes.

use super::*;

const VIRT: &[u8] = include_bytes!("../../../tests/trees/virt-gicv3.dtb");
const SOC: &[u8] = include_bytes!("../../../tests/trees/soc.dtb");

fn region(base: u64, end: u64) -> Region {
    Region::between(base, end)
}

fn request<'a>(host: &'a HostTree, free: &'a [Region], memory: u64) -> Request<'a> {
    Request {
        host,
        free,
        memory,
        text_offset: 0,
        kernel_size: 40 * MIB,
        ramdisk_size: 5_000_000,
        ipa_bits: 40,
        dma_bits: 32,
        console: host.console(None),
        grant_frames: 64,
    }
}

/// Checks what must hold for every layout.
fn check(request: &Request<'_>, layout: &Dom0Layout) {
    let size: u64 = layout.banks.iter().map(|bank| bank.size).sum();
    assert_eq!(size, request.memory.next_multiple_of(BLOCK));
    for bank in &layout.banks {
        assert_eq!((bank.base.raw() % BLOCK, bank.size % BLOCK), (0, 0));
        assert!(request.free.iter().any(|free| free.contains(bank)), "{bank:?} is not free");
    }
    let kernel = region(layout.kernel.raw(), layout.kernel.raw() + request.kernel_size);
    let images: Vec<Region> =
        [kernel, layout.device_tree].into_iter().chain(layout.ramdisk).collect();
    for (at, image) in images.iter().enumerate() {
        assert!(layout.banks.iter().any(|bank| bank.contains(image)), "{image:?}");
        assert!(images[at + 1..].iter().all(|other| !other.overlaps(image)), "{images:?}");
    }
    let windows: Vec<Region> =
        [layout.grant_window].iter().chain(&layout.extended).copied().collect();
    let registers = gic_registers(request.host);
    for (at, window) in windows.iter().enumerate() {
        assert!(windows[at + 1..].iter().all(|other| !other.overlaps(window)), "{windows:x?}");
        for used in request.host.memory.iter().chain(&layout.mmio).chain(&registers) {
            assert!(!used.overlaps(window), "{window:?} is not empty: {used:?}");
        }
    }
    assert!(layout.extended.iter().all(|window| window.aligned_inside(SECTION) == *window));
    for kept in kept_registers(request.host, request.console) {
        assert!(layout.mmio.iter().all(|mmio| !mmio.overlaps(&kept)), "Dom0 reaches {kept:?}");
    }
}

fn plan(request: &Request<'_>) -> Dom0Layout {
    let layout = Dom0Layout::plan(request).unwrap();
    check(request, &layout);
    layout
}

#[test]
fn dom0_on_virt_gets_one_aligned_bank_and_all_devices_but_the_hypervisors() {
    let host = HostTree::parse(VIRT).unwrap();
    let free = [region(0x4100_0000, 0x4900_0000), region(0x5500_0000, 0x1_0000_0000)];
    let layout = plan(&request(&host, &free, GIB));
    assert_eq!(layout.banks, [region(0x8000_0000, 0xc000_0000)]);
    assert_eq!(layout.kernel.raw(), 0x8000_0000);
    assert_eq!(layout.device_tree, region(0x8800_0000, 0x8820_0000));
    assert_eq!(layout.ramdisk, Region::new(0x8820_0000, 5_000_000));
    assert_eq!(layout.extended, [region(0x1_0000_0000, 0x9_0000_0000)]);
    assert_eq!(layout.event_interrupt, Irq::ppi(0));
    let spis: Vec<u32> = layout.interrupts.iter().map(|interrupt| interrupt.irq.intid()).collect();
    // RTC 2, PCI 3 to 6, GPIO 7, virtio 16 to 47; not the console's 1.
    let wanted: Vec<u32> = (2..=7).chain(16..=47).map(|spi| spi + 32).collect();
    assert_eq!(spis, wanted);
    assert!(layout.mmio.iter().any(|mmio| mmio.contains(&region(0x0a00_0000, 0x0a00_4000))));
    assert!(layout.mmio.iter().any(|mmio| mmio.contains(&region(0x1000_0000, 0x3eff_0000))));
}

#[test]
fn memory_in_pieces_is_collected_low_pieces_first() {
    let host = HostTree::parse(VIRT).unwrap();
    let free = [
        region(0x4000_0000, 0x4040_0000),
        region(0x5000_0000, 0x6000_0000),
        region(0x7000_0000, 0x7010_0000),
        region(0x8000_0000, 0x8800_0000),
        region(0x2_0000_0000, 0x2_4000_0000),
    ];
    let layout = plan(&request(&host, &free, 388 * MIB));
    assert_eq!(layout.banks, [free[0], free[1], free[3]]);
    assert_eq!(layout.kernel.raw(), 0x5000_0000, "the first bank is too small");
    let layout = plan(&request(&host, &free, 512 * MIB));
    assert_eq!(layout.banks, [free[0], free[1], free[3], region(0x2_0000_0000, 0x2_07c0_0000)]);
}

#[test]
fn memory_that_is_not_there_is_said_with_numbers() {
    let host = HostTree::parse(VIRT).unwrap();
    let free = [region(0x4000_0000, 0x5000_0000)];
    let error = Dom0Layout::plan(&request(&host, &free, GIB)).unwrap_err();
    assert_eq!(error, LayoutError::Memory { wanted: GIB, found: 256 * MIB });
    let high = [region(0x1_0000_0000, 0x2_0000_0000)];
    let error = LayoutError::FirstBank { wanted: 128 * MIB, found: 0, limit: 4 * GIB };
    assert_eq!(Dom0Layout::plan(&request(&host, &high, GIB)), Err(error));
    for memory in [0, u64::MAX] {
        assert!(Dom0Layout::plan(&request(&host, &free, memory)).is_err());
    }
}

#[test]
fn too_little_memory_below_what_devices_reach_is_said_with_numbers() {
    let host = HostTree::parse(SOC).unwrap();
    let free = [region(0x3500_0000, 0x3a00_0000), region(0x4000_0000, 0xfc00_0000)];
    let short = Request { dma_bits: 30, ..request(&host, &free, GIB) };
    assert_eq!(
        Dom0Layout::plan(&short).unwrap_err().to_string(),
        "Dom0 needs 128 MiB in one piece below 1024 MiB, where every device reaches, and the largest free piece there has 80 MiB"
    );
    let enough = [region(0x3000_0000, 0x3a00_0000), free[1]];
    let layout = plan(&Request { free: &enough, ..short });
    assert_eq!(layout.banks[0], enough[0]);
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let host = HostTree::parse(VIRT).unwrap();
    let free = [region(0x4000_0000, 0x8000_0000)];
    let small = Request { kernel_size: 127 * MIB, ..request(&host, &free, 128 * MIB) };
    assert_eq!(Dom0Layout::plan(&small), Err(LayoutError::Images));
    for (kernel_size, ramdisk_size) in [(u64::MAX, 0), (1, u64::MAX), (1, 1 << 40)] {
        let request = Request { kernel_size, ramdisk_size, ..request(&host, &free, 128 * MIB) };
        assert_eq!(Dom0Layout::plan(&request), Err(LayoutError::Images));
    }
    let tight = Request { ramdisk_size: 84 * MIB, ..request(&host, &free, 128 * MIB) };
    let layout = plan(&tight);
    assert_eq!(layout.ramdisk.unwrap().end(), layout.banks[0].end(), "at the top of memory");
}

#[test]
fn what_shares_a_page_with_the_console_is_not_dom0s() {
    let host = HostTree::parse(SOC).unwrap();
    let layout = plan(&request(&host, &host.memory.clone()[..1], GIB / 2));
    assert!(is_hidden(&layout.hidden, "/soc/serial@7e215040"));
    assert!(!is_hidden(&layout.hidden, "/soc/serial@7e201000"));
    assert!(layout.mmio.contains(&region(0xfe20_0000, 0xfe20_2000)));
    assert!(
        layout.mmio.iter().any(|mmio| mmio.contains(&region(0x300_0000, 0x301_0000))),
        "no-map"
    );
    let spis: Vec<u32> = layout.interrupts.iter().map(|interrupt| interrupt.irq.intid()).collect();
    assert_eq!(spis, [113 + 32, 121 + 32, 157 + 32]);
}

#[test]
fn a_tree_with_small_cells_gets_windows_that_fit() {
    let mut host = HostTree::parse(SOC).unwrap();
    let free = [region(0x4000_0000, 0x8000_0000)];
    let layout = plan(&request(&host, &free, GIB / 2));
    assert!(layout.extended.iter().all(|window| window.size >> 32 == 0));
    host.root_cells = (1, 1);
    let layout = plan(&request(&host, &free, GIB / 2));
    assert!(layout.extended.iter().all(|window| window.end() >> 32 == 0), "{layout:x?}");
    assert!(layout.grant_window.end() >> 32 == 0);
}

#[test]
fn a_path_below_a_hidden_one_is_hidden() {
    let hidden = ["/soc/gic@1".into()];
    assert!(is_hidden(&hidden, "/soc/gic@1"));
    assert!(is_hidden(&hidden, "/soc/gic@1/its@2"));
    assert!(!is_hidden(&hidden, "/soc/gic@10"));
    assert!(!is_hidden(&hidden, "/soc"));
}

#[test]
fn without_a_free_private_interrupt_there_is_no_dom0() {
    let mut host = HostTree::parse(VIRT).unwrap();
    let interrupts = (0..16).map(|number| Interrupt { irq: Irq::ppi(number), edge: false });
    host.devices.push(Device {
        path: "/greedy".into(),
        compatible: Vec::new(),
        regions: Vec::new(),
        interrupts: interrupts.collect(),
    });
    let free = [region(0x4000_0000, 0x8000_0000)];
    let error = Dom0Layout::plan(&request(&host, &free, GIB / 2));
    assert_eq!(error, Err(LayoutError::EventInterrupt));
}
