//! Why a text is no YAML, in words for whoever wrote it.
//! In: an error of the reader, in words for whoever wrote that. Out: a [`Diagnostic`] with a next step.

use std::sync::Arc;

use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

use super::tree::{DEEPEST, MOST_VALUES, span_of};
use crate::diagnostics::{Code, Diagnostic, Span};

pub(super) fn syntax_error(file: &Arc<str>, error: &Error) -> Diagnostic {
    let span = error
        .location()
        .map_or(Span::file(file.clone()), |location| {
            span_of(file, &location)
        });
    let error = error.without_snippet();
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split(" at line ").next().unwrap_or(text);
    if let Some(key) = text.strip_prefix("duplicate mapping key: ") {
        let key = key.split(", set ").next().unwrap_or(key);
        return Diagnostic::error(Code::E0201, format!("the key `{key}` stands here twice"))
            .at(span)
            .hint("keep one of them");
    }
    if text.starts_with("multiple YAML documents") {
        return Diagnostic::error(Code::E0102, "here a second document begins")
            .at(span)
            .hint("remove the line `---`, or give what follows a file of its own");
    }
    let (message, hint) = of_meaning(error)
        .or_else(|| of_character(text))
        .or_else(|| of_phrase(text))
        .unwrap_or_else(|| {
            (
                lower_first(text.trim_end_matches('.')),
                IN_QUOTES.to_string(),
            )
        });
    Diagnostic::error(Code::E0102, format!("this is not YAML: {message}"))
        .at(span)
        .hint(hint)
}

const IN_QUOTES: &str = "put a text with signs that YAML gives a meaning in quotes";
const INDENTATION: &str = "line it up with what it belongs to, with spaces";

type Words = (String, String);

/// What stands in the file, but cannot be read.
fn of_meaning(error: &Error) -> Option<Words> {
    let (message, hint) = match error {
        Error::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        } => return Some(too_deep()),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } => return Some(too_many()),
        Error::AliasReplayStackDepthExceeded { .. } => (
            "aliases repeat aliases that repeat others, without an end in sight",
            "write out some of them",
        ),
        Error::UnknownAnchor { .. } => (
            "no anchor above has the name of this alias",
            "write `&name` before the value that is meant, or put the text in quotes if it is none",
        ),
        Error::RecursiveReferencesRequireWeakTypes { .. } => (
            "this alias stands inside the value that it repeats",
            "take it out, or repeat another value",
        ),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => (
            "`<<` takes a mapping, or a list of mappings",
            "write `<<: *name` with the alias of a mapping",
        ),
        Error::NullIntoString { .. } => ("a key is no text, but nothing", "put it in quotes"),
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => (
            "a key is no text, but a list or a mapping",
            "put it in quotes; templates in braces need them, too",
        ),
        Error::InvalidScalar { .. } | Error::TaggedScalarCannotDeserializeIntoString { .. } => (
            "the value is none of those that its tag names",
            "take the tag (`!!...`) out",
        ),
        Error::InvalidBinaryBase64 { .. } | Error::BinaryNotUtf8 { .. } => (
            "what `!!binary` announces is no base64 of a text",
            "write the text itself, in quotes",
        ),
        _ => return None,
    };
    Some((message.to_string(), hint.to_string()))
}

fn too_deep() -> Words {
    (
        format!("lists and mappings stand inside each other more than {DEEPEST} deep"),
        "is the end of one missing?".to_string(),
    )
}

fn too_many() -> Words {
    (
        format!(
            "it has more than {} million values, or aliases repeat too many of them",
            MOST_VALUES / 1_000_000
        ),
        "split it into several files".to_string(),
    )
}

/// The character that cannot begin a value, or stand in any text.
fn of_character(text: &str) -> Option<Words> {
    let character = text.strip_prefix("unexpected character: `")?;
    let character = character.strip_suffix('\'')?;
    match character
        .strip_prefix("\\u{")
        .and_then(|code| code.strip_suffix('}'))
    {
        Some(code) => Some((
            format!(
                "the character U+{:0>4} cannot stand in a text",
                code.to_uppercase()
            ),
            "remove it; it may be invisible in your editor".to_string(),
        )),
        None => Some((
            format!("no value begins with the sign {character}"),
            "put the value in quotes".to_string(),
        )),
    }
}

/// What the reader missed or met, by what it says of that, and what to do.
fn of_phrase(text: &str) -> Option<Words> {
    const PHRASES: &[(&str, &str, &str)] = &[
        (
            "tab",
            "a tab stands where only spaces may",
            "indent with spaces",
        ),
        (
            "mapping values are not allowed",
            "a `:` stands where no key ends",
            "put a text with `: ` in quotes, or line the key up with those beside it",
        ),
        (
            "illegal placement of ':'",
            "a `:` stands where no key ends",
            "is a bracket above it not closed?",
        ),
        (
            "mapping keys are not allowed",
            "a `?` begins a key where none can stand",
            "put the text in quotes",
        ),
        (
            "block sequence entries are not allowed",
            "a `-` begins an entry of a list where none can stand",
            "begin the list on a line of its own, or put the text in quotes",
        ),
        (
            "unclosed quote",
            "a quote is not closed",
            "add the quote at its end",
        ),
        (
            "unclosed bracket '{'",
            "a `{` is not closed",
            "add `}`, or put the text in quotes",
        ),
        (
            "unclosed bracket '['",
            "a `[` is not closed",
            "add `]`, or put the text in quotes",
        ),
        (
            "expected ',' or '}'",
            "a `,` or the `}` of a mapping is missing before this",
            "close the mapping, or put the text in quotes",
        ),
        (
            "expected ',' or ']'",
            "a `,` or the `]` of a list is missing before this",
            "close the list, or put the text in quotes",
        ),
        (
            "did not find expected '-' indicator",
            "this stands among the entries of a list, and is none",
            INDENTATION,
        ),
        (
            "did not find expected key",
            "this stands among the keys of a mapping, and is none",
            INDENTATION,
        ),
        (
            "expected <document start>",
            "what stands above has ended, and this does not go on with it",
            INDENTATION,
        ),
        (
            "simple key expected",
            "a `:` is missing behind a key",
            "write `key: value`",
        ),
        (
            "expected ':'",
            "a `:` is missing behind a key",
            "write `key: value`",
        ),
        (
            "unknown escape character",
            "a backslash stands before a letter that it gives no meaning",
            "write `\\\\` for a backslash, or single quotes, in which it is one",
        ),
        (
            "surrogate",
            "`\\u` names half of a character",
            "write the character itself",
        ),
        (
            "YAML major version",
            "the version after `%YAML` is none that is read",
            "remove the line",
        ),
    ];
    if text.contains("recursion limit") {
        return Some(too_deep());
    }
    if text.contains("alias replay") {
        return Some(too_many());
    }
    let found = PHRASES.iter().find(|(phrase, _, _)| text.contains(phrase));
    found.map(|(_, message, hint)| (message.to_string(), hint.to_string()))
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_lowercase());
    let rest = characters.as_str();
    // A word of capital letters alone is a name.
    match rest.starts_with(char::is_uppercase) {
        true => text.to_string(),
        false => first.into_iter().flatten().collect::<String>() + rest,
    }
}
