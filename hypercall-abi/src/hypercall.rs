//! Hypercall numbers and the calling convention (`public/xen.h`, `public/arch-arm.h`).
//!
//! A guest executes `HVC #0xEA1` with the number in x16 and up to five arguments in x0..x4; the result
//! comes back in x0, a negative error number being a failure.

/// Immediate operand of the `HVC` instruction that makes it a hypercall.
pub const HVC_TAG: u16 = 0xea1;
/// Arguments a hypercall can have: x0 to x4.
pub const ARGUMENTS: usize = 5;
/// The register that holds the hypercall's number.
pub const NUMBER_REGISTER: usize = 16;

/// `__HYPERVISOR_platform_op`.
pub const PLATFORM_OP: u64 = 7;
/// `__HYPERVISOR_memory_op`.
pub const MEMORY_OP: u64 = 12;
/// `__HYPERVISOR_multicall`.
pub const MULTICALL: u64 = 13;
/// `__HYPERVISOR_xen_version`.
pub const XEN_VERSION: u64 = 17;
/// `__HYPERVISOR_console_io`.
pub const CONSOLE_IO: u64 = 18;
/// `__HYPERVISOR_grant_table_op`.
pub const GRANT_TABLE_OP: u64 = 20;
/// `__HYPERVISOR_vm_assist`.
pub const VM_ASSIST: u64 = 21;
/// `__HYPERVISOR_vcpu_op`.
pub const VCPU_OP: u64 = 24;
/// `__HYPERVISOR_xsm_op`.
pub const XSM_OP: u64 = 27;
/// `__HYPERVISOR_sched_op`.
pub const SCHED_OP: u64 = 29;
/// `__HYPERVISOR_event_channel_op`.
pub const EVENT_CHANNEL_OP: u64 = 32;
/// `__HYPERVISOR_physdev_op`.
pub const PHYSDEV_OP: u64 = 33;
/// `__HYPERVISOR_hvm_op`.
pub const HVM_OP: u64 = 34;
/// `__HYPERVISOR_sysctl`.
pub const SYSCTL: u64 = 35;
/// `__HYPERVISOR_domctl`.
pub const DOMCTL: u64 = 36;
/// `__HYPERVISOR_kexec_op`.
pub const KEXEC_OP: u64 = 37;
/// `__HYPERVISOR_argo_op`.
pub const ARGO_OP: u64 = 39;
/// `__HYPERVISOR_dm_op`.
pub const DM_OP: u64 = 41;
/// `__HYPERVISOR_hypfs_op`.
pub const HYPFS_OP: u64 = 42;
/// `__HYPERVISOR_arch_0`: first of the architecture's own numbers.
pub const ARCH_0: u64 = 48;
/// `__HYPERVISOR_arch_7`: last of the architecture's own numbers.
pub const ARCH_7: u64 = 55;
/// `__HYPERVISOR_arch_0`: the project's own, see `extension`.
pub const EXTENSION: u64 = ARCH_0;

/// `vm_assist`: turn an assist on.
pub const VMASST_CMD_ENABLE: u32 = 0;
/// `vm_assist`: turn an assist off.
pub const VMASST_CMD_DISABLE: u32 = 1;
/// Assist: mark a runstate area while it is being written.
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u32 = 5;
