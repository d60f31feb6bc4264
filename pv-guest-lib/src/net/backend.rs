//! A back end's driver: what it offers, and the queues a front end made. What it does with frames is its user's choice.

use super::back::{Delivery, FromFront, GrantedMemory, Refused, ToFront};
use super::{NetError, Offload};
use crate::event::Channel;
use crate::grant::{Access, Copy, Mapping, Side, copy};
use crate::page::SharedPages;
use crate::wait;
use crate::xenbus::back::BackDriver;
use crate::xenbus::{BusError, Device};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A front end's pages, reached through a page of this domain's that is for copies alone.
struct Copies {
    front: u16,
    page: SharedPages,
}

impl Copies {
    fn one(&self, from: Side, to: Side, len: usize) -> Result<(), Refused> {
        let len = u16::try_from(len).map_err(|_| Refused)?;
        let done = copy(&[Copy { from, to, len }]).map_err(|_| Refused)?;
        if done.iter().all(Result::is_ok) { Ok(()) } else { Err(Refused) }
    }

    fn granted(&self, reference: u32, offset: u16) -> Side {
        Side::Granted { domain: self.front, reference, offset }
    }
}

impl GrantedMemory for Copies {
    fn read(&mut self, reference: u32, offset: u16, to: &mut [u8]) -> Result<(), Refused> {
        self.one(self.granted(reference, offset), Side::own(self.page, 0), to.len())?;
        self.page.read(0, to);
        Ok(())
    }

    fn write(&mut self, reference: u32, from: &[u8]) -> Result<(), Refused> {
        self.page.write(0, from);
        self.one(Side::own(self.page, 0), self.granted(reference, 0), from.len())
    }
}

struct Queue {
    from: FromFront,
    to: ToFront,
    channel: Channel,
    memory: Copies,
    /// The rings, for as long as they are used.
    _rings: [Mapping; 2],
}

impl Queue {
    fn new(device: &Device, prefix: &str) -> Result<Self, BusError> {
        let front = device.peer();
        let ring = |key| -> Result<Mapping, BusError> {
            let reference = device.other(&format!("{prefix}{key}"))?;
            Ok(Mapping::new(front, &[reference], Access::ReadWrite)?)
        };
        let rings = [ring("tx-ring-ref")?, ring("rx-ring-ref")?];
        let port = device.other(&format!("{prefix}event-channel"))?;
        let [transmit, receive] = &rings;
        Ok(Self {
            from: FromFront::new(transmit.pages()),
            to: ToFront::new(receive.pages()),
            channel: Channel::interdomain(front, port)?,
            memory: Copies { front, page: SharedPages::allocate(1) },
            _rings: rings,
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.memory.page.recycle();
    }
}

/// The driver of a network back end.
pub struct NetBack {
    max_queues: usize,
    queues: Vec<Queue>,
    turn: usize,
    scatter_gather: bool,
    segments: bool,
}

impl NetBack {
    /// Makes a driver that allows a front end so many queues.
    pub fn new(max_queues: usize) -> Self {
        let max_queues = max_queues.max(1);
        Self { max_queues, queues: Vec::new(), turn: 0, scatter_gather: false, segments: false }
    }

    /// Takes the next frame the front end sent into `frame`. After an error the device must be closed.
    pub fn receive(&mut self, frame: &mut Vec<u8>) -> Result<Option<Offload>, BusError> {
        self.turn = self.turn.wrapping_add(1);
        let count = self.queues.len();
        for number in 0..count {
            let number = self.turn.wrapping_add(number).checked_rem(count).unwrap_or_default();
            let Some(queue) = self.queues.get_mut(number) else { continue };
            let taken = queue.from.take(&mut queue.memory, frame)?;
            if queue.from.publish() {
                queue.channel.notify()?;
            }
            if taken.is_some() {
                return Ok(taken);
            }
        }
        Ok(None)
    }

    /// Gives the front end a frame. After an error the device must be closed.
    pub fn deliver(&mut self, frame: &[u8], offload: Offload) -> Result<Delivery, BusError> {
        if frame.len() > 4096 && !self.scatter_gather
            || offload.segments.is_some() && !self.segments
        {
            return Err(BusError::Unsupported("the front end takes no such frames"));
        }
        let number = self.turn.checked_rem(self.queues.len()).ok_or(BusError::Closed)?;
        let queue = self.queues.get_mut(number).ok_or(BusError::Closed)?;
        let delivery = queue.to.deliver(&mut queue.memory, frame, offload)?;
        if queue.to.publish() {
            queue.channel.notify()?;
        }
        Ok(delivery)
    }

    /// Waits, with the vCPU asleep, until the front end sent something, `done` is true, or the virtual counter is `deadline`.
    pub fn wait(&mut self, deadline: u64, mut done: impl FnMut() -> bool) {
        wait::until_tick(deadline, || {
            // An error shows when a frame is asked for.
            let arm = |queue: &mut Queue| queue.from.rearm().unwrap_or(true);
            done() || self.queues.iter_mut().any(arm)
        });
    }
}

impl BackDriver for NetBack {
    fn announce(&mut self, device: &Device) -> Result<(), BusError> {
        let queues = self.max_queues.to_string();
        Ok(device.write(&[
            ("feature-rx-copy", "1"),
            ("feature-rx-flip", "0"),
            ("feature-sg", "1"),
            ("feature-gso-tcpv4", "1"),
            ("feature-gso-tcpv6", "1"),
            ("feature-ipv6-csum-offload", "1"),
            ("multi-queue-max-queues", &queues),
        ])?)
    }

    fn connect(&mut self, device: &Device) -> Result<(), BusError> {
        if !device.other_has("request-rx-copy")? {
            return Err(BusError::Unsupported("the front end wants pages exchanged"));
        }
        self.scatter_gather = device.other_has("feature-sg")?;
        self.segments = self.scatter_gather && device.other_has("feature-gso-tcpv4")?;
        let count = device.other_or("multi-queue-num-queues", 1usize)?;
        if count == 0 || count > self.max_queues {
            return Err(NetError::Lied("it has made more queues than it may").into());
        }
        self.queues.clear();
        for number in 0..count {
            let prefix = if count > 1 { format!("queue-{number}/") } else { String::new() };
            self.queues.push(Queue::new(device, &prefix)?);
        }
        Ok(())
    }

    fn close(&mut self) {
        self.queues.clear();
    }
}
