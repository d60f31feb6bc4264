//! Event channels in another domain's name (`public/event_channel.h`). Our own ones: [`crate::evtchn`].

use crate::error::{Error, Result};
use crate::ids::{DomId, Port};
use crate::payload::Payload;
use crate::privcmd::Privcmd;

/// `__HYPERVISOR_event_channel_op`.
const EVENT_CHANNEL_OP: u64 = 32;

/// What a port is (EVTCHNSTAT_*).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Nothing.
    Closed,
    /// Waits for `0` to bind.
    Unbound(DomId),
    /// Bound to a port of another domain.
    Interdomain(DomId, Port),
    /// An interrupt of some kind.
    Interrupt,
}

/// Event channels in another domain's name.
pub trait EventChannel {
    /// Allocates a port in `domain` that `remote` may bind to.
    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port>;
    /// What `port` of `domain` is.
    fn port_status(&self, domain: DomId, port: Port) -> Result<Status>;
}

impl EventChannel for Privcmd {
    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port> {
        const ALLOC_UNBOUND: u64 = 6;
        let mut payload = Payload::<8>::new().u16(0, domain.0).u16(2, remote.0);
        let registers = [ALLOC_UNBOUND, 0, 0, 0, 0];
        // SAFETY: `struct evtchn_alloc_unbound` holds no address.
        let answer = unsafe { self.call_with(EVENT_CHANNEL_OP, registers, 1, &mut payload) };
        let call = "EVTCHNOP_alloc_unbound";
        answer.map_err(|errno| Error::Domain { call, domain, errno })?;
        Ok(Port(payload.get_u32(4)))
    }

    fn port_status(&self, domain: DomId, port: Port) -> Result<Status> {
        const STATUS: u64 = 5;
        let mut payload = Payload::<24>::new().u16(0, domain.0).u32(4, port.0);
        let registers = [STATUS, 0, 0, 0, 0];
        // SAFETY: `struct evtchn_status` holds no address.
        let answer = unsafe { self.call_with(EVENT_CHANNEL_OP, registers, 1, &mut payload) };
        answer.map_err(|errno| Error::Domain { call: "EVTCHNOP_status", domain, errno })?;
        let remote = DomId(payload.get_u16(16));
        Ok(match payload.get_u32(8) {
            0 => Status::Closed,
            1 => Status::Unbound(remote),
            2 => Status::Interdomain(remote, Port(payload.get_u32(20))),
            _ => Status::Interrupt,
        })
    }
}
