//! What a change asks of the physical interrupt controller, for interrupts that stand for physical ones.

use crate::bits::ones;
use crate::ids::{Irq, VcpuId};

/// Work at the physical distributor, on shared interrupts of one register's worth.
///
/// A guest sees a physical shared interrupt under its own number, so these are the words to write to
/// the physical `GICD_I*<n>` registers. Carry it out in the order of the fields.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[must_use = "the physical interrupts stay as they were"]
pub struct HardwareWork {
    /// The INTID that bit 0 of each word stands for: a multiple of 32.
    pub base: u32,
    /// Disable these (`ICENABLER`).
    pub disable: u32,
    /// Make these edge-triggered (`ICFGR`).
    pub edge: u32,
    /// Make these level-sensitive.
    pub level: u32,
    /// Deactivate these (`ICACTIVER`, or `ICC_DIR_EL1` each).
    pub deactivate: u32,
    /// Send these after their vCPUs (`IROUTER`, `ITARGETSR`): one write names up to four.
    pub route: [Route; 4],
    /// Enable these (`ISENABLER`).
    pub enable: u32,
}

/// Interrupts to be sent to the processor that a vCPU runs on, or last ran on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// Which: a bit for each.
    pub irqs: u32,
    /// After whom.
    pub to: VcpuId,
}

impl Route {
    /// No interrupt.
    pub const NONE: Self = Self { irqs: 0, to: VcpuId(0) };
}

impl Default for Route {
    fn default() -> Self {
        Self::NONE
    }
}

impl HardwareWork {
    /// Nothing to do.
    pub const NOTHING: Self = Self {
        base: 0,
        disable: 0,
        edge: 0,
        level: 0,
        deactivate: 0,
        route: [Route::NONE; 4],
        enable: 0,
    };

    /// Says whether there is nothing to do.
    pub const fn is_nothing(&self) -> bool {
        let [a, b, c, d] = self.route;
        let routed = a.irqs | b.irqs | c.irqs | d.irqs;
        self.disable | self.edge | self.level | self.deactivate | routed | self.enable == 0
    }

    /// Returns the interrupts that a word speaks of.
    pub fn irqs(&self, word: u32) -> impl Iterator<Item = Irq> {
        let base = self.base;
        ones(word).filter_map(move |bit| Irq::new(base + bit))
    }
}
