//! How long a virtual processor was in which state (`struct vcpu_runstate_info`, `public/vcpu.h`).

use crate::time::Nanos;

/// What a virtual processor is doing; the numbers are the guest's (`RUNSTATE_*`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u32)]
pub enum RunState {
    /// It has a processor.
    Running = 0,
    /// It waits for one.
    Runnable = 1,
    /// It waits for an interrupt.
    Blocked = 2,
    /// It is paused or switched off.
    #[default]
    Offline = 3,
}

/// The state now, since when, and the time spent in each so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Runstate {
    /// The state now.
    pub state: RunState,
    /// When it was entered.
    pub entered: Nanos,
    /// Time in each state, by its number, the present one up to now.
    pub times: [Nanos; 4],
}

/// Adds time spent in `state`.
fn count(times: &mut [Nanos; 4], state: RunState, spent: Nanos) {
    let [running, runnable, blocked, offline] = times;
    let slot = match state {
        RunState::Running => running,
        RunState::Runnable => runnable,
        RunState::Blocked => blocked,
        RunState::Offline => offline,
    };
    *slot = *slot + spent;
}

#[derive(Clone, Debug)]
pub(super) struct Clock {
    state: RunState,
    entered: Nanos,
    /// Up to when `times` counts.
    counted: Nanos,
    times: [Nanos; 4],
}

impl Clock {
    pub(super) fn new(state: RunState, now: Nanos) -> Self {
        Self { state, entered: now, counted: now, times: [Nanos(0); 4] }
    }

    pub(super) fn enter(&mut self, state: RunState, now: Nanos) {
        if state == self.state {
            return;
        }
        count(&mut self.times, self.state, now - self.counted);
        self.counted = now;
        self.state = state;
        self.entered = now;
    }

    pub(super) fn read(&self, now: Nanos) -> Runstate {
        let mut times = self.times;
        count(&mut times, self.state, now - self.counted);
        Runstate { state: self.state, entered: self.entered, times }
    }
}
