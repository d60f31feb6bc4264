//! Wall-clock time: what Dom0 sets and every guest reads in its shared page.

use crate::domain::Domain;
use crate::machine::Machine;
use hv_core::addr::MachineAddr;
use hv_core::lifecycle::Dying;
use hv_core::memory::FrameMemory;
use hv_core::time::Nanos;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Offsets of `wc_version`, `wc_sec`, `wc_nsec` and `wc_sec_hi` in `struct shared_info`.
const VERSION: u64 = 1072;
const SECONDS: u64 = 1076;
const NANOS: u64 = 1080;
const SECONDS_HIGH: u64 = 1084;

/// The time of day (UTC) at which the hypervisor started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wallclock {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds beyond.
    pub nanos: u32,
}

impl Wallclock {
    /// Returns the time of day at the hypervisor's start when it is `seconds` and `nanos` at `moment`
    /// after it (`XENPF_settime64`).
    pub fn at_start(seconds: u64, nanos: u32, moment: Nanos) -> Self {
        let now = u128::from(seconds) * u128::from(NANOS_PER_SECOND) + u128::from(nanos);
        Self::from_nanos(now.saturating_sub(u128::from(moment.0)))
    }

    /// Returns the time of day at which the counter of a domain was zero, that was created `created`
    /// after the hypervisor's start and whose clock differs by `offset` seconds.
    pub fn for_domain(self, created: Nanos, offset: i64) -> Self {
        let base = u128::from(self.seconds) * u128::from(NANOS_PER_SECOND) + u128::from(self.nanos);
        let shifted = Self::from_nanos(base + u128::from(created.0));
        Self { seconds: shifted.seconds.saturating_add_signed(offset), ..shifted }
    }

    fn from_nanos(nanos: u128) -> Self {
        let seconds = nanos / u128::from(NANOS_PER_SECOND);
        let rest = nanos % u128::from(NANOS_PER_SECOND);
        Self {
            seconds: u64::try_from(seconds).unwrap_or(u64::MAX),
            nanos: u32::try_from(rest).unwrap_or(0),
        }
    }
}

impl Domain {
    /// Writes the time of day into the domain's shared page. The version is odd meanwhile, so that
    /// the guest reads again (`public/xen.h`).
    pub fn write_wallclock(&self, machine: &Machine, host: Wallclock) {
        // Dead, it has no page any more; it cannot die while its life is locked.
        let life = self.life.lock();
        if life.dying() == Dying::Done {
            return;
        }
        let created = machine.moment(self.settings.counter_offset);
        let time = host.for_domain(created, *self.time_offset.lock());
        let memory = machine.memory();
        let field = |offset| MachineAddr::new(self.shared_info.raw() + offset);
        let version = memory.load_u32(field(VERSION)) | 1;
        memory.store_u32(field(VERSION), version);
        let bytes = time.seconds.to_le_bytes();
        let [low, high] =
            [[bytes[0], bytes[1], bytes[2], bytes[3]], [bytes[4], bytes[5], bytes[6], bytes[7]]];
        memory.store_u32(field(SECONDS), u32::from_le_bytes(low));
        memory.store_u32(field(SECONDS_HIGH), u32::from_le_bytes(high));
        memory.store_u32(field(NANOS), time.nanos);
        memory.store_u32(field(VERSION), version.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domains_clock_starts_when_it_was_created() {
        let host = Wallclock::at_start(1_000, 500, Nanos(2_000_000_600));
        assert_eq!(host, Wallclock { seconds: 997, nanos: 999_999_900 });
        let domain = host.for_domain(Nanos(1_000_000_200), 60);
        assert_eq!(domain, Wallclock { seconds: 1_059, nanos: 100 });
    }

    #[test]
    fn a_time_before_the_start_does_not_wrap() {
        assert_eq!(Wallclock::at_start(0, 0, Nanos(5)), Wallclock::default());
    }
}
