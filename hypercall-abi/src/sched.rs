//! Scheduler operations a guest makes (`public/sched.h`).

/// `SCHEDOP_yield`: let others run.
pub const SCHEDOP_YIELD: u32 = 0;
/// `SCHEDOP_block`: wait for an event.
pub const SCHEDOP_BLOCK: u32 = 1;
/// `SCHEDOP_shutdown`: see [`SchedShutdown`].
pub const SCHEDOP_SHUTDOWN: u32 = 2;
/// `SCHEDOP_poll`: see [`SchedPoll`].
pub const SCHEDOP_POLL: u32 = 3;
/// `SCHEDOP_remote_shutdown`: see [`SchedRemoteShutdown`].
pub const SCHEDOP_REMOTE_SHUTDOWN: u32 = 4;
/// `SCHEDOP_shutdown_code`: see [`SchedShutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u32 = 5;
/// `SCHEDOP_watchdog`: see [`SchedWatchdog`].
pub const SCHEDOP_WATCHDOG: u32 = 6;
/// `SCHEDOP_pin_override`: see [`SchedPinOverride`].
pub const SCHEDOP_PIN_OVERRIDE: u32 = 7;

/// Reason: power off.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Reason: reboot.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Reason: suspend.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// Reason: crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// Reason: a watchdog expired.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Reason: start over, keeping memory.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;
/// Last reason there is.
pub const SHUTDOWN_MAX: u32 = 5;
/// No reason was given yet.
pub const SHUTDOWN_CODE_INVALID: u32 = u32::MAX;

crate::layout::wire! {
    /// Argument of `SCHEDOP_shutdown`.
    pub struct SchedShutdown = "struct sched_shutdown", 4 {
        /// One of `SHUTDOWN_`.
        0 => reason: u32,
    }
}

crate::layout::wire! {
    /// Argument of `SCHEDOP_poll`.
    pub struct SchedPoll = "struct sched_poll", 24 {
        /// Array of ports, `u32`.
        0 => ports: u64,
        /// How many.
        8 => nr_ports: u32,
        /// Padding.
        12 => pad: u32,
        /// System time at which to give up, in nanoseconds; 0 for never.
        16 => timeout: u64,
    }
}

crate::layout::wire! {
    /// Argument of `SCHEDOP_remote_shutdown`.
    pub struct SchedRemoteShutdown = "struct sched_remote_shutdown", 8 {
        /// The domain to shut down.
        0 => domain_id: u16,
        /// Padding.
        2 => pad: u16,
        /// One of `SHUTDOWN_`.
        4 => reason: u32,
    }
}

crate::layout::wire! {
    /// Argument of `SCHEDOP_watchdog`.
    pub struct SchedWatchdog = "struct sched_watchdog", 8 {
        /// The watchdog, or 0 for a new one.
        0 => id: u32,
        /// Seconds; 0 stops it.
        4 => timeout: u32,
    }
}

crate::layout::wire! {
    /// Argument of `SCHEDOP_pin_override`.
    pub struct SchedPinOverride = "struct sched_pin_override", 4 {
        /// The processor to run on, or a negative number to end it.
        0 => pcpu: i32,
    }
}
