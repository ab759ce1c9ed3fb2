//! Has prost-build generate messages, and takes from it the services with their types resolved to Rust paths.
//!
//! The one module that runs prost-build. Must not know what stubs look like.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use prost_build::{Module, ServiceGenerator};
use prost_types::FileDescriptorProto;

use crate::error::Error;

/// What prost-build made of a schema.
pub(super) struct Messages {
    /// The messages of each module, as text.
    pub(super) modules: BTreeMap<Module, String>,
    /// The services.
    pub(super) services: Vec<Found>,
}

/// A service, and where it was found.
pub(super) struct Found {
    /// The index of its file.
    pub(super) file: usize,
    /// Its index in the file.
    pub(super) index: usize,
    /// The service.
    pub(super) service: prost_build::Service,
}

/// Generates the messages of all files.
///
/// # Errors
/// What prost-build says.
pub(super) fn generate(
    mut prost: prost_build::Config,
    files: Vec<FileDescriptorProto>,
) -> Result<Messages, Error> {
    let found = Rc::new(RefCell::new(Vec::new()));
    prost.service_generator(Box::new(Collector { found: Rc::clone(&found), file: 0, index: 0 }));
    let requests =
        files.into_iter().map(|file| (Module::from_protobuf_package_name(file.package()), file)).collect();
    // prost-build panics where it doesn't know what to do. What we know of is refused before this; this is for the rest.
    let modules = catch_unwind(AssertUnwindSafe(|| prost.generate(requests)))
        .map_err(|cause| {
            Error::message(format!("prost-build could not generate the messages: {}", said(&*cause)))
        })?
        .map_err(|error| Error::io("prost-build could not generate the messages", error))?;
    drop(prost);
    Ok(Messages { modules: modules.into_iter().collect(), services: found.take() })
}

fn said(cause: &(dyn std::any::Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// Notes the services; their stubs are generated when all have been checked.
struct Collector {
    found: Rc<RefCell<Vec<Found>>>,
    file: usize,
    index: usize,
}

impl ServiceGenerator for Collector {
    fn generate(&mut self, service: prost_build::Service, buf: &mut String) {
        self.found.borrow_mut().push(Found { file: self.file, index: self.index, service });
        self.index += 1;
        // prost-build drops a module without text, and then panics where it had a service.
        buf.push('\n');
    }

    fn finalize(&mut self, _: &mut String) {
        self.file += 1;
        self.index = 0;
    }
}
