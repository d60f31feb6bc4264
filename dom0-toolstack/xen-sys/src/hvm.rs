//! A domain's parameters (`public/hvm/hvm_op.h`, `public/hvm/params.h`).

use crate::error::{Error, Result};
use crate::ids::DomId;
use crate::payload::Payload;
use crate::privcmd::Privcmd;

/// `__HYPERVISOR_hvm_op`.
const HVM_OP: u64 = 34;

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
            Self::CallbackIrq => 0,
            Self::StorePfn => 1,
            Self::StoreEvtchn => 2,
            Self::ConsolePfn => 17,
            Self::ConsoleEvtchn => 18,
            Self::MonitorRingPfn => 28,
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
        param_op(self, "HVMOP_set_param", 0, domain, param, value).map(drop)
    }

    fn param(&self, domain: DomId, param: Param) -> Result<u64> {
        param_op(self, "HVMOP_get_param", 1, domain, param, 0)
    }
}

fn param_op(
    privcmd: &Privcmd,
    call: &'static str,
    operation: u64,
    domain: DomId,
    param: Param,
    value: u64,
) -> Result<u64> {
    let mut payload = Payload::<16>::new().u16(0, domain.0).u32(4, param.index()).u64(8, value);
    // SAFETY: `struct xen_hvm_param` holds no address.
    let answer = unsafe { privcmd.call_with(HVM_OP, [operation, 0, 0, 0, 0], 1, &mut payload) };
    answer.map_err(|errno| Error::Domain { call, domain, errno })?;
    Ok(payload.get_u64(8))
}
