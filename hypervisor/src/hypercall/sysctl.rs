//! `HYPERVISOR_sysctl`: what the control domain asks of the machine (`public/sysctl.h`).

mod console;
mod host;
pub mod pools;

use crate::hypercall::domctl::info;
use crate::hypercall::{Arguments, Caller, Outcome};
use hv_core::guest::Handle;
use hypercall_abi::domctl::GetDomainInfo;
use hypercall_abi::errno::Errno;
use hypercall_abi::sysctl as abi;
use hypercall_abi::sysctl::{GetDomainInfoList, Sysctl};

/// A request on the machine, as it came in.
struct Request<'a> {
    caller: &'a Caller<'a>,
    sysctl: Sysctl,
    handle: Handle<Sysctl>,
}

impl Request<'_> {
    /// Copies the request with its answer back to the caller.
    fn reply(&self) -> Result<(), Errno> {
        Ok(self.handle.store(self.caller.guest, &self.sysctl)?)
    }
}

/// Carries out the request at the address in x0.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [address, ..] = *arguments;
    route(caller, Handle::from_register(address)).into()
}

fn route(caller: &Caller<'_>, handle: Handle<Sysctl>) -> Result<(), Errno> {
    let sysctl = handle.load(caller.guest)?;
    if sysctl.interface_version != abi::XEN_SYSCTL_INTERFACE_VERSION {
        return Err(Errno::EACCES);
    }
    if !caller.domain.is_privileged() {
        let command = sysctl.cmd;
        caller.hv.warn(caller.domain, format_args!("system operation {command} refused"));
        return Err(Errno::EPERM);
    }
    let mut request = Request { caller, sysctl, handle };
    let request = &mut request;
    match request.sysctl.cmd {
        abi::XEN_SYSCTL_READCONSOLE => console::read(request),
        abi::XEN_SYSCTL_DEBUG_KEYS => console::debug_keys(request),
        abi::XEN_SYSCTL_PHYSINFO => host::physinfo(request),
        abi::XEN_SYSCTL_GETCPUINFO => host::cpu_info(request),
        abi::XEN_SYSCTL_AVAILHEAP => host::available_heap(request),
        abi::XEN_SYSCTL_CPUTOPOINFO => host::cpu_topology(request),
        abi::XEN_SYSCTL_NUMAINFO => host::numa(request),
        abi::XEN_SYSCTL_SCHED_ID => pools::sched_id(request),
        abi::XEN_SYSCTL_CPUPOOL_OP => pools::operation(request),
        abi::XEN_SYSCTL_SCHEDULER_OP => pools::parameters(request),
        abi::XEN_SYSCTL_GETDOMAININFOLIST => list_domains(request),
        // As Xen that was built without it.
        abi::XEN_SYSCTL_COVERAGE_OP => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOSYS),
    }
}

fn list_domains(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut list: GetDomainInfoList = request.sysctl.payload();
    let buffer = Handle::<GetDomainInfo>::from_register(list.buffer);
    let (hv, guest) = (request.caller.hv, request.caller.guest);
    let mut count = 0;
    for domain in hv.all_domains()? {
        if domain.id.0 < list.first_domain {
            continue;
        }
        if count == list.max_domains {
            break;
        }
        buffer.element(u64::from(count)).store(guest, &info::describe(hv, &domain))?;
        count += 1;
    }
    list.num_domains = count;
    request.sysctl.set_payload(&list);
    request.reply()
}

#[cfg(test)]
mod tests;
