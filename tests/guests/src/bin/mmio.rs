//! Boots the tests of trapped accesses.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(mmio);
