//! Boots the tests of copying, filling and comparing.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(memory);
