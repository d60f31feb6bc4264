//! `HYPERVISOR_xen_version` (`public/version.h`): what the hypervisor says of itself.
//!
//! The numbers are those of the Xen whose interface this is; the tools choose their own version by
//! them. The name is in the extra version.

use super::{Arguments, Caller, Outcome, word};
use hv_core::guest::{GuestMemory, Handle};
use hypercall_abi::errno::Errno;
use hypercall_abi::features;
use hypercall_abi::version::{
    self as abi, CAPABILITIES_INFO_LEN, CHANGESET_INFO_LEN, COMMANDLINE_LEN, CompileInfo,
    EXTRAVERSION_LEN, FeatureInfo, PlatformParameters, VarbufHeader,
};

/// The major version.
pub const MAJOR: u32 = 4;
/// What follows the numbers: whose hypervisor this is.
pub const EXTRA_VERSION: &str = concat!(".0-domus-", env!("CARGO_PKG_VERSION"));
/// Guests run in AArch64; the trailing space is Xen's.
const CAPABILITIES: &str = "xen-3.0-aarch64 ";
/// What it was built from.
pub const CHANGESET: &str = concat!("domus ", env!("CARGO_PKG_VERSION"));
/// What it was built with.
pub const COMPILER: &str = concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"));
/// Who built it.
pub const COMPILE_BY: &str = "domus";
const PAGE_SIZE: u64 = 4096;
/// What a domain reads that is not to know.
const DENIED: &str = "<denied>";

/// Answers the question in x0 into what x1 points to.
#[inline]
pub fn handle(caller: &Caller<'_>, arguments: &Arguments) -> Outcome {
    let [command, argument, ..] = *arguments;
    // What guests ask most: any hypercall lets a waiting event in, and this is the least.
    if word(command) == abi::XENVER_VERSION {
        return Outcome::Done(Ok(u64::from(
            MAJOR << 16 | caller.hv.host.options.interface.minor(),
        )));
    }
    describe(caller, word(command), argument).into()
}

#[inline(never)]
fn describe(caller: &Caller<'_>, command: u32, argument: u64) -> Result<u64, Errno> {
    match command {
        abi::XENVER_EXTRAVERSION => text::<EXTRAVERSION_LEN>(caller, argument, EXTRA_VERSION),
        abi::XENVER_COMPILE_INFO => compile_info(caller, argument),
        abi::XENVER_CAPABILITIES => text::<CAPABILITIES_INFO_LEN>(caller, argument, CAPABILITIES),
        abi::XENVER_CHANGESET => text::<CHANGESET_INFO_LEN>(caller, argument, CHANGESET),
        abi::XENVER_PLATFORM_PARAMETERS => platform_parameters(caller, argument),
        abi::XENVER_GET_FEATURES => get_features(caller, argument),
        abi::XENVER_PAGESIZE if argument == 0 => Ok(PAGE_SIZE),
        abi::XENVER_PAGESIZE => Err(Errno::EINVAL),
        abi::XENVER_GUEST_HANDLE => guest_handle(caller, argument),
        abi::XENVER_COMMANDLINE => command_line(caller, argument),
        abi::XENVER_EXTRAVERSION2 => varbuf(caller, argument, EXTRA_VERSION),
        abi::XENVER_CAPABILITIES2 => varbuf(caller, argument, CAPABILITIES),
        abi::XENVER_CHANGESET2 => varbuf(caller, argument, CHANGESET),
        abi::XENVER_BUILD_ID | abi::XENVER_COMMANDLINE2 if !caller.domain.is_privileged() => {
            Err(Errno::EPERM)
        }
        abi::XENVER_COMMANDLINE2 => varbuf(caller, argument, &caller.hv.host.command_line),
        // The image carries none.
        abi::XENVER_BUILD_ID => Err(Errno::ENODATA),
        _ => Err(Errno::ENOSYS),
    }
}

fn compile_info(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let info = CompileInfo {
        compiler: padded(COMPILER),
        compile_by: padded(COMPILE_BY),
        compile_domain: padded(""),
        compile_date: padded(""),
    };
    Handle::from_register(argument).store(caller.guest, &info)?;
    Ok(0)
}

fn platform_parameters(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    Handle::from_register(argument).store(caller.guest, &PlatformParameters { virt_start: 0 })?;
    Ok(0)
}

fn get_features(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let handle = Handle::<FeatureInfo>::from_register(argument);
    let mut request = handle.load(caller.guest)?;
    if request.submap_idx != 0 {
        return Err(Errno::EINVAL);
    }
    let settings = &caller.domain.settings;
    let always = 1 << features::WRITABLE_PAGE_TABLES
        | 1 << features::AUTO_TRANSLATED_PHYSMAP
        | 1 << features::MEMORY_OP_VNODE_SUPPORTED
        | 1 << features::ARM_SMCCC_SUPPORTED;
    let mapped = if settings.direct_mapped {
        1 << features::DIRECT_MAPPED
    } else {
        1 << features::NOT_DIRECT_MAPPED
    };
    let dom0 = u32::from(settings.privileged) << features::DOM0;
    request.submap = always | mapped | dom0;
    handle.store(caller.guest, &request)?;
    Ok(0)
}

fn guest_handle(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    let handle = *caller.domain.handle.lock();
    caller.guest.write(argument, &handle)?;
    Ok(0)
}

fn command_line(caller: &Caller<'_>, argument: u64) -> Result<u64, Errno> {
    if caller.domain.is_privileged() {
        return text::<COMMANDLINE_LEN>(caller, argument, &caller.hv.host.command_line);
    }
    caller.guest.write(argument, DENIED.as_bytes())?;
    caller.guest.write(argument.wrapping_add(DENIED.len() as u64), &[0])?;
    Ok(0)
}

/// Writes `text` into an array of `LEN` bytes, the last of which is zero.
fn text<const LEN: usize>(caller: &Caller<'_>, argument: u64, text: &str) -> Result<u64, Errno> {
    caller.guest.write(argument, &padded::<LEN>(text))?;
    Ok(0)
}

fn padded<const LEN: usize>(text: &str) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    for (slot, byte) in bytes.iter_mut().take(LEN.saturating_sub(1)).zip(text.bytes()) {
        *slot = byte;
    }
    bytes
}

/// Writes `text` behind a header that says how much room there is; a null pointer asks for its length.
fn varbuf(caller: &Caller<'_>, argument: u64, text: &str) -> Result<u64, Errno> {
    let len = text.len() as u64;
    if argument == 0 {
        return Ok(len);
    }
    let header = Handle::<VarbufHeader>::from_register(argument).load(caller.guest)?;
    if len > u64::from(header.len) {
        return Err(Errno::ENOBUFS);
    }
    let start = argument.wrapping_add(size_of::<VarbufHeader>() as u64);
    caller.guest.write(start, text.as_bytes())?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{REQUEST, Testbed};
    use hypercall_abi::hypercall::XEN_VERSION;

    fn ask(bed: &Testbed, caller: u16, command: u32, argument: u64) -> Result<u64, Errno> {
        match bed.call(caller, XEN_VERSION, [u64::from(command), argument, 0, 0, 0]) {
            Outcome::Done(result) => result,
            Outcome::Again(_) => panic!("nothing interrupts"),
        }
    }

    fn text_of(bed: &Testbed, len: usize) -> String {
        let mut bytes = vec![0; len];
        bed.guest.read(REQUEST, &mut bytes).unwrap();
        let end = bytes.iter().position(|byte| *byte == 0).expect("the text ends");
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    }

    #[test]
    fn the_version_is_that_of_the_interface() {
        let bed = Testbed::new();
        assert_eq!(ask(&bed, 1, abi::XENVER_VERSION, 0), Ok(0x0004_0014));
        assert_eq!(ask(&bed, 1, abi::XENVER_PAGESIZE, 0), Ok(4096));
        assert_eq!(ask(&bed, 1, abi::XENVER_PAGESIZE, REQUEST), Err(Errno::EINVAL));
        assert_eq!(ask(&bed, 1, abi::XENVER_CAPABILITIES, REQUEST), Ok(0));
        assert!(text_of(&bed, 1024).split(' ').any(|word| word == "xen-3.0-aarch64"));
        assert_eq!(ask(&bed, 1, abi::XENVER_EXTRAVERSION, REQUEST), Ok(0));
        assert_eq!(text_of(&bed, 16), EXTRA_VERSION[..EXTRA_VERSION.len().min(15)]);
    }

    #[test]
    fn features_are_those_of_a_translated_guest() {
        let bed = Testbed::new();
        let features = |caller, submap_idx| {
            bed.put(&FeatureInfo { submap_idx, submap: 0 });
            ask(&bed, caller, abi::XENVER_GET_FEATURES, REQUEST)?;
            Ok(bed.reply::<FeatureInfo>().submap)
        };
        assert_eq!(features(1, 0), Ok(0x1_6005));
        assert_eq!(features(0, 0), Ok(0x1_6805), "this Dom0 is not mapped one to one");
        assert_eq!(features(1, 1), Err(Errno::EINVAL));
    }

    #[test]
    fn variable_texts_tell_their_length_first() {
        let bed = Testbed::new();
        let len = ask(&bed, 1, abi::XENVER_CAPABILITIES2, 0).unwrap();
        assert_eq!(len, CAPABILITIES.len() as u64);
        bed.put(&VarbufHeader { len: u32::try_from(len).unwrap() - 1 });
        let short = ask(&bed, 1, abi::XENVER_CAPABILITIES2, REQUEST);
        assert_eq!(short, Err(Errno::ENOBUFS));
        bed.put(&VarbufHeader { len: 100 });
        assert_eq!(ask(&bed, 1, abi::XENVER_CAPABILITIES2, REQUEST), Ok(len));
        let mut bytes = vec![0; CAPABILITIES.len()];
        bed.guest.read(REQUEST + 4, &mut bytes).unwrap();
        assert_eq!(bytes, CAPABILITIES.as_bytes());
    }

    #[test]
    fn the_command_line_is_dom0s_to_read() {
        let bed = Testbed::new();
        assert_eq!(ask(&bed, 1, abi::XENVER_COMMANDLINE2, 0), Err(Errno::EPERM));
        assert_eq!(ask(&bed, 1, abi::XENVER_BUILD_ID, 0), Err(Errno::EPERM));
        assert_eq!(ask(&bed, 0, abi::XENVER_BUILD_ID, 0), Err(Errno::ENODATA));
        assert_eq!(ask(&bed, 1, abi::XENVER_COMMANDLINE, REQUEST), Ok(0));
        assert_eq!(text_of(&bed, 16), DENIED);
        assert_eq!(ask(&bed, 0, abi::XENVER_COMMANDLINE, REQUEST), Ok(0));
        assert!(text_of(&bed, 1024).contains("dom0_mem="));
        assert_ne!(ask(&bed, 0, abi::XENVER_COMMANDLINE2, 0), Ok(0));
    }

    #[test]
    fn bad_pointers_and_unknown_questions_are_refused() {
        let bed = Testbed::new();
        for command in [1, 2, 3, 4, 5, 6, 8, 9] {
            assert_eq!(ask(&bed, 1, command, 8), Err(Errno::EFAULT), "question {command}");
        }
        assert_eq!(ask(&bed, 1, abi::XENVER_CHANGESET2, 8), Err(Errno::EFAULT));
        assert_eq!(ask(&bed, 1, 15, REQUEST), Err(Errno::ENOSYS));
        assert_eq!(ask(&bed, 2, abi::XENVER_GUEST_HANDLE, REQUEST), Ok(0));
        assert_eq!(bed.reply::<[u8; 16]>(), [2; 16]);
    }
}
