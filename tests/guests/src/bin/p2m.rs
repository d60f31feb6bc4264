//! Boots the tests of the guest's memory map.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(p2m);
