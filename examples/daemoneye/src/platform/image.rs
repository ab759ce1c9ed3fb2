//! The file that a process runs, and whether it still is the one on disk.

use std::path::{Path, PathBuf};

/// What a process runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Where it was when it started; `None` where this program may not look.
    pub path: Option<PathBuf>,
    /// Whether a file stands there now.
    pub exists: bool,
    /// Whether that file was deleted or replaced since the process started it.
    pub changed: bool,
}

#[cfg(target_os = "linux")]
impl Image {
    /// Asks the kernel about process `pid`; `_reported` has lost what the kernel says of deletion.
    pub(crate) fn of(pid: u32, _reported: Option<&Path>) -> Self {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;

        let link = proc_link(pid);
        let Ok(target) = std::fs::read_link(&link) else { return Self::default() };
        match target.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
            // A file may be named so; then the link leads to it.
            Some(path) if !same_file(&target, &link) => {
                let path = PathBuf::from(OsStr::from_bytes(path));
                Self { exists: path.exists(), path: Some(path), changed: true }
            }
            _ => Self { path: Some(target), exists: true, changed: false },
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Image {
    /// Looks whether the file is where it was reported to be; a replaced one can't be told here.
    pub(crate) fn of(_pid: u32, reported: Option<&Path>) -> Self {
        // Windows reports an empty one of a process that is only just starting.
        let Some(path) = reported.filter(|path| !path.as_os_str().is_empty()) else { return Self::default() };
        let exists = path.exists();
        Self { path: Some(path.to_owned()), exists, changed: !exists }
    }
}

/// What to read to get the bytes that process `pid` runs, even when its file is gone from `_path`.
#[cfg(target_os = "linux")]
#[must_use]
pub fn running_image(pid: u32, _path: &str) -> PathBuf {
    proc_link(pid)
}

/// What to read to get the bytes that process `_pid` runs.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn running_image(_pid: u32, path: &str) -> PathBuf {
    path.into()
}

#[cfg(target_os = "linux")]
fn proc_link(pid: u32) -> PathBuf {
    format!("/proc/{pid}/exe").into()
}

#[cfg(target_os = "linux")]
fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    let one = identity(one);
    one.is_some() && one == identity(other)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A running copy of `cat`, ended when dropped.
    struct Running(Child);

    impl Running {
        fn start(program: &Path) -> Self {
            // Not copied here: a descriptor open for writing that another test's child inherits
            // would make the copy busy.
            assert!(Command::new("cp").arg("/bin/cat").arg(program).status().unwrap().success());
            Self(Command::new(program).stdin(Stdio::piped()).spawn().unwrap())
        }

        fn image(&self) -> Image {
            Image::of(self.0.id(), None)
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn image(path: &Path, exists: bool, changed: bool) -> Image {
        Image { path: Some(path.to_owned()), exists, changed }
    }

    #[test]
    fn a_deleted_and_a_replaced_image_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let running = Running::start(&program);
        assert_eq!(running.image(), image(&program, true, false));
        std::fs::remove_file(&program).unwrap();
        assert_eq!(running.image(), image(&program, false, true));
        std::fs::write(&program, "another").unwrap();
        assert_eq!(running.image(), image(&program, true, true));
        let original = std::fs::read("/bin/cat").unwrap();
        assert_eq!(std::fs::read(running_image(running.0.id(), "")).unwrap(), original);
    }

    #[test]
    fn a_name_that_ends_like_a_deleted_one_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program (deleted)");
        let running = Running::start(&program);
        assert_eq!(running.image(), image(&program, true, false));
    }

    #[test]
    fn a_process_that_is_gone_has_no_image() {
        assert_eq!(Image::of(u32::MAX, None), Image::default());
    }
}

#[cfg(test)]
#[cfg(not(target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_where_it_was_reported_has_changed_and_what_was_not_reported_has_not() {
        let program = std::env::current_exe().unwrap();
        let image = |path: &Path| Image::of(1, Some(path));
        assert_eq!(image(&program), Image { path: Some(program.clone()), exists: true, changed: false });
        let gone = program.with_extension("gone");
        assert_eq!(image(&gone), Image { path: Some(gone.clone()), exists: false, changed: true });
        assert_eq!(image(Path::new("")), Image::default());
        assert_eq!(Image::of(1, None), Image::default());
    }
}
