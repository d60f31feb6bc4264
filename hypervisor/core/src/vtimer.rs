//! A guest's physical timer, which is emulated; the virtual one is the hardware's own.
//!
//! The virtual timer needs nothing here: while its vCPU is loaded the hardware raises PPI 27, which the list
//! registers tie to the virtual one (see [`crate::vgic`]). Times are ticks of the system counter.

/// `CNTP_*_EL0` of one vCPU: Arm ARM D12.2.4. Plain data.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PhysicalTimer {
    enabled: bool,
    masked: bool,
    compare: u64,
}

/// A register of the physical timer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimerRegister {
    /// `CNTP_TVAL_EL0`: ticks until it fires, a signed 32-bit number.
    Value,
    /// `CNTP_CTL_EL0`.
    Control,
    /// `CNTP_CVAL_EL0`: when it fires.
    Compare,
}

/// When a timer fires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deadline {
    /// It does not: it is off, or masked.
    Never,
    /// When the counter reads this.
    At(u64),
}

const ENABLE: u64 = 1 << 0;
const MASK: u64 = 1 << 1;
const STATUS: u64 = 1 << 2;

impl PhysicalTimer {
    /// Reads a register at time `now`.
    pub const fn read(&self, register: TimerRegister, now: u64) -> u64 {
        match register {
            TimerRegister::Value => self.compare.wrapping_sub(now) & 0xffff_ffff,
            TimerRegister::Control => {
                let enabled = if self.enabled { ENABLE } else { 0 };
                let masked = if self.masked { MASK } else { 0 };
                let met = if self.enabled && now >= self.compare { STATUS } else { 0 };
                enabled | masked | met
            }
            TimerRegister::Compare => self.compare,
        }
    }

    /// Writes a register at time `now`.
    pub const fn write(&mut self, register: TimerRegister, value: u64, now: u64) {
        match register {
            TimerRegister::Value => {
                let [a, b, c, d, ..] = value.to_le_bytes();
                let offset = i32::from_le_bytes([a, b, c, d]) as i64;
                self.compare = now.wrapping_add_signed(offset);
            }
            TimerRegister::Control => {
                self.enabled = value & ENABLE != 0;
                self.masked = value & MASK != 0;
            }
            TimerRegister::Compare => self.compare = value,
        }
    }

    /// Says whether it asserts its interrupt at time `now`.
    pub const fn line(&self, now: u64) -> bool {
        self.enabled && !self.masked && now >= self.compare
    }

    /// Says when it will assert its interrupt, if it does not yet.
    pub const fn deadline(&self) -> Deadline {
        if self.enabled && !self.masked { Deadline::At(self.compare) } else { Deadline::Never }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_from_now_and_may_be_negative() {
        let mut timer = PhysicalTimer::default();
        timer.write(TimerRegister::Value, 100, 1_000);
        assert_eq!(timer.read(TimerRegister::Compare, 0), 1_100);
        assert_eq!(timer.read(TimerRegister::Value, 1_040), 60);
        assert_eq!(timer.read(TimerRegister::Value, 1_101), 0xffff_ffff);
        timer.write(TimerRegister::Value, 0xffff_ffff, 1_000);
        assert_eq!(timer.read(TimerRegister::Compare, 0), 999);
    }

    #[test]
    fn it_fires_when_enabled_unmasked_and_due() {
        let mut timer = PhysicalTimer::default();
        timer.write(TimerRegister::Compare, 50, 0);
        assert!(!timer.line(60));
        assert_eq!(timer.deadline(), Deadline::Never);
        timer.write(TimerRegister::Control, ENABLE, 0);
        assert_eq!(timer.deadline(), Deadline::At(50));
        assert!(!timer.line(49) && timer.line(50));
        assert_eq!(timer.read(TimerRegister::Control, 49), ENABLE);
        assert_eq!(timer.read(TimerRegister::Control, 50), ENABLE | STATUS);
        timer.write(TimerRegister::Control, ENABLE | MASK | STATUS, 0);
        assert!(!timer.line(60));
        assert_eq!(timer.deadline(), Deadline::Never);
        assert_eq!(timer.read(TimerRegister::Control, 60), ENABLE | MASK | STATUS);
    }
}
