//! Arguments that both programs take.

use clap::{Args, ValueEnum};
use ipc_runtime::{Crc32Variant, IpcConfig};

/// Where the two meet, and how they check their frames.
#[derive(Args, Clone, Debug)]
pub struct Endpoint {
    /// Path of the socket, on Windows name of the pipe
    #[arg(long, value_name = "PATH")]
    pub socket: String,
    /// Checksum of the frames
    #[arg(long, value_enum, default_value_t = Crc::Ieee)]
    pub crc: Crc,
}

impl Endpoint {
    /// The default configuration with this endpoint and checksum.
    #[must_use]
    pub fn config(&self) -> IpcConfig {
        IpcConfig {
            endpoint_path: self.socket.clone(),
            crc32_variant: self.crc.into(),
            ..IpcConfig::default()
        }
    }
}

/// [`Crc32Variant`] as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Crc {
    /// IEEE 802.3, as in zlib
    Ieee,
    /// Castagnoli, CRC-32C
    Castagnoli,
}

impl From<Crc> for Crc32Variant {
    fn from(crc: Crc) -> Self {
        match crc {
            Crc::Ieee => Self::Ieee,
            Crc::Castagnoli => Self::Castagnoli,
        }
    }
}
