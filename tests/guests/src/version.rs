//! What the hypervisor says of itself and of the domain: version, features, parameters, console, batches.

use crate::suite::{Outcome, Suite, check, check_eq, check_errno};
use hypercall_abi::features;
use hypercall_abi::hvm::{
    HVM_NR_PARAMS, HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN,
    HVM_PARAM_STORE_PFN,
};
use hypercall_abi::hypercall::{MULTICALL, PHYSDEV_OP, PLATFORM_OP, VM_ASSIST, XEN_VERSION};
use hypercall_abi::ids::DOMID_SELF;
use hypercall_abi::multicall::MulticallEntry;
use hypercall_abi::version::{
    CAPABILITIES_INFO_LEN, COMMANDLINE_LEN, CompileInfo, PlatformParameters, XENVER_CAPABILITIES,
    XENVER_COMMANDLINE, XENVER_COMPILE_INFO, XENVER_GUEST_HANDLE, XENVER_PLATFORM_PARAMETERS,
};
use pv_guest_lib::hypercall::{console_io, hvm, raw, result, sysctl, version};
use pv_guest_lib::{map, tree};

/// Runs the tests.
pub fn main() {
    let mut suite = Suite::default();
    suite.test("the version is 4.20", || {
        check_eq!(version::version()?, 4 << 16 | 20);
        check_eq!(version::page_size()?, 4096);
        Ok(())
    });
    suite.test("the features are Dom0's", feature_word);
    suite.test("the capabilities name this architecture", capabilities);
    suite.test("other questions are answered", questions);
    suite.test("long answers come with their length", varbuf);
    suite.test("bad questions are refused", bad_questions);
    suite.test("the parameters are Dom0's", parameters);
    suite.test("bad parameters are refused", bad_parameters);
    suite.test("the console takes and gives", console);
    suite.test("a batch runs one call after another", multicall);
    suite.test("the machine is described", machine);
    suite.test("interface versions are checked", interface_versions);
    suite.test("hypercalls that do not exist are not there", missing);
    suite.test("assists are known or refused", assists);
    suite.finish();
}

fn feature_word() -> Outcome {
    let word = version::features(0)?;
    for bit in [features::AUTO_TRANSLATED_PHYSMAP, features::DOM0, features::DIRECT_MAPPED] {
        check!(word & 1 << bit != 0, "bit {bit} of {word:#x}");
    }
    check_eq!(word & 1 << features::NOT_DIRECT_MAPPED, 0);
    check_errno!(version::features(1), EINVAL);
    check_errno!(version::features(u32::MAX), EINVAL);
    Ok(())
}

fn capabilities() -> Outcome {
    let mut text = [0u8; CAPABILITIES_INFO_LEN];
    version::into(XENVER_CAPABILITIES, &mut text)?;
    check!(text.starts_with(b"xen-3.0-aarch64"));
    Ok(())
}

fn questions() -> Outcome {
    version::into(XENVER_COMPILE_INFO, &mut CompileInfo::default())?;
    let mut parameters = PlatformParameters { virt_start: 7 };
    version::into(XENVER_PLATFORM_PARAMETERS, &mut parameters)?;
    check_eq!(parameters.virt_start, 0);
    version::into(XENVER_GUEST_HANDLE, &mut [0u8; 16])?;
    let mut text = [0u8; COMMANDLINE_LEN];
    version::into(XENVER_COMMANDLINE, &mut text)?;
    check!(text.windows(8).any(|part| part == b"dom0_mem"));
    Ok(())
}

/// Asks a question whose answer has any length, with room for 64 bytes.
fn ask_varbuf(question: u64, room: u32) -> (i64, [u8; 68]) {
    let mut buffer = [0u8; 68];
    if let Some(start) = buffer.first_chunk_mut() {
        *start = room.to_le_bytes();
    }
    let address = buffer.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the answer is no longer than the room it is told of, which `buffer` has.
    let answer = unsafe { raw(XEN_VERSION, [question, address, 0, 0, 0]) };
    (answer, buffer)
}

fn varbuf() -> Outcome {
    for question in [11, 12, 13, 14] {
        // SAFETY: without a buffer the call only tells the length.
        let length = result(unsafe { raw(XEN_VERSION, [question, 0, 0, 0, 0]) })?;
        check!(length < 4096, "{length} bytes");
        let (answer, buffer) = ask_varbuf(question, 64);
        if length <= 64 {
            check_eq!(answer, length.cast_signed());
            check!(length == 0 || buffer.get(4) != Some(&0));
        } else {
            check!(answer < 0, "{answer}");
        }
        let (answer, _) = ask_varbuf(question, 0);
        check!(answer < 0 || length == 0, "no room gave {answer}");
    }
    Ok(())
}

fn bad_questions() -> Outcome {
    // SAFETY: the question does not exist.
    check_errno!(result(unsafe { raw(XEN_VERSION, [99, 0, 0, 0, 0]) }), ENOSYS);
    for question in [1, 2, 3, 4, 5, 6, 8, 9] {
        // SAFETY: there is no memory at this address.
        let answer = result(unsafe { raw(XEN_VERSION, [question, 0x3f_0000_0000, 0, 0, 0]) });
        check_errno!(answer, EFAULT);
    }
    Ok(())
}

fn parameters() -> Outcome {
    let callback = hvm::get_param(DOMID_SELF, HVM_PARAM_CALLBACK_IRQ)?;
    check_eq!(callback >> 56, 2);
    check_eq!(callback & 0xff, u64::from(tree::get().event_interrupt));
    for index in [HVM_PARAM_STORE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN] {
        check_eq!(hvm::get_param(DOMID_SELF, index)?, 0);
    }
    Ok(())
}

fn bad_parameters() -> Outcome {
    check_errno!(hvm::get_param(DOMID_SELF, HVM_NR_PARAMS), EINVAL);
    check_errno!(hvm::get_param(DOMID_SELF, u32::MAX), EINVAL);
    check_errno!(hvm::get_param(0x7000, HVM_PARAM_STORE_PFN), ESRCH);
    check!(hvm::set_param(DOMID_SELF, HVM_NR_PARAMS, 1).is_err());
    check_errno!(hvm::set_param(0x7000, HVM_PARAM_STORE_PFN, 1), ESRCH);
    Ok(())
}

fn console() -> Outcome {
    console_io::write(b"");
    console_io::write(b"a line\n");
    check_eq!(console_io::read(&mut [0; 16]), 0);
    Ok(())
}

fn multicall() -> Outcome {
    let call = |op: u64, first: u64| MulticallEntry {
        op,
        args: [first, 0, 0, 0, 0, 0],
        ..Default::default()
    };
    let mut calls = [call(XEN_VERSION, 0), call(63, 0), call(XEN_VERSION, 7)];
    let address = calls.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the call reads and writes the entries, which are borrowed for it.
    result(unsafe { raw(MULTICALL, [address, 3, 0, 0, 0]) })?;
    let results = calls.map(|call| call.result.cast_signed());
    check_eq!(results, [4 << 16 | 20, -38, 4096]);
    Ok(())
}

fn machine() -> Outcome {
    let info = sysctl::physinfo()?;
    check!(info.nr_cpus >= 1 && info.total_pages > 0x2_0000);
    check!(info.free_pages < info.total_pages);
    check!(map::physical(0x1000) == 0x1000);
    Ok(())
}

fn interface_versions() -> Outcome {
    let mut request = hypercall_abi::sysctl::Sysctl::new(3);
    request.interface_version += 1;
    check_errno!(sysctl::call(&mut request), EACCES);
    let mut request = hypercall_abi::domctl::Domctl::new(5, 0);
    request.interface_version += 1;
    check_errno!(pv_guest_lib::hypercall::domctl::call(&mut request), EACCES);
    let address = [0u64; 17].as_mut_ptr().expose_provenance() as u64;
    // SAFETY: a request of interface version 0 is refused before anything is written.
    let answer = result(unsafe { raw(PLATFORM_OP, [address, 0, 0, 0, 0]) });
    check_errno!(answer, EACCES);
    Ok(())
}

fn missing() -> Outcome {
    for number in [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 14, 16, 19, 22, 23, 25, 26, 28, 43, 63, 64] {
        // SAFETY: there is no such hypercall.
        check_errno!(result(unsafe { raw(number, [0; 5]) }), ENOSYS);
    }
    // SAFETY: the high half of the number is not ignored, or there would be two of each call.
    let far = unsafe { raw(1 << 40 | XEN_VERSION, [0; 5]) };
    check!(far == -38 || crate::suite::is_xen(), "it gave {far}");
    // SAFETY: the operation does not exist.
    check!(unsafe { raw(PHYSDEV_OP, [99, 0, 0, 0, 0]) } < 0);
    Ok(())
}

fn assists() -> Outcome {
    // SAFETY: an assist concerns the runstate area, which is not registered.
    check_eq!(result(unsafe { raw(VM_ASSIST, [0, 5, 0, 0, 0]) }), Ok(0));
    // SAFETY: as above.
    check_eq!(result(unsafe { raw(VM_ASSIST, [1, 5, 0, 0, 0]) }), Ok(0));
    for (command, kind) in [(0, 0), (0, 77), (9, 5)] {
        // SAFETY: there is no such assist.
        check!(unsafe { raw(VM_ASSIST, [command, kind, 0, 0, 0]) } < 0);
    }
    Ok(())
}
