//! A guest of one's own.
#![no_std]
#![no_main]

use pv_guest_lib::control::Control;
use pv_guest_lib::say;

pv_guest_lib::entry!(main);

fn main() {
    say!("hello from a guest of my own");
    if let Ok(request) = Control::new().and_then(|control| control.wait()) {
        request.perform();
    }
}
