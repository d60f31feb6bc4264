//! Boots the tests of system registers.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(sysreg);
