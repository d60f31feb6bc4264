//! Boots the tests of bad calls.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(hostile);
