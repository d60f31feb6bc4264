//! Network interfaces: the kernel's netback makes an interface, a script joins it to the host's network.

use std::path::Path;
use std::time::{Duration, Instant};

use xen_sys::DomId;
use xenstore::client::{Client, Store};

use super::{Device, Kind, bridge};
use crate::config::vif::{Mac, Vif};
use crate::error::{Error, Result};
use crate::hotplug;

/// The script where none is given.
const SCRIPT: &str = "vif-bridge";
/// Where the kernel shows its interfaces.
const INTERFACES: &str = "/sys/class/net";
/// Where the kernel shows its backends; a kernel without makes no interfaces.
const BACKENDS: &str = "/sys/bus/xen-backend";
/// How long netback may take to make an interface once it has taken the device.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often we look for it: the kernel tells nobody who watches that directory.
const POLL: Duration = Duration::from_millis(2);
/// The bridge where none is given.
const BRIDGE: &str = "xenbr0";

/// Checks, before anything is made, that `vif` can be connected.
pub fn check(vif: &Vif, devid: u32) -> Result<()> {
    let bridged = vif.script.as_deref().is_none_or(|script| script.ends_with(SCRIPT));
    let elsewhere = vif.backend.as_deref().is_some_and(|b| b != "0" && b != "Domain-0");
    if !bridged || elsewhere {
        return Ok(());
    }
    let bridge = vif.bridge.as_deref().unwrap_or(BRIDGE);
    // Open vSwitch bridges have no such directory but are interfaces; the script knows both kinds.
    let sys = Path::new(INTERFACES).join(bridge);
    if sys.join("bridge").exists() || sys.exists() {
        return Ok(());
    }
    Err(Error::NoBridge { bridge: bridge.into(), devid })
}

/// Gives `domain` a network interface with the address `mac`.
pub fn add(
    store: &Client,
    domain: DomId,
    vif: &Vif,
    devid: u32,
    mac: Mac,
    backend: DomId,
) -> Result<()> {
    let device = Device { domain, kind: Kind::Vif, devid, backend };
    let script = hotplug::script_path(vif.script.as_deref().unwrap_or(SCRIPT));
    let mut back = vec![("script", script.display().to_string()), ("mac", mac.to_string())];
    let mut optional = |name, value: &Option<String>| {
        if let Some(value) = value {
            back.push((name, value.clone()));
        }
    };
    optional("vifname", &vif.name);
    optional("ip", &vif.ip);
    optional("gatewaydev", &vif.gateway);
    if let Some(rate) = vif.rate {
        back.push(("rate", format!("{},{}", rate.bytes, rate.interval)));
    }
    back.push(("bridge", vif.bridge.clone().unwrap_or_else(|| BRIDGE.into())));
    back.push(("handle", devid.to_string()));
    back.push(("type", "vif".into()));
    if let Some(mtu) = vif.mtu {
        back.push(("mtu", mtu.to_string()));
    }
    back.push(("hotplug-status", String::new()));
    let front = [
        ("handle", devid.to_string()),
        ("mac", mac.to_string()),
        ("trusted", if vif.untrusted { "0" } else { "1" }.into()),
    ];
    device.publish(store, &front, &back)?;
    device.wait_taken(store)?;
    if Path::new(BACKENDS).exists() {
        wait_made(Path::new(INTERFACES), &device);
    }
    if bridge::stands_for(&script) {
        return bridge::online(store, &device, &interface(&device));
    }
    run_script(store, &script, "online", &device)
}

/// Undoes what was set up on the host for a network interface.
pub fn disconnect(store: &Client, device: &Device) -> Result<()> {
    let script = store.read_optional(&format!("{}/script", device.backend_path()))?;
    match script {
        Some(script) if bridge::stands_for(Path::new(&script)) => {
            bridge::offline(store, device, &interface(device))
        }
        Some(script) => run_script(store, Path::new(&script), "offline", device),
        None => Ok(()),
    }
}

fn run_script(store: &Client, script: &Path, action: &str, device: &Device) -> Result<()> {
    hotplug::run(store, script, &[action, "type_if=vif"], device, &[("vif", interface(device))])
}

/// What netback calls its side.
fn interface(device: &Device) -> String {
    format!("vif{}.{}", device.domain, device.devid)
}

/// Waits until the interface is there: netback says that it has taken the device a moment before it makes
/// one, and a busy machine can make that moment long. If it does not come, the script says so.
fn wait_made(interfaces: &Path, device: &Device) {
    let deadline = Instant::now() + TIMEOUT;
    let path = interfaces.join(interface(device));
    while device.backend == DomId(0) && !path.exists() && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_comes_late_is_waited_for() {
        let device = Device { domain: DomId(7), kind: Kind::Vif, devid: 1, backend: DomId(0) };
        let root = tempfile::tempdir().unwrap();
        let late = root.path().join("vif7.1");
        let maker = std::thread::spawn({
            let late = late.clone();
            move || {
                std::thread::sleep(Duration::from_millis(50));
                std::fs::create_dir(late).unwrap();
            }
        });
        wait_made(root.path(), &device);
        let came = late.exists();
        maker.join().unwrap();
        assert!(came);
    }
}
