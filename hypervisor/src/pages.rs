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
