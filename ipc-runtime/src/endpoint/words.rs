//! What people are told about endpoints in the platform's own words.

/// Texts for errors in the platform's own terms.
pub(crate) struct Words {
    /// What the platform calls an endpoint's name.
    pub(super) name: &'static str,
    /// Remedy if nothing has the endpoint's name.
    pub(crate) missing: &'static str,
    /// Remedy if the name exists but no server listens on it.
    pub(crate) abandoned: &'static str,
    /// Remedy if this user is not admitted.
    pub(crate) denied: &'static str,
    /// Remedy if the server runs as another user.
    pub(crate) stranger: &'static str,
}
