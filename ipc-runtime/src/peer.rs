//! [`PeerInfo`]: who the peer is. [`Schema`]: which schema of a service it has.
//!
//! Plain data. Facts from the operating system are separate from what the peer says about itself.

/// Who the peer of a connection is.
///
/// Process and user come from the operating system (`SO_PEERCRED` and its equivalents). For a client, they are those of
/// the process that listens. For a server, they are those of the process that connected, at that time. All other fields
/// are what the peer says about itself in its Hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The process id; `None` if the system does not report it.
    pub pid: Option<u32>,
    /// The effective user id; `None` on Windows.
    pub uid: Option<u32>,
    /// The effective group id. The system does not report supplementary groups. `None` on Windows.
    pub gid: Option<u32>,
    /// On clients on Windows: the security identifier of the owner of the server's pipe, such as `S-1-5-18`. `None` on
    /// servers, because their pipe only admits their own user. `None` on Unix.
    pub sid: Option<String>,
    /// The version of the peer's application, as the peer states it. May be empty.
    pub version: String,
    /// On clients: a random number that the server chose when it started. A new value means that the server restarted.
    pub instance_id: u64,
    /// The server's services, each with the fingerprint of its schema.
    services: Vec<(String, u64)>,
}

impl PeerInfo {
    /// On clients: the full names of the services that the server has.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|(name, _)| name.as_str())
    }

    /// On clients: the fingerprint of the server's schema of a service. `None` if the server does not have the service or
    /// gives no fingerprint.
    #[must_use]
    pub fn fingerprint(&self, service: &str) -> Option<u64> {
        let (_, fingerprint) = self.services.iter().find(|(name, _)| name == service)?;
        (*fingerprint != 0).then_some(*fingerprint)
    }

    /// On clients: whether the server has the same schema of a service. Generated clients have their schema as `SCHEMA`.
    /// `None` if one of the sides gives no fingerprint.
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

    /// The same peer, with the facts that it stated about itself.
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
    /// The schema of the service with this full name. A `fingerprint` of 0 means unknown. Generated code calls this.
    #[must_use]
    pub const fn new(service: &'static str, fingerprint: u64) -> Self {
        Self { service, fingerprint }
    }

    /// The service's full name, such as `greeter.v1.Greeter`.
    #[must_use]
    pub const fn service(self) -> &'static str {
        self.service
    }

    /// The fingerprint. It is equal for equal schemas: methods, their kinds, and all messages they use. 0: unknown.
    #[must_use]
    pub const fn fingerprint(self) -> u64 {
        self.fingerprint
    }
}
