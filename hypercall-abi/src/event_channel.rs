//! Event channel operations (`public/event_channel.h`).

/// `EVTCHNOP_bind_interdomain`: see [`EvtchnBindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u32 = 0;
/// `EVTCHNOP_bind_virq`: see [`EvtchnBindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u32 = 1;
/// `EVTCHNOP_bind_pirq`: see [`EvtchnBindPirq`].
pub const EVTCHNOP_BIND_PIRQ: u32 = 2;
/// `EVTCHNOP_close`: see [`EvtchnClose`].
pub const EVTCHNOP_CLOSE: u32 = 3;
/// `EVTCHNOP_send`: see [`EvtchnSend`].
pub const EVTCHNOP_SEND: u32 = 4;
/// `EVTCHNOP_status`: see [`EvtchnStatus`].
pub const EVTCHNOP_STATUS: u32 = 5;
/// `EVTCHNOP_alloc_unbound`: see [`EvtchnAllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u32 = 6;
/// `EVTCHNOP_bind_ipi`: see [`EvtchnBindIpi`].
pub const EVTCHNOP_BIND_IPI: u32 = 7;
/// `EVTCHNOP_bind_vcpu`: see [`EvtchnBindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u32 = 8;
/// `EVTCHNOP_unmask`: see [`EvtchnUnmask`].
pub const EVTCHNOP_UNMASK: u32 = 9;
/// `EVTCHNOP_reset`: see [`EvtchnReset`].
pub const EVTCHNOP_RESET: u32 = 10;
/// `EVTCHNOP_init_control`: see [`EvtchnInitControl`].
pub const EVTCHNOP_INIT_CONTROL: u32 = 11;
/// `EVTCHNOP_expand_array`: see [`EvtchnExpandArray`].
pub const EVTCHNOP_EXPAND_ARRAY: u32 = 12;
/// `EVTCHNOP_set_priority`: see [`EvtchnSetPriority`].
pub const EVTCHNOP_SET_PRIORITY: u32 = 13;
/// Continuation of a reset; never issued by a guest itself.
pub const EVTCHNOP_RESET_CONT: u32 = 14;

/// Status: not in use.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// Status: waiting for a remote domain.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// Status: connected to a remote domain.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// Status: bound to a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// Status: bound to a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// Status: bound to a vCPU for notifications of its own domain.
pub const EVTCHNSTAT_IPI: u32 = 5;

/// Ports of the two-level ABI.
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;
/// Ports of the FIFO ABI.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 1 << EVTCHN_FIFO_LINK_BITS;
/// Highest priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// Priority of a port that was given none.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest priority.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// Queues per vCPU.
pub const EVTCHN_FIFO_MAX_QUEUES: usize = 16;
/// Bit of an event word: pending.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Bit of an event word: masked.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Bit of an event word: on a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Bit of an event word: the link is being changed.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Bits of an event word's link.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// Mask of an event word's link.
pub const EVTCHN_FIFO_LINK_MASK: u32 = (1 << EVTCHN_FIFO_LINK_BITS) - 1;

crate::layout::wire! {
    /// Argument of `EVTCHNOP_alloc_unbound`.
    pub struct EvtchnAllocUnbound = "struct evtchn_alloc_unbound", 8 {
        /// IN: the domain that owns the new port.
        0 => dom: u16,
        /// IN: the domain that may bind to it.
        2 => remote_dom: u16,
        /// OUT: the new port.
        4 => port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_bind_interdomain`.
    pub struct EvtchnBindInterdomain = "struct evtchn_bind_interdomain", 12 {
        /// IN: the domain that waits.
        0 => remote_dom: u16,
        /// Padding.
        2 => pad: u16,
        /// IN: its port.
        4 => remote_port: u32,
        /// OUT: the caller's new port.
        8 => local_port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_bind_virq`.
    pub struct EvtchnBindVirq = "struct evtchn_bind_virq", 12 {
        /// IN: the virtual interrupt.
        0 => virq: u32,
        /// IN: the vCPU to notify.
        4 => vcpu: u32,
        /// OUT: the new port.
        8 => port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_bind_pirq`.
    pub struct EvtchnBindPirq = "struct evtchn_bind_pirq", 12 {
        /// IN: the physical interrupt.
        0 => pirq: u32,
        /// IN: bit 0, will share.
        4 => flags: u32,
        /// OUT: the new port.
        8 => port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_bind_ipi`.
    pub struct EvtchnBindIpi = "struct evtchn_bind_ipi", 8 {
        /// IN: the vCPU to notify.
        0 => vcpu: u32,
        /// OUT: the new port.
        4 => port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_close`.
    pub struct EvtchnClose = "struct evtchn_close", 4 {
        /// The local port to close.
        0 => port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_send`.
    pub struct EvtchnSend = "struct evtchn_send", 4 {
        /// The local port to signal.
        0 => port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_status`.
    pub struct EvtchnStatus = "struct evtchn_status", 24 {
        /// IN: the domain asked about.
        0 => dom: u16,
        /// Padding.
        2 => pad: u16,
        /// IN: its port.
        4 => port: u32,
        /// OUT: one of `EVTCHNSTAT_`.
        8 => status: u32,
        /// OUT: the vCPU that is notified.
        12 => vcpu: u32,
        /// OUT: pirq, virq, or in its low half the remote domain.
        16 => value: u32 as "u.pirq",
        /// OUT: the remote port of a connected channel.
        20 => remote_port: u32 as "u.interdomain.port",
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_bind_vcpu`.
    pub struct EvtchnBindVcpu = "struct evtchn_bind_vcpu", 8 {
        /// The local port.
        0 => port: u32,
        /// The vCPU to notify from now on.
        4 => vcpu: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_unmask`.
    pub struct EvtchnUnmask = "struct evtchn_unmask", 4 {
        /// The local port.
        0 => port: u32,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_reset`.
    pub struct EvtchnReset = "struct evtchn_reset", 2 {
        /// The domain whose ports are all closed.
        0 => dom: u16,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_init_control`.
    pub struct EvtchnInitControl = "struct evtchn_init_control", 24 {
        /// IN: frame with the control block.
        0 => control_gfn: u64,
        /// IN: offset of the control block in that frame.
        8 => offset: u32,
        /// IN: the vCPU the control block belongs to.
        12 => vcpu: u32,
        /// OUT: bits of an event word's link.
        16 => link_bits: u8,
        /// Padding.
        17 => pad: [u8; 7] as "_pad",
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_expand_array`.
    pub struct EvtchnExpandArray = "struct evtchn_expand_array", 8 {
        /// Frame with the next 1024 event words.
        0 => array_gfn: u64,
    }
}

crate::layout::wire! {
    /// Argument of `EVTCHNOP_set_priority`.
    pub struct EvtchnSetPriority = "struct evtchn_set_priority", 8 {
        /// The local port.
        0 => port: u32,
        /// Its priority from now on, 0 being the highest.
        4 => priority: u32,
    }
}

crate::layout::wire! {
    /// What a vCPU and the hypervisor share in the FIFO ABI.
    pub struct EvtchnFifoControlBlock = "struct evtchn_fifo_control_block", 72 {
        /// One bit for each queue that is not empty.
        0 => ready: u32,
        /// Reserved.
        4 => rsvd: u32 as "_rsvd",
        /// First port of each queue.
        8 => head: [u32; EVTCHN_FIFO_MAX_QUEUES],
    }
}
