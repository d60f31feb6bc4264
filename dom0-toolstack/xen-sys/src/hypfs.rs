//! The hypervisor's settings that can be changed while it runs (`public/hypfs.h`).

use hypercall_abi::hypercall::HYPFS_OP;
use hypercall_abi::hypfs::XEN_HYPFS_OP_WRITE_CONTENTS;

use crate::error::{Error, Result};
use crate::privcmd::{Buffer, Privcmd};

impl Privcmd {
    /// Gives the setting `name`, which is a text, another value.
    pub fn set_parameter(&self, name: &str, value: &str) -> Result<()> {
        const CALL: &str = "XEN_HYPFS_OP_write_contents";
        let path = self.text(&format!("/params/{name}"))?;
        let contents = self.text(value)?;
        let length = |text: &str| text.len() as u64 + 1;
        let registers = [
            u64::from(XEN_HYPFS_OP_WRITE_CONTENTS),
            path.address(),
            length("/params/") + name.len() as u64,
            contents.address(),
            length(value),
        ];
        // SAFETY: both addresses are those of buffers that are held over the call and as long as said.
        let answer = unsafe { self.hypercall(HYPFS_OP, registers) };
        answer.map(drop).map_err(|errno| Error::Call { call: CALL, errno })
    }

    /// A buffer with a text and its final zero.
    fn text(&self, text: &str) -> Result<Buffer<'_>> {
        let buffer = self.buffer(text.len() + 1)?;
        buffer.write(0, text.as_bytes());
        Ok(buffer)
    }
}
