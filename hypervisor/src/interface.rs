//! Which version of Xen the toolstack is shown, and all in which the versions differ.
//!
//! Tools are bound to one version of the control interface; a guest sees no difference. Between Xen
//! 4.17 (Debian 12) and 4.20 (Debian 13) one structure of those used on Arm grew by one word, and
//! `getdomaininfo` stopped looking on for a domain where the one that is asked for is not there.

use core::ops::Range;
use hypercall_abi::domctl::{Domctl, XEN_DOMCTL_GETDOMAININFO, XEN_DOMCTL_INTERFACE_VERSION};

/// Where `struct xen_domctl_createdomain` got its word `altp2m_opts`.
const ALTP2M_OPTS: Range<usize> = 48..52;

/// A version of the control interface (`xen-interface=`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Interface {
    /// Xen 4.20.
    #[default]
    Xen4_20,
    /// Xen 4.17.
    Xen4_17,
}

impl Interface {
    /// The versions by the names that the command line has for them.
    pub const NAMES: [(&str, Self); 2] = [("4.20", Self::Xen4_20), ("4.17", Self::Xen4_17)];

    /// Returns the minor version of Xen 4.
    pub const fn minor(self) -> u32 {
        match self {
            Self::Xen4_20 => 20,
            Self::Xen4_17 => 17,
        }
    }

    /// Returns the version that a control operation must carry (`public/domctl.h`).
    pub const fn domctl(self) -> u32 {
        match self {
            Self::Xen4_20 => XEN_DOMCTL_INTERFACE_VERSION,
            Self::Xen4_17 => 0x15,
        }
    }

    /// Returns whether a control operation on a domain that is not there is on the next one that is.
    ///
    /// 4.17's libxenctrl walks the domains so: its xenconsoled would find none beyond a gap.
    pub fn looks_on(self, command: u32) -> bool {
        self == Self::Xen4_17 && command == XEN_DOMCTL_GETDOMAININFO
    }

    /// Brings what `createdomain` carries from the caller's layout into 4.20's.
    pub fn take_creation(self, domctl: &mut Domctl) {
        if self == Self::Xen4_17 {
            let end = domctl.payload.len() - ALTP2M_OPTS.len();
            domctl.payload.copy_within(ALTP2M_OPTS.start..end, ALTP2M_OPTS.end);
            domctl
                .payload
                .iter_mut()
                .take(ALTP2M_OPTS.end)
                .skip(ALTP2M_OPTS.start)
                .for_each(|byte| *byte = 0);
        }
    }

    /// Brings what `createdomain` answers from 4.20's layout into the caller's.
    pub fn give_creation(self, domctl: &mut Domctl) {
        if self == Self::Xen4_17 {
            domctl.payload.copy_within(ALTP2M_OPTS.end.., ALTP2M_OPTS.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hypercall_abi::domctl::{CreateDomain, XEN_DOMCTL_CREATEDOMAIN};
    use hypercall_abi::layout::Wire;

    #[test]
    fn creation_is_the_same_in_both_but_for_one_word() {
        let (_, place) =
            CreateDomain::LAYOUT.fields.iter().find(|(name, _)| *name == "altp2m_opts").unwrap();
        assert_eq!(*place, ALTP2M_OPTS.start);
        let wanted =
            CreateDomain { max_vcpus: 3, vmtrace_size: 7, cpupool_id: 9, ..Default::default() };
        let current = Domctl::with(XEN_DOMCTL_CREATEDOMAIN, 0, &wanted);
        let mut older = current;
        Interface::Xen4_17.give_creation(&mut older);
        assert_eq!(older.payload[48..56], [7, 0, 0, 0, 9, 0, 0, 0]);
        Interface::Xen4_17.take_creation(&mut older);
        assert_eq!(older.payload::<CreateDomain>(), wanted);
        let mut same = current;
        Interface::Xen4_20.take_creation(&mut same);
        Interface::Xen4_20.give_creation(&mut same);
        assert_eq!(same.payload, current.payload);
    }
}
