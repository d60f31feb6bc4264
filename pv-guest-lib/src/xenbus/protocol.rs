//! What an end of a device does next, given where it and the other end stand.
//!
//! The other end may jump between states as it likes; each pair of states has an answer, and none leads in a circle
//! unless the other end moves.

use super::XenbusState;

/// What a front end does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the device does not move by itself"]
pub enum FrontStep {
    /// Nothing until the other end moves.
    Wait,
    /// Make rings and say where they are; then [`XenbusState::Initialised`].
    Publish,
    /// Read what the other end says of the device; then [`XenbusState::Connected`].
    Connect,
    /// Stop using the device and take back what was granted; then [`XenbusState::Closed`].
    Close,
    /// Start again from [`XenbusState::Initialising`].
    Restart,
}

/// Decides for a front end in state `own`; `wanted` is false when the driver wants to end.
pub fn front(own: XenbusState, other: XenbusState, wanted: bool) -> FrontStep {
    use XenbusState::{
        Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured,
        Reconfiguring, Unknown,
    };
    if !wanted {
        return if own == Closed { FrontStep::Wait } else { FrontStep::Close };
    }
    match (own, other) {
        (Unknown | Initialising, InitWait) => FrontStep::Publish,
        // Some back ends say Connected or Initialised before the front end published.
        (Unknown | Initialising, Initialised | Connected) => FrontStep::Publish,
        (Unknown | Initialising, _) => FrontStep::Wait,
        (Initialised, Connected | Reconfiguring | Reconfigured) => FrontStep::Connect,
        // A back end that was restarted after we published waits for us to publish anew.
        (Initialised, Closing | Closed | Unknown) => FrontStep::Close,
        (Initialised, _) => FrontStep::Wait,
        (Connected, Connected | Initialised | Reconfiguring | Reconfigured) => FrontStep::Wait,
        // A connected back end never goes back to waiting, unless it is another one.
        (Connected, _) => FrontStep::Close,
        (Closing, _) => FrontStep::Close,
        (Closed, InitWait) => FrontStep::Restart,
        (Closed, _) => FrontStep::Wait,
        (InitWait | Reconfiguring | Reconfigured, _) => FrontStep::Close,
    }
}

/// Returns the state a front end shows in the store while it is in `own`.
///
/// Linux's network back end takes no notice of [`XenbusState::Initialised`]: its front ends are `early`, and say Connected as soon as they published.
pub fn shown(own: XenbusState, early: bool) -> XenbusState {
    if early && own == XenbusState::Initialised { XenbusState::Connected } else { own }
}

/// What a back end does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the device does not move by itself"]
pub enum BackStep {
    /// Nothing until the other end moves.
    Wait,
    /// Say what the device can do; then [`XenbusState::InitWait`].
    Announce,
    /// Map the rings and say what the device is; then [`XenbusState::Connected`].
    Connect,
    /// Ask the front end to stop: [`XenbusState::Closing`].
    Part,
    /// Let go of the rings; then [`XenbusState::Closed`].
    Close,
    /// The device is to be removed: let go of everything.
    Remove,
}

/// Decides for a back end in state `own`; `online` is false when the toolstack wants the device gone.
pub fn back(own: XenbusState, other: XenbusState, online: bool) -> BackStep {
    use XenbusState::{
        Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured,
        Reconfiguring, Unknown,
    };
    match (own, other) {
        (Closed, Closed | Unknown) if !online => BackStep::Remove,
        (Closed, Initialising | Initialised | Connected) if online => BackStep::Announce,
        (Closed, _) => BackStep::Wait,
        (Unknown | Initialising | InitWait, _) if !online => BackStep::Close,
        (Unknown | Initialising, _) => BackStep::Announce,
        (InitWait, Initialised | Connected) => BackStep::Connect,
        (InitWait, _) => BackStep::Wait,
        (Connected, Initialised | Connected | Reconfiguring | Reconfigured) if online => {
            BackStep::Wait
        }
        (Connected, Initialised | Connected | Reconfiguring | Reconfigured) => BackStep::Part,
        // The front end was asked to stop, and still uses the device.
        (Closing, Initialised | Connected) if !online => BackStep::Wait,
        // Closing, closed, gone, or begun anew without closing.
        (Connected | Closing, _) => BackStep::Close,
        (Initialised | Reconfiguring | Reconfigured, _) => BackStep::Close,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn states() -> impl Iterator<Item = XenbusState> {
        (0..9).filter_map(XenbusState::from_number)
    }

    /// Plays both ends until neither moves.
    fn settle(
        front_state: &mut XenbusState,
        back_state: &mut XenbusState,
        wanted: bool,
        online: bool,
    ) -> u32 {
        for steps in 0..40 {
            let before = (*front_state, *back_state);
            match front(*front_state, *back_state, wanted) {
                FrontStep::Wait => {}
                FrontStep::Publish => *front_state = XenbusState::Initialised,
                FrontStep::Connect => *front_state = XenbusState::Connected,
                FrontStep::Close => *front_state = XenbusState::Closed,
                FrontStep::Restart => *front_state = XenbusState::Initialising,
            }
            match back(*back_state, *front_state, online) {
                BackStep::Wait | BackStep::Remove => {}
                BackStep::Announce => *back_state = XenbusState::InitWait,
                BackStep::Connect => *back_state = XenbusState::Connected,
                BackStep::Part => *back_state = XenbusState::Closing,
                BackStep::Close => *back_state = XenbusState::Closed,
            }
            if (*front_state, *back_state) == before {
                return steps;
            }
        }
        panic!("they go in a circle: {front_state:?}, {back_state:?}");
    }

    #[test]
    fn two_honest_ends_connect_and_part() {
        let mut front = XenbusState::Initialising;
        let mut back = XenbusState::Initialising;
        settle(&mut front, &mut back, true, true);
        assert_eq!((front, back), (XenbusState::Connected, XenbusState::Connected));
        settle(&mut front, &mut back, false, false);
        assert_eq!((front, back), (XenbusState::Closed, XenbusState::Closed));
        assert_eq!(super::back(back, front, false), BackStep::Remove);
    }

    #[test]
    fn a_back_end_that_was_restarted_is_connected_again() {
        let mut front = XenbusState::Connected;
        let mut back = XenbusState::Initialising;
        settle(&mut front, &mut back, true, true);
        assert_eq!((front, back), (XenbusState::Connected, XenbusState::Connected));
    }

    #[test]
    fn a_front_end_that_was_restarted_is_connected_again() {
        let mut front = XenbusState::Initialising;
        let mut back = XenbusState::Connected;
        settle(&mut front, &mut back, true, true);
        assert_eq!((front, back), (XenbusState::Connected, XenbusState::Connected));
    }

    /// Plays a front end against Linux's network back end, which knows Initialising and Connected alone.
    fn beside_netback(early: bool) -> (XenbusState, XenbusState) {
        let (mut own, mut other) = (XenbusState::Initialising, XenbusState::InitWait);
        for _ in 0..8 {
            match front(own, other, true) {
                FrontStep::Publish => own = XenbusState::Initialised,
                FrontStep::Connect => own = XenbusState::Connected,
                _ => {}
            }
            if shown(own, early) == XenbusState::Connected {
                other = XenbusState::Connected;
            }
        }
        (own, other)
    }

    #[test]
    fn a_network_front_end_connects_to_a_back_end_that_waits_for_connected() {
        assert_eq!(beside_netback(true), (XenbusState::Connected, XenbusState::Connected));
        assert_eq!(beside_netback(false), (XenbusState::Initialised, XenbusState::InitWait));
    }

    #[test]
    fn from_every_pair_of_states_both_ends_come_to_rest() {
        for start in states().flat_map(|one| states().map(move |two| (one, two))) {
            for (wanted, online) in [(true, true), (true, false), (false, true), (false, false)] {
                let (mut front, mut back) = start;
                settle(&mut front, &mut back, wanted, online);
                if !online {
                    assert_eq!(back, XenbusState::Closed, "from {start:?}");
                }
                if !wanted {
                    assert_eq!(front, XenbusState::Closed, "from {start:?}");
                }
            }
        }
    }

    proptest! {
        /// However the other end jumps, a front end has let go of its rings before it makes new ones.
        #[test]
        fn a_front_end_never_publishes_over_rings_it_has(jumps in proptest::collection::vec(0u32..9, 1..50)) {
            let mut own = XenbusState::Initialising;
            let mut rings = false;
            for jump in jumps {
                let other = XenbusState::from_number(jump).unwrap();
                match front(own, other, true) {
                    FrontStep::Wait => {}
                    FrontStep::Publish => {
                        prop_assert!(!rings);
                        rings = true;
                        own = XenbusState::Initialised;
                    }
                    FrontStep::Connect => {
                        prop_assert!(rings);
                        own = XenbusState::Connected;
                    }
                    FrontStep::Close => {
                        rings = false;
                        own = XenbusState::Closed;
                    }
                    FrontStep::Restart => {
                        prop_assert!(!rings);
                        own = XenbusState::Initialising;
                    }
                }
            }
        }
    }
}
