//! What a configuration means for a domain on Arm: settings → [`DomainConfig`].

use std::path::{Path, PathBuf};

use uuid::Uuid;
use xen_sys::domctl::GicVersion;

use super::cpus::CpuList;
use super::diagnostic::{Diagnostic, Severity};
use super::disk::{Disk, Format};
use super::keys::{self, Support};
use super::p9::P9;
use super::reader::Reader;
use super::vif::Vif;
use super::{Config, Error, Kind};

/// Everything that a domain is made from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainConfig {
    /// Its name, unlike that of any other.
    pub name: String,
    /// Its UUID, or none to have one made.
    pub uuid: Option<Uuid>,
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initial ramdisk.
    pub ramdisk: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Memory it starts with, in KiB.
    pub memory_kib: u64,
    /// Memory it may ever have, in KiB.
    pub max_memory_kib: u64,
    /// vCPUs online at the start.
    pub vcpus: u32,
    /// vCPUs it may ever have.
    pub max_vcpus: u32,
    /// Where its vCPUs may run.
    pub cpus: Pinning,
    /// Share of CPU time, relative to others.
    pub cpu_weight: Option<u16>,
    /// Limit of CPU time, in hundredths of a CPU.
    pub cap: Option<u16>,
    /// CPU pool.
    pub pool: Option<String>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Network interfaces.
    pub vifs: Vec<Vif>,
    /// Shared folders.
    pub folders: Vec<P9>,
    /// What becomes of it when it stops.
    pub on: Actions,
    /// Its interrupt controller, or none for the host's.
    pub gic_version: Option<GicVersion>,
    /// Whether it has an emulated PL011 beside its console.
    pub vuart: bool,
    /// Whether it has a performance monitor.
    pub vpmu: bool,
    /// Grant table frames.
    pub max_grant_frames: Option<u32>,
    /// Grant map tracking frames.
    pub max_maptrack_frames: Option<u32>,
    /// Highest event channel port.
    pub max_event_channels: u32,
}

/// Where vCPUs may run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pinning {
    /// Anywhere.
    Anywhere,
    /// All of them on these CPUs.
    All(CpuList),
    /// The first on the first list, and so on; those without a list anywhere.
    Each(Vec<CpuList>),
}

/// What becomes of a domain when it stops, by the reason why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Actions {
    /// When it powers off.
    pub poweroff: Action,
    /// When it asks for a restart.
    pub reboot: Action,
    /// When it crashes.
    pub crash: Action,
    /// When its watchdog fires.
    pub watchdog: Action,
    /// When it asks for a restart with its memory kept.
    pub soft_reset: Action,
}

/// What to do with a domain that stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Remove it.
    Destroy,
    /// Remove it and make it anew.
    Restart,
    /// Give it another name and make it anew.
    RenameRestart,
    /// Leave it as it is.
    Preserve,
    /// Write its memory to a file and remove it.
    CoredumpDestroy,
    /// Write its memory to a file, remove it and make it anew.
    CoredumpRestart,
    /// Make it anew around the memory it has.
    SoftReset,
}

impl Action {
    const ALL: [Self; 7] = [
        Self::Destroy,
        Self::Restart,
        Self::RenameRestart,
        Self::Preserve,
        Self::CoredumpDestroy,
        Self::CoredumpRestart,
        Self::SoftReset,
    ];

    /// The action's name in xl.cfg(5).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Restart => "restart",
            Self::RenameRestart => "rename-restart",
            Self::Preserve => "preserve",
            Self::CoredumpDestroy => "coredump-destroy",
            Self::CoredumpRestart => "coredump-restart",
            Self::SoftReset => "soft-reset",
        }
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            poweroff: Action::Destroy,
            reboot: Action::Restart,
            crash: Action::Destroy,
            watchdog: Action::Destroy,
            soft_reset: Action::SoftReset,
        }
    }
}

/// Memory where nothing is said, as libxl has it.
const DEFAULT_MEMORY_MIB: u64 = 32;
/// Most vCPUs a domain on Arm can have (`public/arch-arm.h`, one GICv3 region).
const MOST_VCPUS: u64 = 128;
/// The same with a GICv2.
pub(crate) const MOST_VCPUS_V2: u32 = 8;
/// Highest port where nothing is said, as libxl has it.
const DEFAULT_EVENT_CHANNELS: u64 = 1023;
/// Longest name, that of libxl.
const LONGEST_NAME: usize = 255;

impl DomainConfig {
    /// Reads the file at `path` and `overrides`; returns what it means and what should be said about it.
    pub fn load(path: &Path, overrides: &[String]) -> Result<(Self, Vec<Diagnostic>), Error> {
        Self::from_config(&Config::load(path, overrides)?)
    }

    /// What `config` means, and what should be said about it.
    pub fn from_config(config: &Config) -> Result<(Self, Vec<Diagnostic>), Error> {
        let mut reader = Reader::new(config);
        let domain = read(&mut reader);
        let mut errors = reader.problems;
        let warnings = unused_keys(config);
        errors.sort_by_key(Diagnostic::position);
        match domain {
            Some(domain) if errors.is_empty() => Ok((domain, warnings)),
            _ if errors.len() == 1 => match errors.pop() {
                Some(error) => Err(Error::Wrong(error)),
                None => Err(Error::WrongInPlaces(errors)),
            },
            _ => Err(Error::WrongInPlaces(errors)),
        }
    }
}

/// Reads all keys; nothing where one that must be there is not. What is wrong is left in `reader`.
fn read(reader: &mut Reader<'_>) -> Option<DomainConfig> {
    check_type(reader);
    let name = name(reader);
    let kernel = kernel(reader);
    let (memory_kib, max_memory_kib) = memory(reader);
    let (vcpus, max_vcpus) = vcpus(reader);
    let max_grant_version = reader.number("max_grant_version", 0..u64::from(u32::MAX));
    if max_grant_version == Some(0)
        && let Some(setting) = reader.setting("max_grant_version")
    {
        let what = "a guest without grants cannot have PV devices";
        reader.wrong(&setting.value, what, "expected 1, the only version on Arm");
    }
    let small = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    let domain = DomainConfig {
        name: name.unwrap_or_default().into(),
        uuid: uuid(reader),
        kernel: kernel.unwrap_or_default().into(),
        ramdisk: reader.text("ramdisk").map(PathBuf::from),
        cmdline: cmdline(reader),
        memory_kib,
        max_memory_kib,
        vcpus,
        max_vcpus,
        cpus: cpus(reader),
        cpu_weight: narrow(reader.number("cpu_weight", 1..65536)),
        cap: narrow(reader.number("cap", 0..65536).or_else(|| reader.number("cpu_cap", 0..65536))),
        pool: reader.text("pool").map(str::to_owned),
        disks: disks(reader),
        vifs: vifs(reader),
        folders: folders(reader, name.unwrap_or_default()),
        on: actions(reader),
        gic_version: gic_version(reader),
        vuart: vuart(reader),
        vpmu: reader.flag("vpmu").unwrap_or(false),
        max_grant_frames: small(reader.number("max_grant_frames", 1..1 << 20)),
        max_maptrack_frames: small(reader.number("max_maptrack_frames", 0..1 << 20)),
        max_event_channels: small(reader.number("max_event_channels", 1..1 << 17))
            .unwrap_or(u32::try_from(DEFAULT_EVENT_CHANNELS).unwrap_or(u32::MAX)),
    };
    (name.is_some() && kernel.is_some()).then_some(domain)
}

fn narrow(number: Option<u64>) -> Option<u16> {
    number.and_then(|number| u16::try_from(number).ok())
}

fn check_type(reader: &mut Reader<'_>) {
    let Some(kind) = reader.text("type") else { return };
    if !matches!(kind, "pvh" | "pv")
        && let Some(setting) = reader.setting("type")
    {
        let what = format!("a domain of type `{kind}` cannot be made on Arm");
        reader.wrong(&setting.value, what, "expected \"pvh\", which is also the default");
    }
}

fn name<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    let Some(name) = reader.text("name") else {
        if reader.setting("name").is_none() {
            reader.problems.push(Diagnostic::missing(
                "the domain has no name",
                "add a line as in: name = \"demo\"",
            ));
        } else if let Some(setting) = reader.setting("name")
            && !matches!(setting.value.kind, Kind::List(_))
        {
            reader.wrong(&setting.value, "the name is empty", "expected a name");
        }
        return None;
    };
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit());
    let bad = name.len() > LONGEST_NAME || name.contains(['/', '\0', '\n']);
    if (numeric || bad)
        && let Some(setting) = reader.setting("name")
    {
        let what = format!("`{name}` cannot be a domain's name");
        let expected = if numeric {
            "expected something that is not a number: numbers are domain ids"
        } else {
            "expected at most 255 characters, no `/` among them"
        };
        reader.wrong(&setting.value, what, expected);
    }
    Some(name)
}

fn kernel<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    if let Some(kernel) = reader.text("kernel") {
        return Some(kernel);
    }
    let help = if reader.setting("bootloader").is_some() {
        "a bootloader is not supported yet: copy the kernel to Dom0 and give its path as kernel = \"…\""
    } else {
        "add a line as in: kernel = \"/boot/vmlinuz\""
    };
    reader.problems.push(Diagnostic::missing("the domain has no kernel", help));
    None
}

fn cmdline(reader: &mut Reader<'_>) -> Option<String> {
    if let Some(cmdline) = reader.text("cmdline") {
        return Some(cmdline.into());
    }
    match (reader.text("root"), reader.text("extra")) {
        (None, None) => None,
        (None, Some(extra)) => Some(extra.into()),
        (Some(root), None) => Some(format!("root={root}")),
        (Some(root), Some(extra)) => Some(format!("root={root} {extra}")),
    }
}

/// Memory and maximum memory, in KiB.
fn memory(reader: &mut Reader<'_>) -> (u64, u64) {
    /// 1016 GiB above and 3 GiB below 4 GiB (`public/arch-arm.h`, GUEST_RAM).
    const MOST_MIB: u64 = (1016 + 3) * 1024;
    let memory = reader.number("memory", 1..MOST_MIB + 1);
    let maximum = reader.number("maxmem", 1..MOST_MIB + 1);
    let memory = memory.or(maximum).unwrap_or(DEFAULT_MEMORY_MIB);
    if let (Some(maximum), Some(setting)) = (maximum, reader.setting("maxmem"))
        && maximum < memory
    {
        reader.wrong(&setting.value, "maxmem is less than memory", "expected memory or more");
    }
    (memory * 1024, maximum.unwrap_or(memory) * 1024)
}

/// vCPUs at the start and at most.
fn vcpus(reader: &mut Reader<'_>) -> (u32, u32) {
    // A GICv2's registers name no more.
    let with_v2 = reader.text("gic_version") == Some("v2");
    let most = if with_v2 { u64::from(MOST_VCPUS_V2) } else { MOST_VCPUS };
    let vcpus = reader.number("vcpus", 1..most + 1);
    let maximum = reader.number("maxvcpus", 1..most + 1);
    let count = vcpus.or(maximum).unwrap_or(1);
    if let (Some(maximum), Some(setting)) = (maximum, reader.setting("maxvcpus"))
        && maximum < count
    {
        reader.wrong(&setting.value, "maxvcpus is less than vcpus", "expected vcpus or more");
    }
    let small = |number: u64| u32::try_from(number).unwrap_or(1);
    (small(count), small(maximum.unwrap_or(count).max(count)))
}

fn uuid(reader: &mut Reader<'_>) -> Option<Uuid> {
    let text = reader.text("uuid")?;
    let uuid = Uuid::parse_str(text).ok();
    if uuid.is_none()
        && let Some(setting) = reader.setting("uuid")
    {
        let expected = "expected as in 1c9e1bdc-3a5b-4f0c-9a39-3f0d6d8a7a11";
        reader.wrong(&setting.value, format!("`{text}` is not a UUID"), expected);
    }
    uuid
}

fn cpus(reader: &mut Reader<'_>) -> Pinning {
    let Some(setting) = reader.setting("cpus") else { return Pinning::Anywhere };
    match &setting.value.kind {
        Kind::List(_) => {
            let mut lists = Vec::new();
            for (text, value) in reader.list("cpus") {
                match CpuList::parse(text) {
                    Ok(list) => lists.push(list),
                    Err(bad) => {
                        let place = value.part(bad.start, bad.start + bad.text.len());
                        reader.problems.push(
                            place.error(format!("`{}` is not a CPU list", bad.text), bad.problem),
                        );
                    }
                }
            }
            Pinning::Each(lists)
        }
        Kind::Text(text) | Kind::Number(text) => match CpuList::parse(text) {
            Ok(list) => Pinning::All(list),
            Err(bad) => {
                let place = setting.value.part(bad.start, bad.start + bad.text.len());
                let what = format!("`{}` is not a CPU list", bad.text);
                reader.problems.push(place.error(what, bad.problem));
                Pinning::Anywhere
            }
        },
    }
}

fn disks(reader: &mut Reader<'_>) -> Vec<Disk> {
    let mut disks: Vec<Disk> = Vec::new();
    for (text, value) in reader.list("disk") {
        match Disk::parse(text) {
            Err(bad) => reader.problems.push(bad.at(value)),
            Ok(disk) => {
                if let Format::NeedsDeviceModel(format) = disk.format {
                    let what = format!("images of format {format} are not supported");
                    reader.wrong(value, what, "expected a raw image or a block device");
                } else if disks.iter().any(|other| other.devid == disk.devid) {
                    let what = format!("there are two disks named {}", disk.vdev);
                    reader.wrong(value, what, "expected a name of its own");
                }
                disks.push(disk);
            }
        }
    }
    disks
}

fn vifs(reader: &mut Reader<'_>) -> Vec<Vif> {
    let mut vifs = Vec::new();
    for (text, value) in reader.list("vif") {
        match Vif::parse(text) {
            Err(bad) => reader.problems.push(bad.at(value)),
            Ok(vif) => vifs.push(vif),
        }
    }
    vifs
}

fn folders(reader: &mut Reader<'_>, name: &str) -> Vec<P9> {
    let mut folders = Vec::new();
    for (text, value) in reader.list("p9") {
        match P9::parse(text, name) {
            Err(bad) => reader.problems.push(bad.at(value)),
            Ok(folder) => folders.push(folder),
        }
    }
    folders
}

fn actions(reader: &mut Reader<'_>) -> Actions {
    let usual = Actions::default();
    let mut action = |key, usual| {
        let Some(text) = reader.text(key) else { return usual };
        // libxl's own files write the names with underscores.
        let found = Action::ALL.into_iter().find(|action| action.name() == text.replace('_', "-"));
        if let (None, Some(setting)) = (found, reader.setting(key)) {
            let names = Action::ALL.map(Action::name).join(", ");
            let what = format!("`{text}` is not an action");
            reader.wrong(&setting.value, what, &format!("expected one of {names}"));
        }
        found.unwrap_or(usual)
    };
    Actions {
        poweroff: action("on_poweroff", usual.poweroff),
        reboot: action("on_reboot", usual.reboot),
        crash: action("on_crash", usual.crash),
        watchdog: action("on_watchdog", usual.watchdog),
        soft_reset: action("on_soft_reset", usual.soft_reset),
    }
}

fn gic_version(reader: &mut Reader<'_>) -> Option<GicVersion> {
    match reader.text("gic_version")? {
        "default" => None,
        "v2" => Some(GicVersion::V2),
        "v3" => Some(GicVersion::V3),
        other => {
            let what = format!("`{other}` is not an interrupt controller");
            if let Some(setting) = reader.setting("gic_version") {
                reader.wrong(&setting.value, what, "expected \"v2\", \"v3\" or \"default\"");
            }
            None
        }
    }
}

fn vuart(reader: &mut Reader<'_>) -> bool {
    match reader.text("vuart") {
        None => false,
        Some("sbsa_uart") => true,
        Some(other) => {
            if let Some(setting) = reader.setting("vuart") {
                let what = format!("`{other}` is not a virtual UART");
                reader.wrong(&setting.value, what, "expected \"sbsa_uart\"");
            }
            false
        }
    }
}

/// What to say about keys that do nothing here.
fn unused_keys(config: &Config) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for setting in config.settings() {
        let key = &setting.key;
        let asks_for_nothing = match &setting.value.kind {
            Kind::List(list) => list.is_empty(),
            Kind::Text(text) | Kind::Number(text) => matches!(text.as_str(), "" | "0" | "none"),
        };
        if asks_for_nothing && keys::support(key).is_some() {
            continue;
        }
        let (what, remark, help) = match keys::support(key) {
            Some(Support::Acted | Support::Meaningless) => continue,
            Some(Support::NotYet) => {
                (format!("`{key}` is not acted on yet"), "this setting has no effect", None)
            }
            None => (
                format!("unknown key `{key}`"),
                "this setting has no effect",
                keys::nearest(key).map(|nearest| format!("is `{nearest}` meant?")),
            ),
        };
        let mut warning = setting.place.warning(what, remark);
        warning.severity = Severity::Warning;
        warnings.push(match help {
            Some(help) => warning.with_help(help),
            None => warning,
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(DomainConfig, Vec<Diagnostic>), Error> {
        DomainConfig::from_config(&Config::parse("demo.cfg", text, &[]).unwrap())
    }

    fn good(text: &str) -> DomainConfig {
        read(&format!("name='d'\nkernel='/k'\n{text}")).unwrap().0
    }

    fn problems(text: &str) -> Vec<String> {
        match read(text).unwrap_err() {
            Error::Wrong(diagnostic) => vec![diagnostic.to_string()],
            Error::WrongInPlaces(diagnostics) => {
                diagnostics.iter().map(ToString::to_string).collect()
            }
            Error::Unreadable { .. } => panic!(),
        }
    }

    #[test]
    fn the_shortest_configuration_has_xl_s_defaults() {
        let domain = good("");
        assert_eq!((domain.memory_kib, domain.max_memory_kib), (32 * 1024, 32 * 1024));
        assert_eq!((domain.vcpus, domain.max_vcpus), (1, 1));
        assert_eq!(domain.on, Actions::default());
        assert_eq!(domain.cpus, Pinning::Anywhere);
        assert_eq!(domain.max_event_channels, 1023);
        assert_eq!((domain.uuid, domain.cmdline), (None, None));
    }

    #[test]
    fn a_debian_style_configuration_is_read_whole() {
        let (domain, warnings) = read(
            r#"
# Kernel image file.
kernel      = "/boot/vmlinuz-6.12"
ramdisk     = "/boot/initrd.img-6.12"
root        = '/dev/xvda2 ro'
extra       = "console=hvc0"
memory      = '512'
maxmem      = 1024
vcpus       = '2'
maxvcpus    = 4
cpus        = "0-1,^0"
cpu_weight  = 512
cap         = 150
name        = 'web.example'
uuid        = "1c9e1bdc-3a5b-4f0c-9a39-3f0d6d8a7a11"
disk        = [
                  'phy:/dev/vg/web-disk,xvda2,w',
                  'file:/srv/xen/web-swap.img,xvda1,w',
              ]
vif         = [ 'ip=10.0.0.3 ,mac=00:16:3E:AB:CD:EF,bridge=xenbr0' ]
on_poweroff = 'destroy'
on_reboot   = 'rename-restart'
on_crash    = 'coredump-destroy'
gic_version = "v3"
"#,
        )
        .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(domain.cmdline.as_deref(), Some("root=/dev/xvda2 ro console=hvc0"));
        assert_eq!((domain.memory_kib, domain.max_memory_kib), (524_288, 1_048_576));
        assert_eq!((domain.vcpus, domain.max_vcpus), (2, 4));
        assert_eq!((domain.cpu_weight, domain.cap), (Some(512), Some(150)));
        assert_eq!(domain.disks.len(), 2);
        assert_eq!(domain.disks[1].target, "/srv/xen/web-swap.img");
        assert_eq!(domain.vifs[0].ip.as_deref(), Some("10.0.0.3"));
        assert_eq!(domain.on.reboot, Action::RenameRestart);
        assert_eq!(domain.on.crash, Action::CoredumpDestroy);
        assert_eq!(domain.gic_version, Some(GicVersion::V3));
    }

    #[test]
    fn a_ganeti_style_configuration_is_read_whole() {
        let (domain, warnings) = read(
            "# this is autogenerated by Ganeti, please do not edit\n#\n\
             kernel = '/boot/vmlinuz-3-xenU'\nramdisk = '/boot/initrd-3-xenU'\nmaxmem = 256\n\
             memory = 128\nvcpus = 2\ncpus = [ \"1\", \"0-3,^2\" ]\ncpu_cap=20\ncpu_weight=256\n\
             name = 'instance1'\nvif = ['mac=aa:00:00:00:00:01, bridge=xen-br0, script=/etc/xen/vif']\n\
             disk = ['phy:/dev/xenvg/a,sda,w']\nroot = '/dev/sda1'\non_poweroff = 'destroy'\n\
             on_reboot = 'restart'\non_crash = 'restart'\nextra = 'ro'\n",
        )
        .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert!(matches!(&domain.cpus, Pinning::Each(lists) if lists.len() == 2));
        assert_eq!((domain.cap, domain.disks[0].devid), (Some(20), 0x800));
    }

    #[test]
    fn every_problem_is_reported_in_one_run_and_in_order() {
        let found = problems(
            "memory = 'lots'\nvcpus = 0\nuuid='x'\non_crash='explode'\ntype='hvm'\n\
             disk=['/a,,nope,w','/a,qcow2,xvda','/b,,xvda']\nvif=['colour=red']\ncpus='a'\n\
             gic_version='v9'\nvuart='x'\nname='12'\nkernel='k'\n",
        );
        assert_eq!(found.len(), 13, "{found:#?}");
        for (position, words) in [
            ("demo.cfg:1:10", "must be a number"),
            ("demo.cfg:2:9", "from 1 to 128"),
            ("demo.cfg:3:6", "not a UUID"),
            ("demo.cfg:4:10", "rename-restart"),
            ("demo.cfg:5:6", "expected \"pvh\""),
            ("demo.cfg:6:12", "not a virtual disk's name"),
            ("demo.cfg:6:20", "qcow2"),
            ("demo.cfg:6:36", "two disks named xvda"),
            ("demo.cfg:7:7", "colour"),
            ("demo.cfg:8:7", "not a CPU list"),
            ("demo.cfg:9:13", "v9"),
            ("demo.cfg:10:7", "sbsa_uart"),
            ("demo.cfg:11:6", "numbers are domain ids"),
        ] {
            assert!(
                found.iter().any(|shown| shown.contains(position) && shown.contains(words)),
                "{position} {words}: {found:#?}"
            );
        }
    }

    #[test]
    fn a_gicv2_serves_eight_vcpus() {
        let text = "name='a'\nkernel='k'\ngic_version='v2'\n";
        let found = problems(&format!("{text}vcpus=9"));
        assert!(found.iter().any(|shown| shown.contains("from 1 to 8")), "{found:?}");
    }

    #[test]
    fn what_is_missing_is_said_with_a_line_to_add() {
        let found = problems("memory=64");
        assert!(found.iter().any(|shown| shown.contains("name = \"demo\"")), "{found:?}");
        assert!(found.iter().any(|shown| shown.contains("kernel = ")), "{found:?}");
        assert!(
            problems("name='a'\nbootloader='pygrub'")[0].contains("bootloader is not supported")
        );
    }

    #[test]
    fn maxima_below_their_starting_values_are_refused() {
        let found = problems("name='a'\nkernel='k'\nmemory=64\nmaxmem=32\nvcpus=4\nmaxvcpus=2");
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn keys_without_effect_are_named_and_x86_keys_are_not() {
        let (_, warnings) = read(
            "name='a'\nkernel='k'\nvtpm=['x']\nvfb=[]\nmemmory=5\nhap=1\nacpi=0\nfrobnicate=1",
        )
        .unwrap();
        let shown: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(
            shown[0].contains("demo.cfg:3:1") && shown[0].contains("`vtpm` is not acted on yet")
        );
        assert!(shown[1].contains("is `memory` meant?"));
        assert!(shown[2].contains("unknown key `frobnicate`"));
    }
}
