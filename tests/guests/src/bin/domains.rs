//! Boots the tests of creating and destroying domains.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(domains);
