//! Boots the tests of power calls.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(psci);
