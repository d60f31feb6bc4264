//! Several hypercalls in one (`public/xen.h`).

crate::layout::wire! {
    /// One call of a batch.
    pub struct MulticallEntry = "struct multicall_entry", 64 {
        /// IN: the hypercall's number.
        0 => op: u64,
        /// OUT: its result, as a signed number.
        8 => result: u64,
        /// IN: its arguments.
        16 => args: [u64; 6],
    }
}
