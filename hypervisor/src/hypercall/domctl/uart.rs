//! `XEN_DOMCTL_vuart_op`: the virtual UART of a domain that has not run yet.

use super::Request;
use hv_core::addr::Gfn;
use hv_core::ids::DomId;
use hypercall_abi::domctl::{VuartOp, XEN_DOMCTL_VUART_OP_INIT, XEN_DOMCTL_VUART_TYPE_VPL011};
use hypercall_abi::errno::Errno;

pub(super) fn operate(request: &mut Request<'_>) -> Result<(), Errno> {
    let mut wanted: VuartOp = request.domctl.payload();
    if wanted.pad != [0; 2] || wanted.cmd != XEN_DOMCTL_VUART_OP_INIT {
        return Err(Errno::EINVAL);
    }
    let (hv, domain) = (request.caller.hv, request.domain);
    if domain.life.lock().is_created() {
        return Err(Errno::EPERM);
    }
    if wanted.kind != XEN_DOMCTL_VUART_TYPE_VPL011 {
        return Err(Errno::EOPNOTSUPP);
    }
    hv.widen_ports(domain)?;
    // As on Xen, `DOMID_SELF` names nobody here.
    let port = hv.give_uart(domain, Gfn::new(wanted.gfn), DomId(wanted.console_domid))?;
    wanted.evtchn = port.number();
    request.domctl.set_payload(&wanted);
    request.reply().inspect_err(|_| hv.take_uart(domain))
}
