//! Finds the files of a schema.
//!
//! An `import public` of a file that has an `import public` itself hands on what both declare. protox hands on what the
//! first declares and no more, so a file in the middle is given the rest as imports of its own, which means the same.
//! Must not know what is in files otherwise.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use protox::Error;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// Looks for files in directories, and then among those that come with `protoc`.
pub(super) struct Imports {
    files: ChainFileResolver,
    read: Rc<RefCell<Vec<PathBuf>>>,
}

impl Imports {
    /// Looks in `includes`, and notes in `read` the paths of files that are given more than they have, for protox
    /// doesn't know these.
    pub(super) fn of(includes: &[impl AsRef<Path>], read: Rc<RefCell<Vec<PathBuf>>>) -> Self {
        let mut files = ChainFileResolver::new();
        for include in includes {
            files.add(IncludeFileResolver::new(include.as_ref().to_owned()));
        }
        files.add(GoogleFileResolver::new());
        Self { files, read }
    }

    /// What `file` hands on, in its own imports and in theirs; a file that can't be opened is for protox to report.
    fn handed_on(&self, file: &File, found: &mut Vec<String>) {
        let descriptor = file.file_descriptor_proto();
        let public = descriptor.public_dependency.iter().filter_map(|&index| usize::try_from(index).ok());
        for name in public.filter_map(|index| descriptor.dependency.get(index)) {
            if !found.contains(name) {
                found.push(name.clone());
                if let Ok(file) = self.files.open_file(name) {
                    self.handed_on(&file, found);
                }
            }
        }
    }
}

impl FileResolver for Imports {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        self.files.resolve_path(path)
    }

    fn open_file(&self, name: &str) -> Result<File, Error> {
        let file = self.files.open_file(name)?;
        let mut handed_on = Vec::new();
        self.handed_on(&file, &mut handed_on);
        handed_on.retain(|name| !file.file_descriptor_proto().dependency.contains(name));
        let (Some(source), false) = (file.source(), handed_on.is_empty()) else { return Ok(file) };
        let mut source = source.to_owned();
        for name in handed_on {
            let _ = write!(source, "\nimport public {name:?};");
        }
        self.read.borrow_mut().extend(file.path().map(Path::to_owned));
        File::from_source(name, &source)
    }
}
