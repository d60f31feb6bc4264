//! Event channels in another domain's name (`public/event_channel.h`). Our own ones: [`crate::evtchn`].

use hypercall_abi::event_channel as abi;
use hypercall_abi::hypercall::EVENT_CHANNEL_OP;

use crate::error::{Error, Result};
use crate::ids::{DomId, Port};
use crate::privcmd::Privcmd;

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
        let mut argument = abi::EvtchnAllocUnbound { dom: domain.0, remote_dom: remote.0, port: 0 };
        let registers = [u64::from(abi::EVTCHNOP_ALLOC_UNBOUND), 0, 0, 0, 0];
        // SAFETY: `struct evtchn_alloc_unbound` holds no address.
        let answer = unsafe { self.call_with(EVENT_CHANNEL_OP, registers, 1, &mut argument) };
        let call = "EVTCHNOP_alloc_unbound";
        answer.map_err(|errno| Error::Domain { call, domain, errno })?;
        Ok(Port(argument.port))
    }

    fn port_status(&self, domain: DomId, port: Port) -> Result<Status> {
        let mut argument =
            abi::EvtchnStatus { dom: domain.0, port: port.0, ..abi::EvtchnStatus::default() };
        let registers = [u64::from(abi::EVTCHNOP_STATUS), 0, 0, 0, 0];
        // SAFETY: `struct evtchn_status` holds no address.
        let answer = unsafe { self.call_with(EVENT_CHANNEL_OP, registers, 1, &mut argument) };
        answer.map_err(|errno| Error::Domain { call: "EVTCHNOP_status", domain, errno })?;
        let remote = DomId(u16::try_from(argument.value & 0xffff).unwrap_or(u16::MAX));
        Ok(match argument.status {
            abi::EVTCHNSTAT_CLOSED => Status::Closed,
            abi::EVTCHNSTAT_UNBOUND => Status::Unbound(remote),
            abi::EVTCHNSTAT_INTERDOMAIN => Status::Interdomain(remote, Port(argument.remote_port)),
            _ => Status::Interrupt,
        })
    }
}
