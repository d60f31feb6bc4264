//! A network interface for programs: frames out and in, and waiting for them.

use super::front::Queue;
use super::{Features, MAX_FRAME, MIN_FRAME, Mac, NetConfig, NetFront, Offload};
use crate::wait;
use crate::xenbus::front::Front;
use crate::xenbus::{BusError, Device};
use alloc::vec::Vec;

/// How long the back end may take to connect, in milliseconds.
const CONNECT: u64 = 20_000;

/// Counts since the interface was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that came.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames that came incomplete, or with a wrong checksum.
    pub received_in_vain: u64,
    /// Frames given to the back end.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Parts of frames that the back end did not take.
    pub refused: u64,
}

/// A network interface.
pub struct Interface {
    front: Front<NetFront>,
    statistics: Statistics,
    /// The queue that is looked at first.
    turn: usize,
    /// The back end may have moved.
    moved: bool,
    /// The back end cuts long TCP segments over IPv4.
    segment_v4: bool,
}

impl Interface {
    /// Connects to interface `number`: 0 is the first of the domain's configuration. Waits for the back end, 20 seconds at most.
    pub fn open(number: u32, config: NetConfig) -> Result<Self, BusError> {
        let device = Device::front("vif", number)?;
        let mut front = Front::new(device, NetFront::new(config))?;
        front.wait_connected(CONNECT)?;
        let segment_v4 = front.driver().features().segment_v4;
        Ok(Self { front, statistics: Statistics::default(), turn: 0, moved: false, segment_v4 })
    }

    /// Returns its address.
    pub fn mac(&mut self) -> Mac {
        self.front.driver().mac()
    }

    /// Returns what the back end can do.
    pub fn features(&mut self) -> Features {
        self.front.driver().features()
    }

    /// Returns whether the back end cuts long TCP segments over IPv4.
    #[cfg(feature = "smoltcp")]
    pub(super) fn segments_v4(&self) -> bool {
        self.segment_v4
    }

    /// Returns how many queues it has.
    pub fn queue_count(&mut self) -> usize {
        self.front.driver().queue_count()
    }

    /// Returns the counts.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Counts a frame that was received and is of no use.
    #[cfg(feature = "smoltcp")]
    pub(super) fn count_in_vain(&mut self) {
        self.statistics.received_in_vain += 1;
    }

    /// Does something with the connected device; a lie closes it.
    fn with<R>(
        &mut self,
        work: impl FnOnce(&mut [Queue], &mut Statistics) -> Result<R, BusError>,
    ) -> Result<R, BusError> {
        if !self.front.is_connected() {
            return Err(BusError::Closed);
        }
        let result = work(&mut self.front.driver().queues, &mut self.statistics);
        if let Err(error) = &result {
            self.front.fail(error)?;
        }
        result
    }

    /// Returns whether a frame of the greatest size could be sent now.
    pub fn can_send(&mut self) -> Result<bool, BusError> {
        let size = if self.features().scatter_gather { MAX_FRAME } else { 4096 };
        self.with(|queues, statistics| {
            let mut all = true;
            for queue in queues {
                if !queue.transmit.has_room(size) {
                    statistics.refused += u64::from(queue.transmit.settle()?.dropped);
                }
                all &= queue.transmit.has_room(size);
            }
            Ok(all)
        })
    }

    /// Sends a frame; false if there is no room now. What the back end cannot do must not be asked for.
    pub fn send(&mut self, frame: &[u8], offload: Offload) -> Result<bool, BusError> {
        let features = self.features();
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Err(BusError::Unsupported("a frame has no such size"));
        }
        if !features.scatter_gather && frame.len() > 4096 {
            return Err(BusError::Unsupported("the back end takes no frames of several parts"));
        }
        self.with(|queues, statistics| {
            let number = flow(frame).checked_rem(queues.len()).unwrap_or_default();
            let queue = queues.get_mut(number).ok_or(BusError::Closed)?;
            if !queue.transmit.has_room(frame.len()) {
                statistics.refused += u64::from(queue.transmit.settle()?.dropped);
            }
            if queue.transmit.send(frame, offload).is_err() {
                return Ok(false);
            }
            if queue.transmit.publish() {
                queue.channel.notify()?;
            }
            statistics.sent += 1;
            statistics.sent_bytes += frame.len() as u64;
            Ok(true)
        })
    }

    /// Takes the next frame that came into `frame`, in place of what was there.
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> Result<Option<Offload>, BusError> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        self.with(|queues, statistics| {
            let count = queues.len();
            for number in 0..count {
                let number = turn.wrapping_add(number).checked_rem(count).unwrap_or_default();
                let Some(queue) = queues.get_mut(number) else { continue };
                let taken = queue.receive.take(frame)?;
                statistics.received_in_vain += u64::from(queue.receive.dropped());
                queue.refill()?;
                if let Some(offload) = taken {
                    statistics.received += 1;
                    statistics.received_bytes += frame.len() as u64;
                    return Ok(Some(offload));
                }
            }
            Ok(None)
        })
    }

    /// Follows the back end: closes with it, and connects again to one that was started anew. Returns whether the device is connected.
    pub fn follow(&mut self) -> Result<bool, BusError> {
        if core::mem::take(&mut self.moved) || !self.front.is_connected() {
            self.front.advance()?;
            self.segment_v4 = self.features().segment_v4;
        }
        Ok(self.front.is_connected())
    }

    /// Waits, with the vCPU asleep, until a frame came, the back end moved, `done` is true, or the virtual counter is `deadline`.
    pub fn wait(&mut self, deadline: u64, mut done: impl FnMut() -> bool) {
        wait::until_tick(deadline, || done() || self.is_ready());
    }

    /// Asks for an event at whatever happens next; returns whether something has happened already.
    fn is_ready(&mut self) -> bool {
        if self.front.watch().try_next().is_some() {
            self.moved = true;
            return true;
        }
        // An error shows when a frame is asked for.
        let arm = |queue: &mut Queue| {
            let answered = !queue.transmit.has_room(MAX_FRAME)
                && queue.transmit.rearm().unwrap_or(true)
                && queue.transmit.settle().is_ok_and(|sent| sent.sent + sent.dropped > 0);
            queue.receive.rearm().unwrap_or(true) || answered
        };
        let queues = &mut self.front.driver().queues;
        queues.iter_mut().any(arm)
    }

    /// Ends the device and waits until the back end has let go.
    pub fn close(mut self) -> Result<(), BusError> {
        self.front.close(CONNECT)
    }
}

/// Returns a number that is the same for all frames between two ends: what follows the Ethernet header's type tells them apart.
fn flow(frame: &[u8]) -> usize {
    let addresses = frame.get(26..38).unwrap_or_default();
    addresses
        .iter()
        .fold(0, |hash: usize, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)))
        >> 2
}
