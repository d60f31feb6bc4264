//! Buses: addresses below a node, as the processors see them.

use super::node::{self, Node, join};
use crate::region::Region;
use alloc::vec::Vec;

/// Most cells of an address or a size that are taken seriously.
const MOST_CELLS: u32 = 4;

/// How many cells addresses and sizes have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells {
    pub(super) address: u32,
    pub(super) size: u32,
}

impl Cells {
    /// What a node that does not say has (Devicetree Specification 2.3.5).
    pub(super) const DEFAULT: Self = Self { address: 2, size: 1 };

    /// Returns what a node says about its children, `otherwise` where it says nothing.
    pub(super) fn of(node: Node<'_, '_>, otherwise: Self) -> Self {
        let cell = |name| node::cell(node, name).map(|cells| cells.min(MOST_CELLS));
        Self {
            address: cell("#address-cells").unwrap_or(otherwise.address),
            size: cell("#size-cells").unwrap_or(otherwise.size),
        }
    }

    const fn address_len(self) -> usize {
        self.address as usize
    }

    const fn size_len(self) -> usize {
        self.size as usize
    }
}

/// A stretch of a bus's addresses, and where it appears on the bus above.
#[derive(Clone, Copy, Debug)]
struct Window {
    child: u64,
    parent: u64,
    size: u64,
}

/// How a bus's addresses appear on the bus above it.
#[derive(Clone, Debug)]
enum Mapping {
    /// As they are.
    Same,
    /// In these windows.
    Windows(Vec<Window>),
    /// Not at all.
    None,
}

/// The bus that a node's children are on.
#[derive(Clone, Debug)]
pub(super) struct Bus<'p> {
    pub(super) cells: Cells,
    mapping: Mapping,
    parent: Option<&'p Self>,
}

impl<'p> Bus<'p> {
    /// Returns the root's bus, whose addresses are the processors'.
    pub(super) fn root(root: Node<'_, '_>) -> Self {
        Self { cells: Cells::of(root, Cells::DEFAULT), mapping: Mapping::Same, parent: None }
    }

    /// Returns the bus below `node`, which is on this one.
    pub(super) fn below(&'p self, node: Node<'_, '_>) -> Self {
        let cells = Cells::of(node, Cells::DEFAULT);
        let mapping = match node::cells(node, "ranges") {
            None => Mapping::None,
            Some(ranges) if ranges.is_empty() => Mapping::Same,
            Some(ranges) => Mapping::Windows(self.windows(&ranges, cells)),
        };
        Self { cells, mapping, parent: Some(self) }
    }

    /// Returns the windows of `ranges`, of a node on this bus whose children have `cells`.
    ///
    /// Of a PCI address the first cell holds flags and the other two the address.
    fn windows(&self, ranges: &[u32], cells: Cells) -> Vec<Window> {
        let (child, parent) = (cells.address_len(), self.cells.address_len());
        let entry = child + parent + cells.size_len();
        let windows = ranges.chunks_exact(entry.max(1)).filter_map(|range| {
            let (address, rest) = range.split_at_checked(child)?;
            let address = if child == 3 { address.get(1..)? } else { address };
            let (above, size) = rest.split_at_checked(parent)?;
            Some(Window { child: join(address)?, parent: join(above)?, size: join(size)? })
        });
        windows.collect()
    }

    /// Returns where `region` of this bus is for the processors; nothing if it is not reachable.
    fn translate(&self, region: Region) -> Option<Region> {
        let base = region.base.raw();
        let above = match &self.mapping {
            Mapping::Same => region,
            Mapping::None => return None,
            Mapping::Windows(windows) => {
                let window = windows.iter().find(|window| {
                    Region::new(window.child, window.size).is_some_and(|all| all.contains(&region))
                })?;
                Region::new(window.parent.checked_add(base - window.child)?, region.size)?
            }
        };
        match self.parent {
            Some(parent) => parent.translate(above),
            None => Some(above),
        }
    }

    /// Returns the regions of `property`, pairs of address and size, of a node on this bus.
    pub(super) fn regions(&self, node: Node<'_, '_>, property: &str) -> Vec<Region> {
        let (address, size) = (self.cells.address_len(), self.cells.size_len());
        if size == 0 || address == 0 || address > 2 {
            return Vec::new();
        }
        let cells = node::cells(node, property).unwrap_or_default();
        let regions = cells.chunks_exact(address + size).filter_map(|entry| {
            let (base, size) = entry.split_at_checked(address)?;
            let region = Region::new(join(base)?, join(size)?)?;
            if region.is_empty() { None } else { self.translate(region) }
        });
        regions.collect()
    }

    /// Returns what devices below `node`, which is on this bus, reach of the processors' addresses; nothing if
    /// they reach all that this bus's devices do (Devicetree Specification 2.3.9).
    pub(super) fn dma_reach(&self, node: Node<'_, '_>) -> Option<Vec<Region>> {
        let ranges = node::cells(node, "dma-ranges").filter(|ranges| !ranges.is_empty())?;
        let windows = self.windows(&ranges, Cells::of(node, Cells::DEFAULT));
        Some(windows.iter().filter_map(|it| Region::new(it.parent, it.size)).collect())
    }

    /// Returns the windows a PCI bridge on this bus has for its devices, as the processors see them.
    pub(super) fn pci_windows(&self, bridge: Node<'_, '_>) -> Vec<Region> {
        let cells = Cells::of(bridge, Cells { address: 3, size: 2 });
        let ranges = node::cells(bridge, "ranges").unwrap_or_default();
        let windows = self.windows(&ranges, cells);
        let regions = windows.iter().filter_map(|window| {
            let region = Region::new(window.parent, window.size)?;
            if region.is_empty() { None } else { self.translate(region) }
        });
        regions.collect()
    }
}
