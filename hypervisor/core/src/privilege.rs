//! Who may ask for what: one function per class of operation.
//!
//! The control domain may do everything to everybody; any other domain deals with itself. Whether two
//! ordinary domains may have event channels and grants between them is a boot option, off by default
//! (Xen calls the default policy SILO).

use crate::ids::DomId;
use hypercall_abi::errno::Errno;

/// The caller is not allowed to make this request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotPermitted;

impl From<NotPermitted> for Errno {
    fn from(NotPermitted: NotPermitted) -> Self {
        Self::EPERM
    }
}

/// A domain, as the rules see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Subject {
    /// Its number.
    pub dom: DomId,
    /// Whether it is a control domain.
    pub privileged: bool,
}

impl Subject {
    /// Returns the subject for `dom`: domain 0 is the control domain.
    pub fn of(dom: DomId) -> Self {
        Self { dom, privileged: dom == DomId::DOM0 }
    }
}

/// Whether ordinary domains may deal with each other.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Neighbours {
    /// Each sees only the control domain.
    #[default]
    Apart,
    /// Any two may share memory and events if both agree.
    Together,
}

/// Allows what only a control domain may do: domctl, sysctl, platform operations.
pub const fn control(caller: Subject) -> Result<(), NotPermitted> {
    if caller.privileged { Ok(()) } else { Err(NotPermitted) }
}

/// Allows what a domain may do to itself and a control domain to anybody.
pub fn over(caller: Subject, target: DomId) -> Result<(), NotPermitted> {
    if caller.privileged || caller.dom == target { Ok(()) } else { Err(NotPermitted) }
}

/// Allows what a control domain may do to another domain and nobody to itself: foreign mappings.
pub fn over_another(caller: Subject, target: DomId) -> Result<(), NotPermitted> {
    if caller.privileged && caller.dom != target { Ok(()) } else { Err(NotPermitted) }
}

/// Allows `caller` to connect `left` and `right` by an event channel or a grant.
pub fn connect(
    neighbours: Neighbours,
    caller: Subject,
    left: Subject,
    right: Subject,
) -> Result<(), NotPermitted> {
    let known = caller.privileged || left.privileged || right.privileged || left.dom == right.dom;
    if known || neighbours == Neighbours::Together { Ok(()) } else { Err(NotPermitted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOM0: Subject = Subject { dom: DomId(0), privileged: true };
    const ONE: Subject = Subject { dom: DomId(1), privileged: false };
    const TWO: Subject = Subject { dom: DomId(2), privileged: false };

    #[test]
    fn a_domain_rules_over_itself_and_the_control_domain_over_all() {
        assert_eq!(over(ONE, ONE.dom), Ok(()));
        assert_eq!(over(ONE, TWO.dom), Err(NotPermitted));
        assert_eq!(over(DOM0, TWO.dom), Ok(()));
        assert_eq!(control(ONE), Err(NotPermitted));
        assert_eq!(control(Subject::of(DomId::DOM0)), Ok(()));
        assert_eq!(over_another(DOM0, DOM0.dom), Err(NotPermitted));
        assert_eq!(over_another(DOM0, ONE.dom), Ok(()));
        assert_eq!(over_another(ONE, TWO.dom), Err(NotPermitted));
    }

    #[test]
    fn two_ordinary_domains_connect_only_if_the_boot_option_says_so() {
        let apart = Neighbours::default();
        assert_eq!(connect(apart, ONE, ONE, TWO), Err(NotPermitted));
        assert_eq!(connect(Neighbours::Together, ONE, ONE, TWO), Ok(()));
        assert_eq!(connect(apart, ONE, ONE, DOM0), Ok(()));
        assert_eq!(connect(apart, ONE, ONE, ONE), Ok(()));
        assert_eq!(
            connect(apart, DOM0, ONE, TWO),
            Ok(()),
            "the control domain brings them together"
        );
    }

    #[test]
    fn a_refusal_is_eperm() {
        assert_eq!(Errno::from(NotPermitted), Errno::EPERM);
    }
}
