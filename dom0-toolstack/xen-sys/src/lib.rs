//! Hypercalls and device nodes of a Xen Dom0, as safe calls.
