//! Boots the tests of what the hypervisor says of itself.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(version);
