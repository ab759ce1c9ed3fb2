//! Whom the file system lets in where a server listens.

/// Whom the file system lets in, where it has a say. Who may really call is judged by the peer's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The own user.
    Private,
    /// Other users as well, because a rule allows some.
    Open,
}

impl Access {
    /// The socket's mode: connecting takes the right to write.
    pub(crate) const fn socket_mode(self) -> u16 {
        match self {
            Self::Private => 0o600,
            Self::Open => 0o666,
        }
    }

    /// The mode of a directory that is made: others may pass through, not look.
    #[cfg_attr(windows, expect(dead_code, reason = "pipes have no directory"))]
    pub(crate) const fn directory_mode(self) -> u16 {
        match self {
            Self::Private => 0o700,
            Self::Open => 0o711,
        }
    }
}
