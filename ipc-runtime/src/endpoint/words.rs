//! What people are told about endpoints in the platform's own words.

/// What people are told in the platform's own words.
pub(crate) struct Words {
    /// What an endpoint's name is.
    pub(super) name: &'static str,
    /// Remedy where nothing has the endpoint's name.
    pub(crate) missing: &'static str,
    /// Remedy where something has it that nobody listens on.
    pub(crate) abandoned: &'static str,
    /// Remedy where this user is not let in.
    pub(crate) denied: &'static str,
    /// Remedy where the server runs as another user.
    pub(crate) stranger: &'static str,
}
