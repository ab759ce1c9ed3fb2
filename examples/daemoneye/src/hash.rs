//! SHA-256 of files, read in pieces, with a limit on what is worth reading.
//!
//! It must not know processes or tasks.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The one algorithm there is, as the messages name it.
pub const ALGORITHM: &str = "sha256";

/// Files above this size are refused: 512 MiB, some seconds of one core.
pub const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

const PIECE_BYTES: usize = 64 * 1024;

/// Why a file has no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Not the algorithm that this program has.
    #[error("hash algorithm '{0}' is not supported; use sha256")]
    Algorithm(String),
    /// A folder, a device, a pipe: reading it may never end.
    #[error("{} is not a regular file; name an executable file", .0.display())]
    NotAFile(PathBuf),
    /// Above the limit.
    #[error("{} has {size} bytes, more than the limit of {limit}; hash it where it lies", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes, or as much of it as was read.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file system refused.
    #[error("{} can't be read: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// The program is shutting down.
    #[error("hashing was interrupted: {0}; ask again")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Whether `name` is an algorithm that this program has; empty means its own choice.
///
/// # Errors
///
/// [`HashError::Algorithm`] when it is not.
pub fn check_algorithm(name: &str) -> Result<(), HashError> {
    if name.is_empty() || name.eq_ignore_ascii_case(ALGORITHM) || name.eq_ignore_ascii_case("sha-256") {
        Ok(())
    } else {
        Err(HashError::Algorithm(name.to_owned()))
    }
}

/// The SHA-256 of a file, in lower-case hexadecimal, worked out on a thread that may block.
///
/// # Errors
///
/// [`HashError`] when `path` is no regular file, larger than `limit` bytes, or can't be read.
pub async fn of_file(path: PathBuf, limit: u64) -> Result<String, HashError> {
    tokio::task::spawn_blocking(move || read_and_hash(&path, limit)).await?
}

fn read_and_hash(path: &Path, limit: u64) -> Result<String, HashError> {
    let failed = |source| HashError::Io { path: path.to_owned(), source };
    // Asked before opening, because opening a pipe waits for its writer.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(HashError::NotAFile(path.to_owned()));
    }
    let too_large = |size| HashError::TooLarge { path: path.to_owned(), size, limit };
    if metadata.len() > limit {
        return Err(too_large(metadata.len()));
    }
    // A file can grow while it is read; one byte above the limit tells.
    let mut file = File::open(path).map_err(failed)?.take(limit.saturating_add(1));
    let (mut hasher, mut piece, mut size) = (Sha256::new(), vec![0; PIECE_BYTES], 0_u64);
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&piece[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    if size > limit { Err(too_large(size)) } else { Ok(hex(&hasher.finalize())) }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, content).unwrap();
        file
    }

    #[tokio::test]
    async fn published_digests_come_out() {
        let abc = file(b"abc");
        assert_eq!(
            of_file(abc.path().into(), 3).await.unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let million = file(&vec![b'a'; 1_000_000]);
        assert_eq!(
            of_file(million.path().into(), MAX_FILE_BYTES).await.unwrap(),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        );
    }

    #[tokio::test]
    async fn one_byte_above_the_limit_is_too_much() {
        let abc = file(b"abc");
        let error = of_file(abc.path().into(), 2).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} has 3 bytes, more than the limit of 2; hash it where it lies", abc.path().display())
        );
    }

    #[tokio::test]
    async fn a_folder_is_refused_and_a_missing_file_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = of_file(folder.path().into(), 10).await.unwrap_err();
        assert!(matches!(error, HashError::NotAFile(path) if path == folder.path()));
        let missing = folder.path().join("missing");
        let error = of_file(missing.clone(), 10).await.unwrap_err();
        assert!(matches!(error, HashError::Io { path, source }
            if path == missing && source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn other_algorithms_are_refused_by_name() {
        for known in ["", "sha256", "SHA-256"] {
            check_algorithm(known).unwrap();
        }
        assert_eq!(
            check_algorithm("md5").unwrap_err().to_string(),
            "hash algorithm 'md5' is not supported; use sha256"
        );
    }
}
