//! What `scripts/card` refuses to write to: the script itself, with an `lsblk` in its way that knows of other devices than this machine's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A device as `lsblk` shows it, and what is on it.
struct Device {
    kind: &'static str,
    removable: u8,
    read_only: u8,
    /// Lines of `NAME,MOUNTPOINT`.
    mounts: &'static str,
    /// Lines of `TYPE`.
    kinds: &'static str,
}

/// A card with two partitions in a reader.
const CARD: Device = Device {
    kind: "disk",
    removable: 1,
    read_only: 0,
    mounts: "sdx\nsdx1\nsdx2",
    kinds: "disk\npart\npart",
};

/// Runs a function of the script with an argument; returns what it says.
fn ask(function: &str, argument: &str, bin: &Path, sys: &Path) -> String {
    let card = Path::new(env!("CARGO_MANIFEST_DIR")).join("../card");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let text = format!(". {}; sys={}; {function} {argument}", card.display(), sys.display());
    let said = Command::new("sh")
        .args(["-euc", &text])
        .env("PATH", path)
        .output()
        .expect("sh can be started");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).expect("it says text").trim().to_owned()
}

/// Asks of a device that `lsblk` describes so.
fn why_not_device(name: &str, device: &Device, sys: &Path) -> String {
    let bin = tempfile::tempdir().expect("there is room for a directory");
    let lsblk = bin.path().join("lsblk");
    let Device { kind, removable, read_only, mounts, kinds } = device;
    let text = format!(
        "#!/bin/sh
case \"$*\" in
    '-dno TYPE {name}') echo '{kind}' ;;
    '-nro NAME,MOUNTPOINT {name}') echo '{mounts}' ;;
    '-nro TYPE {name}') echo '{kinds}' ;;
    '-dno RM,HOTPLUG {name}') echo ' {removable}       0' ;;
    '-dno RO {name}') echo ' {read_only}' ;;
    *) echo \"this lsblk is not asked for $*\"; exit 1 ;;
esac
"
    );
    fs::write(&lsblk, text).expect("a new file can be written");
    fs::set_permissions(&lsblk, fs::Permissions::from_mode(0o755)).expect("a file of our own");
    ask("why_not_device", name, bin.path(), sys)
}

/// Asks of a device as [`why_not_device`] does; it is none of those that the kernel says more of.
fn refusal(device: &Device) -> String {
    why_not_device("/dev/sdx", device, Path::new("/nowhere"))
}

#[test]
fn a_card_in_a_reader_may_be_written_to() {
    assert_eq!(refusal(&CARD), "");
}

#[test]
fn what_is_mounted_or_swapped_to_is_not_written_to() {
    let mounted = Device { mounts: "sdx\nsdx1 /media/BOOT\nsdx2 /", ..CARD };
    assert_eq!(
        refusal(&mounted),
        "/dev/sdx is in use: /dev/sdx1 on /media/BOOT, /dev/sdx2 on /; unmount it first"
    );
    let whole = Device { mounts: "sdx [SWAP]", kinds: "disk", ..CARD };
    assert_eq!(refusal(&whole), "/dev/sdx is in use: /dev/sdx on [SWAP]; unmount it first");
}

#[test]
fn what_cannot_be_taken_out_is_not_written_to() {
    let fixed = Device { removable: 0, ..CARD };
    assert_eq!(refusal(&fixed), "/dev/sdx cannot be taken out: not writing to it");
}

#[test]
fn a_partition_and_a_loop_device_are_no_cards() {
    let part = Device { kind: "part", ..CARD };
    assert_eq!(refusal(&part), "/dev/sdx is a partition: name the card itself, not a part of it");
    let file = Device { kind: "loop", ..CARD };
    assert_eq!(refusal(&file), "/dev/sdx is no card: its kind is loop");
}

#[test]
fn a_part_of_an_array_and_a_protected_card_are_not_written_to() {
    let array = Device { kinds: "disk\npart\nraid1", ..CARD };
    assert_eq!(refusal(&array), "/dev/sdx is part of an array or a volume group");
    let protected = Device { read_only: 1, ..CARD };
    assert_eq!(refusal(&protected), "/dev/sdx is write-protected");
}

#[test]
fn a_card_in_a_slot_of_its_own_is_told_from_what_is_soldered_in() {
    let sys = tempfile::tempdir().unwrap();
    let device = sys.path().join("block/mmcblk0/device");
    fs::create_dir_all(&device).unwrap();
    let slot = Device { removable: 0, mounts: "mmcblk0", kinds: "disk", ..CARD };
    fs::write(device.join("type"), "SD\n").unwrap();
    assert_eq!(why_not_device("/dev/mmcblk0", &slot, sys.path()), "");
    fs::write(device.join("type"), "MMC\n").unwrap();
    let soldered = "/dev/mmcblk0 is soldered in: not writing to it";
    assert_eq!(why_not_device("/dev/mmcblk0", &slot, sys.path()), soldered);
    fs::remove_file(device.join("type")).unwrap();
    assert_eq!(why_not_device("/dev/mmcblk0", &slot, sys.path()), soldered);
}

#[test]
fn what_is_no_device_is_not_written_to() {
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("card.img");
    fs::write(&file, "").unwrap();
    let why = |path: &Path| ask("why_not", path.to_str().unwrap(), here.path(), here.path());
    assert!(why(&file).ends_with("; without --write only the image is made"));
    assert!(why(here.path()).contains("is a directory: name the card's device"));
    let missing = here.path().join("nothing");
    assert_eq!(why(&missing), format!("there is no {}", missing.display()));
    assert!(why(Path::new("/dev/null")).contains("is no block device"));
}
