//! The console and pipes as `embedded-io`'s readers and writers, waiting and async.

use crate::console::Console;
use crate::pipe::{Pipe, PipeError};
use crate::ring::RingError;
use embedded_io::{Error, ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};

impl Error for RingError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidData
    }
}

impl Error for PipeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Closed => ErrorKind::BrokenPipe,
            Self::Ring(_) => ErrorKind::InvalidData,
            Self::Grant(_) | Self::Hypercall(_) | Self::Store(_) => ErrorKind::Other,
        }
    }
}

impl ErrorType for Console {
    type Error = RingError;
}

impl Read for Console {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        Self::read(self, buffer)
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, RingError> {
        Self::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), RingError> {
        Ok(())
    }
}

impl embedded_io_async::Read for Console {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RingError> {
        self.read_async(buffer).await
    }
}

impl embedded_io_async::Write for Console {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, RingError> {
        Self::write(self, bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), RingError> {
        Ok(())
    }
}

impl ErrorType for Pipe {
    type Error = PipeError;
}

/// The other end's going away is the end of the bytes.
fn end(read: Result<usize, PipeError>) -> Result<usize, PipeError> {
    if read == Err(PipeError::Closed) { Ok(0) } else { read }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError> {
        end(Self::read(self, buffer))
    }
}

impl ReadReady for Pipe {
    fn read_ready(&mut self) -> Result<bool, PipeError> {
        Ok(self.is_closed() || self.available()? > 0)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, PipeError> {
        Self::write(self, bytes)
    }

    fn flush(&mut self) -> Result<(), PipeError> {
        Self::flush(self)
    }
}

impl WriteReady for Pipe {
    fn write_ready(&mut self) -> Result<bool, PipeError> {
        Ok(self.is_closed() || self.room()? > 0)
    }
}

impl embedded_io_async::Read for Pipe {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, PipeError> {
        end(self.read_async(buffer).await)
    }
}

impl embedded_io_async::Write for Pipe {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, PipeError> {
        self.write_async(bytes).await
    }

    async fn flush(&mut self) -> Result<(), PipeError> {
        self.flush_async().await
    }
}
