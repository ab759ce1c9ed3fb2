//! The settings of an endpoint: [`IpcConfig`] and [`Crc32Variant`], their defaults and their bounds.
//!
//! Plain data that (de)serializes. It must not know sockets, connections or calls. Settings that are only made in code
//! (retries, credit, concurrent calls) are on the builders.

use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::IpcError;

/// The credit for items with which a call starts, unless a builder sets another. A channel gives more than a server,
/// because a server has many clients.
pub(crate) const DEFAULT_CHANNEL_CREDIT: u64 = 1024 * 1024;
pub(crate) const DEFAULT_SERVER_CREDIT: u64 = 256 * 1024;

/// `DaemonEye`'s endpoint, the default of [`IpcConfig`].
const DEFAULT_ENDPOINT: &str =
    if cfg!(windows) { r"\\.\pipe\daemoneye\procmond" } else { "/var/run/daemoneye/procmond.sock" };

/// The smallest `max_frame_bytes` that a peer may announce. A Hello or the `Close` of an error always fits.
pub(crate) const MIN_MAX_FRAME_BYTES: usize = 4096;

/// The settings that both sides of an endpoint share.
///
/// Read it from a file with serde, or build it in code:
///
/// ```
/// use ipc_runtime::IpcConfig;
///
/// let config = IpcConfig { endpoint_path: "/run/user/1000/app/app.sock".into(), ..IpcConfig::default() };
/// assert_eq!(config.max_frame_bytes, 1024 * 1024);
/// ```
///
/// An unknown key is an error when it is deserialized. A missing key gets its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpcConfig {
    /// Where the server listens: the path of a Unix domain socket, or a Windows pipe name
    /// (`\\.\pipe\…`), used as it is. Default: `/var/run/daemoneye/procmond.sock`, on Windows
    /// `\\.\pipe\daemoneye\procmond`.
    pub endpoint_path: String,
    /// The largest message, in bytes, that this side sends or accepts in one frame. It includes the envelope, but not the
    /// 8 header bytes. At least 4096, at most `u32::MAX`. Default: 1 MiB.
    ///
    /// A larger request or response fails its own call with [`IpcError::TooLarge`] (or
    /// `RESOURCE_EXHAUSTED`), and none of its bytes is written.
    pub max_frame_bytes: usize,
    /// How long to wait for the peer, in milliseconds. Default: 30 000.
    ///
    /// - A frame that has begun must be complete within this time.
    /// - A connection is closed if nothing arrives for this time. A Ping is sent after a third of it, so a live peer
    ///   always answers in time.
    /// - A unary call that sets no timeout of its own has this deadline.
    /// - A peer must say Hello within this time, or within 5 seconds if that is shorter.
    /// - A call without a deadline tries a full server again for this time.
    pub read_timeout_ms: u64,
    /// How long a write may make no progress before the connection is closed, in milliseconds. Default: 10 000.
    pub write_timeout_ms: u64,
    /// How many connections a server serves at once. Further ones are refused with `RESOURCE_EXHAUSTED`, and their clients
    /// try again until there is a place. At least 1. Clients ignore this setting. Default: 16.
    ///
    /// If [`allow`](crate::ServerBuilder::allow) rules admit several users, a quarter of the places is reserved for users
    /// who have none.
    pub max_connections: usize,
    /// The checksum of every frame after the Hellos. Both sides must agree. Default: IEEE.
    pub crc32_variant: Crc32Variant,
}

impl Default for IpcConfig {
    fn default() -> Self {
        Self {
            endpoint_path: DEFAULT_ENDPOINT.to_owned(),
            max_frame_bytes: 1024 * 1024,
            read_timeout_ms: 30_000,
            write_timeout_ms: 10_000,
            max_connections: 16,
            crc32_variant: Crc32Variant::Ieee,
        }
    }
}

impl IpcConfig {
    /// Checks every field except the endpoint, which is checked when it is used.
    ///
    /// # Errors
    ///
    /// [`IpcError::Io`] of kind `InvalidInput` that names the first field out of bounds, its value and the allowed values.
    pub fn validate(&self) -> Result<(), IpcError> {
        let refuse = |field: &str, value: u64, bound: &str| {
            Err(IpcError::invalid_input(format!("{field} is {value}; set it to {bound}")))
        };
        let max_frame = u64::try_from(self.max_frame_bytes).unwrap_or(u64::MAX);
        if self.max_frame_bytes < MIN_MAX_FRAME_BYTES || max_frame > u64::from(u32::MAX) {
            return refuse("max_frame_bytes", max_frame, "4096 up to 4294967295 bytes");
        }
        if self.read_timeout_ms == 0 {
            return refuse("read_timeout_ms", 0, "at least 1 millisecond");
        }
        if self.write_timeout_ms == 0 {
            return refuse("write_timeout_ms", 0, "at least 1 millisecond");
        }
        if self.max_connections == 0 {
            return refuse("max_connections", 0, "at least 1");
        }
        Ok(())
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    /// How long a peer has to say Hello (wire protocol, section 3).
    pub(crate) fn hello_timeout(&self) -> Duration {
        self.read_timeout().min(Duration::from_secs(5))
    }
}

/// The CRC-32 of a connection's frames.
///
/// In configuration files: `ieee` or `castagnoli`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crc32Variant {
    /// IEEE 802.3, the `crc32` of zlib and gzip.
    #[default]
    #[serde(alias = "Ieee")]
    Ieee,
    /// Castagnoli, CRC-32C, which many processors compute in hardware (RFC 3720, appendix B.4).
    #[serde(alias = "Castagnoli")]
    Castagnoli,
}

/// Clone this instead of making a new one. A new one detects the processor's features again, which costs as much as the
/// checksum of a small frame.
static IEEE: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);

impl Crc32Variant {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn checksum(self, bytes: &[u8]) -> u32 {
        match self {
            Self::Ieee => {
                let mut hasher = IEEE.clone();
                hasher.update(bytes);
                hasher.finalize()
            }
            Self::Castagnoli => crc32c::crc32c(bytes),
        }
    }

    /// The name used in configuration files and in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ieee => "ieee",
            Self::Castagnoli => "castagnoli",
        }
    }
}

impl std::fmt::Display for Crc32Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut IpcConfig)) -> String {
        let mut config = IpcConfig::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_valid_and_as_documented() {
        let config = IpcConfig::default();
        config.validate().unwrap();
        assert_eq!(
            (config.max_frame_bytes, config.read_timeout_ms, config.write_timeout_ms, config.max_connections),
            (1_048_576, 30_000, 10_000, 16)
        );
        assert_eq!(config.crc32_variant, Crc32Variant::Ieee);
    }

    #[test]
    fn bounds_are_checked_at_their_edges() {
        assert_eq!(
            refused(|c| c.max_frame_bytes = 4095),
            "max_frame_bytes is 4095; set it to 4096 up to 4294967295 bytes"
        );
        IpcConfig { max_frame_bytes: 4096, ..Default::default() }.validate().unwrap();
        IpcConfig { max_frame_bytes: 4097, ..Default::default() }.validate().unwrap();
        IpcConfig { max_frame_bytes: u32::MAX as usize, ..Default::default() }.validate().unwrap();
        assert_eq!(
            refused(|c| c.max_frame_bytes = u32::MAX as usize + 1),
            "max_frame_bytes is 4294967296; set it to 4096 up to 4294967295 bytes"
        );
        assert_eq!(
            refused(|c| c.read_timeout_ms = 0),
            "read_timeout_ms is 0; set it to at least 1 millisecond"
        );
        assert_eq!(
            refused(|c| c.write_timeout_ms = 0),
            "write_timeout_ms is 0; set it to at least 1 millisecond"
        );
        assert_eq!(refused(|c| c.max_connections = 0), "max_connections is 0; set it to at least 1");
    }

    #[test]
    fn serde_keeps_values_fills_defaults_and_refuses_unknown_keys() {
        let config: IpcConfig =
            serde_json::from_str(r#"{"endpoint_path":"/x","crc32_variant":"castagnoli"}"#).unwrap();
        assert_eq!(config.crc32_variant, Crc32Variant::Castagnoli);
        assert_eq!(config.read_timeout_ms, 30_000);
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<IpcConfig>(&text).unwrap(), config);
        let error = serde_json::from_str::<IpcConfig>(r#"{"endpoint":"/x"}"#).unwrap_err().to_string();
        assert!(error.starts_with("unknown field `endpoint`, expected one of `endpoint_path`"), "{error}");
    }

    #[test]
    fn checksums_match_their_published_check_values() {
        assert_eq!(Crc32Variant::Ieee.checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(Crc32Variant::Castagnoli.checksum(b"123456789"), 0xe306_9283);
    }
}
