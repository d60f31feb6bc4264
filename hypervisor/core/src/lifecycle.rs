//! A domain's life: building → running ⇄ paused → shut down → dying → dead.
//!
//! What the control domain sees of it is in `XEN_DOMINF_*` (`public/domctl.h`); the reasons are
//! those of `public/sched.h`.

/// Why a domain shut down (`SHUTDOWN_*`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShutdownReason(pub u8);

impl ShutdownReason {
    /// It powered off.
    pub const POWEROFF: Self = Self(0);
    /// It wants to start anew.
    pub const REBOOT: Self = Self(1);
    /// It suspended.
    pub const SUSPEND: Self = Self(2);
    /// It crashed, or broke the rules.
    pub const CRASH: Self = Self(3);
    /// Its watchdog ran out.
    pub const WATCHDOG: Self = Self(4);
    /// It wants a soft reset.
    pub const SOFT_RESET: Self = Self(5);
}

/// How far a domain's end has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dying {
    /// It lives.
    #[default]
    No,
    /// Its resources are being taken back.
    Underway,
    /// Nothing is left of it but references that others hold.
    Done,
}

/// Why a change of a domain's life was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LifecycleError {
    /// It was not paused.
    NotPaused,
    /// Too many pauses.
    TooManyPauses,
}

/// What the caller has to do to the domain's virtual processors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the virtual processors go on as they were unless they are told"]
pub enum Change {
    /// Nothing changes for them.
    Nothing,
    /// They have to stop.
    Stop,
    /// They may go on.
    Go,
}

/// Where a domain stands.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// Pauses by the control domain that were not taken back.
    pauses: u32,
    created: bool,
    shutdown: Option<ShutdownReason>,
    /// The reason given last, kept over a resume (`SCHEDOP_shutdown_code`).
    code: Option<ShutdownReason>,
    dying: Dying,
}

impl Default for Lifecycle {
    /// A domain being built, paused once by its builder.
    fn default() -> Self {
        Self { pauses: 1, created: false, shutdown: None, code: None, dying: Dying::No }
    }
}

impl Lifecycle {
    /// Pauses once more.
    pub fn pause(&mut self) -> Result<Change, LifecycleError> {
        let pauses = self.pauses.checked_add(1).ok_or(LifecycleError::TooManyPauses)?;
        let first = self.pauses == 0;
        self.pauses = pauses;
        Ok(if first { Change::Stop } else { Change::Nothing })
    }

    /// Takes one pause back; the first time none is left, the domain is complete.
    pub fn unpause(&mut self) -> Result<Change, LifecycleError> {
        self.pauses = self.pauses.checked_sub(1).ok_or(LifecycleError::NotPaused)?;
        if self.pauses > 0 {
            return Ok(Change::Nothing);
        }
        self.created = true;
        Ok(Change::Go)
    }

    /// Shuts down for `reason`; one that has shut down already keeps its first.
    pub fn shut_down(&mut self, reason: ShutdownReason) -> Change {
        if self.shutdown.is_some() {
            return Change::Nothing;
        }
        let reason = self.code.unwrap_or(reason);
        self.shutdown = Some(reason);
        self.code = Some(reason);
        Change::Stop
    }

    /// Notes the reason a later shutdown will give (`SCHEDOP_shutdown_code`); the first one stays.
    pub fn set_code(&mut self, reason: ShutdownReason) {
        self.code.get_or_insert(reason);
    }

    /// Undoes a shutdown (`XEN_DOMCTL_resumedomain`).
    pub fn resume(&mut self) -> Change {
        self.code = None;
        if self.shutdown.take().is_some() { Change::Go } else { Change::Nothing }
    }

    /// Starts or goes on with the end.
    pub fn die(&mut self) -> Change {
        if self.dying != Dying::No {
            return Change::Nothing;
        }
        self.dying = Dying::Underway;
        Change::Stop
    }

    /// Notes that all resources are taken back.
    pub fn dead(&mut self) {
        self.dying = Dying::Done;
    }

    /// Returns how far the end has come.
    pub const fn dying(&self) -> Dying {
        self.dying
    }

    /// Returns why it shut down, if it did.
    pub const fn shutdown(&self) -> Option<ShutdownReason> {
        self.shutdown
    }

    /// Says whether the control domain has it paused.
    pub const fn is_paused(&self) -> bool {
        self.pauses > 0
    }

    /// Says whether it was ever set running.
    pub const fn is_created(&self) -> bool {
        self.created
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_counted_and_one_too_few_is_refused() {
        let mut life = Lifecycle::default();
        assert_eq!(life.pause(), Ok(Change::Nothing));
        assert_eq!(life.unpause(), Ok(Change::Nothing));
        assert!(!life.is_created());
        assert_eq!(life.unpause(), Ok(Change::Go));
        assert!(life.is_created());
        assert_eq!(life.unpause(), Err(LifecycleError::NotPaused));
        assert_eq!(life.pause(), Ok(Change::Stop));
    }

    #[test]
    fn the_first_reason_to_shut_down_counts_until_a_resume() {
        let mut life = Lifecycle::default();
        assert_eq!(life.shut_down(ShutdownReason::CRASH), Change::Stop);
        assert_eq!(life.shut_down(ShutdownReason::REBOOT), Change::Nothing);
        assert_eq!(life.shutdown(), Some(ShutdownReason::CRASH));
        assert_eq!(life.resume(), Change::Go);
        assert_eq!(life.shutdown(), None);
        life.set_code(ShutdownReason::WATCHDOG);
        assert_eq!(life.shut_down(ShutdownReason::REBOOT), Change::Stop);
        assert_eq!(life.shutdown(), Some(ShutdownReason::WATCHDOG));
    }

    #[test]
    fn a_domain_dies_once() {
        let mut life = Lifecycle::default();
        assert_eq!(life.die(), Change::Stop);
        assert_eq!(life.die(), Change::Nothing);
        life.dead();
        assert_eq!(life.dying(), Dying::Done);
    }
}
