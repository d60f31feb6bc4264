//! Boots the tests of grant tables.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(grant);
