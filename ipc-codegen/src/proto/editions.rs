//! Says in the terms of proto2 and proto3 what a file of an edition says with features, for prost knows no features.
//!
//! `prost-types` drops features when it reads descriptors, so they're read here, from the encoded form, and laid on the
//! descriptors field by field. Owns the features, their defaults and how they are inherited. Must not know what messages
//! become.

use prost::{DecodeError, Message};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Reads an encoded `FileDescriptorSet`.
///
/// # Errors
/// It isn't one.
pub(super) fn decode(encoded: &[u8]) -> Result<FileDescriptorSet, DecodeError> {
    let mut set = FileDescriptorSet::decode(encoded)?;
    let raw = Set::decode(encoded)?;
    for (file, raw) in set.file.iter_mut().zip(&raw.file) {
        if file.syntax() == "editions" {
            apply_to_file(file, raw);
        }
    }
    Ok(set)
}

fn apply_to_file(file: &mut FileDescriptorProto, raw: &File) {
    // Of the two, the one in which nothing is optional unless it says so.
    file.syntax = Some("proto3".to_owned());
    let features =
        Features::DEFAULT.overridden(raw.options.as_ref().and_then(|options| options.features.as_ref()));
    for (message, raw) in file.message_type.iter_mut().zip(&raw.message_type) {
        apply_to_message(message, raw, features);
    }
}

/// Messages have none of these features themselves; a field's are its own or its file's.
fn apply_to_message(message: &mut DescriptorProto, raw: &RawMessage, features: Features) {
    let is_map_entry = |message: &DescriptorProto| {
        message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
    };
    let entries = message.nested_type.iter().filter(|nested| is_map_entry(nested));
    let entries: Vec<String> = entries.map(|entry| format!(".{}", entry.name())).collect();
    let is_map =
        |field: &FieldDescriptorProto| entries.iter().any(|entry| field.type_name().ends_with(entry));
    if !is_map_entry(message) {
        for (field, raw) in message.field.iter_mut().zip(&raw.field).filter(|(field, _)| !is_map(field)) {
            let own = raw.options.as_ref().and_then(|options| options.features.as_ref());
            apply_to_field(field, features.overridden(own));
        }
    }
    for (nested, raw) in message.nested_type.iter_mut().zip(&raw.nested_type) {
        apply_to_message(nested, raw, features);
    }
}

fn apply_to_field(field: &mut FieldDescriptorProto, features: Features) {
    if field.label() == Label::Repeated {
        if is_packable(field.r#type()) {
            field.options.get_or_insert_default().packed = Some(features.repeated_field_encoding == PACKED);
        }
    } else if features.field_presence == LEGACY_REQUIRED {
        field.set_label(Label::Required);
    } else if field.oneof_index.is_none()
        && field.r#type() != Type::Message
        && features.field_presence == EXPLICIT
    {
        field.proto3_optional = Some(true);
    }
    if field.r#type() == Type::Message && features.message_encoding == DELIMITED {
        field.set_type(Type::Group);
        if field.label() == Label::Optional && field.oneof_index.is_none() {
            field.proto3_optional = Some(true);
        }
    }
}

const fn is_packable(ty: Type) -> bool {
    !matches!(ty, Type::String | Type::Bytes | Type::Message | Type::Group)
}

const EXPLICIT: i32 = 1;
const LEGACY_REQUIRED: i32 = 3;
const PACKED: i32 = 1;
const LENGTH_PREFIXED: i32 = 1;
const DELIMITED: i32 = 2;

/// The features that decide how a field is generated and encoded.
#[derive(Clone, Copy)]
struct Features {
    field_presence: i32,
    repeated_field_encoding: i32,
    message_encoding: i32,
}

impl Features {
    /// Those of the editions there are: 2023 and 2024.
    const DEFAULT: Self =
        Self { field_presence: EXPLICIT, repeated_field_encoding: PACKED, message_encoding: LENGTH_PREFIXED };

    fn overridden(self, by: Option<&FeatureSet>) -> Self {
        let Some(by) = by else { return self };
        Self {
            field_presence: by.field_presence.unwrap_or(self.field_presence),
            repeated_field_encoding: by.repeated_field_encoding.unwrap_or(self.repeated_field_encoding),
            message_encoding: by.message_encoding.unwrap_or(self.message_encoding),
        }
    }
}

// What of `google/protobuf/descriptor.proto` is needed, and is not in `prost-types`.

#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<RawMessage>,
    #[prost(message, optional, tag = "8")]
    options: Option<FileOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct RawMessage {
    #[prost(message, repeated, tag = "2")]
    field: Vec<RawField>,
    #[prost(message, repeated, tag = "3")]
    nested_type: Vec<RawMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct RawField {
    #[prost(message, optional, tag = "8")]
    options: Option<FieldOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct FileOptions {
    #[prost(message, optional, tag = "50")]
    features: Option<FeatureSet>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldOptions {
    #[prost(message, optional, tag = "21")]
    features: Option<FeatureSet>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct FeatureSet {
    #[prost(int32, optional, tag = "1")]
    field_presence: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    repeated_field_encoding: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    message_encoding: Option<i32>,
}
