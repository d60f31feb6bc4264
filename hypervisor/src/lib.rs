//! The hypervisor, assembled: traps and hypercalls routed to the state in hv-core.
#![no_std]
