//! The smallest guest: says hello, tells how long that took, and ends when `xl shutdown` asks it to.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    use pv_guest_lib::control::Control;
    use pv_guest_lib::{cpu, say, time, tree};

    pv_guest_lib::entry!(main);

    fn main() {
        let tree = tree::get();
        say!("hello from vCPU {} of {}", cpu::number(), tree.cpus);
        let microseconds = time::running().subsec_micros();
        let memory: u64 = tree.memory.iter().map(|range| range.len).sum();
        say!("{} KiB of memory; the first line came after {microseconds} us", memory >> 10);
        match Control::new().and_then(|control| control.wait()) {
            Ok(request) => {
                say!("asked for {request:?}");
                request.perform();
            }
            Err(error) => say!("nobody can ask: {error}"),
        }
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
