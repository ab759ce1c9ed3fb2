//! Who is at the other end: [`PeerInfo`], and which schema of a service it has: [`Schema`].
//!
//! The operating system says who a process is. What it says about itself is kept apart. Plain data.

/// Who is at the other end of a connection.
///
/// Process and user are what the operating system says (`SO_PEERCRED` and its kin): for a client the process that
/// listens, for a server the one that connected, at that time. The rest is what the peer says of itself in its
/// Hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The process id; `None` where the system does not tell.
    pub pid: Option<u32>,
    /// The effective user id; `None` on Windows.
    pub uid: Option<u32>,
    /// The effective group id; supplementary groups are not told. `None` on Windows.
    pub gid: Option<u32>,
    /// On Windows' clients: the security identifier of the user to whom the server's pipe belongs, such as `S-1-5-18`.
    /// `None` on servers, whose pipe admits their own user alone, and on Unix.
    pub sid: Option<String>,
    /// The application's own version, as the peer gives it; may be empty.
    pub version: String,
    /// On clients: drawn by the server when it started, so another value means that it was started again.
    pub instance_id: u64,
    /// The server's services, each with the fingerprint of its schema.
    services: Vec<(String, u64)>,
}

impl PeerInfo {
    /// On clients: the full names of the services that the server has.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|(name, _)| name.as_str())
    }

    /// On clients: the fingerprint of the server's schema of a service; `None` if it does not have the service or
    /// gives no fingerprint.
    #[must_use]
    pub fn fingerprint(&self, service: &str) -> Option<u64> {
        let (_, fingerprint) = self.services.iter().find(|(name, _)| name == service)?;
        (*fingerprint != 0).then_some(*fingerprint)
    }

    /// On clients: whether the server's schema of a service is the same as this one, which generated clients have as
    /// `SCHEMA`. `None` if either side does not say.
    ///
    /// ```
    /// # use ipc_runtime::{PeerInfo, Schema};
    /// # fn warn(server: &PeerInfo, schema: Schema) {
    /// if server.has_schema(schema) == Some(false) {
    ///     eprintln!("the server was built from another version of {}", schema.service());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn has_schema(&self, schema: Schema) -> Option<bool> {
        let theirs = self.fingerprint(schema.service)?;
        (schema.fingerprint != 0).then_some(theirs == schema.fingerprint)
    }

    /// The same peer, with what it said about itself.
    pub(crate) fn with_own_words(
        mut self,
        version: &str,
        instance_id: u64,
        services: impl Iterator<Item = (String, u64)>,
    ) -> Self {
        version.clone_into(&mut self.version);
        self.instance_id = instance_id;
        self.services = services.collect();
        self
    }
}

/// Which schema of a service a program was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    service: &'static str,
    fingerprint: u64,
}

impl Schema {
    /// The schema with this fingerprint (0: unknown) of a service, given by its full name. Generated code calls it.
    #[must_use]
    pub const fn new(service: &'static str, fingerprint: u64) -> Self {
        Self { service, fingerprint }
    }

    /// The service's full name, such as `greeter.v1.Greeter`.
    #[must_use]
    pub const fn service(self) -> &'static str {
        self.service
    }

    /// Equal for equal schemas: methods, their kinds, and all messages they use. 0: unknown.
    #[must_use]
    pub const fn fingerprint(self) -> u64 {
        self.fingerprint
    }
}
