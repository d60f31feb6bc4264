//! A library for paravirtual guests.
#![no_std]
