//! Copies `greeting` of a folder of Dom0's to `answer`, says in `listing` what is there, and ends.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod guest {
    use alloc::format;
    use alloc::string::String;
    use pv_guest_lib::p9::Share;
    use pv_guest_lib::p9::client::P9Error;
    use pv_guest_lib::say;
    use pv_guest_lib::xenbus::BusError;

    pv_guest_lib::entry!(main);

    fn main() {
        match copy() {
            Ok(()) => say!("shared folder: done"),
            Err(error) => say!("shared folder: {error:?}"),
        }
    }

    fn copy() -> Result<(), P9Error<BusError>> {
        let mut share = Share::open(0)?;
        share.with(|folder| {
            let greeting = folder.read_all("greeting", 1 << 20)?;
            folder.write_all("answer", &greeting)?;
            let mut listing = String::new();
            for entry in folder.list("")? {
                listing.push_str(&format!("{} {}\n", entry.length, entry.name));
            }
            folder.write_all("listing", listing.as_bytes())
        })?;
        share.close().map_err(P9Error::Transport)
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
