//! A domain's parameters (`public/hvm/hvm_op.h`, `public/hvm/params.h`).

use hypercall_abi::hvm as abi;
use hypercall_abi::hypercall::HVM_OP;

use crate::error::{Error, Result};
use crate::ids::DomId;
use crate::privcmd::Privcmd;

/// Parameters that a domain on Arm has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Param {
    /// The interrupt that announces events.
    CallbackIrq,
    /// Frame of the xenstore ring.
    StorePfn,
    /// Event channel of the xenstore ring.
    StoreEvtchn,
    /// Frame of the console ring.
    ConsolePfn,
    /// Event channel of the console ring.
    ConsoleEvtchn,
    /// Frame of the monitor's ring.
    MonitorRingPfn,
}

impl Param {
    pub(crate) const fn index(self) -> u32 {
        match self {
            Self::CallbackIrq => abi::HVM_PARAM_CALLBACK_IRQ,
            Self::StorePfn => abi::HVM_PARAM_STORE_PFN,
            Self::StoreEvtchn => abi::HVM_PARAM_STORE_EVTCHN,
            Self::ConsolePfn => abi::HVM_PARAM_CONSOLE_PFN,
            Self::ConsoleEvtchn => abi::HVM_PARAM_CONSOLE_EVTCHN,
            Self::MonitorRingPfn => abi::HVM_PARAM_MONITOR_RING_PFN,
        }
    }
}

/// Reading and setting a domain's parameters.
pub trait Hvm {
    /// Sets a parameter.
    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()>;
    /// Reads a parameter; one never set is 0.
    fn param(&self, domain: DomId, param: Param) -> Result<u64>;
}

impl Hvm for Privcmd {
    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()> {
        param_op(self, "HVMOP_set_param", abi::HVMOP_SET_PARAM, domain, param, value).map(drop)
    }

    fn param(&self, domain: DomId, param: Param) -> Result<u64> {
        param_op(self, "HVMOP_get_param", abi::HVMOP_GET_PARAM, domain, param, 0)
    }
}

fn param_op(
    privcmd: &Privcmd,
    call: &'static str,
    operation: u32,
    domain: DomId,
    param: Param,
    value: u64,
) -> Result<u64> {
    let mut argument = abi::HvmParam { domid: domain.0, pad: 0, index: param.index(), value };
    let registers = [u64::from(operation), 0, 0, 0, 0];
    // SAFETY: `struct xen_hvm_param` holds no address.
    let answer = unsafe { privcmd.call_with(HVM_OP, registers, 1, &mut argument) };
    answer.map_err(|errno| Error::Domain { call, domain, errno })?;
    Ok(argument.value)
}
