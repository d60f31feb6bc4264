//! Reads a file of the ext4 file system on its first disk; `file=` on the command line names it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::boxed::Box;
    use alloc::sync::Arc;
    use ext4_view::Ext4;
    use pv_guest_lib::block::{Bytes, Disk, Options};
    use pv_guest_lib::control::Control;
    use pv_guest_lib::{say, tree};

    pv_guest_lib::entry!(main);

    fn main() {
        match read() {
            Ok(()) => say!("done"),
            Err(error) => say!("failed: {error}"),
        }
        if let Ok(request) = Control::new().and_then(|control| control.wait()) {
            request.perform();
        }
    }

    fn read() -> Result<(), Box<dyn core::error::Error>> {
        let words = tree::get().command_line.split_whitespace();
        let name =
            words.filter_map(|word| word.strip_prefix("file=")).next().unwrap_or("/hello.txt");
        let number = Disk::list()?.first().copied().ok_or("there is no disk")?;
        let disk = Arc::new(Disk::open(number, Options::default())?);
        let volume = Ext4::load(Box::new(Bytes::new(disk, 0)))?;
        say!("{name}: {}", volume.read_to_string(name)?.trim());
        Ok(())
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
