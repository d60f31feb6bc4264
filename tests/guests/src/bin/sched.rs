//! Boots the tests of the scheduler.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(sched);
