//! Network interfaces: the kernel's netback makes an interface, a script joins it to the host's network.

use std::path::Path;

use xen_sys::DomId;
use xenstore::client::{Client, Store};

use super::{Device, Kind};
use crate::config::vif::{Mac, Vif};
use crate::error::{Error, Result};
use crate::hotplug;

/// The script where none is given.
const SCRIPT: &str = "vif-bridge";
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
    let sys = Path::new("/sys/class/net").join(bridge);
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
    run_script(store, &script, "online", &device)
}

/// Undoes what was set up on the host for a network interface.
pub fn disconnect(store: &Client, device: &Device) -> Result<()> {
    let script = store.read_optional(&format!("{}/script", device.backend_path()))?;
    match script {
        Some(script) => run_script(store, Path::new(&script), "offline", device),
        None => Ok(()),
    }
}

fn run_script(store: &Client, script: &Path, action: &str, device: &Device) -> Result<()> {
    let name = format!("vif{}.{}", device.domain, device.devid);
    hotplug::run(store, script, &[action, "type_if=vif"], device, &[("vif", name)])
}
