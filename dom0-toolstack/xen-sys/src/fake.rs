//! A hypervisor in memory, so that toolstack logic runs on any host.
