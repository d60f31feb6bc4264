//! `HYPERVISOR_event_channel_op` (`public/event_channel.h`).
//!
//! A port is opened before the reply is written, since no guest memory is copied under a lock; if the
//! reply cannot be written, the port is closed again.

use super::{Arguments, Caller, Outcome, word};
use crate::domain::Domain;
use alloc::sync::Arc;
use hv_core::addr::{Gfn, Mfn};
use hv_core::evtchn::{Delivery, EvtchnError, LINK_BITS, Notify, Peer, Pinned, PortTable, Status};
use hv_core::grant::Access;
use hv_core::guest::Handle;
use hv_core::ids::{DomId, VcpuId};
use hv_core::privilege;
use hypercall_abi::errno::Errno;
use hypercall_abi::event_channel::{
    self as abi, EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindVcpu,
    EvtchnBindVirq, EvtchnClose, EvtchnExpandArray, EvtchnInitControl, EvtchnReset, EvtchnSend,
    EvtchnSetPriority, EvtchnStatus, EvtchnUnmask,
};

/// How many ports a reset closes between two looks for interrupts.
const RESET_STEP: u32 = 64;

/// Carries out the sub-operation in x0 with the structure x1 points to.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, argument, ..] = *arguments;
    // By far the most frequent, it pays for nothing that the others need.
    if word(command) == abi::EVTCHNOP_SEND {
        return send(caller, argument).into();
    }
    manage(caller, word(command), argument)
}

#[inline(never)]
fn manage(caller: &Caller<'_>, command: u32, argument: u64) -> Outcome {
    let result = match command {
        abi::EVTCHNOP_UNMASK => unmask(caller, argument),
        abi::EVTCHNOP_BIND_INTERDOMAIN => bind_interdomain(caller, argument),
        abi::EVTCHNOP_BIND_VIRQ => bind_virq(caller, argument),
        abi::EVTCHNOP_CLOSE => close(caller, argument),
        abi::EVTCHNOP_STATUS => status(caller, argument),
        abi::EVTCHNOP_ALLOC_UNBOUND => alloc_unbound(caller, argument),
        abi::EVTCHNOP_BIND_IPI => bind_ipi(caller, argument),
        abi::EVTCHNOP_BIND_VCPU => bind_vcpu(caller, argument),
        abi::EVTCHNOP_RESET => return reset(caller, argument, false),
        abi::EVTCHNOP_RESET_CONT => return reset(caller, argument, true),
        abi::EVTCHNOP_INIT_CONTROL => init_control(caller, argument),
        abi::EVTCHNOP_EXPAND_ARRAY => expand_array(caller, argument),
        abi::EVTCHNOP_SET_PRIORITY => set_priority(caller, argument),
        // There are no physical interrupts to bind on Arm.
        abi::EVTCHNOP_BIND_PIRQ => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOSYS),
    };
    result.into()
}

fn send(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<EvtchnSend>::from_register(argument).load(caller.guest)?;
    let delivery = caller.domain.ports.lock().send(caller.memory(), request.port)?;
    match delivery {
        Delivery::Nowhere | Delivery::Here(Notify::NO) => {}
        delivery => caller.hv.deliver(caller.domain, delivery),
    }
    Ok(())
}

fn unmask(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<EvtchnUnmask>::from_register(argument).load(caller.guest)?;
    let notify = caller.domain.ports.lock().unmask(caller.memory(), request.port)?;
    caller.hv.notify(caller.domain, notify);
    Ok(())
}

fn alloc_unbound(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<EvtchnAllocUnbound>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    let target = caller.target(request.dom)?;
    privilege::over(caller.subject(), target.id)?;
    let remote = DomId(request.remote_dom).resolve(caller.domain.id);
    may_connect(caller, &target, remote)?;
    caller.hv.widen_ports(&target)?;
    let port = target.ports.lock().alloc_unbound(caller.memory(), remote)?;
    request.port = port.number();
    handle.store(caller.guest, &request).map_err(|fault| {
        undo(caller, &target, port.number());
        fault.into()
    })
}

/// Refuses an event channel between two domains that may not see each other.
///
/// Only then does it matter whether the other domain exists: a port may wait for one yet to come.
fn may_connect(caller: &Caller<'_>, target: &Arc<Domain>, remote: DomId) -> Result<(), Errno> {
    let neighbours = caller.neighbours();
    let subject = caller.subject();
    if subject.privileged || neighbours == privilege::Neighbours::Together {
        return Ok(());
    }
    let remote = caller.hv.domain(remote).ok_or(Errno::ESRCH)?;
    Ok(privilege::connect(neighbours, subject, target.subject(), remote.subject())?)
}

fn bind_interdomain(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<EvtchnBindInterdomain>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    let remote = caller.target(request.remote_dom)?;
    privilege::connect(caller.neighbours(), caller.subject(), caller.subject(), remote.subject())?;
    caller.hv.widen_ports(caller.domain)?;
    let (port, notify) = with_both(caller.domain, &remote, |local, peer| {
        local.bind_interdomain(caller.memory(), peer, request.remote_port)
    })?;
    caller.hv.notify(caller.domain, notify);
    request.local_port = port.number();
    handle.store(caller.guest, &request).map_err(|fault| {
        undo(caller, caller.domain, port.number());
        fault.into()
    })
}

fn bind_virq(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<EvtchnBindVirq>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    caller.hv.widen_ports(caller.domain)?;
    let mut ports = caller.domain.ports.lock();
    let port = ports.bind_virq(caller.memory(), request.virq, request.vcpu)?;
    drop(ports);
    request.port = port.number();
    handle.store(caller.guest, &request).map_err(|fault| {
        undo(caller, caller.domain, port.number());
        fault.into()
    })
}

fn bind_ipi(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<EvtchnBindIpi>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    caller.hv.widen_ports(caller.domain)?;
    let port = caller.domain.ports.lock().bind_ipi(caller.memory(), request.vcpu)?;
    request.port = port.number();
    handle.store(caller.guest, &request).map_err(|fault| {
        undo(caller, caller.domain, port.number());
        fault.into()
    })
}

fn close(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<EvtchnClose>::from_register(argument).load(caller.guest)?;
    Ok(close_port(caller, caller.domain, request.port)?)
}

fn status(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<EvtchnStatus>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    let target = caller.target(request.dom)?;
    // The port is looked at before the privilege, as Xen does.
    let status = target.ports.lock().status(request.port)?;
    privilege::over(caller.subject(), target.id)?;
    let (status, vcpu) = status;
    request.vcpu = vcpu.0;
    let kind = match status {
        Status::Closed => abi::EVTCHNSTAT_CLOSED,
        Status::Unbound(remote) => {
            // Only the domain's 16 bits are written; the rest is as the caller had it.
            request.value = request.value & !0xffff | u32::from(remote.0);
            abi::EVTCHNSTAT_UNBOUND
        }
        Status::Interdomain(remote, port) => {
            request.value = request.value & !0xffff | u32::from(remote.0);
            request.remote_port = port.number();
            abi::EVTCHNSTAT_INTERDOMAIN
        }
        Status::Virq(virq) => {
            request.value = virq.number();
            abi::EVTCHNSTAT_VIRQ
        }
        Status::Ipi => abi::EVTCHNSTAT_IPI,
    };
    request.status = kind;
    Ok(handle.store(caller.guest, &request)?)
}

fn bind_vcpu(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<EvtchnBindVcpu>::from_register(argument).load(caller.guest)?;
    Ok(caller.domain.ports.lock().bind_vcpu(request.port, request.vcpu)?)
}

fn set_priority(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<EvtchnSetPriority>::from_register(argument).load(caller.guest)?;
    Ok(caller.domain.ports.lock().set_priority(request.port, request.priority)?)
}

fn init_control(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let handle = Handle::<EvtchnInitControl>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    caller.domain.vcpu(VcpuId(request.vcpu)).ok_or(EvtchnError::NoSuchVcpu)?;
    // What can be said of the reply is written first: there is no way back from the FIFO ABI.
    request.link_bits = LINK_BITS;
    handle.store(caller.guest, &request)?;
    let frame = hold(caller, Gfn::new(request.control_gfn))?;
    let outcome = caller.domain.ports.lock().init_control(
        caller.memory(),
        request.vcpu,
        frame,
        request.offset,
    );
    outcome.map_err(|error| {
        caller.hv.put_page(frame);
        error.into()
    })
}

fn expand_array(caller: &Caller<'_>, argument: u64) -> Result<(), Errno> {
    let request = Handle::<EvtchnExpandArray>::from_register(argument).load(caller.guest)?;
    caller.domain.ports.lock().may_expand()?;
    let frame = hold(caller, Gfn::new(request.array_gfn))?;
    let outcome = caller.domain.ports.lock().expand_array(caller.memory(), frame);
    match outcome {
        Ok(notify) => {
            caller.hv.notify(caller.domain, notify);
            Ok(())
        }
        Err(error) => {
            caller.hv.put_page(frame);
            Err(error.into())
        }
    }
}

fn reset(caller: &Caller<'_>, argument: u64, goes_on: bool) -> Outcome {
    match start_reset(caller, argument, goes_on) {
        Ok(target) => go_on_reset(caller, argument, &target),
        Err(error) => error.into(),
    }
}

fn start_reset(caller: &Caller<'_>, argument: u64, goes_on: bool) -> Result<Arc<Domain>, Errno> {
    let request = Handle::<EvtchnReset>::from_register(argument).load(caller.guest)?;
    let target = caller.target(request.dom)?;
    privilege::over(caller.subject(), target.id)?;
    if target.id != caller.domain.id && !target.life.lock().is_paused() {
        return Err(Errno::EINVAL);
    }
    let mut ports = target.ports.lock();
    let may_start = if goes_on { ports.is_resetting() } else { ports.begin_reset() };
    drop(ports);
    if may_start { Ok(target) } else { Err(Errno::EBUSY) }
}

fn go_on_reset(caller: &Caller<'_>, argument: u64, target: &Arc<Domain>) -> Outcome {
    let mut step = 0;
    let mut from = 1;
    loop {
        let next = target.ports.lock().next_open(from, false);
        let Some(port) = next else { break };
        // One that another processor closes meanwhile is as good as closed here.
        let _ = close_port(caller, target, port);
        from = port + 1;
        step += 1;
        if step % RESET_STEP == 0 && caller.hv.machine.interrupt_pending() {
            return Outcome::Again([u64::from(abi::EVTCHNOP_RESET_CONT), argument, 0, 0, 0]);
        }
    }
    let mut ports = target.ports.lock();
    ports.end_reset();
    if ports.next_open(1, false).is_some() {
        return Errno::EAGAIN.into();
    }
    let Pinned(frames) = ports.reset_abi();
    drop(ports);
    for frame in frames {
        caller.hv.put_page(frame);
    }
    Outcome::Done(Ok(0))
}

/// Closes `port` of `domain` for its guest, and tells the other end.
fn close_port(caller: &Caller<'_>, domain: &Arc<Domain>, port: u32) -> Result<(), EvtchnError> {
    let peer = domain.ports.lock().peer(port);
    match peer.and_then(|peer| caller.hv.domain(peer)) {
        None => domain.ports.lock().close(caller.memory(), port, Peer::Nobody),
        Some(remote) => {
            with_both(domain, &remote, |ports, peer| ports.close(caller.memory(), port, peer))
        }
    }
}

/// Takes back a port that was just opened and that the caller will never hear of.
fn undo(caller: &Caller<'_>, domain: &Arc<Domain>, port: u32) {
    // It fails only if the guest has closed the port meanwhile, having guessed its number.
    let _ = close_port(caller, domain, port);
}

/// Locks the tables of two domains in the order of their numbers.
fn with_both<R>(
    local: &Arc<Domain>,
    remote: &Arc<Domain>,
    action: impl FnOnce(&mut PortTable, Peer<'_>) -> R,
) -> R {
    if local.id == remote.id {
        return action(&mut local.ports.lock(), Peer::Itself);
    }
    if local.id < remote.id {
        let mut ports = local.ports.lock();
        let mut others = remote.ports.lock();
        action(&mut ports, Peer::Other(&mut others))
    } else {
        let mut others = remote.ports.lock();
        let mut ports = local.ports.lock();
        action(&mut ports, Peer::Other(&mut others))
    }
}

/// Holds a page of the caller's own that events are to be written to.
fn hold(caller: &Caller<'_>, gfn: Gfn) -> Result<Mfn, Errno> {
    caller.hv.hold_ram(caller.domain, gfn, Access::Write).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests;
