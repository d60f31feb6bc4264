//! Protocols between a front end and a back end (`public/io/`); the hypervisor takes no part in them.

pub mod blkif;
pub mod console;
pub mod netif;
pub mod ring;
pub mod xenbus;
pub mod xs_wire;
