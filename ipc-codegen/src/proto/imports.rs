//! Finds the files of a schema.
//!
//! An `import public` of a file that has an `import public` itself hands on what both declare. protox hands on what the
//! first declares and no more, so a file in the middle is given the rest as imports of its own, which means the same.
//!
//! Some editors put a mark before a file's first letter, and comments may be older than UTF-8. `protoc` reads such files,
//! and protox doesn't: the mark is left out, and what is no UTF-8 is replaced.
//!
//! Must not know what is in files otherwise.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use protox::Error;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// The mark of UTF-8, a "byte order mark".
const MARK: &[u8] = "\u{feff}".as_bytes();

/// Looks for files in directories, and then among those that come with `protoc`.
pub(super) struct Imports {
    includes: Vec<PathBuf>,
    files: ChainFileResolver,
    read: Rc<RefCell<Vec<PathBuf>>>,
}

impl Imports {
    /// Looks in `includes`, and notes in `read` the paths of files that are changed before protox sees them, for it
    /// doesn't know these.
    pub(super) fn of(includes: &[impl AsRef<Path>], read: Rc<RefCell<Vec<PathBuf>>>) -> Self {
        let includes: Vec<_> = includes.iter().map(|include| include.as_ref().to_owned()).collect();
        let mut files = ChainFileResolver::new();
        for include in &includes {
            files.add(IncludeFileResolver::new(include.clone()));
        }
        files.add(GoogleFileResolver::new());
        Self { includes, files, read }
    }

    fn open(&self, name: &str) -> Result<File, Error> {
        self.files.open_file(name).or_else(|error| match self.cleaned(name) {
            Some(text) => File::from_source(name, &text),
            None => Err(error),
        })
    }

    /// The text of a file as protox can read it, where that isn't what is in the file.
    fn cleaned(&self, name: &str) -> Option<String> {
        let path = self.includes.iter().map(|include| include.join(name)).find(|path| path.exists())?;
        let bytes = fs::read(&path).ok()?;
        let text = String::from_utf8_lossy(bytes.strip_prefix(MARK).unwrap_or(&bytes)).into_owned();
        if text.as_bytes() == bytes {
            return None;
        }
        self.read.borrow_mut().push(path);
        Some(text)
    }

    /// What `file` hands on, in its own imports and in theirs; a file that can't be opened is for protox to report.
    fn handed_on(&self, file: &File, found: &mut Vec<String>) {
        let descriptor = file.file_descriptor_proto();
        let public = descriptor.public_dependency.iter().filter_map(|&index| usize::try_from(index).ok());
        for name in public.filter_map(|index| descriptor.dependency.get(index)) {
            if !found.contains(name) {
                found.push(name.clone());
                if let Ok(file) = self.open(name) {
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
        let file = self.open(name)?;
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
