//! Event channel operations (`public/event_channel.h`).

use super::{HypercallError, with};
use hypercall_abi::event_channel as abi;
use hypercall_abi::hypercall::EVENT_CHANNEL_OP;

type Port = u32;
type Result<T> = core::result::Result<T, HypercallError>;

/// Opens a port of `dom` that `remote_dom` may bind to.
pub fn alloc_unbound(dom: u16, remote_dom: u16) -> Result<Port> {
    let mut request = abi::EvtchnAllocUnbound { dom, remote_dom, port: 0 };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_ALLOC_UNBOUND, &mut request)?;
    Ok(request.port)
}

/// Binds a new port to a waiting one of `remote_dom`.
pub fn bind_interdomain(remote_dom: u16, remote_port: Port) -> Result<Port> {
    let mut request = abi::EvtchnBindInterdomain { remote_dom, pad: 0, remote_port, local_port: 0 };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_BIND_INTERDOMAIN, &mut request)?;
    Ok(request.local_port)
}

/// Binds a new port to a virtual interrupt.
pub fn bind_virq(virq: u32, vcpu: u32) -> Result<Port> {
    let mut request = abi::EvtchnBindVirq { virq, vcpu, port: 0 };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_BIND_VIRQ, &mut request)?;
    Ok(request.port)
}

/// Binds a new port for notifications of `vcpu`.
pub fn bind_ipi(vcpu: u32) -> Result<Port> {
    let mut request = abi::EvtchnBindIpi { vcpu, port: 0 };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_BIND_IPI, &mut request)?;
    Ok(request.port)
}

/// Binds a new port to a physical interrupt, which Arm refuses.
pub fn bind_pirq(pirq: u32) -> Result<Port> {
    let mut request = abi::EvtchnBindPirq { pirq, flags: 0, port: 0 };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_BIND_PIRQ, &mut request)?;
    Ok(request.port)
}

/// Closes a port.
pub fn close(port: Port) -> Result<()> {
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_CLOSE, &mut abi::EvtchnClose { port }).map(drop)
}

/// Signals the other end of a port.
pub fn send(port: Port) -> Result<()> {
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_SEND, &mut abi::EvtchnSend { port }).map(drop)
}

/// Asks about a port of `dom`.
pub fn status(dom: u16, port: Port) -> Result<abi::EvtchnStatus> {
    let mut request = abi::EvtchnStatus { dom, port, ..Default::default() };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_STATUS, &mut request)?;
    Ok(request)
}

/// Names the vCPU that a port notifies.
pub fn bind_vcpu(port: Port, vcpu: u32) -> Result<()> {
    let mut request = abi::EvtchnBindVcpu { port, vcpu };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_BIND_VCPU, &mut request).map(drop)
}

/// Unmasks a port, delivering what was pending.
pub fn unmask(port: Port) -> Result<()> {
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_UNMASK, &mut abi::EvtchnUnmask { port }).map(drop)
}

/// Closes all ports of `dom`.
pub fn reset(dom: u16) -> Result<()> {
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_RESET, &mut abi::EvtchnReset { dom }).map(drop)
}

/// Gives a vCPU its control block and so switches to the FIFO ABI; returns the bits of a link.
pub fn init_control(vcpu: u32, control_gfn: u64, offset: u32) -> Result<u8> {
    let mut request = abi::EvtchnInitControl { control_gfn, offset, vcpu, ..Default::default() };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_INIT_CONTROL, &mut request)?;
    Ok(request.link_bits)
}

/// Adds a frame of event words.
pub fn expand_array(array_gfn: u64) -> Result<()> {
    let mut request = abi::EvtchnExpandArray { array_gfn };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_EXPAND_ARRAY, &mut request).map(drop)
}

/// Sets a port's priority.
pub fn set_priority(port: Port, priority: u32) -> Result<()> {
    let mut request = abi::EvtchnSetPriority { port, priority };
    with(EVENT_CHANNEL_OP, abi::EVTCHNOP_SET_PRIORITY, &mut request).map(drop)
}
