use quote::quote;

/// The stubs of the service in `proto/traps/all_four_kinds.proto`: what follows the messages.
fn stubs_from_proto() -> String {
    let directory = tempfile::tempdir().unwrap();
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    ipc_codegen::configure()
        .out_dir(directory.path())
        .compile_protos(&["traps/all_four_kinds.proto"], &[proto])
        .unwrap();
    let text = std::fs::read_to_string(directory.path().join("traps.all_four_kinds.rs")).unwrap();
    let mut file = syn::parse_file(&text).unwrap();
    let first = file.items.iter().position(|item| matches!(item, syn::Item::Trait(_))).unwrap();
    file.items.drain(..first);
    prettyplease::unparse(&file)
}

/// Laid out as the text from a schema is, which has gone through the same.
fn laid_out(tokens: proc_macro2::TokenStream) -> String {
    prettyplease::unparse(&syn::parse2(tokens).unwrap())
}

#[test]
fn a_trait_and_a_schema_give_the_same_tokens() {
    let log = quote! {
        /// Keeps a log.
        pub trait Log {
            /// Adds one entry.
            async fn append(
                &self,
                request: ::ipc_runtime::codegen::Request<Entry>,
            ) -> ::core::result::Result<::ipc_runtime::codegen::Response<Summary>, ::ipc_runtime::codegen::Status>;

            /// Reads the entries from a number on, and those to come.
            #[ipc(no_side_effects)]
            async fn tail(
                &self,
                request: ::ipc_runtime::codegen::Request<Position>,
            ) -> ::core::result::Result<
                ::ipc_runtime::codegen::Response<
                    impl ::ipc_runtime::codegen::Stream<
                        Item = ::core::result::Result<Entry, ::ipc_runtime::codegen::Status>
                    > + ::core::marker::Send + 'static
                >,
                ::ipc_runtime::codegen::Status
            >;

            /// Adds many entries.
            async fn load(
                &self,
                request: ::ipc_runtime::codegen::Request<::ipc_runtime::codegen::Streaming<Entry>>,
            ) -> ::core::result::Result<::ipc_runtime::codegen::Response<Summary>, ::ipc_runtime::codegen::Status>;

            /// Adds entries, and answers each with its number.
            async fn copy(
                &self,
                request: ::ipc_runtime::codegen::Request<::ipc_runtime::codegen::Streaming<Entry>>,
            ) -> ::core::result::Result<
                ::ipc_runtime::codegen::Response<
                    impl ::ipc_runtime::codegen::Stream<
                        Item = ::core::result::Result<Position, ::ipc_runtime::codegen::Status>
                    > + ::core::marker::Send + 'static
                >,
                ::ipc_runtime::codegen::Status
            >;
        }
    };
    let from_proto = stubs_from_proto();
    // What messages are made of can't be seen in a trait.
    let (_, fingerprint) = from_proto.split_once("FINGERPRINT: ::core::primitive::u64 = ").unwrap();
    let fingerprint: syn::LitInt = syn::parse_str(fingerprint.split_once(';').unwrap().0).unwrap();
    let args = quote!(package = "traps.all_four_kinds", fingerprint = #fingerprint);
    assert_eq!(laid_out(super::expand(args, log).unwrap()), from_proto);
}

#[test]
fn options_decide_on_names_and_parts() {
    let service = quote! {
        trait Greeter {
            #[ipc(name = "Hi", idempotent)]
            async fn say_hello(&self, request: Request<()>) -> Result<Response<()>, Status>;
        }
    };
    let stubs = super::expand(quote!(package = "", name = "Salutation", server = false), service).unwrap();
    let text = laid_out(stubs);
    assert!(text.contains("\"/Salutation/Hi\""), "{text}");
    assert!(text.contains("Idempotency::Idempotent"), "{text}");
    assert!(text.contains("trait Greeter") && text.contains("struct GreeterClient"), "{text}");
    assert!(!text.contains("GreeterServer"), "{text}");
}
