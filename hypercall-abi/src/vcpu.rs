//! vCPU operations (`public/vcpu.h`).

/// `VCPUOP_initialise`.
pub const VCPUOP_INITIALISE: u32 = 0;
/// `VCPUOP_up`.
pub const VCPUOP_UP: u32 = 1;
/// `VCPUOP_down`.
pub const VCPUOP_DOWN: u32 = 2;
/// `VCPUOP_is_up`.
pub const VCPUOP_IS_UP: u32 = 3;
/// `VCPUOP_get_runstate_info`: see [`VcpuRunstateInfo`].
pub const VCPUOP_GET_RUNSTATE_INFO: u32 = 4;
/// `VCPUOP_register_runstate_memory_area`: see [`VcpuRegisterRunstateMemoryArea`].
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5;
/// `VCPUOP_register_vcpu_info`: see [`VcpuRegisterVcpuInfo`].
pub const VCPUOP_REGISTER_VCPU_INFO: u32 = 10;
/// `VCPUOP_send_nmi`.
pub const VCPUOP_SEND_NMI: u32 = 11;
/// `VCPUOP_register_vcpu_time_memory_area`.
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13;
/// `VCPUOP_register_runstate_phys_area`.
pub const VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: u32 = 14;
/// `VCPUOP_register_vcpu_time_phys_area`.
pub const VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: u32 = 15;

/// State: running.
pub const RUNSTATE_RUNNING: u32 = 0;
/// State: could run.
pub const RUNSTATE_RUNNABLE: u32 = 1;
/// State: waiting for an event.
pub const RUNSTATE_BLOCKED: u32 = 2;
/// State: neither.
pub const RUNSTATE_OFFLINE: u32 = 3;
/// Bit of the entry time: the area is being written.
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;

crate::layout::wire! {
    /// How long a vCPU has spent in which state.
    pub struct VcpuRunstateInfo = "struct vcpu_runstate_info", 48 {
        /// One of `RUNSTATE_`.
        0 => state: u32,
        /// Padding.
        4 => pad: u32,
        /// System time the state was entered, in nanoseconds.
        8 => state_entry_time: u64,
        /// Nanoseconds spent in each state.
        16 => time: [u64; 4],
    }
}

crate::layout::wire! {
    /// Argument of `VCPUOP_register_runstate_memory_area`.
    pub struct VcpuRegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area", 8 {
        /// Virtual address of a [`VcpuRunstateInfo`].
        0 => addr: u64 as "addr.p",
    }
}

crate::layout::wire! {
    /// Argument of `VCPUOP_register_vcpu_info`.
    pub struct VcpuRegisterVcpuInfo = "struct vcpu_register_vcpu_info", 16 {
        /// The guest frame that holds the area.
        0 => mfn: u64,
        /// Its offset in that frame.
        8 => offset: u32,
        /// Unused.
        12 => rsvd: u32,
    }
}
