//! A domain's configuration as libxl's tools print and read it.

use serde_json::{Map, Value, json};
use uuid::Uuid;
use xen_sys::domctl::SchedParams;

use crate::config::disk::Disk;
use crate::config::domain::{Action, DomainConfig, Pinning};
use crate::config::p9::P9;
use crate::config::vif::Vif;

/// The configuration of a domain, with what is not at its default value.
pub fn config(config: &DomainConfig, uuid: Uuid) -> Value {
    let mut object = Map::new();
    object.insert("c_info".into(), created(config, uuid));
    object.insert("b_info".into(), built(config));
    if !config.disks.is_empty() {
        object.insert("disks".into(), config.disks.iter().map(disk).collect());
    }
    if !config.vifs.is_empty() {
        let nics = (0..).zip(&config.vifs).map(|(index, vif)| nic(index, vif));
        object.insert("nics".into(), nics.collect());
    }
    if !config.folders.is_empty() {
        object.insert("p9s".into(), config.folders.iter().map(folder).collect());
    }
    let on = config.on;
    for (name, action) in [
        ("on_poweroff", on.poweroff),
        ("on_reboot", on.reboot),
        ("on_watchdog", on.watchdog),
        ("on_crash", on.crash),
        ("on_soft_reset", on.soft_reset),
    ] {
        if action != Action::Destroy {
            object.insert(name.into(), action.name().replace('-', "_").into());
        }
    }
    Value::Object(object)
}

fn created(config: &DomainConfig, uuid: Uuid) -> Value {
    let mut object = json!({ "type": "pvh", "name": config.name, "uuid": uuid.to_string() });
    if let (Some(pool), Some(object)) = (&config.pool, object.as_object_mut()) {
        object.insert("pool_name".into(), pool.as_str().into());
    }
    if let Some(object) = object.as_object_mut() {
        object.insert("run_hotplug_scripts".into(), "True".into());
    }
    object
}

fn built(config: &DomainConfig) -> Value {
    let mut object = Map::new();
    object.insert("max_vcpus".into(), config.max_vcpus.into());
    object.insert("avail_vcpus".into(), (0..config.vcpus).collect());
    match &config.cpus {
        Pinning::Anywhere => {}
        pinning => {
            object.insert("vcpu_hard_affinity".into(), affinity(pinning, config.max_vcpus));
        }
    }
    object.insert("max_memkb".into(), config.max_memory_kib.into());
    object.insert("target_memkb".into(), config.memory_kib.into());
    let mut sched = Map::new();
    if let Some(weight) = config.cpu_weight {
        sched.insert("weight".into(), weight.into());
    }
    if let Some(cap) = config.cap {
        sched.insert("cap".into(), cap.into());
    }
    object.insert("sched_params".into(), sched.into());
    object.insert("claim_mode".into(), "True".into());
    object.insert("kernel".into(), config.kernel.display().to_string().into());
    if let Some(cmdline) = &config.cmdline {
        object.insert("cmdline".into(), cmdline.as_str().into());
    }
    if let Some(ramdisk) = &config.ramdisk {
        object.insert("ramdisk".into(), ramdisk.display().to_string().into());
    }
    for name in ["type.pvh", "arch_arm", "arch_x86"] {
        object.insert(name.into(), json!({}));
    }
    object.into()
}

/// The CPUs of each vCPU, for lists that need no host to be understood.
fn affinity(pinning: &Pinning, vcpus: u32) -> Value {
    /// As many CPUs as a list can name.
    const ALL: [u32; 4096] = [0; 4096];
    let resolve = |list: &crate::config::CpuList| -> Value {
        if list.is_all() { json!([]) } else { list.resolve(&ALL).into_iter().collect() }
    };
    match pinning {
        Pinning::Anywhere => json!([]),
        Pinning::All(list) => (0..vcpus).map(|_| resolve(list)).collect(),
        Pinning::Each(lists) => lists.iter().map(resolve).collect(),
    }
}

fn disk(disk: &Disk) -> Value {
    let mut object = json!({ "pdev_path": disk.target, "vdev": disk.vdev, "format": "raw" });
    if let Some(object) = object.as_object_mut() {
        if let Some(script) = &disk.script {
            object.insert("script".into(), script.as_str().into());
        }
        if disk.cdrom {
            object.insert("removable".into(), 1.into());
            object.insert("is_cdrom".into(), 1.into());
        }
        if !disk.readonly {
            object.insert("readwrite".into(), 1.into());
        }
    }
    object
}

fn nic(index: u32, vif: &Vif) -> Value {
    let mut object = Map::new();
    object.insert("devid".into(), vif.devid.unwrap_or(index).into());
    let texts = [
        ("mac", vif.mac.map(|mac| mac.to_string())),
        ("ip", vif.ip.clone()),
        ("bridge", vif.bridge.clone()),
        ("ifname", vif.name.clone()),
        ("script", vif.script.clone()),
        ("gatewaydev", vif.gateway.clone()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            object.insert(name.into(), text.into());
        }
    }
    object.into()
}

fn folder(folder: &P9) -> Value {
    let mut object = Map::new();
    if let Some(backend) = &folder.backend {
        object.insert("backend_domname".into(), backend.as_str().into());
    }
    object.insert("tag".into(), folder.tag.as_str().into());
    object.insert("path".into(), folder.path.as_str().into());
    object.insert("security_model".into(), "none".into());
    object.insert("type".into(), "xen_9pfsd".into());
    let numbers = [
        ("max_space", folder.max_space),
        ("max_files", folder.max_files),
        ("max_open_files", folder.max_open_files),
    ];
    for (name, number) in numbers {
        if number != 0 {
            object.insert(name.into(), number.into());
        }
    }
    if folder.auto_delete {
        object.insert("auto_delete".into(), true.into());
    }
    object.into()
}

/// What `xl list -l` says of Dom0, which has no configuration.
pub fn dom0(name: &str, memory_kib: u64, sched: Option<SchedParams>) -> Value {
    let mut params = Map::new();
    if let Some(sched) = sched {
        params.insert("sched".into(), "credit2".into());
        params.insert("weight".into(), sched.weight.into());
        params.insert("cap".into(), sched.cap.into());
    }
    json!({
        "c_info": { "type": "pvh", "name": name },
        "b_info": {
            "max_memkb": memory_kib,
            "target_memkb": memory_kib.saturating_sub(1),
            "sched_params": params,
            "type.pvh": {},
            "arch_arm": {},
            "arch_x86": {},
        },
    })
}

/// `value` in the layout of libxl's tools: four spaces, and empty objects on lines of their own.
pub fn pretty(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text.push('\n');
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    let (open, close, items): (_, _, Vec<(Option<&String>, &Value)>) = match value {
        Value::Object(object) => ('{', '}', object.iter().map(|(k, v)| (Some(k), v)).collect()),
        Value::Array(array) => ('[', ']', array.iter().map(|value| (None, value)).collect()),
        other => {
            text.push_str(&other.to_string());
            return;
        }
    };
    let line = |depth: usize, text: &mut String| {
        text.push('\n');
        text.extend(std::iter::repeat_n("    ", depth));
    };
    text.push(open);
    if items.is_empty() {
        text.push('\n');
    }
    for (index, (key, item)) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        line(depth + 1, text);
        if let Some(key) = key {
            text.push_str(&Value::from(key.as_str()).to_string());
            text.push_str(": ");
        }
        write(item, depth + 1, text);
    }
    line(depth, text);
    text.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_configuration_is_printed_as_libxl_prints_it() {
        // The output of Debian's `xl create -n` for this text.
        let text = "name='g1'\nkernel='/g/vmlinuz'\nramdisk='/g/r'\nmemory=128\nvcpus=2\ncpus='1'\n\
                    extra='console=hvc0 quiet'\ndisk=['phy:/dev/vda,xvda,w','file:/g/f.img,xvdb,r']\n\
                    vif=['bridge=xenbr0,mac=00:16:3e:01:02:03']\non_crash='preserve'";
        let (parsed, _) =
            DomainConfig::from_config(&Config::parse("c", text, &[]).unwrap()).unwrap();
        let uuid = Uuid::parse_str("d1912035-3ba8-4f0e-9afc-315a858cb0ef").unwrap();
        let expected = r#"{
    "c_info": {
        "type": "pvh",
        "name": "g1",
        "uuid": "d1912035-3ba8-4f0e-9afc-315a858cb0ef",
        "run_hotplug_scripts": "True"
    },
    "b_info": {
        "max_vcpus": 2,
        "avail_vcpus": [
            0,
            1
        ],
        "vcpu_hard_affinity": [
            [
                1
            ],
            [
                1
            ]
        ],
        "max_memkb": 131072,
        "target_memkb": 131072,
        "sched_params": {

        },
        "claim_mode": "True",
        "kernel": "/g/vmlinuz",
        "cmdline": "console=hvc0 quiet",
        "ramdisk": "/g/r",
        "type.pvh": {

        },
        "arch_arm": {

        },
        "arch_x86": {

        }
    },
    "disks": [
        {
            "pdev_path": "/dev/vda",
            "vdev": "xvda",
            "format": "raw",
            "readwrite": 1
        },
        {
            "pdev_path": "/g/f.img",
            "vdev": "xvdb",
            "format": "raw"
        }
    ],
    "nics": [
        {
            "devid": 0,
            "mac": "00:16:3e:01:02:03",
            "bridge": "xenbr0"
        }
    ],
    "on_reboot": "restart",
    "on_crash": "preserve",
    "on_soft_reset": "soft_reset"
}
"#;
        assert_eq!(pretty(&config(&parsed, uuid)), expected);
    }
}
