//! The one YAML file that all programs read, and the flags that override it.
//!
//! It must not know what the settings are used for.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipc_runtime::{Crc32Variant, IpcConfig};
use serde::Deserialize;

use crate::platform;
use crate::rules::{Rule, RuleSet};

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// procmond's endpoint, and the limits of every connection.
    pub ipc: IpcConfig,
    /// The agent's own settings.
    pub agent: AgentSettings,
}

/// What only the agent uses, and its endpoint, which the command line uses too.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// Where the agent listens.
    pub endpoint_path: String,
    /// How often the executables of new processes are hashed for the block list, in milliseconds.
    pub interval_ms: u64,
    /// The rules that run.
    pub rules: Vec<Rule>,
    /// What counts as a temporary folder.
    pub temporary_folders: Vec<PathBuf>,
    /// SHA-256 in hexadecimal, and what it is the hash of.
    pub blocked_hashes: BTreeMap<String, String>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            endpoint_path: platform::AGENT_ENDPOINT.into(),
            interval_ms: 5_000,
            rules: Rule::ALL.into(),
            temporary_folders: platform::TEMPORARY_FOLDERS.iter().map(PathBuf::from).collect(),
            blocked_hashes: BTreeMap::new(),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("{}: {source}; name a readable file with --config", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The file system's reason.
        source: io::Error,
    },
    /// The file is not YAML, or has a key or value that does not exist.
    #[error("{}: {source}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's reason, with its line.
        source: Box<serde_saphyr::Error>,
    },
    /// A value that can't be used.
    #[error("{key} is {value}; set it to {remedy}")]
    Value {
        /// The key's path.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        remedy: &'static str,
    },
}

impl Settings {
    /// Reads the named file; without a name the first that exists of
    /// [`config_places`](platform::config_places), and without any the defaults.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when a named file is missing, or any can't be read or understood.
    pub fn load(named: Option<&Path>) -> Result<Self, SettingsError> {
        if let Some(path) = named {
            return Self::read(path.into());
        }
        match platform::config_places().into_iter().find(|path| path.exists()) {
            Some(path) => Self::read(path),
            None => Ok(Self::default()),
        }
    }

    fn read(path: PathBuf) -> Result<Self, SettingsError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        let options = serde_saphyr::options! { with_snippet: false };
        let settings: Self = serde_saphyr::from_str_with_options(&text, options)
            .map_err(|source| SettingsError::Parse { path, source: Box::new(source) })?;
        tracing::debug!(?settings, "settings read");
        Ok(settings)
    }

    /// The agent's endpoint, with the limits of every connection.
    #[must_use]
    pub fn agent_ipc(&self) -> IpcConfig {
        IpcConfig { endpoint_path: self.agent.endpoint_path.clone(), ..self.ipc.clone() }
    }
}

impl AgentSettings {
    /// The rules, with what they need.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Value`] when a blocked hash is no SHA-256.
    pub fn rule_set(&self) -> Result<RuleSet, SettingsError> {
        let is_sha256 = |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(hash) = self.blocked_hashes.keys().find(|hash| !is_sha256(hash)) {
            return Err(SettingsError::Value {
                key: "agent.blocked_hashes",
                value: hash.clone(),
                remedy: "64 hexadecimal digits of a SHA-256 each",
            });
        }
        let lower = self.blocked_hashes.iter().map(|(hash, name)| (hash.to_ascii_lowercase(), name.clone()));
        Ok(RuleSet {
            rules: self.rules.iter().copied().collect(),
            temporary_folders: self.temporary_folders.clone(),
            blocked_hashes: lower.collect(),
        })
    }

    /// The time from one look to the next.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Value`] when it is 0.
    pub fn interval(&self) -> Result<Duration, SettingsError> {
        if self.interval_ms == 0 {
            let remedy = "at least 1 millisecond";
            return Err(SettingsError::Value { key: "agent.interval_ms", value: "0".into(), remedy });
        }
        Ok(Duration::from_millis(self.interval_ms))
    }
}

/// The flags that every program has.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// The settings file; without it, daemoneye/daemoneye.yaml in the user's and then the system's
    /// configuration folder
    #[arg(long, value_name = "PATH", env = "DAEMONEYE_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// procmond's endpoint (`ipc.endpoint_path`)
    #[arg(long, value_name = "PATH", global = true)]
    pub endpoint: Option<String>,
    /// The agent's endpoint (`agent.endpoint_path`)
    #[arg(long, value_name = "PATH", global = true)]
    pub agent_endpoint: Option<String>,
    /// The checksum of frames (`ipc.crc32_variant`); both sides must agree
    #[arg(long, value_name = "VARIANT", value_parser = crc(), global = true)]
    pub crc: Option<Crc32Variant>,
    /// The largest frame (`ipc.max_frame_bytes`)
    #[arg(long, value_name = "BYTES", global = true)]
    pub max_frame_bytes: Option<usize>,
    /// `ipc.read_timeout_ms`
    #[arg(long, value_name = "MS", global = true)]
    pub read_timeout_ms: Option<u64>,
    /// `ipc.write_timeout_ms`
    #[arg(long, value_name = "MS", global = true)]
    pub write_timeout_ms: Option<u64>,
    /// The most clients at once (`ipc.max_connections`)
    #[arg(long, value_name = "N", global = true)]
    pub max_connections: Option<usize>,
}

fn crc() -> impl TypedValueParser<Value = Crc32Variant> {
    const VARIANTS: [Crc32Variant; 2] = [Crc32Variant::Ieee, Crc32Variant::Castagnoli];
    PossibleValuesParser::new(VARIANTS.map(Crc32Variant::as_str)).map(|name| {
        if name == Crc32Variant::Castagnoli.as_str() { Crc32Variant::Castagnoli } else { Crc32Variant::Ieee }
    })
}

impl Flags {
    /// The settings of the file, overridden by these flags.
    ///
    /// # Errors
    ///
    /// Those of [`Settings::load`].
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        fn replace<T: Clone>(setting: &mut T, flag: Option<&T>) {
            if let Some(value) = flag {
                *setting = value.clone();
            }
        }

        let mut settings = Settings::load(self.config.as_deref())?;
        let ipc = &mut settings.ipc;
        replace(&mut ipc.endpoint_path, self.endpoint.as_ref());
        replace(&mut ipc.crc32_variant, self.crc.as_ref());
        replace(&mut ipc.max_frame_bytes, self.max_frame_bytes.as_ref());
        replace(&mut ipc.read_timeout_ms, self.read_timeout_ms.as_ref());
        replace(&mut ipc.write_timeout_ms, self.write_timeout_ms.as_ref());
        replace(&mut ipc.max_connections, self.max_connections.as_ref());
        replace(&mut settings.agent.endpoint_path, self.agent_endpoint.as_ref());
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    fn settings(yaml: &str, flags: &[&str]) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, yaml).unwrap();
        let path = file.path().to_str().unwrap();
        let program = Program::try_parse_from([&["program", "--config", path], flags].concat());
        let settings = program.map_err(|error| error.to_string())?.flags.settings();
        settings.map_err(|error| error.to_string().replace(path, "FILE"))
    }

    #[test]
    fn what_the_file_leaves_out_has_its_default() {
        let settings =
            settings("ipc:\n  endpoint_path: /x.sock\n  crc32_variant: castagnoli\n", &[]).unwrap();
        let crc32_variant = Crc32Variant::Castagnoli;
        let expected = IpcConfig { endpoint_path: "/x.sock".into(), crc32_variant, ..Default::default() };
        assert_eq!(settings.ipc, expected);
        assert_eq!(settings.agent.endpoint_path, platform::AGENT_ENDPOINT);
        assert_eq!(settings.agent.rules, Rule::ALL);
    }

    #[test]
    fn flags_override_the_file() {
        let yaml = "ipc: {endpoint_path: /x.sock, max_connections: 3}\nagent: {endpoint_path: /a.sock}\n";
        let flags = ["--endpoint", "/y.sock", "--crc", "castagnoli", "--max-frame-bytes", "8192"];
        let settings = settings(yaml, &flags).unwrap();
        let expected = IpcConfig {
            endpoint_path: "/y.sock".into(),
            crc32_variant: Crc32Variant::Castagnoli,
            max_frame_bytes: 8192,
            max_connections: 3,
            ..Default::default()
        };
        assert_eq!(settings.ipc, expected);
        assert_eq!(settings.agent_ipc(), IpcConfig { endpoint_path: "/a.sock".into(), ..expected });
    }

    #[test]
    fn the_shipped_file_is_the_defaults() {
        let shipped = settings(include_str!("../daemoneye.yaml"), &[]).unwrap();
        let default = Settings::default();
        assert_eq!(shipped.ipc, default.ipc);
        assert_eq!(shipped.agent.endpoint_path, default.agent.endpoint_path);
        assert_eq!(shipped.agent.rule_set().unwrap().rules, default.agent.rule_set().unwrap().rules);
        assert_eq!(shipped.agent.interval_ms, default.agent.interval_ms);
        assert_eq!(shipped.agent.temporary_folders, default.agent.temporary_folders);
    }

    #[test]
    fn a_key_that_does_not_exist_is_named_with_its_file() {
        let cases = [
            (
                "ipc:\n  endpoint: /x\n",
                "FILE: unknown field `endpoint`, expected one of endpoint_path, max_frame_bytes, \
                 read_timeout_ms, write_timeout_ms, max_connections, crc32_variant at line 2, column 3",
            ),
            ("agents: {}\n", "FILE: unknown field `agents`, expected one of ipc, agent at line 1, column 1"),
            (
                "agent: {rules: [deleted]}\n",
                "FILE: unknown variant `deleted`, expected one of deleted-executable, temporary-folder, \
                 kernel-thread-imitation, blocked-hash at line 1, column 17",
            ),
        ];
        for (yaml, error) in cases {
            assert_eq!(settings(yaml, &[]).unwrap_err(), error);
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Settings::load(Some(Path::new("/nowhere/x.yaml"))).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/x.yaml: "), "{error}");
        assert!(error.ends_with("; name a readable file with --config"), "{error}");
    }

    #[test]
    fn unusable_values_are_named_with_what_is_allowed() {
        let hashes =
            AgentSettings { blocked_hashes: [("abc".into(), "x".into())].into(), ..Default::default() };
        assert_eq!(
            hashes.rule_set().unwrap_err().to_string(),
            "agent.blocked_hashes is abc; set it to 64 hexadecimal digits of a SHA-256 each"
        );
        let interval = AgentSettings { interval_ms: 0, ..Default::default() };
        assert_eq!(
            interval.interval().unwrap_err().to_string(),
            "agent.interval_ms is 0; set it to at least 1 millisecond"
        );
        let upper = [("AB".repeat(32), "x".to_owned())].into();
        let upper = AgentSettings { blocked_hashes: upper, ..Default::default() };
        assert!(upper.rule_set().unwrap().blocked_hashes.contains_key(&"ab".repeat(32)));
    }

    #[test]
    fn a_checksum_that_does_not_exist_is_refused_with_those_that_do() {
        let error = settings("", &["--crc", "md5"]).unwrap_err();
        assert!(error.contains("[possible values: ieee, castagnoli]"), "{error}");
    }
}
