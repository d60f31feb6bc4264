//! Parameters of a hardware-assisted guest (`public/hvm/hvm_op.h`, `public/hvm/params.h`).

/// `HVMOP_set_param`: see [`HvmParam`].
pub const HVMOP_SET_PARAM: u32 = 0;
/// `HVMOP_get_param`: see [`HvmParam`].
pub const HVMOP_GET_PARAM: u32 = 1;
/// `HVMOP_flush_tlbs`.
pub const HVMOP_FLUSH_TLBS: u32 = 5;
/// `HVMOP_guest_request_vm_event`.
pub const HVMOP_GUEST_REQUEST_VM_EVENT: u32 = 24;
/// `HVMOP_altp2m`.
pub const HVMOP_ALTP2M: u32 = 25;

/// How events are signalled.
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// Frame of the xenstore page.
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// Port of the xenstore channel.
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// Frame of the console page.
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// Port of the console channel.
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// Frame of the paging ring.
pub const HVM_PARAM_PAGING_RING_PFN: u32 = 27;
/// Frame of the monitor ring.
pub const HVM_PARAM_MONITOR_RING_PFN: u32 = 28;
/// Parameters there are.
pub const HVM_NR_PARAMS: u32 = 39;

/// Callback type, in bits 63:56: a private interrupt.
pub const HVM_PARAM_CALLBACK_TYPE_PPI: u64 = 2;
/// Where the callback's type stands.
pub const HVM_PARAM_CALLBACK_TYPE_SHIFT: u32 = 56;
/// Where the interrupt's flags stand.
pub const HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_MASK: u64 = 0xff00;
/// Flag: level-triggered, active low.
pub const HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL: u64 = 2;

crate::layout::wire! {
    /// Argument of `HVMOP_set_param` and `HVMOP_get_param`.
    pub struct HvmParam = "struct xen_hvm_param", 16 {
        /// IN: the domain concerned.
        0 => domid: u16,
        /// Padding.
        2 => pad: u16,
        /// IN: one of `HVM_PARAM_`.
        4 => index: u32,
        /// IN/OUT: its value.
        8 => value: u64,
    }
}
