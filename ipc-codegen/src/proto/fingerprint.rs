//! A number that tells one schema of a service from another: equal where methods, their kinds, and all the messages they
//! lead to are, whatever the comments, the order of declarations and the files.
//!
//! Owns what counts and how it's hashed; both must stay as they are, for programs of different versions compare the
//! numbers. Must not know about Rust.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};

/// The fingerprints of all services of a schema, by their full names with a dot in front.
pub(super) fn all(files: &[FileDescriptorProto]) -> BTreeMap<String, u64> {
    let mut types = Types::default();
    for file in files {
        let package = prefix(file);
        file.message_type.iter().for_each(|message| types.add_message(&package, message));
        file.enum_type.iter().for_each(|descriptor| types.add_enum(&package, descriptor));
    }
    let services =
        files.iter().flat_map(|file| file.service.iter().map(move |service| (prefix(file), service)));
    services.map(|(package, service)| (format!("{package}.{}", service.name()), types.of(service))).collect()
}

fn prefix(file: &FileDescriptorProto) -> String {
    if file.package().is_empty() { String::new() } else { format!(".{}", file.package()) }
}

/// Everything that a method can lead to, by full name.
#[derive(Default)]
struct Types<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
}

impl<'a> Types<'a> {
    fn add_message(&mut self, parent: &str, message: &'a DescriptorProto) {
        let path = format!("{parent}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add_message(&path, nested));
        message.enum_type.iter().for_each(|nested| self.add_enum(&path, nested));
        self.messages.insert(path, message);
    }

    fn add_enum(&mut self, parent: &str, descriptor: &'a EnumDescriptorProto) {
        self.enums.insert(format!("{parent}.{}", descriptor.name()), descriptor);
    }

    fn of(&self, service: &ServiceDescriptorProto) -> u64 {
        let mut lines = BTreeSet::new();
        let mut reached = BTreeSet::new();
        for method in &service.method {
            let (input, output) = (method.input_type(), method.output_type());
            let streams = (method.client_streaming(), method.server_streaming());
            lines.insert(format!("rpc {} {input} {output} {streams:?}", method.name()));
            self.reach(input, &mut reached);
            self.reach(output, &mut reached);
        }
        for name in &reached {
            if let Some(message) = self.messages.get(name) {
                lines.extend(message.field.iter().map(|field| field_line(name, message, field)));
            }
            if let Some(descriptor) = self.enums.get(name) {
                let values = descriptor.value.iter();
                lines.extend(values.map(|value| format!("enum {name} {} {}", value.number(), value.name())));
            }
            lines.insert(format!("type {name}"));
        }
        hash(&lines)
    }

    fn reach(&self, name: &str, reached: &mut BTreeSet<String>) {
        if reached.insert(name.to_owned()) {
            let fields = self.messages.get(name).into_iter().flat_map(|message| &message.field);
            fields
                .filter(|field| field.type_name.is_some())
                .for_each(|field| self.reach(field.type_name(), reached));
        }
    }
}

fn field_line(name: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let oneof =
        usize::try_from(field.oneof_index.unwrap_or(-1)).ok().and_then(|index| message.oneof_decl.get(index));
    let oneof = oneof.filter(|_| !field.proto3_optional()).map_or("", |oneof| oneof.name());
    format!(
        "field {name} {} {} {} {} {} {} {oneof}",
        field.number(),
        field.name(),
        field.label().as_str_name(),
        field.r#type().as_str_name(),
        field.type_name(),
        field.proto3_optional(),
    )
}

/// FNV-1a; never 0, which stands for an unknown schema.
fn hash(lines: &BTreeSet<String>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(source: &str) -> u64 {
        let mut compiler = protox::Compiler::with_file_resolver(One(source.to_owned()));
        compiler.open_file("a.proto").unwrap();
        let set = compiler.file_descriptor_set();
        *all(&set.file).values().next().unwrap()
    }

    struct One(String);

    impl protox::file::FileResolver for One {
        fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
            protox::file::File::from_source(name, &self.0)
        }
    }

    const SCHEMA: &str = "syntax = 'proto3'; package a; service S { rpc Get(Q) returns (R); rpc Put(Q) returns (R); }
        message Q { N n = 1; } message N { E e = 1; } enum E { ZERO = 0; } message R { optional string text = 1; }";

    #[test]
    fn it_stays_what_it_is() {
        assert_eq!(format!("{:#018x}", fingerprint(SCHEMA)), "0x21208bf07aef109e");
    }

    #[test]
    fn order_and_comments_and_what_is_not_reached_do_not_count() {
        let other = "syntax = 'proto3'; package a; message R { optional string text = 1; } enum E { ZERO = 0; }
            message Unused { int32 number = 1; } message N { E e = 1; } // A comment.
            message Q { N n = 1; } service S { rpc Put(Q) returns (R); rpc Get(Q) returns (R) { option deprecated = true; } }";
        assert_eq!(fingerprint(SCHEMA), fingerprint(other));
    }

    #[test]
    fn everything_that_is_reached_counts() {
        for (from, to) in [
            ("rpc Put(Q)", "rpc Push(Q)"),
            ("rpc Put(Q)", "rpc Put(stream Q)"),
            ("rpc Put(Q) returns (R)", "rpc Put(Q) returns (stream R)"),
            ("N n = 1", "N n = 2"),
            ("N n = 1", "N other = 1"),
            ("N n = 1", "repeated N n = 1"),
            ("ZERO = 0;", "ZERO = 0; ONE = 1;"),
            ("optional string text", "string text"),
            ("optional string text", "optional bytes text"),
            ("optional string text = 1;", "oneof of { string text = 1; }"),
            ("package a", "package b"),
        ] {
            let other = SCHEMA.replace(from, to);
            assert_ne!(other, SCHEMA);
            assert_ne!(fingerprint(SCHEMA), fingerprint(&other), "{to}");
        }
    }
}
