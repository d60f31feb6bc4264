//! `HYPERVISOR_domctl`: what the control domain asks of one domain (`public/domctl.h`).

mod create;
pub mod info;
mod interrupts;
mod life;
mod memory;
mod scheduling;
mod uart;
mod vcpu;

use crate::domain::Domain;
use crate::hypercall::{Arguments, Caller, Outcome};
use alloc::sync::Arc;
use hv_core::guest::Handle;
use hv_core::ids::DomId;
use hypercall_abi::domctl as abi;
use hypercall_abi::domctl::Domctl;
use hypercall_abi::errno::Errno;

/// A request on a domain, as it came in.
struct Request<'a> {
    caller: &'a Caller<'a>,
    domain: &'a Arc<Domain>,
    domctl: Domctl,
    handle: Handle<Domctl>,
    arguments: Arguments,
}

impl Request<'_> {
    /// Copies the request with its answer back to the caller.
    fn reply(&self) -> Result<(), Errno> {
        Ok(self.handle.store(self.caller.guest, &self.domctl)?)
    }

    /// Has the guest make the request again, because it cannot be done yet.
    fn again(&self) -> Outcome {
        Outcome::Again(self.arguments)
    }
}

/// Carries out the request at the address in x0.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [address, ..] = *arguments;
    let handle = Handle::<Domctl>::from_register(address);
    let domctl = match load(caller, handle) {
        Ok(domctl) => domctl,
        Err(error) => return error.into(),
    };
    if domctl.cmd == abi::XEN_DOMCTL_CREATEDOMAIN {
        if !caller.domain.is_privileged() {
            return refuse(caller, domctl.cmd).into();
        }
        let Some(_alone) = caller.hv.control.try_lock() else { return Outcome::Again(*arguments) };
        return create::create(caller, domctl, handle).into();
    }
    let Some(domain) = meant(caller, &domctl) else { return Errno::ESRCH.into() };
    if !caller.domain.is_privileged() {
        return refuse(caller, domctl.cmd).into();
    }
    // Who waits lets interrupts in meanwhile.
    let Some(_alone) = caller.hv.control.try_lock() else { return Outcome::Again(*arguments) };
    let arguments = *arguments;
    let mut request = Request { caller, domain: &domain, domctl, handle, arguments };
    route(&mut request)
}

fn load(caller: &Caller<'_>, handle: Handle<Domctl>) -> Result<Domctl, Errno> {
    let domctl = handle.load(caller.guest)?;
    if domctl.interface_version != caller.hv.host.options.interface.domctl() {
        return Err(Errno::EACCES);
    }
    Ok(domctl)
}

/// Returns the domain that a request is on.
fn meant(caller: &Caller<'_>, domctl: &Domctl) -> Option<Arc<Domain>> {
    let hv = caller.hv;
    if hv.host.options.interface.looks_on(domctl.cmd) {
        hv.domain_from(domctl.domain)
    } else {
        hv.domain(DomId(domctl.domain))
    }
}

fn refuse(caller: &Caller<'_>, command: u32) -> Errno {
    caller.hv.warn(caller.domain, format_args!("control operation {command} refused"));
    Errno::EPERM
}

fn route(request: &mut Request<'_>) -> Outcome {
    match request.domctl.cmd {
        abi::XEN_DOMCTL_DESTROYDOMAIN => life::destroy(request),
        abi::XEN_DOMCTL_PAUSEDOMAIN => life::pause(request).into(),
        abi::XEN_DOMCTL_UNPAUSEDOMAIN => life::unpause(request).into(),
        abi::XEN_DOMCTL_RESUMEDOMAIN => life::resume(request).into(),
        abi::XEN_DOMCTL_GETDOMAININFO => info::get(request).into(),
        abi::XEN_DOMCTL_SETDOMAINHANDLE => info::set_handle(request).into(),
        abi::XEN_DOMCTL_SETTIMEOFFSET => info::set_time_offset(request).into(),
        abi::XEN_DOMCTL_SET_ADDRESS_SIZE => info::set_address_size(request).into(),
        abi::XEN_DOMCTL_GET_ADDRESS_SIZE => info::get_address_size(request).into(),
        abi::XEN_DOMCTL_GETNODEAFFINITY => info::get_node_affinity(request).into(),
        abi::XEN_DOMCTL_SETNODEAFFINITY => info::set_node_affinity(request).into(),
        abi::XEN_DOMCTL_MAX_VCPUS => vcpu::max(request).into(),
        abi::XEN_DOMCTL_SETVCPUCONTEXT => vcpu::set_context(request),
        abi::XEN_DOMCTL_GETVCPUCONTEXT => vcpu::get_context(request),
        abi::XEN_DOMCTL_GETVCPUINFO => vcpu::info(request).into(),
        abi::XEN_DOMCTL_SETVCPUAFFINITY => scheduling::set_affinity(request).into(),
        abi::XEN_DOMCTL_GETVCPUAFFINITY => scheduling::get_affinity(request).into(),
        abi::XEN_DOMCTL_SCHEDULER_OP => scheduling::parameters(request).into(),
        abi::XEN_DOMCTL_MAX_MEM => memory::max(request).into(),
        abi::XEN_DOMCTL_IOMEM_PERMISSION => memory::iomem_permission(request).into(),
        abi::XEN_DOMCTL_MEMORY_MAPPING => memory::map_device(request).into(),
        abi::XEN_DOMCTL_BIND_PT_IRQ => interrupts::bind(request).into(),
        abi::XEN_DOMCTL_UNBIND_PT_IRQ => interrupts::unbind(request).into(),
        abi::XEN_DOMCTL_SET_VIRQ_HANDLER => interrupts::set_virq_handler(request).into(),
        abi::XEN_DOMCTL_CACHEFLUSH => memory::cache_flush(request),
        abi::XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE => memory::get_pool(request).into(),
        abi::XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE => memory::set_pool(request).into(),
        abi::XEN_DOMCTL_VUART_OP => uart::operate(request).into(),
        // No cache is partitioned: the toolstack goes on at this answer and no other.
        abi::XEN_DOMCTL_SET_LLC_COLORS => Errno::EOPNOTSUPP.into(),
        _ => Errno::ENOSYS.into(),
    }
}

#[cfg(test)]
mod tests;
