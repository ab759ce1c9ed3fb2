//! Makes a schema's comment fit for rustdoc, so that it reads as it was written, is no doctest, and breaks no link.
//!
//! Comments of a schema aren't written for rustdoc: code without a language would become a test, `<T>` a tag that is
//! never closed, `[name]` a link to nowhere. Each is found with the parser that rustdoc itself uses, and escaped.
//!
//! Must not know about schemas: text in, lines out.

use std::cell::RefCell;
use std::ops::Range;

use pulldown_cmark::{BrokenLink, CodeBlockKind, CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};

/// Escapes open the way for others (a tag may hide a link), so there are rounds; more than this many are not to be
/// expected of a text, and it's shown as it is.
const ROUNDS: usize = 12;

/// The lines of a documentation comment for `comment`, each with a space in front where it isn't empty.
pub(super) fn clean(comment: &str) -> Vec<String> {
    let comment = without_marks(comment);
    let mut text = unindent(&visible(&comment));
    for _ in 0..ROUNDS {
        let edits = edits(&text);
        if edits.is_empty() {
            return lines(&text);
        }
        text = apply(&text, edits);
    }
    lines(&fenced(&unindent(&visible(&comment))))
}

/// Without what makes it a comment for documentation in other languages: a second star, a third slash in each line.
fn without_marks(comment: &str) -> String {
    let marked = |line: &&str, mark| line.strip_prefix(mark).is_some_and(|rest| !rest.starts_with(is_text));
    let mut lines: Vec<&str> = comment.lines().collect();
    let text: Vec<&str> = lines.iter().copied().filter(|line| !line.trim().is_empty()).collect();
    if !text.is_empty() && text.iter().all(|line| marked(line, '/')) {
        for line in &mut lines {
            *line = line.strip_prefix('/').unwrap_or(line);
        }
    } else if let Some(first) = lines.first_mut().filter(|line| marked(line, '*')) {
        *first = &first[1..];
    }
    lines.join("\n")
}

fn is_text(c: char) -> bool {
    !c.is_whitespace()
}

fn lines(text: &str) -> Vec<String> {
    let line =
        |line: &str| if line.trim().is_empty() { String::new() } else { format!(" {}", line.trim_end()) };
    text.trim_matches('\n').lines().map(line).collect()
}

/// Control characters, those that change the direction of text among them, spelled out.
fn visible(comment: &str) -> String {
    let mut text = String::with_capacity(comment.len());
    for c in comment.replace("\r\n", "\n").chars() {
        match c {
            '\n' | '\t' => text.push(c),
            '\r' => text.push('\n'),
            '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                text.extend(c.escape_unicode());
            }
            c if c.is_control() => text.extend(c.escape_unicode()),
            c => text.push(c),
        }
    }
    text
}

/// Without the indentation that all lines have in common, and with spaces for tabs.
fn unindent(comment: &str) -> String {
    let spaced: Vec<String> = comment.lines().map(tabs_to_spaces).collect();
    let indentation = |line: &String| line.len() - line.trim_start_matches(' ').len();
    let common = spaced.iter().filter(|line| !line.trim().is_empty()).map(indentation).min().unwrap_or(0);
    let lines: Vec<&str> = spaced.iter().map(|line| line.get(common..).unwrap_or("")).collect();
    lines.join("\n")
}

fn tabs_to_spaces(line: &str) -> String {
    let mut spaced = String::with_capacity(line.len());
    let mut column = 0;
    for c in line.chars() {
        let width = if c == '\t' { 4 - column % 4 } else { 1 };
        spaced.extend(std::iter::repeat_n(if c == '\t' { ' ' } else { c }, width));
        column += width;
    }
    spaced
}

/// The whole text as a block of plain text.
fn fenced(text: &str) -> String {
    let fence = fence_around(text);
    format!("{fence}text\n{text}\n{fence}")
}

/// A fence that `text` doesn't close.
fn fence_around(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

/// A piece of text to put in the place of another.
struct Edit {
    range: Range<usize>,
    text: String,
}

impl Edit {
    fn insert(at: usize, text: impl Into<String>) -> Self {
        Self { range: at..at, text: text.into() }
    }
}

fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut result = String::with_capacity(text.len() + edits.len());
    let mut end = 0;
    for edit in edits {
        // Of two that overlap, the later one gets its turn in the next round.
        if edit.range.start < end || (edit.range.is_empty() && edit.range.end == end && end != 0) {
            continue;
        }
        result.push_str(&text[end..edit.range.start]);
        result.push_str(&edit.text);
        end = edit.range.end;
    }
    result.push_str(&text[end..]);
    result
}

/// What rustdoc would stumble over.
fn edits(text: &str) -> Vec<Edit> {
    let broken = RefCell::new(Vec::new());
    let note = |link: BrokenLink<'_>| -> Option<(CowStr<'_>, CowStr<'_>)> {
        broken.borrow_mut().push(Edit::insert(link.span.start, "\\"));
        None
    };
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_SMART_PUNCTUATION;
    let mut edits = Vec::new();
    let mut inside = 0_usize;
    for (event, range) in Parser::new_with_broken_link_callback(text, options, Some(note)).into_offset_iter()
    {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                inside += 1;
                edits.extend(code_block(text, &kind, range));
            }
            Event::Start(Tag::Link { link_type, dest_url, .. }) => {
                inside += 1;
                if !leads_somewhere(link_type, &dest_url) {
                    edits.push(Edit::insert(range.start, "\\"));
                }
            }
            Event::End(TagEnd::CodeBlock | TagEnd::Link) => inside -= 1,
            Event::Html(_) | Event::InlineHtml(_) => edits.extend(tags(text, range)),
            Event::Text(_) if inside == 0 => edits.extend(bare_url(text, range)),
            _ => {}
        }
    }
    edits.extend(broken.into_inner());
    edits
}

/// Whether a link is more than a name that rustdoc would look for among Rust's items.
fn leads_somewhere(link_type: LinkType, destination: &str) -> bool {
    matches!(link_type, LinkType::Autolink | LinkType::Email)
        || destination.contains("://")
        || ["mailto:", "#"].iter().any(|start| destination.starts_with(start))
}

fn tags(text: &str, range: Range<usize>) -> Vec<Edit> {
    let start = range.start;
    text[range].match_indices('<').map(|(at, _)| Edit::insert(start + at, "\\")).collect()
}

/// The first address in a text that is not a link yet.
fn bare_url(text: &str, range: Range<usize>) -> Option<Edit> {
    let found = ["http://", "https://"].iter().filter_map(|scheme| text[range.clone()].find(scheme)).min()?;
    let start = range.start + found;
    let ends = |c: char| c.is_whitespace() || "<>`\"'()[]\\".contains(c);
    let address =
        text[start..].split(ends).next().unwrap_or_default().trim_end_matches(['.', ',', ';', ':', '*', '_']);
    // Only what rustdoc takes for an address.
    let host = address.split("://").nth(1).unwrap_or_default();
    let plain = host.starts_with(|c: char| c.is_ascii_alphanumeric());
    plain.then(|| Edit { range: start..start + address.len(), text: format!("<{address}>") })
}

fn code_block(text: &str, kind: &CodeBlockKind<'_>, range: Range<usize>) -> Vec<Edit> {
    match kind {
        CodeBlockKind::Fenced(info) => fenced_block(text, info, range),
        CodeBlockKind::Indented => vec![indented_block(text, range)],
    }
}

/// A fence says `text`, and is closed, for what comes after it.
fn fenced_block(text: &str, info: &str, range: Range<usize>) -> Vec<Edit> {
    let block = &text[range.clone()];
    let mark = if block.starts_with('~') { '~' } else { '`' };
    let first = block.lines().next().unwrap_or_default();
    let fence = &first[..first.len() - first.trim_start_matches(mark).len()];
    let mut edits = Vec::new();
    if info != "text" {
        edits.push(Edit {
            range: range.start + fence.len()..range.start + first.len(),
            text: "text".to_owned(),
        });
    }
    let last = block.trim_end().lines().skip(1).last().unwrap_or_default();
    let last = last.trim_start_matches([' ', '>']);
    let closed = last.len() >= fence.len() && last.chars().all(|c| c == mark);
    if !closed && text[range.end..].trim().is_empty() {
        let container = continuation(text, range.start);
        edits.push(Edit { range: text.trim_end().len()..text.len(), text: format!("\n{container}{fence}") });
    }
    edits
}

/// Indented code gets a fence in the place of its indentation.
fn indented_block(text: &str, range: Range<usize>) -> Edit {
    let first = text[..range.start].rfind('\n').map_or(0, |newline| newline + 1);
    let code = text[range.clone()].trim_end();
    let end = range.start + code.len();
    let start = range.start + (code.len() - code.trim_start_matches(['\n', ' ']).len());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1).max(first);
    let lead = &text[line_start..start];
    let container = &lead[..lead.len().saturating_sub(4)];
    let continuation: String = container.chars().map(|c| if c == '>' { '>' } else { ' ' }).collect();
    let fence = fence_around(code);
    let mut block = format!("{container}{fence}text\n");
    for line in text[line_start..end].lines() {
        let line = line.get(continuation.len()..).unwrap_or("");
        let line = line.strip_prefix("    ").unwrap_or_else(|| line.trim_start_matches(' '));
        block.push_str(format!("{continuation}{line}").trim_end());
        block.push('\n');
    }
    block.extend([continuation, fence]);
    Edit { range: line_start..end, text: block }
}

/// What a further line of the list item or quotation around `at` starts with.
fn continuation(text: &str, at: usize) -> String {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..at].chars().map(|c| if c == '>' { '>' } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(comment: &str) -> String {
        let lines = clean(comment);
        lines.join("\n")
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(
            cleaned(" Says hello.\n\n More, *much* `more`.\n"),
            " Says hello.\n\n More, *much* `more`."
        );
        assert_eq!(cleaned("one\r\ntwo"), " one\n two");
    }

    #[test]
    fn marks_of_documentation_are_no_text() {
        assert_eq!(cleaned("*\n Says hello.\n "), " Says hello.");
        assert_eq!(cleaned("* Says hello.\n\n * one\n"), " Says hello.\n\n * one");
        assert_eq!(cleaned("*Hello* to all"), " *Hello* to all");
        assert_eq!(cleaned(" * one\n * two"), " * one\n * two");
        assert_eq!(cleaned("/ Says hello.\n/\n/ More."), " Says hello.\n\n More.");
        assert_eq!(cleaned("/ is not\n//"), " / is not\n //");
        assert_eq!(cleaned("/etc/hosts"), " /etc/hosts");
    }

    #[test]
    fn fences_say_text() {
        assert_eq!(cleaned(" ```\n curl\n ```"), " ```text\n curl\n ```");
        assert_eq!(cleaned("~~~rust\nx\n~~~"), " ~~~text\n x\n ~~~");
        assert_eq!(cleaned("- a\n  ```json\n  {}\n  ```"), " - a\n   ```text\n   {}\n   ```");
    }

    #[test]
    fn an_open_fence_is_closed() {
        assert_eq!(cleaned("a\n```\nb"), " a\n ```text\n b\n ```");
    }

    #[test]
    fn indented_code_gets_a_fence() {
        assert_eq!(
            cleaned(" a:\n\n     let x;\n       y\n\n b"),
            " a:\n\n ```text\n let x;\n   y\n ```\n\n b"
        );
        assert_eq!(cleaned("1. a\n\n       x\n\n   b"), " 1. a\n\n    ```text\n    x\n    ```\n\n    b");
        assert_eq!(cleaned("a\n\n    ```x\n"), " a\n\n ````text\n ```x\n ````");
    }

    #[test]
    fn brackets_are_no_links() {
        assert_eq!(cleaned("[Req] and [a][b.C] and [d](e.F)"), " \\[Req] and \\[a]\\[b.C] and \\[d](e.F)");
        assert_eq!(cleaned("[docs](https://a.example/b)"), " [docs](https://a.example/b)");
        assert_eq!(cleaned("`[code]` [unclosed"), " `[code]` [unclosed");
    }

    #[test]
    fn angle_brackets_are_no_tags() {
        assert_eq!(cleaned("Vec<T> and <b>x</b> `<T>` 1 < 2"), " Vec\\<T> and \\<b>x\\</b> `<T>` 1 < 2");
        assert_eq!(cleaned("<div>\n[a]\n</div>"), " \\<div>\n \\[a]\n \\</div>");
    }

    #[test]
    fn addresses_are_links() {
        assert_eq!(
            cleaned("See http://a.example/b_c?d=1&e=<f>."),
            " See <http://a.example/b_c?d=1&e=>\\<f>."
        );
        assert_eq!(
            cleaned("(https://a.example) <http://b.example>"),
            " (<https://a.example>) <http://b.example>"
        );
    }

    #[test]
    fn what_turns_text_around_is_visible() {
        assert_eq!(cleaned("a\u{202e}b\u{0}"), " a\\u{202e}b\\u{0}");
    }
}
