//! Boots the tests of event channels.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(evtchn);
