//! Bits of the feature word (`public/features.h`).

/// The guest's page tables need not be read-only.
pub const WRITABLE_PAGE_TABLES: u32 = 0;
/// The guest's segment tables need not be read-only.
pub const WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// The guest sees its own frame numbers only.
pub const AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// The kernel runs in the processor's supervisor mode.
pub const SUPERVISOR_MODE_KERNEL: u32 = 3;
/// Events can be delivered by vector.
pub const HVM_CALLBACK_VECTOR: u32 = 8;
/// The caller is the initial domain.
pub const DOM0: u32 = 11;
/// Virtual nodes may be named when populating memory.
pub const MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// `HVC #0` follows the SMC calling convention.
pub const ARM_SMCCC_SUPPORTED: u32 = 14;
/// The guest's frame numbers are not machine frame numbers.
pub const NOT_DIRECT_MAPPED: u32 = 16;
/// The guest's frame numbers are machine frame numbers.
pub const DIRECT_MAPPED: u32 = 17;
/// A runstate area can be given by guest physical address.
pub const RUNSTATE_PHYS_AREA: u32 = 18;
/// A time area can be given by guest physical address.
pub const VCPU_TIME_PHYS_AREA: u32 = 19;
/// Words of features there are.
pub const NR_SUBMAPS: u32 = 1;
