//! A guest kernel: an arm64 Linux `Image`, plain or gzip'd (Linux, Documentation/arch/arm64/booting.rst).

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use flate2::read::GzDecoder;

use crate::error::{Error, Result};

/// Bytes of a guest's image: kept in its file where possible, since a file can be read straight
/// into the guest.
#[derive(Debug)]
pub enum Content {
    /// All of a file.
    File {
        /// The open file.
        file: File,
        /// Its size.
        length: u64,
    },
    /// Bytes that no file holds as they are.
    Bytes(Vec<u8>),
}

impl Content {
    /// Opens a file that is taken as it is, as a ramdisk is.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::file("open", path, source))?;
        let metadata = file.metadata().map_err(|source| Error::file("examine", path, source))?;
        if !metadata.is_file() {
            let source = std::io::Error::other("not a regular file");
            return Err(Error::file("read", path, source));
        }
        Ok(Self::File { file, length: metadata.len() })
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// A kernel that can be placed.
#[derive(Debug)]
pub struct Kernel {
    /// Its bytes.
    pub content: Content,
    /// Where it wants to lie above a 2 MiB boundary.
    pub text_offset: u64,
    /// How much memory it takes there, with what it clears itself.
    pub size: u64,
}

const HEADER: usize = 64;
/// "ARM\x64"
const MAGIC: u32 = 0x644d_5241;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Where kernels older than 3.17 lie, whose headers give no size.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;

impl Kernel {
    /// Opens the image at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let content = Content::open(path)?;
        let Content::File { mut file, length } = content else { return Self::of(path, content) };
        let mut start = [0; HEADER];
        let unreadable = |source| Error::file("read", path, source);
        let count = read_up_to(&mut file, &mut start).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        if !start.starts_with(&GZIP) {
            let header = start.get(..count).unwrap_or(&start);
            return Self::with_header(path, header, Content::File { file, length });
        }
        let mut bytes = Vec::new();
        GzDecoder::new(file).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::of(path, Content::Bytes(bytes))
    }

    fn of(path: &Path, content: Content) -> Result<Self> {
        let header = match &content {
            Content::Bytes(bytes) => bytes.get(..HEADER).unwrap_or(bytes).to_vec(),
            Content::File { .. } => Vec::new(),
        };
        Self::with_header(path, &header, content)
    }

    fn with_header(path: &Path, header: &[u8], content: Content) -> Result<Self> {
        let bad = |why| Error::NotAKernel { path: path.into(), why };
        let field = |offset: usize| {
            let bytes = header.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or_else(|| bad("it is shorter than an image's header"))
        };
        let (text_offset, image_size, flags) = (field(8)?, field(16)?, field(24)?);
        let magic = field(56)? & 0xffff_ffff;
        if magic != u64::from(MAGIC) {
            return Err(bad("the header's magic number is missing"));
        }
        if flags & 1 == 1 {
            return Err(bad("it is a big-endian kernel"));
        }
        let old = image_size == 0;
        let text_offset = if old { OLD_TEXT_OFFSET } else { text_offset };
        if text_offset >= 2 << 20 {
            return Err(bad("its text offset is beyond 2 MiB"));
        }
        let size = image_size.max(content.length());
        Ok(Self { content, text_offset, size })
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// An image of `length` bytes with a good header.
    pub(crate) fn image(length: usize) -> Vec<u8> {
        let mut bytes = vec![0x55; length];
        bytes[8..16].copy_from_slice(&0_u64.to_le_bytes());
        bytes[16..24].copy_from_slice(&0x20_0000_u64.to_le_bytes());
        bytes[24..32].copy_from_slice(&0xa_u64.to_le_bytes());
        bytes[56..60].copy_from_slice(&MAGIC.to_le_bytes());
        bytes
    }

    #[test]
    fn a_plain_image_stays_in_its_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&image(5000)).unwrap();
        let kernel = Kernel::open(file.path()).unwrap();
        assert!(matches!(kernel.content, Content::File { length: 5000, .. }));
        assert_eq!((kernel.text_offset, kernel.size), (0, 0x20_0000));
    }

    #[test]
    fn a_compressed_image_is_unpacked() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&image(5000)).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&encoder.finish().unwrap()).unwrap();
        let kernel = Kernel::open(file.path()).unwrap();
        assert!(matches!(&kernel.content, Content::Bytes(bytes) if *bytes == image(5000)));
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_a_reason() {
        for (bytes, reason) in [
            (b"short".to_vec(), "shorter"),
            (vec![0; 100], "magic"),
            (b"\x1f\x8bgarbage".to_vec(), "cannot read"),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let error = Kernel::open(file.path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = Kernel::open(Path::new("/nonexistent/kernel")).unwrap_err().to_string();
        assert!(error.starts_with("cannot open /nonexistent/kernel: No such file"), "{error}");
    }
}
