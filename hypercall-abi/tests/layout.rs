//! Compares every structure and number of this crate with Xen's public C headers.
//!
//! A cross compiler checks assertions that are made from the structures' layouts and from the text of
//! this crate's modules. Headers are looked for where `XEN_HEADERS` says, in
//! `target/cache/libxen-dev/usr/include`, and in `/usr/include`; they must be those of Xen 4.20.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use hypercall_abi::io::{blkif, console, netif, ring, xs_wire};
use hypercall_abi::layout::{Layout, Wire};
use hypercall_abi::{
    arch_arm, domctl, event_channel, grant_table, hvm, hypfs, memory, multicall, physdev, platform,
    sched, shared_info, sysctl, vcpu, version,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const COMPILER: &str = "aarch64-linux-gnu-gcc";

const HEADERS: [&str; 19] = [
    "xen.h",
    "domctl.h",
    "event_channel.h",
    "features.h",
    "grant_table.h",
    "hvm/hvm_op.h",
    "hvm/params.h",
    "hypfs.h",
    "memory.h",
    "physdev.h",
    "platform.h",
    "sched.h",
    "sysctl.h",
    "vcpu.h",
    "version.h",
    "io/blkif.h",
    "io/console.h",
    "io/netif.h",
    "io/xs_wire.h",
];

macro_rules! layouts {
    ($($module:ident: $($name:ident)+;)+) => { &[$($(<$module::$name as Wire>::LAYOUT,)+)+] };
}

const LAYOUTS: &[Layout] = layouts! {
    arch_arm: ArchDomainconfig VcpuGuestContext VcpuGuestCoreRegs;
    blkif: BlkifRequest BlkifRequestDiscard BlkifRequestIndirect BlkifRequestSegment BlkifResponse;
    console: XenconsInterface;
    domctl: AddressSize BindPtIrq CacheFlush CreateDomain Domctl GetDomainInfo GetPageFrameInfo3
        GetVcpuInfo HvmContext IomemPermission IrqPermission MaxMem MaxVcpus MemoryMapping
        NodeAffinity PagingMempool SchedCredit SchedulerOp SetDomainHandle SetLlcColors SetTarget
        SetTimeOffset SetVirqHandler ShadowOp ShadowOpStats VcpuAffinity VcpuContext VuartOp
        XenctlBitmap;
    event_channel: EvtchnAllocUnbound EvtchnBindInterdomain EvtchnBindIpi EvtchnBindPirq
        EvtchnBindVcpu EvtchnBindVirq EvtchnClose EvtchnExpandArray EvtchnFifoControlBlock
        EvtchnInitControl EvtchnReset EvtchnSend EvtchnSetPriority EvtchnStatus EvtchnUnmask;
    grant_table: GnttabCacheFlush GnttabCopy GnttabCopyPtr GnttabGetVersion GnttabMapGrantRef
        GnttabQuerySize GnttabSetVersion GnttabSetupTable GnttabSwapGrantRef GnttabTransfer
        GnttabUnmapAndReplace GnttabUnmapGrantRef GrantEntryV1;
    hvm: HvmParam;
    hypfs: Direntry;
    memory: AcquireResource AddToPhysmap AddToPhysmapBatch MemoryDomain MemoryReservation PodTarget
        RemoveFromPhysmap VnumaTopologyInfo;
    multicall: MulticallEntry;
    netif: NetifExtraInfo NetifRxRequest NetifRxResponse NetifTxRequest NetifTxResponse;
    physdev: PciDevice PciDeviceAdd;
    platform: PlatformOp SetTime64;
    ring: RingHeader;
    sched: SchedPinOverride SchedPoll SchedRemoteShutdown SchedShutdown SchedWatchdog;
    shared_info: SharedInfo VcpuInfo VcpuTimeInfo;
    sysctl: AvailHeap CpuHotplug CpuInfo CpuTopo CpuTopoInfo CpupoolOp DebugKeys GetCpuInfo
        GetDomainInfoList MemInfo NumaInfo PhysInfo ReadConsole SchedId SchedulerOp Sysctl TbufOp;
    vcpu: VcpuRegisterRunstateMemoryArea VcpuRegisterVcpuInfo VcpuRunstateInfo;
    version: CompileInfo FeatureInfo PlatformParameters VarbufHeader;
    xs_wire: XenstoreDomainInterface XsdSockmsg;
};

/// Numbers with a macro of another name.
const RENAMED: [(&str, &str); 19] = [
    ("CAPABILITIES_INFO_LEN", "XEN_CAPABILITIES_INFO_LEN"),
    ("CHANGESET_INFO_LEN", "XEN_CHANGESET_INFO_LEN"),
    ("ENTRIES_OFFSET", "offsetof(struct blkif_sring, ring)"),
    ("EXTRAVERSION_LEN", "XEN_EXTRAVERSION_LEN"),
    ("COMMANDLINE_LEN", "sizeof(xen_commandline_t)"),
    ("EVTCHN_2L_NR_CHANNELS", "EVTCHN_2L_NR_CHANNELS"),
    ("FLAGS_ADDRESS_BITS", "XENMEMF_get_address_bits(~0)"),
    ("FLAGS_EXACT_NODE", "XENMEMF_exact_node_request"),
    ("GNTTAB_ENTRIES_PER_FRAME", "(4096 / sizeof(struct grant_entry_v1))"),
    ("HVC_TAG", "XEN_HYPERCALL_TAG"),
    ("NR_SUBMAPS", "XENFEAT_NR_SUBMAPS"),
    ("PAYLOAD", "sizeof(((struct xen_domctl *)0)->u)"),
    ("PSCI_0_1_CPU_OFF", "PSCI_cpu_off"),
    ("PSCI_0_1_CPU_ON", "PSCI_cpu_on"),
    ("XEN_HYPFS_NAME_OFFSET", "offsetof(struct xen_hypfs_dirlistentry, name)"),
    ("XEN_HYPFS_OP_GET_VERSION", "XEN_HYPFS_OP_get_version"),
    ("XEN_HYPFS_OP_READ", "XEN_HYPFS_OP_read"),
    ("XENCONS_IN_SIZE", "sizeof(((struct xencons_interface *)0)->in)"),
    ("XENCONS_OUT_SIZE", "sizeof(((struct xencons_interface *)0)->out)"),
];

/// Numbers that the headers have only in words, or that only the hypervisor's own copy has.
const IN_WORDS: [&str; 11] = [
    "ARGUMENTS",
    "BLKIF_SEGMENTS_PER_PAGE",
    "EVTCHNOP_RESET_CONT",
    "GNTTABOP_CMD_MASK",
    "GRANT_HANDLE_INVALID",
    "HVM_PARAM_CALLBACK_TYPE_SHIFT",
    "NUMBER_REGISTER",
    "OPERATION_BITS",
    "PSR_MODE_MASK",
    "SHUTDOWN_CODE_INVALID",
    "XENMEMF_ADDRESS_BITS_MASK",
];

/// Returns the directory that `xen/` is in, or why there is none.
fn headers() -> Result<PathBuf, String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_4_20 = |directory: &Path| {
        std::fs::read_to_string(directory.join("xen/domctl.h"))
            .is_ok_and(|text| text.contains("XEN_DOMCTL_INTERFACE_VERSION 0x00000017"))
    };
    if let Some(directory) = std::env::var_os("XEN_HEADERS") {
        let directory = PathBuf::from(directory);
        assert!(is_4_20(&directory), "XEN_HEADERS has no headers of Xen 4.20");
        return Ok(directory);
    }
    let places =
        [manifest.join("../target/cache/libxen-dev/usr/include"), PathBuf::from("/usr/include")];
    places.into_iter().find(|place| is_4_20(place)).ok_or_else(|| {
        "no public headers of Xen 4.20 (Debian 13's libxen-dev); set XEN_HEADERS".into()
    })
}

/// Says that a test could not run, past the test harness that keeps the output of tests to itself.
fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// Runs the compiler on `source`; its standard output, or what it complains about.
fn compile(headers: &Path, arguments: &[&str], source: &str) -> Result<String, String> {
    let mut child = Command::new(COMPILER)
        .args(["-x", "c", "-std=gnu11", "-fmax-errors=0", "-I"])
        .arg(headers)
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(source.as_bytes()).map_err(|error| error.to_string())?;
    drop(input);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Returns the headers to compile against, or nothing after saying what is missing.
fn tools() -> Option<PathBuf> {
    if let Err(error) = Command::new(COMPILER).arg("--version").output() {
        skip(&format!("{COMPILER} does not run: {error}"));
        return None;
    }
    headers().map_err(|reason| skip(&reason)).ok()
}

fn prologue() -> String {
    let mut source =
        String::from("#define __XEN_TOOLS__ 1\n#include <stddef.h>\n#include <stdint.h>\n");
    for header in HEADERS {
        writeln!(source, "#include <xen/{header}>").unwrap();
    }
    source
}

#[test]
fn structures_have_the_layout_of_the_headers() {
    let Some(headers) = tools() else { return };
    let mut source = prologue();
    for Layout { c_name, size, fields } in LAYOUTS {
        writeln!(source, "_Static_assert(sizeof({c_name}) == {size}, \"{c_name}\");").unwrap();
        // Padding has no name that is worth repeating.
        let named = fields.iter().filter(|(name, _)| !name.starts_with("pad") && *name != "rest");
        for (field, offset) in named {
            let place = format!("offsetof({c_name}, {field}) == {offset}");
            writeln!(source, "_Static_assert({place}, \"{c_name}.{field}\");").unwrap();
        }
    }
    if let Err(complaints) = compile(&headers, &["-fsyntax-only"], &source) {
        panic!("{complaints}");
    }
}

#[test]
fn every_structure_is_compared() {
    let written: usize =
        modules().values().map(|text| text.matches("layout::wire! {").count()).sum();
    assert_eq!(LAYOUTS.len(), written);
    let names: BTreeSet<&str> = LAYOUTS.iter().map(|layout| layout.c_name).collect();
    assert_eq!(names.len(), LAYOUTS.len());
}

/// Returns the text of each module by its file's name.
fn modules() -> BTreeMap<String, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for directory in [source.clone(), source.join("io")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // The project's own hypercall is in nobody's headers.
            let own = path.ends_with("extension.rs");
            if !own && path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                modules.insert(path.display().to_string(), text);
            }
        }
    }
    modules
}

/// A number as its module has it.
struct Number<'a> {
    name: &'a str,
    kind: &'a str,
    value: &'a str,
    documentation: &'a str,
}

/// Returns the numbers of a module.
fn numbers(text: &str) -> Vec<Number<'_>> {
    let mut documentation = "";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        if let Some(comment) = line.strip_prefix("/// ") {
            documentation = comment;
        }
        let constant = rest.strip_prefix("pub const ").or(rest.strip_prefix("const "));
        if let Some((name, constant)) = constant.and_then(|constant| constant.split_once(": "))
            && !name.contains(' ')
            && let Some((kind, value)) = constant.split_once('=')
            && let Some((value, _)) = value.split_once(';')
        {
            found.push(Number { name, kind: kind.trim(), value: value.trim(), documentation });
        }
        rest = after;
    }
    found
}

/// Returns a value as C has it, other numbers of the module put in.
fn c_value(value: &str, all: &[Number<'_>]) -> String {
    let value = value.replace("u32::MAX", "0xffff_ffff");
    let words =
        value.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let mut written = String::new();
    for word in words {
        let name = word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
        let after = &word[name.len()..];
        match all.iter().find(|number| number.name == name) {
            Some(number) => write!(written, "({}){after}", c_value(number.value, all)).unwrap(),
            None if name.starts_with(|letter: char| letter.is_ascii_digit()) => {
                write!(written, "{}ull{after}", name.replace('_', "")).unwrap();
            }
            None => write!(written, "{name}{after}").unwrap(),
        }
    }
    written
}

fn c_type(kind: &str) -> &str {
    match kind {
        "u8" => "uint8_t",
        "u16" | "RawDomId" => "uint16_t",
        "u32" => "uint32_t",
        "u64" | "usize" => "uint64_t",
        "i16" => "int16_t",
        other => panic!("numbers of type {other} are not expected"),
    }
}

#[test]
fn numbers_have_the_values_of_the_headers() {
    let Some(headers) = tools() else { return };
    let listed = compile(&headers, &["-E", "-dM"], &prologue()).unwrap();
    let macros: BTreeMap<String, &str> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split([' ', '(']).next())
        .map(|name| (name.to_uppercase(), name))
        .collect();
    let known: BTreeSet<&str> = macros.values().copied().collect();
    let enumerator = |name: &str| name.starts_with("XS_") || name == "PT_IRQ_TYPE_SPI";
    let mut source = prologue();
    let (mut compared, mut unknown) = (0, Vec::new());
    for (file, text) in modules() {
        let all = numbers(&text);
        for number in &all {
            let quoted = number.documentation.split('`').nth(1).filter(|name| known.contains(name));
            let feature = macros.get(&format!("XENFEAT_{}", number.name)).copied();
            let feature = feature.filter(|_| file.ends_with("features.rs"));
            let renamed = RENAMED.iter().find(|(name, _)| *name == number.name).map(|pair| pair.1);
            let counterpart = renamed
                .or(macros.get(number.name).copied())
                .or(feature)
                .or(quoted)
                .or(enumerator(number.name).then_some(number.name));
            let Some(counterpart) = counterpart else {
                if !IN_WORDS.contains(&number.name) {
                    unknown.push(format!("{file}: {}", number.name));
                }
                continue;
            };
            let kind = c_type(number.kind);
            let value = c_value(number.value, &all);
            let same = format!("({kind})({counterpart}) == ({kind})({value})");
            writeln!(source, "_Static_assert({same}, \"{}\");", number.name).unwrap();
            compared += 1;
        }
    }
    assert!(unknown.is_empty(), "numbers without a counterpart: {unknown:#?}");
    assert!(compared > 400, "only {compared} numbers were found");
    if let Err(complaints) = compile(&headers, &["-fsyntax-only"], &source) {
        panic!("{complaints}");
    }
}

#[test]
fn a_difference_would_be_found() {
    let Some(headers) = tools() else { return };
    let source = prologue() + "_Static_assert(sizeof(struct evtchn_send) == 8, \"wrong\");\n";
    let complaints = compile(&headers, &["-fsyntax-only"], &source).unwrap_err();
    assert!(complaints.contains("wrong"), "{complaints}");
}

#[test]
fn values_are_written_as_c_has_them() {
    let text =
        "/// `A_b`: one.\npub const A_B: u32 = 1_0 << 2;\nconst C: u64 = A_B | 0xffff_0000;\n";
    let all = numbers(text);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].documentation, "`A_b`: one.");
    assert_eq!(c_value(all[1].value, &all), "(10ull << 2ull) | 0xffff0000ull");
    assert_eq!(c_value("u32::MAX", &all), "0xffffffffull");
    assert_eq!(c_value("-7", &all), "-7ull");
}
