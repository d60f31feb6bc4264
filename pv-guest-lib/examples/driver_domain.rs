//! A driver domain: the disks of other guests are kept in this one's memory.
//!
//! In a guest's configuration: `disk = [ "backend=NAME,vdev=xvda,format=raw,target=memory" ]`, and `driver_domain = 1` in this one's. The hypervisor
//! must let guests share (`xsm=dummy`).
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::collections::BTreeMap;
    use pv_guest_lib::block::back::{BlockBack, MemoryDisk};
    use pv_guest_lib::control::Control;
    use pv_guest_lib::xenbus::Device;
    use pv_guest_lib::xenbus::back::BackStatus;
    use pv_guest_lib::xenstore::{self, StoreError, Watch};
    use pv_guest_lib::{say, wait};

    pv_guest_lib::entry!(main);

    const SECTORS: usize = 16 << 10;

    fn main() {
        if let Err(error) = serve() {
            say!("failed: {error}");
        }
    }

    fn serve() -> Result<(), StoreError> {
        let control = Control::new()?;
        let watch = Watch::new("backend/vbd")?;
        let mut disks: BTreeMap<(u16, u32), BlockBack<MemoryDisk>> = BTreeMap::new();
        say!("ready to be a disk");
        loop {
            let seen = xenstore::events();
            let mut look = false;
            while let Some(event) = watch.try_next() {
                event?;
                look = true;
            }
            if look {
                for (domain, number) in Device::backs("vbd")? {
                    if disks.contains_key(&(domain, number)) {
                        continue;
                    }
                    // The directory may be half written; the watch fires again.
                    if let Ok(disk) = BlockBack::new(domain, number, MemoryDisk::new(SECTORS)) {
                        say!("disk {number} of domain {domain}");
                        disks.insert((domain, number), disk);
                    }
                }
            }
            disks.retain(|(domain, number), disk| match disk.serve() {
                Ok(BackStatus::Removed) => {
                    say!("disk {number} of domain {domain} is gone: {:?}", disk.statistics());
                    false
                }
                Ok(_) => true,
                Err(error) => {
                    say!("disk {number} of domain {domain}: {error}");
                    disk.device().read("state").is_ok()
                }
            });
            if let Some(request) = control.try_next()? {
                request.perform();
            }
            wait::until(|| {
                xenstore::events() != seen || disks.values_mut().any(BlockBack::has_work)
            });
        }
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
