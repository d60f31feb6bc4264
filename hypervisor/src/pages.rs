//! Pages of guests that the hypervisor reaches into or lends to others.

use crate::domain::Domain;
use crate::state::Hypervisor;
use hv_core::addr::{Gfn, Mfn};
use hv_core::grant::Access;

impl Hypervisor {
    /// Holds the page of its own memory that `domain` has at `gfn`, until [`Self::put_page`].
    ///
    /// Nothing for devices, holes and the memory of others, nor for a page that the domain may not
    /// write when it is to be written.
    pub fn hold_ram(&self, domain: &Domain, gfn: Gfn, access: Access) -> Option<Mfn> {
        let p2m = domain.p2m.lock();
        let mapping = p2m.lookup(self.machine.memory(), gfn)?;
        let allowed = access == Access::Read || mapping.kind.is_writable();
        if !mapping.kind.is_ram() || !allowed {
            return None;
        }
        self.frames.lock().get(mapping.mfn, domain.id).ok()?;
        Some(mapping.mfn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Testbed;
    use hv_core::p2m::Kind;

    #[test]
    fn a_page_beside_one_that_was_replaced_can_be_held() {
        let bed = Testbed::new();
        let domain = bed.domain(1);
        bed.hv.frames.lock().set_limit(domain.id, 10_000).unwrap();
        let first = Mfn::new(0x4_2000);
        bed.hv.frames.lock().alloc_exactly(domain.id, first, 0x400).unwrap();
        bed.hv.map_frames(&domain, Gfn::new(0x5_0000), first, 0x400, Kind::RamRw).unwrap();
        let shared = domain.shared_info.frame();
        bed.hv.map_frames(&domain, Gfn::new(0x5_0010), shared, 1, Kind::Shared).unwrap();
        let held = bed.hv.hold_ram(&domain, Gfn::new(0x5_0011), Access::Write);
        assert_eq!(held, Some(Mfn::new(0x4_2011)));
    }
}
