//! Whom the file system lets in where a server listens.

/// Which users the file system admits, on systems where it decides. The peer's credentials are always checked as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The own user.
    Private,
    /// Other users as well, because a rule allows some.
    Open,
}

impl Access {
    /// The socket's mode. Connecting needs the right to write.
    pub(crate) const fn socket_mode(self) -> u16 {
        match self {
            Self::Private => 0o600,
            Self::Open => 0o666,
        }
    }

    /// The mode of a directory that is created. Others may enter it but not list it.
    #[cfg_attr(windows, expect(dead_code, reason = "pipes have no directory"))]
    pub(crate) const fn directory_mode(self) -> u16 {
        match self {
            Self::Private => 0o700,
            Self::Open => 0o711,
        }
    }
}
