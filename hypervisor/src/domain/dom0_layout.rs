//! Where everything of Dom0 goes: memory, images, windows, devices.
//!
//! Dom0's frames are the machine's frames of the same number, so each choice is one of machine memory
//! or of addresses where the machine has nothing. The start-up code claims and maps what is chosen.

use super::dom0_tree::is_kept_back;
use crate::host_tree::{Device, GicRegisters, HostTree, Interrupt, SerialPort};
use crate::region::{Region, merge, without};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use hv_core::addr::{MachineAddr, PAGE_SIZE};
use hv_core::ids::Irq;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Dom0's memory comes in pieces of this size, as stage 2 maps it.
const BLOCK: u64 = 2 * MIB;
/// How far behind the start of memory the device tree and the ramdisk go if there is room.
const IMAGES_OFFSET: u64 = 128 * MIB;
/// The first bank is at least that large, so that kernel, device tree and ramdisk fit.
const FIRST_BANK: u64 = 128 * MIB;
/// Room for Dom0's device tree.
pub const DEVICE_TREE_SIZE: u64 = BLOCK;
/// Linux takes extended regions in blocks of this size and alignment (its sparse memory sections).
const SECTION: u64 = 128 * MIB;
/// Extended regions are no larger than this together: more than a Dom0 ever maps at once.
const EXTENDED_MOST: u64 = 32 * GIB;
/// Extended regions there are at most.
const EXTENDED_COUNT: usize = 8;

/// What a Dom0 needs.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The host.
    pub host: &'a HostTree,
    /// RAM that nothing uses: neither the hypervisor, nor a module, nor a reservation.
    pub free: &'a [Region],
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes from the start of memory, or of a 2 MiB block, to the kernel.
    pub text_offset: u64,
    /// Bytes the kernel takes up once it runs.
    pub kernel_size: u64,
    /// Bytes of the ramdisk; 0 for none.
    pub ramdisk_size: u64,
    /// Bits of an intermediate physical address.
    pub ipa_bits: u8,
    /// Bits of an address that every device can reach.
    pub dma_bits: u8,
    /// The serial port that the hypervisor keeps.
    pub console: Option<&'a SerialPort>,
    /// Frames Dom0's grant table may have.
    pub grant_frames: u64,
}

/// Where everything of Dom0 goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dom0Layout {
    /// Memory, ascending, in blocks of 2 MiB; frame numbers are the machine's.
    pub banks: Vec<Region>,
    /// Where the kernel is copied to, and entered.
    pub kernel: MachineAddr,
    /// Room for the device tree.
    pub device_tree: Region,
    /// Where the ramdisk is copied to.
    pub ramdisk: Option<Region>,
    /// Addresses for the grant table; nothing is there.
    pub grant_window: Region,
    /// Addresses where Dom0 can map others' memory; nothing is there. Ascending.
    pub extended: Vec<Region>,
    /// The interrupt that tells of events.
    pub event_interrupt: Irq,
    /// Device registers and reserved memory to be mapped where they are, whole pages, ascending.
    pub mmio: Vec<Region>,
    /// Shared interrupts of the devices, ascending.
    pub interrupts: Vec<Interrupt>,
    /// Paths of nodes that Dom0 must not see, with all below them.
    pub hidden: Vec<String>,
}

/// Why Dom0 has no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LayoutError {
    /// So many bytes were wanted, and there are only so many.
    Memory {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes there are in whole blocks.
        found: u64,
    },
    /// No free range below the limit for devices is large enough for the first bank.
    FirstBank {
        /// Bytes it needs in one piece.
        wanted: u64,
        /// Bytes of the largest piece there is.
        found: u64,
        /// The address up to which every device reaches.
        limit: u64,
    },
    /// The kernel, the device tree and the ramdisk do not fit into its memory.
    Images,
    /// There are no unused addresses for the grant table.
    GrantWindow,
    /// All private interrupts are in use.
    EventInterrupt,
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { wanted, found } => {
                let (wanted, found) = (wanted / MIB, found / MIB);
                write!(f, "Dom0 wants {wanted} MiB of memory and only {found} MiB are free")
            }
            Self::FirstBank { wanted, found, limit } => {
                let (wanted, found, limit) = (wanted / MIB, found / MIB, limit / MIB);
                write!(
                    f,
                    "Dom0 needs {wanted} MiB in one piece below {limit} MiB, where every device reaches, and the largest free piece there has {found} MiB"
                )
            }
            Self::Images => f.write_str("Dom0's kernel and ramdisk do not fit into its memory"),
            Self::GrantWindow => f.write_str("no address is left for Dom0's grant table"),
            Self::EventInterrupt => f.write_str("no private interrupt is left for Dom0's events"),
        }
    }
}

impl Dom0Layout {
    /// Chooses a place for everything.
    pub fn plan(request: &Request<'_>) -> Result<Self, LayoutError> {
        let host = request.host;
        let banks = banks(request)?;
        let (kernel, device_tree, ramdisk) = images(request, &banks)?;
        let hidden = hidden(host, request.console);
        let visible = || host.devices.iter().filter(|device| !is_hidden(&hidden, &device.path));
        let holes = holes(request);
        let grant_window = grant_window(request, &holes)?;
        let extended = extended(request, &without(&holes, &[grant_window]), &banks);
        let limit = address_limit(request.ipa_bits);
        let pages = visible().flat_map(|device| &device.regions).chain(&host.reserved_memory);
        let pages = pages.map(Region::pages_around).filter(|pages| limit.contains(pages));
        let mmio = without(&merge(pages.collect()), &kept_registers(host, request.console));
        let mut interrupts: Vec<Interrupt> = visible()
            .flat_map(|device| device.interrupts.iter().copied())
            .filter(|interrupt| !interrupt.irq.is_private())
            .collect();
        interrupts.sort_unstable();
        interrupts.dedup_by_key(|interrupt| interrupt.irq);
        Ok(Self {
            banks,
            kernel,
            device_tree,
            ramdisk,
            grant_window,
            extended,
            event_interrupt: event_interrupt(host)?,
            mmio,
            interrupts,
            hidden,
        })
    }
}

/// Says whether a path is, or is below, one of `hidden`.
pub fn is_hidden(hidden: &[String], path: &str) -> bool {
    hidden.iter().any(|hidden| {
        path.strip_prefix(hidden.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Chooses memory: in one aligned piece if there is one, else low pieces first.
fn banks(request: &Request<'_>) -> Result<Vec<Region>, LayoutError> {
    let reachable = address_limit(request.ipa_bits);
    let free: Vec<Region> = merge(request.free.to_vec())
        .iter()
        .map(|range| range.intersection(&reachable).aligned_inside(BLOCK))
        .filter(|range| !range.is_empty())
        .collect();
    let wanted = request.memory.checked_next_multiple_of(BLOCK).unwrap_or(!(BLOCK - 1));
    let found = free.iter().map(|range| range.size).sum();
    if wanted == 0 || wanted > found {
        return Err(LayoutError::Memory { wanted: request.memory, found });
    }
    let low = address_limit(request.dma_bits.min(32));
    let alignment = if wanted >= GIB { GIB } else { SECTION };
    for alignment in [alignment, BLOCK] {
        let mut aligned =
            free.iter().map(|range| range.intersection(&low).aligned_inside(alignment));
        // Only the start is aligned; what the end lost to it may be used.
        let end = |base| free.iter().find(|range| range.contains(&Region::between(base, base + 1)));
        let fits = aligned.find_map(|range| {
            let base = range.base.raw();
            let end = end(base)?.intersection(&low).end();
            (!range.is_empty() && end - base >= wanted)
                .then(|| Region::between(base, base + wanted))
        });
        if let Some(bank) = fits {
            return Ok([bank].to_vec());
        }
    }
    pieces(wanted, &free, low)
}

/// Collects memory from several ranges: a large one for the images, then low ones, then others.
fn pieces(wanted: u64, free: &[Region], low: Region) -> Result<Vec<Region>, LayoutError> {
    let least = wanted.min(FIRST_BANK);
    let low_ranges: Vec<Region> = free.iter().map(|range| range.intersection(&low)).collect();
    let first = low_ranges.iter().find(|range| range.size >= least).ok_or_else(|| {
        let found = low_ranges.iter().map(|range| range.size).max().unwrap_or_default();
        LayoutError::FirstBank { wanted: least, found, limit: low.end() }
    })?;
    let high_ranges = without(free, &[low]);
    let others = low_ranges.iter().filter(|range| *range != first).chain(&high_ranges);
    let mut missing = wanted;
    let mut banks = Vec::new();
    for range in core::iter::once(first).chain(others) {
        let base = range.base.raw();
        let taken = range.size.min(missing);
        banks.push(Region::between(base, base + taken));
        missing -= taken;
    }
    Ok(merge(banks))
}

/// Places the kernel at the start of a bank, the device tree and the ramdisk behind it.
fn images(
    request: &Request<'_>,
    banks: &[Region],
) -> Result<(MachineAddr, Region, Option<Region>), LayoutError> {
    let (bank, kernel) = banks
        .iter()
        .find_map(|bank| {
            let base = bank.base.checked_add(request.text_offset)?;
            let kernel = Region::new(base.raw(), request.kernel_size)?;
            bank.contains(&kernel).then_some((bank, kernel))
        })
        .ok_or(LayoutError::Images)?;
    let ramdisk_room =
        request.ramdisk_size.checked_next_multiple_of(BLOCK).ok_or(LayoutError::Images)?;
    let size = ramdisk_room.checked_add(DEVICE_TREE_SIZE).ok_or(LayoutError::Images)?;
    let behind = bank.base.raw().checked_add(IMAGES_OFFSET);
    let tops = core::iter::once(bank).chain(banks).filter_map(|bank| bank.end().checked_sub(size));
    let mut places = behind.into_iter().chain(tops).filter_map(|base| Region::new(base, size));
    let is_free =
        |place: &Region| banks.iter().any(|bank| bank.contains(place)) && !place.overlaps(&kernel);
    let place = places.find(is_free).ok_or(LayoutError::Images)?;
    let ramdisk = place.base.raw() + DEVICE_TREE_SIZE;
    let device_tree = Region::between(place.base.raw(), ramdisk);
    let ramdisk = Region::new(ramdisk, request.ramdisk_size).filter(|ramdisk| !ramdisk.is_empty());
    Ok((kernel.base, device_tree, ramdisk))
}

/// Returns the addresses below 2^`bits`.
fn address_limit(bits: u8) -> Region {
    Region::between(0, 1_u64.checked_shl(bits.into()).unwrap_or(u64::MAX))
}

/// Returns the addresses where the machine has nothing and that Dom0's tree can express.
fn holes(request: &Request<'_>) -> Vec<Region> {
    let host = request.host;
    let mut used: Vec<Region> =
        host.devices.iter().flat_map(|device| &device.regions).copied().collect();
    used.extend(host.memory.iter().chain(&host.reserved).chain(request.free));
    used.extend(gic_registers(host));
    let used: Vec<Region> = used.iter().map(Region::pages_around).collect();
    let bits = if host.root_cells.0 < 2 { request.ipa_bits.min(32) } else { request.ipa_bits };
    without(&[address_limit(bits)], &used)
}

/// Chooses addresses for the grant table, as high below 4 GiB as possible: address 0 has a meaning.
fn grant_window(request: &Request<'_>, holes: &[Region]) -> Result<Region, LayoutError> {
    let size = request.grant_frames.max(1).saturating_mul(PAGE_SIZE);
    let low = Region::between(BLOCK, 4 * GIB);
    let fits = |hole: &Region| (hole.size >= size).then_some(*hole);
    let inside = |limit: Region| {
        holes.iter().map(move |hole| hole.intersection(&limit).aligned_inside(PAGE_SIZE))
    };
    let hole = inside(low)
        .filter_map(|hole| fits(&hole))
        .next_back()
        .or_else(|| inside(Region::between(4 * GIB, u64::MAX)).find_map(|hole| fits(&hole)));
    let base = hole.ok_or(LayoutError::GrantWindow)?.base.raw();
    Ok(Region::between(base, base + size))
}

/// Chooses addresses for others' memory.
///
/// They are above Dom0's own memory, since Linux maps nothing below the start of it, and not where the
/// host has RAM: there, a page of another domain could have the address that its stand-in has here, and
/// Linux would take the one for the other when it prepares a transfer by a device.
fn extended(request: &Request<'_>, holes: &[Region], banks: &[Region]) -> Vec<Region> {
    let above = banks.last().map_or(0, Region::end);
    // A size of one cell is less than 4 GiB.
    let most = if request.host.root_cells.1 < 2 { 2 * GIB } else { EXTENDED_MOST };
    let mut left = EXTENDED_MOST;
    let mut extended = Vec::new();
    for hole in holes {
        let room = hole.intersection(&Region::between(above, u64::MAX)).aligned_inside(SECTION);
        let mut base = room.base.raw();
        while base < room.end() && left > 0 && extended.len() < EXTENDED_COUNT {
            let size = most.min(left).min(room.end() - base);
            extended.push(Region::between(base, base + size));
            base += size;
            left -= size;
        }
    }
    extended
}

/// Returns the first private interrupt that nothing uses.
fn event_interrupt(host: &HostTree) -> Result<Irq, LayoutError> {
    let timer = host.timer;
    let mut used = [timer.secure, timer.physical, timer.r#virtual, timer.hypervisor].to_vec();
    used.extend(host.gic.maintenance);
    used.extend(host.devices.iter().flat_map(|device| &device.interrupts).map(|used| used.irq));
    (0..16).map(Irq::ppi).find(|irq| !used.contains(irq)).ok_or(LayoutError::EventInterrupt)
}

/// Names the nodes that Dom0 must not see: what is replaced, and what is the hypervisor's.
fn hidden(host: &HostTree, console: Option<&SerialPort>) -> Vec<String> {
    let console = console.map(|port| port.registers.pages_around());
    let is_hidden = |device: &&Device| {
        let private = device.interrupts.iter().any(|interrupt| interrupt.irq.is_private());
        // Who can write to the page of the console's registers can write to the console's.
        let shares_console = console.is_some_and(|console| {
            device.regions.iter().any(|region| region.pages_around().overlaps(&console))
        });
        private || shares_console || is_kept_back(&device.compatible)
    };
    let devices = host.devices.iter().filter(is_hidden).map(|device| device.path.clone());
    devices.chain([host.gic.path.clone()]).collect()
}

/// Returns the registers of the interrupt controller.
fn gic_registers(host: &HostTree) -> Vec<Region> {
    match &host.gic.registers {
        GicRegisters::V2 { gicd, gicc, gich, gicv } => [*gicd, *gicc, *gich, *gicv].to_vec(),
        GicRegisters::V3 { gicd, gicr, .. } => {
            let mut registers = gicr.clone();
            registers.push(*gicd);
            registers
        }
    }
}

/// Returns the registers that are the hypervisor's, whole pages.
pub(super) fn kept_registers(host: &HostTree, console: Option<&SerialPort>) -> Vec<Region> {
    let mut kept = gic_registers(host);
    kept.extend(console.map(|port| port.registers));
    kept.iter().map(Region::pages_around).collect()
}

#[cfg(test)]
mod tests;
