//! Takes the comments out of a schema, so that they reach the generated code by our way and not by prost's, which would
//! escape them a second time.
//!
//! A marker stands where each comment stood; it's replaced in prost's text by the lines of the comment. Owns the
//! markers and which comments belong to what. Must not know what a comment may contain
//! ([`markdown`](super::markdown)).

use std::collections::{BTreeMap, BTreeSet};

use prost_types::source_code_info::Location;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, SourceCodeInfo,
};

use super::markdown;

const MARKER: &str = " ipc-codegen comment ";

/// All comments of a schema.
#[derive(Default)]
pub(super) struct Comments {
    /// By the number in the marker.
    lines: Vec<Vec<String>>,
    /// By the file's index and the path of what is commented.
    numbers: BTreeMap<(usize, Vec<i32>), usize>,
}

impl Comments {
    /// Takes them out of all files.
    pub(super) fn take(set: &mut FileDescriptorSet) -> Self {
        let mut comments = Self::default();
        for (index, file) in set.file.iter_mut().enumerate() {
            comments.take_from(index, file);
        }
        comments
    }

    /// The comment on a service (`[6, service]`) or a method (`[6, service, 2, method]`).
    pub(super) fn on(&self, file: usize, path: &[i32]) -> &[String] {
        let number = self.numbers.get(&(file, path.to_vec()));
        number.and_then(|number| self.lines.get(*number)).map_or(&[], Vec::as_slice)
    }

    /// Puts the comments in the place of their markers.
    pub(super) fn restore(&self, text: &str) -> String {
        let mut restored = String::with_capacity(text.len());
        for line in text.lines() {
            let number =
                line.split_once("///").and_then(|(_, text)| text.strip_prefix(MARKER)?.parse::<usize>().ok());
            match number.and_then(|number| self.lines.get(number)) {
                Some(lines) => lines.iter().for_each(|line| restored.extend(["///", line, "\n"])),
                None => restored.extend([line, "\n"]),
            }
        }
        restored
    }

    fn take_from(&mut self, index: usize, file: &mut FileDescriptorProto) {
        let Some(info) = file.source_code_info.take() else { return };
        let mut locations = BTreeMap::new();
        for location in info.location {
            if !locations.contains_key(&location.path) {
                locations.insert(location.path.clone(), self.marked(index, location));
            }
        }
        // prost-build takes for granted that every item has a location; a schema compiled by others may lack some.
        for path in items(file) {
            locations.entry(path.clone()).or_insert(Location { path, ..Location::default() });
        }
        file.source_code_info = Some(SourceCodeInfo { location: locations.into_values().collect() });
    }

    fn marked(&mut self, file: usize, location: Location) -> Location {
        let leading_comments = text_of(&location).map(|text| {
            let number = self.lines.len();
            self.lines.push(markdown::clean(&text));
            self.numbers.insert((file, location.path.clone()), number);
            format!("{MARKER}{number}")
        });
        Location { path: location.path, span: location.span, leading_comments, ..Location::default() }
    }
}

/// What stands before an item, and, after an empty line, what stands behind it.
fn text_of(location: &Location) -> Option<String> {
    let leading = location.leading_comments.as_deref().unwrap_or_default().trim_end();
    let trailing = location.trailing_comments.as_deref().unwrap_or_default().trim_end();
    let texts: Vec<&str> = [leading, trailing].into_iter().filter(|text| !text.is_empty()).collect();
    if texts.is_empty() { None } else { Some(texts.join("\n\n")) }
}

/// The paths of everything that prost-build looks up.
fn items(file: &FileDescriptorProto) -> BTreeSet<Vec<i32>> {
    let mut paths = BTreeSet::new();
    for (path, message) in numbered(&[4], &file.message_type) {
        items_of_message(path, message, &mut paths);
    }
    for (path, descriptor) in numbered(&[5], &file.enum_type) {
        items_of_enum(path, descriptor, &mut paths);
    }
    for (path, service) in numbered(&[6], &file.service) {
        paths.extend(numbered(&[path.as_slice(), &[2]].concat(), &service.method).map(|(path, _)| path));
        paths.insert(path);
    }
    paths
}

fn items_of_message(path: Vec<i32>, message: &DescriptorProto, paths: &mut BTreeSet<Vec<i32>>) {
    let under = |field: i32| [path.as_slice(), &[field]].concat();
    paths.extend(numbered(&under(2), &message.field).map(|(path, _)| path));
    paths.extend(numbered(&under(8), &message.oneof_decl).map(|(path, _)| path));
    for (path, nested) in numbered(&under(3), &message.nested_type) {
        items_of_message(path, nested, paths);
    }
    for (path, nested) in numbered(&under(4), &message.enum_type) {
        items_of_enum(path, nested, paths);
    }
    paths.insert(path);
}

fn items_of_enum(path: Vec<i32>, descriptor: &EnumDescriptorProto, paths: &mut BTreeSet<Vec<i32>>) {
    paths.extend(numbered(&[path.as_slice(), &[2]].concat(), &descriptor.value).map(|(path, _)| path));
    paths.insert(path);
}

fn numbered<'a, T>(path: &[i32], items: &'a [T]) -> impl Iterator<Item = (Vec<i32>, &'a T)> {
    let path = path.to_vec();
    (0_i32..).zip(items).map(move |(index, item)| ([path.as_slice(), &[index]].concat(), item))
}
