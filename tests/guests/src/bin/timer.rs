//! Boots the tests of the timers.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(timer);
