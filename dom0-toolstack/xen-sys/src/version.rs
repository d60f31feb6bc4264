//! What the hypervisor says of itself (`public/version.h`).

use hypercall_abi::hypercall::XEN_VERSION;
use hypercall_abi::version as abi;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::privcmd::Privcmd;

/// Texts that the hypervisor gives.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Text {
    /// What follows major and minor version, as in `.4-pre`.
    Extra,
    /// Kinds of guests, as in `xen-3.0-aarch64`.
    Capabilities,
    /// The commit it was built from.
    Changeset,
    /// Its command line.
    CommandLine,
}

/// Who built the hypervisor, with what and when.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CompileInfo {
    /// The compiler.
    pub compiler: String,
    /// User who built it.
    pub by: String,
    /// Where.
    pub domain: String,
    /// When.
    pub date: String,
}

/// What the hypervisor says of itself.
pub trait Version {
    /// Major and minor version.
    fn version(&self) -> Result<(u32, u32)>;
    /// One of its texts.
    fn text(&self, text: Text) -> Result<String>;
    /// How it was built.
    fn compile_info(&self) -> Result<CompileInfo>;
    /// Which build it is, empty where not known.
    fn build_id(&self) -> Result<Vec<u8>>;
    /// Bytes in a page.
    fn page_size(&self) -> Result<u32>;
    /// Where it lies in the guests' address space; 0 on Arm.
    fn virt_start(&self) -> Result<u64>;
}

impl Version for Privcmd {
    fn version(&self) -> Result<(u32, u32)> {
        let number = plain(self, "XENVER_version", abi::XENVER_VERSION)?;
        Ok((number >> 16, number & 0xffff))
    }

    fn text(&self, text: Text) -> Result<String> {
        let (call, operation) = match text {
            Text::Extra => ("XENVER_extraversion2", abi::XENVER_EXTRAVERSION2),
            Text::Capabilities => ("XENVER_capabilities2", abi::XENVER_CAPABILITIES2),
            Text::Changeset => ("XENVER_changeset2", abi::XENVER_CHANGESET2),
            Text::CommandLine => ("XENVER_commandline2", abi::XENVER_COMMANDLINE2),
        };
        Ok(string(&variable(self, call, operation)?))
    }

    fn compile_info(&self) -> Result<CompileInfo> {
        let mut info = abi::CompileInfo::default();
        let registers = [abi::XENVER_COMPILE_INFO.into(), 0, 0, 0, 0];
        // SAFETY: `struct xen_compile_info` holds no address.
        let answer = unsafe { self.call_with(XEN_VERSION, registers, 1, &mut info) };
        answer.map_err(|errno| Error::Call { call: "XENVER_compile_info", errno })?;
        Ok(CompileInfo {
            compiler: string(&info.compiler),
            by: string(&info.compile_by),
            domain: string(&info.compile_domain),
            date: string(&info.compile_date),
        })
    }

    fn build_id(&self) -> Result<Vec<u8>> {
        match variable(self, "XENVER_build_id", abi::XENVER_BUILD_ID) {
            Err(error) if error.is(Errno::NODATA) => Ok(Vec::new()),
            answer => answer,
        }
    }

    fn page_size(&self) -> Result<u32> {
        plain(self, "XENVER_pagesize", abi::XENVER_PAGESIZE)
    }

    fn virt_start(&self) -> Result<u64> {
        let mut parameters = abi::PlatformParameters::default();
        let registers = [abi::XENVER_PLATFORM_PARAMETERS.into(), 0, 0, 0, 0];
        // SAFETY: `struct xen_platform_parameters` holds no address that is followed.
        let answer = unsafe { self.call_with(XEN_VERSION, registers, 1, &mut parameters) };
        answer.map_err(|errno| Error::Call { call: "XENVER_platform_parameters", errno })?;
        Ok(parameters.virt_start)
    }
}

fn plain(privcmd: &Privcmd, call: &'static str, operation: u32) -> Result<u32> {
    // SAFETY: these operations take no argument.
    let answer = unsafe { privcmd.hypercall(XEN_VERSION, [operation.into(), 0, 0, 0, 0]) };
    answer.map_err(|errno| Error::Call { call, errno })
}

/// Reads a `xen_varbuf_t`: asked with no buffer first, for how long it is.
fn variable(privcmd: &Privcmd, call: &'static str, operation: u32) -> Result<Vec<u8>> {
    const HEADER: usize = size_of::<abi::VarbufHeader>();
    let length = plain(privcmd, call, operation)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; length as usize];
    let buffer = privcmd.buffer(HEADER + bytes.len())?;
    buffer.store_u32(0, length);
    // SAFETY: the buffer has room for as many bytes as its first word says.
    let answer =
        unsafe { privcmd.hypercall(XEN_VERSION, [operation.into(), buffer.address(), 0, 0, 0]) };
    let written = answer.map_err(|errno| Error::Call { call, errno })?;
    buffer.read(HEADER, &mut bytes);
    bytes.truncate(written as usize);
    Ok(bytes)
}

/// The text before the first zero byte.
fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or(bytes);
    String::from_utf8_lossy(text).into_owned()
}
