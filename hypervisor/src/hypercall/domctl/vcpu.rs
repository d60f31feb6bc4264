//! Virtual processors: how many, their first registers, what they do.

use super::Request;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::Outcome;
use crate::machine::VcpuContext;
use core::sync::atomic::Ordering;
use hv_core::guest::Handle;
use hv_core::ids::VcpuId;
use hv_core::sched::Hold;
use hypercall_abi::arch_arm::{
    PSR_MODE_EL0T, PSR_MODE_EL1H, PSR_MODE_EL1T, PSR_MODE_MASK, VGCF_ONLINE, VcpuGuestContext,
    VcpuGuestCoreRegs,
};
use hypercall_abi::domctl::{self as abi, GetVcpuInfo, MaxVcpus};
use hypercall_abi::errno::Errno;

pub(super) fn max(request: &Request<'_>) -> Result<(), Errno> {
    let MaxVcpus { max } = request.domctl.payload();
    request.caller.hv.create_vcpus(request.domain, max)?;
    Ok(())
}

/// Returns the virtual processor a request names.
pub(super) fn find<'a>(request: &'a Request<'_>, number: u32) -> Result<&'a Vcpu, Errno> {
    if number >= request.domain.settings.max_vcpus {
        return Err(Errno::EINVAL);
    }
    request.domain.vcpu(VcpuId(number)).map(|vcpu| &**vcpu).ok_or(Errno::ESRCH)
}

pub(super) fn info(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut info: GetVcpuInfo = request.domctl.payload();
    let hv = request.caller.hv;
    let vcpu = find(request, info.vcpu)?;
    let now = hv.machine.now();
    {
        let scheduler = hv.scheduler.lock();
        let holds = scheduler.holds(vcpu.sched);
        let [running, ..] = scheduler.runstate(vcpu.sched, now).times;
        info.online = u8::from(!holds.contains(Hold::DOWN));
        info.blocked = u8::from(holds.contains(Hold::BLOCKED));
        info.running = u8::from(vcpu.running_on().is_some());
        info.cpu_time = running.0;
        info.cpu = scheduler.cpu_of(vcpu.sched).0;
    }
    request.domctl.set_payload(&info);
    request.reply()
}

/// Stops `vcpu` and gives its registers to `action`; nothing while a processor still has them.
fn with_registers<R>(
    request: &Request<'_>,
    vcpu: &Vcpu,
    action: impl FnOnce(&mut VcpuContext) -> R,
) -> Option<R> {
    let hv = request.caller.hv;
    hv.hold(vcpu, Hold::PAUSED);
    let result = vcpu.context.lock().as_deref_mut().map(action)?;
    let paused = request.domain.life.lock().is_paused();
    if !paused && vcpu.pauses.load(Ordering::SeqCst) == 0 {
        hv.release(vcpu, Hold::PAUSED);
    }
    Some(result)
}

pub(super) fn set_context(request: &Request<'_>) -> Outcome {
    let wanted: abi::VcpuContext = request.domctl.payload();
    let vcpu = match find(request, wanted.vcpu) {
        Ok(vcpu) => vcpu,
        Err(error) => return error.into(),
    };
    if request.domain.id == request.caller.domain.id {
        return Errno::EINVAL.into();
    }
    if wanted.ctxt == 0 {
        return reset(request, vcpu);
    }
    let handle = Handle::<VcpuGuestContext>::from_register(wanted.ctxt);
    let guest = match handle.load(request.caller.guest) {
        Ok(guest) => guest,
        Err(fault) => return Errno::from(fault).into(),
    };
    let mode = guest.user_regs.cpsr & PSR_MODE_MASK;
    if ![PSR_MODE_EL0T, PSR_MODE_EL1T, PSR_MODE_EL1H].contains(&mode) {
        return Errno::EINVAL.into();
    }
    let done = with_registers(request, vcpu, |context| write_context(context, &guest));
    if done.is_none() {
        return request.again();
    }
    vcpu.initialised.store(true, Ordering::SeqCst);
    if guest.flags & VGCF_ONLINE != 0 {
        request.caller.hv.release(vcpu, Hold::DOWN);
    } else {
        request.caller.hv.hold(vcpu, Hold::DOWN);
    }
    Outcome::Done(Ok(0))
}

fn reset(request: &Request<'_>, vcpu: &Vcpu) -> Outcome {
    request.caller.hv.hold(vcpu, Hold::DOWN);
    let fresh = request.domain.fresh_context(vcpu.who.vcpu, 0);
    if with_registers(request, vcpu, |context| *context = fresh).is_none() {
        return request.again();
    }
    vcpu.initialised.store(false, Ordering::SeqCst);
    Outcome::Done(Ok(0))
}

pub(super) fn get_context(request: &Request<'_>) -> Outcome {
    let wanted: abi::VcpuContext = request.domctl.payload();
    let vcpu = match find(request, wanted.vcpu) {
        Ok(vcpu) => vcpu,
        Err(error) => return error.into(),
    };
    if request.domain.id == request.caller.domain.id {
        return Errno::EINVAL.into();
    }
    if !vcpu.initialised.load(Ordering::SeqCst) {
        return Errno::ENODATA.into();
    }
    let Some(mut guest) = with_registers(request, vcpu, |context| read_context(context)) else {
        return request.again();
    };
    if !request.caller.hv.scheduler.lock().holds(vcpu.sched).contains(Hold::DOWN) {
        guest.flags |= VGCF_ONLINE;
    }
    let handle = Handle::<VcpuGuestContext>::from_register(wanted.ctxt);
    handle.store(request.caller.guest, &guest).map_err(Errno::from).into()
}

fn write_context(context: &mut VcpuContext, guest: &VcpuGuestContext) {
    let registers = &guest.user_regs;
    for (number, value) in registers.x.into_iter().enumerate() {
        context.set_gpr(number, value);
    }
    context.set_pc(registers.pc64);
    context.set_spsr(registers.cpsr);
    context.set_spsr_el1(registers.spsr_el1);
    context.set_sp_el0(registers.sp_el0);
    context.set_sp_el1(registers.sp_el1);
    context.set_elr_el1(registers.elr_el1);
    context.set_sctlr_el1(guest.sctlr);
    context.set_tcr_el1(guest.ttbcr);
    context.set_ttbr0_el1(guest.ttbr0);
    context.set_ttbr1_el1(guest.ttbr1);
}

fn read_context(context: &VcpuContext) -> VcpuGuestContext {
    VcpuGuestContext {
        user_regs: VcpuGuestCoreRegs {
            x: core::array::from_fn(|number| context.gpr(number)),
            pc64: context.pc(),
            cpsr: context.spsr(),
            spsr_el1: context.spsr_el1(),
            sp_el0: context.sp_el0(),
            sp_el1: context.sp_el1(),
            elr_el1: context.elr_el1(),
            ..VcpuGuestCoreRegs::default()
        },
        sctlr: context.sctlr_el1(),
        ttbcr: context.tcr_el1(),
        ttbr0: context.ttbr0_el1(),
        ttbr1: context.ttbr1_el1(),
        ..VcpuGuestContext::default()
    }
}
