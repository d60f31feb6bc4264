//! What our `vif-bridge` script does, done here: a script is a dozen processes, and each costs as much as all of this.
//!
//! It takes the script's place only while that is ours to the last byte: a host's own script is run.

use std::fs;
use std::path::Path;

use xen_sys::netdev::Interfaces;
use xenstore::client::{Client, Store};

use super::Device;
use crate::error::{Error, Result};
use crate::store;

/// The script whose work this is.
const SCRIPT: &[u8] = include_bytes!("../../../hotplug/vif-bridge");
/// The guest's side has the real address; this one must not take part in choosing the bridge's.
const ADDRESS: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];
const INTERFACES: &str = "/sys/class/net";

/// Whether `script` does what this module does.
pub(super) fn stands_for(script: &Path) -> bool {
    script.file_name().is_some_and(|name| name == "vif-bridge")
        && fs::read(script).is_ok_and(|bytes| bytes == SCRIPT)
}

/// Joins the backend's side of `device`, which the kernel calls `interface`, to its bridge.
pub(super) fn online(store: &Client, device: &Device, interface: &str) -> Result<()> {
    let backend = device.backend_path();
    join(store, &backend, interface).map_err(|why| {
        // As the script leaves it; the first failure is what the user must hear.
        let said = [("hotplug-error", why.clone()), ("hotplug-status", "error".into())];
        let _ = store::entries(store, &backend, &said);
        Error::Hotplug { script: "vif-bridge".into(), device: device.to_string(), why }
    })
}

fn join(store: &Client, backend: &str, interface: &str) -> std::result::Result<(), String> {
    let read = |name: &str| {
        let value = store.read_optional(&format!("{backend}/{name}"));
        value.map(|value| value.filter(|value| !value.is_empty())).map_err(|e| e.to_string())
    };
    let bridge = read("bridge")?.ok_or("Could not find bridge, and none was specified")?;
    let sys = Path::new(INTERFACES);
    if !sys.join(&bridge).join("bridge").exists() {
        return Err(format!("Could not find bridge device {bridge}"));
    }
    let interfaces = Interfaces::open().map_err(|error| error.to_string())?;
    let name = read("vifname")?.unwrap_or_else(|| interface.to_owned());
    let could_not =
        |what: String| move |error: xen_sys::Error| format!("Could not {what}: {error}");
    if name != interface && sys.join(interface).exists() {
        interfaces
            .set_up(interface, false)
            .and_then(|()| interfaces.rename(interface, &name))
            .map_err(could_not(format!("rename {interface} to {name}")))?;
    }
    let mtu = match read("mtu")? {
        Some(mtu) => mtu,
        None => fs::read_to_string(sys.join(&bridge).join("mtu")).unwrap_or_default(),
    };
    let mtu = mtu.trim();
    let number: u32 = mtu.parse().map_err(|_| format!("The MTU {mtu} is not a number"))?;
    interfaces
        .set_up(&name, false)
        .and_then(|()| interfaces.set_address(&name, ADDRESS))
        .map_err(could_not(format!("set the address of {name}")))?;
    interfaces
        .set_mtu(&name, number)
        .map_err(could_not(format!("set the MTU of {name} to {mtu}")))?;
    interfaces.join(&bridge, &name).map_err(could_not(format!("add {name} to bridge {bridge}")))?;
    interfaces.set_up(&name, true).map_err(could_not(format!("bring {name} up")))?;
    let frontend = read("frontend")?;
    let told = store.transaction(|transaction| {
        if let Some(frontend) = &frontend {
            transaction.write(&format!("{frontend}/mtu"), mtu)?;
        }
        Ok::<_, Error>(transaction.write(&format!("{backend}/hotplug-status"), "connected")?)
    });
    told.map_err(|error| error.to_string())
}

/// Takes it out again. The kernel removes the interface by itself, and may have done so already.
pub(super) fn offline(store: &Client, device: &Device, interface: &str) -> Result<()> {
    let backend = device.backend_path();
    let name = store.read_optional(&format!("{backend}/vifname"))?;
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| interface.to_owned());
    if let Some(bridge) = store.read_optional(&format!("{backend}/bridge"))?
        && Path::new(INTERFACES).join(&name).exists()
    {
        let interfaces = Interfaces::open()?;
        // What is gone needs neither.
        let _ = interfaces.leave(&bridge, &name);
        let _ = interfaces.set_up(&name, false);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_script_s_work_is_done_here() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("vif-bridge");
        assert!(!stands_for(&script));
        fs::write(&script, SCRIPT).unwrap();
        assert!(stands_for(&script));
        fs::write(&script, [SCRIPT, b"# ours\n"].concat()).unwrap();
        assert!(!stands_for(&script));
        let other = directory.path().join("vif-route");
        fs::write(&other, SCRIPT).unwrap();
        assert!(!stands_for(&other));
    }
}
