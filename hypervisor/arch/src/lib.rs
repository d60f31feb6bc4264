//! The machine: registers, tables, vectors and devices, each behind a safe function.
#![no_std]
