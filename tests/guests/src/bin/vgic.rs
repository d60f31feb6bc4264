//! Boots the tests of the virtual interrupt controller.
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::boot!(vgic);
