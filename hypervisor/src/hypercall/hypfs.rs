//! `HYPERVISOR_hypfs_op` (`public/hypfs.h`): what the hypervisor says of itself as a tree of files, among them the
//! two log levels, which can be changed (`xl set-parameters`).

use super::{Arguments, Caller, Outcome, version, word};
use crate::command_line::LogLevels;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use hv_core::guest::{GuestMemory, Handle};
use hv_core::privilege;
use hv_core::sched::pool::PoolId;
use hypercall_abi::errno::Errno;
use hypercall_abi::hypfs as abi;
use hypercall_abi::hypfs::Direntry;
use zerocopy::IntoBytes;

/// Bytes of a setting that is written, its final zero included.
const MAX_SETTING: u32 = 128;
/// What a directory's entries are aligned to.
const ALIGNMENT: usize = 4;
/// Bytes of the heap that an operation takes at most: the tree of all files, made for each, and texts.
const ROOM: usize = 64 << 10;

/// A setting that can be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Setting {
    /// `loglvl`
    Own,
    /// `guest_loglvl`
    Guests,
}

#[derive(Debug)]
enum Content {
    Text(String),
    Number(u32),
    Setting(Setting, String),
}

/// Every file by its path, without the leading slash.
type Files = BTreeMap<String, Content>;

/// Carries out the operation in x0 on the path at x1, x2 bytes long, with the buffer at x3, x4 bytes long.
#[inline(never)]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [operation, path, length, buffer, size] = *arguments;
    if let Err(error) = privilege::control(caller.subject()) {
        return Errno::from(error).into();
    }
    let operate = || operate(caller, word(operation), [path, length, buffer, size]);
    caller.hv.with_room(ROOM, operate).unwrap_or_else(|no_room| Errno::from(no_room).into())
}

fn operate(caller: &Caller<'_>, operation: u32, arguments: [u64; 4]) -> Outcome {
    let [path, length, buffer, size] = arguments;
    match operation {
        abi::XEN_HYPFS_OP_GET_VERSION if [path, length, buffer, size] == [0; 4] => {
            Outcome::Done(Ok(abi::XEN_HYPFS_VERSION))
        }
        abi::XEN_HYPFS_OP_GET_VERSION => Errno::EINVAL.into(),
        abi::XEN_HYPFS_OP_READ => match load_path(caller, path, length) {
            Ok(path) => read(caller, &path, buffer, size).into(),
            Err(error) => error.into(),
        },
        abi::XEN_HYPFS_OP_WRITE_CONTENTS => match load_path(caller, path, length) {
            Ok(path) => write(caller, &path, buffer, size).into(),
            Err(error) => error.into(),
        },
        _ => Errno::EOPNOTSUPP.into(),
    }
}

/// Returns what is there now.
fn files(caller: &Caller<'_>) -> Files {
    let levels = *caller.hv.console.levels.lock();
    let text = |text: &str| Content::Text(text.into());
    let mut files: Files = [
        ("buildinfo/changeset", text(version::CHANGESET)),
        ("buildinfo/compileinfo/compile_by", text(version::COMPILE_BY)),
        ("buildinfo/compileinfo/compile_date", text("")),
        ("buildinfo/compileinfo/compile_domain", text("")),
        ("buildinfo/compileinfo/compiler", text(version::COMPILER)),
        ("buildinfo/version/extra", text(version::EXTRA_VERSION)),
        ("buildinfo/version/major", Content::Number(version::MAJOR)),
        ("buildinfo/version/minor", Content::Number(caller.hv.host.options.interface.minor())),
        ("params/guest_loglvl", Content::Setting(Setting::Guests, levels.guests.to_string())),
        ("params/loglvl", Content::Setting(Setting::Own, levels.own.to_string())),
    ]
    .map(|(path, content)| (path.into(), content))
    .into();
    let mut from = PoolId::BOOT;
    loop {
        let pool = caller.hv.scheduler.lock().pool_from(from);
        let Some(pool) = pool else { return files };
        files.insert(alloc::format!("cpupool/{}/sched-gran", pool.id.0), text("cpu"));
        from = PoolId(pool.id.0.saturating_add(1));
    }
}

fn load_path(caller: &Caller<'_>, address: u64, length: u64) -> Result<String, Errno> {
    if length > abi::XEN_HYPFS_MAX_PATHLEN {
        return Err(Errno::EINVAL);
    }
    let text = load_text(caller, address, length)?.ok_or(Errno::EINVAL)?;
    Ok(text.strip_prefix('/').ok_or(Errno::EINVAL)?.into())
}

/// Copies in text of `length` bytes; nothing if it does not end with its one zero.
fn load_text(caller: &Caller<'_>, address: u64, length: u64) -> Result<Option<String>, Errno> {
    let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    let mut bytes = alloc::vec![0; length];
    caller.guest.read(address, &mut bytes)?;
    let text = bytes.split_last().filter(|(last, rest)| **last == 0 && !rest.contains(&0));
    Ok(text.and_then(|(_, rest)| String::from_utf8(rest.to_vec()).ok()))
}

fn read(caller: &Caller<'_>, path: &str, buffer: u64, size: u64) -> Result<(), Errno> {
    let files = files(caller);
    let (entry, bytes) = match files.get(path) {
        Some(content) => (describe(content), bytes_of(content)),
        None => list(&files, path).ok_or(Errno::ENOENT)?,
    };
    let header = size_of::<Direntry>() as u64;
    if size < header {
        return Err(Errno::EINVAL);
    }
    Handle::from_register(buffer).store(caller.guest, &entry)?;
    if size < header + bytes.len() as u64 {
        return Err(Errno::ENOBUFS);
    }
    let address = buffer.checked_add(header).ok_or(Errno::EFAULT)?;
    Ok(caller.guest.write(address, &bytes)?)
}

fn describe(content: &Content) -> Direntry {
    let (entry_type, max_write_len) = match content {
        Content::Text(_) => (abi::XEN_HYPFS_TYPE_STRING, 0),
        Content::Number(_) => (abi::XEN_HYPFS_TYPE_UINT, 0),
        Content::Setting(..) => (abi::XEN_HYPFS_TYPE_STRING, MAX_SETTING),
    };
    let content_len = u32::try_from(bytes_of(content).len()).unwrap_or(u32::MAX);
    let encoding = abi::XEN_HYPFS_ENC_PLAIN;
    Direntry { entry_type, encoding, pad: 0, content_len, max_write_len }
}

fn bytes_of(content: &Content) -> Vec<u8> {
    match content {
        Content::Text(text) | Content::Setting(_, text) => text.bytes().chain([0]).collect(),
        Content::Number(number) => number.to_le_bytes().to_vec(),
    }
}

/// Returns a directory and its entries; nothing if there is no such directory.
fn list(files: &Files, path: &str) -> Option<(Direntry, Vec<u8>)> {
    let inside = if path.is_empty() { String::new() } else { alloc::format!("{path}/") };
    let mut entries: BTreeMap<&str, Direntry> = BTreeMap::new();
    for (name, content) in files {
        let Some(rest) = name.strip_prefix(&inside) else { continue };
        match rest.split_once('/') {
            None => entries.insert(rest, describe(content)),
            Some((child, _)) if entries.contains_key(child) => None,
            Some((child, _)) => {
                let (entry, _) = list(files, &alloc::format!("{inside}{child}"))?;
                entries.insert(child, entry)
            }
        };
    }
    let last = *entries.keys().last()?;
    let mut bytes = Vec::new();
    for (name, entry) in &entries {
        let length = (abi::XEN_HYPFS_NAME_OFFSET + name.len() + 1).next_multiple_of(ALIGNMENT);
        let next = if *name == last { 0 } else { u16::try_from(length).unwrap_or(0) };
        let end = bytes.len() + length;
        bytes.extend_from_slice(entry.as_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.resize(end, 0);
    }
    let directory = Direntry {
        entry_type: abi::XEN_HYPFS_TYPE_DIR,
        encoding: abi::XEN_HYPFS_ENC_PLAIN,
        content_len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        ..Direntry::default()
    };
    Some((directory, bytes))
}

fn write(caller: &Caller<'_>, path: &str, buffer: u64, size: u64) -> Result<(), Errno> {
    let files = files(caller);
    let setting = match files.get(path) {
        Some(Content::Setting(setting, _)) => *setting,
        Some(_) => return Err(Errno::EACCES),
        None if list(&files, path).is_some() => return Err(Errno::EACCES),
        None => return Err(Errno::ENOENT),
    };
    if size > u64::from(MAX_SETTING) {
        return Err(Errno::ENOSPC);
    }
    let text = load_text(caller, buffer, size)?.ok_or(Errno::EDOM)?;
    let levels = LogLevels::parse(&text).map_err(|_| Errno::EINVAL)?;
    let mut all = caller.hv.console.levels.lock();
    match setting {
        Setting::Own => all.own = levels,
        Setting::Guests => all.guests = levels,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{REQUEST, Testbed};
    use hypercall_abi::hypercall::HYPFS_OP;
    use zerocopy::FromBytes;

    const BUFFER: u64 = REQUEST + 0x400;

    fn op(bed: &Testbed, operation: u32, path: &str, size: u64) -> Result<u64, Errno> {
        bed.guest.write(REQUEST, path.as_bytes()).unwrap();
        let arguments = [operation.into(), REQUEST, path.len() as u64, BUFFER, size];
        match bed.call(0, HYPFS_OP, arguments) {
            Outcome::Done(result) => result,
            Outcome::Again(_) => panic!("it is never long"),
        }
    }

    fn read(bed: &Testbed, path: &str) -> (Direntry, Vec<u8>) {
        assert_eq!(op(bed, 1, path, 0x800), Ok(0), "{path}");
        let mut bytes = [0; 0x800];
        bed.guest.read(BUFFER, &mut bytes).unwrap();
        let (entry, rest) = Direntry::read_from_prefix(&bytes).unwrap();
        (entry, rest[..entry.content_len as usize].to_vec())
    }

    /// Walks a directory as the tools do, from each entry to the next.
    fn names(bed: &Testbed, path: &str) -> Vec<(String, Direntry)> {
        let (directory, bytes) = read(bed, path);
        assert_eq!(directory.entry_type, abi::XEN_HYPFS_TYPE_DIR);
        let (mut names, mut rest) = (Vec::new(), &bytes[..]);
        loop {
            let (entry, after) = Direntry::read_from_prefix(rest).unwrap();
            let next = u16::from_le_bytes([after[0], after[1]]);
            let name = after[2..].split(|byte| *byte == 0).next().unwrap();
            names.push((String::from_utf8(name.to_vec()).unwrap(), entry));
            if next == 0 {
                return names;
            }
            rest = &rest[next.into()..];
        }
    }

    #[test]
    fn the_tree_can_be_walked_from_its_root() {
        let bed = Testbed::new();
        let root: Vec<String> = names(&bed, "/\0").into_iter().map(|(name, _)| name).collect();
        assert_eq!(root, ["buildinfo", "cpupool", "params"]);
        let (name, entry) = names(&bed, "/buildinfo/version\0").remove(1);
        assert_eq!((name.as_str(), entry.entry_type), ("major", abi::XEN_HYPFS_TYPE_UINT));
        assert_eq!(read(&bed, "/buildinfo/version/major\0").1, [4, 0, 0, 0]);
        assert_eq!(read(&bed, "/cpupool/0/sched-gran\0").1, b"cpu\0");
        let (_, params) = names(&bed, "/\0").remove(2);
        assert_eq!(params.content_len, read(&bed, "/params\0").0.content_len);
    }

    #[test]
    fn the_log_levels_are_read_and_changed() {
        let bed = Testbed::new();
        let before = bed.hv.console.levels.lock().own;
        bed.guest.write(BUFFER, b"error/all\0").unwrap();
        assert_eq!(op(&bed, 2, "/params/loglvl\0", 10), Ok(0));
        assert_eq!(read(&bed, "/params/loglvl\0").1, b"error/all\0");
        assert_ne!(bed.hv.console.levels.lock().own, before);
        bed.guest.write(BUFFER, b"none\0").unwrap();
        assert_eq!(op(&bed, 2, "/params/guest_loglvl\0", 5), Ok(0));
        assert_eq!(read(&bed, "/params/guest_loglvl\0").1, b"none/none\0");
    }

    #[test]
    fn bad_requests_have_xens_errors() {
        let bed = Testbed::new();
        let read = |path, size| op(&bed, 1, path, size);
        assert_eq!(read("/\0", 11), Err(Errno::EINVAL));
        assert_eq!(read("/\0", 12), Err(Errno::ENOBUFS));
        assert_eq!(read("/", 99), Err(Errno::EINVAL), "not terminated");
        assert_eq!(read("params\0", 99), Err(Errno::EINVAL), "not absolute");
        assert_eq!(read("/param\0", 99), Err(Errno::ENOENT));
        assert_eq!(read("/params/loglvl/x\0", 99), Err(Errno::ENOENT));
        let write = |path, size| op(&bed, 2, path, size);
        bed.guest.write(BUFFER, b"loud\0").unwrap();
        assert_eq!(write("/params/loglvl\0", 5), Err(Errno::EINVAL));
        assert_eq!(write("/params/loglvl\0", 4), Err(Errno::EDOM));
        assert_eq!(write("/params/loglvl\0", 129), Err(Errno::ENOSPC));
        assert_eq!(write("/params\0", 5), Err(Errno::EACCES));
        assert_eq!(write("/buildinfo/changeset\0", 5), Err(Errno::EACCES));
        assert_eq!(write("/nothing\0", 5), Err(Errno::ENOENT));
        let call = |from, arguments| bed.call(from, HYPFS_OP, arguments);
        assert_eq!(call(0, [0; 5]), Outcome::Done(Ok(1)));
        assert_eq!(call(0, [0, 1, 0, 0, 0]), Errno::EINVAL.into());
        assert_eq!(call(0, [3, 0, 0, 0, 0]), Errno::EOPNOTSUPP.into());
        assert_eq!(call(0, [1, 8, 2, 0, 0]), Errno::EFAULT.into());
        assert_eq!(call(0, [1, REQUEST, 1025, 0, 0]), Errno::EINVAL.into());
        assert_eq!(call(1, [0; 5]), Errno::EPERM.into());
    }
}
