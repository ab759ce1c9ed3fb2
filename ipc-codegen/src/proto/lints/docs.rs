//! What clippy would say of comments: they are the schema's, and stay as they are.

use syn::{Attribute, Expr, ExprLit, Lit, Meta};

use super::Allowed;

/// A first paragraph may have this many characters.
const FIRST_PARAGRAPH: usize = 200;

/// Notes what the comments among `attributes` do.
pub(super) fn of<'a>(attributes: impl IntoIterator<Item = &'a Vec<Attribute>>, allowed: &mut Allowed) {
    for attributes in attributes {
        let lines: Vec<String> = attributes.iter().filter_map(line).collect();
        let words = without_code_blocks(&lines);
        if has_identifiers(&words) {
            allowed.insert("doc_markdown");
        }
        if words.iter().any(|line| opens_container(line)) {
            allowed.extend(["doc_lazy_continuation", "doc_overindented_list_items"]);
        }
        let first = lines.iter().take_while(|line| !line.trim().is_empty());
        if first.map(|line| line.chars().count()).sum::<usize>() > FIRST_PARAGRAPH {
            allowed.insert("too_long_first_doc_paragraph");
        }
    }
}

fn line(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

fn without_code_blocks(lines: &[String]) -> Vec<&str> {
    let mut inside = false;
    let mut words = Vec::new();
    for line in lines {
        let start = line.trim_start_matches(|c: char| c.is_ascii_digit() || " >-*+.)".contains(c));
        let fence = start.starts_with("```") || start.starts_with("~~~");
        if !fence && !inside {
            words.push(line.as_str());
        }
        inside ^= fence;
    }
    words
}

/// Whether there is something between words that looks like code, or like an address.
fn has_identifiers(lines: &[&str]) -> bool {
    let text = lines.join("\n");
    let pieces: Vec<&str> = text.split('`').collect();
    pieces.len().is_multiple_of(2)
        || text.contains("``")
        || pieces.iter().step_by(2).any(|prose| {
            let words = prose.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            ["::", "://", "()"].iter().any(|sign| prose.contains(sign))
                || words.into_iter().any(looks_like_code)
        })
}

fn looks_like_code(word: &str) -> bool {
    let uppercase = word.chars().filter(|c| c.is_uppercase()).count();
    word.contains('_') || (uppercase > 1 && word.chars().any(char::is_lowercase))
}

/// Whether a line starts an item of a list, or a quotation.
fn opens_container(line: &str) -> bool {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with(['-', '*', '+', '>']) || (number.len() < line.len() && number.starts_with(['.', ')']))
}

#[cfg(test)]
mod tests {
    use syn::{ItemStruct, parse_quote};

    use super::*;

    fn allowed(text: &str) -> Vec<&'static str> {
        let lines = text.lines();
        let item: ItemStruct = parse_quote!(#(#[doc = #lines])* struct Item;);
        let mut allowed = Allowed::new();
        of([&item.attrs], &mut allowed);
        allowed.into_iter().collect()
    }

    #[test]
    fn plain_words_need_nothing() {
        assert_eq!(
            allowed(" Says hello, `some_code` and more.\n\n ```text\n HTTPServer\n ```\n NASA."),
            [""; 0]
        );
    }

    #[test]
    fn identifiers_do() {
        for text in
            [" some_field", " HTTPServer", " MacOS", " a::b", " read()", " `unbalanced", " ``a``", " ftp://x"]
        {
            assert_eq!(allowed(text), ["doc_markdown"], "{text}");
        }
    }

    #[test]
    fn lists_and_quotations_do() {
        for text in [" - a\n b", " 1. a\n      b", " > a\n b"] {
            assert_eq!(allowed(text), ["doc_lazy_continuation", "doc_overindented_list_items"], "{text}");
        }
    }

    #[test]
    fn a_long_first_paragraph_does() {
        let long = " word".repeat(41);
        assert_eq!(allowed(&long), ["too_long_first_doc_paragraph"]);
        assert_eq!(allowed(&format!(" Short.\n\n{long}")), [""; 0]);
    }
}
