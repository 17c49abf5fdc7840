//! Diagnostics as text for people and as JSON for machines.

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::{Diagnostic, Severity, SourceText, Span};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Render {
    Plain,
    Styled,
}

/// All diagnostics, errors last so that they stand nearest to the prompt, in the order of files and lines.
pub fn render_all(diagnostics: &[Diagnostic], sources: &dyn SourceText, how: Render) -> String {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by(|left, right| {
        (left.severity, &left.span, left.code, &left.message).cmp(&(
            right.severity,
            &right.span,
            right.code,
            &right.message,
        ))
    });
    sorted.dedup();
    sorted
        .iter()
        .map(|diagnostic| render(diagnostic, sources, how) + "\n")
        .collect::<Vec<_>>()
        .join("\n")
}

/// One diagnostic in the shape of rustc's: title, place, the line itself, notes, hint.
pub fn render(diagnostic: &Diagnostic, sources: &dyn SourceText, how: Render) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level
        .primary_title(&*diagnostic.message)
        .id(diagnostic.code.as_str())
        .elements(snippets(diagnostic, sources));
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(&**note));
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(&**hint));
    }
    renderer(how).render(&[group])
}

fn renderer(how: Render) -> Renderer {
    match how {
        Render::Plain => Renderer::plain(),
        Render::Styled => Renderer::styled(),
    }
}

fn snippets<'a>(
    diagnostic: &'a Diagnostic,
    sources: &'a dyn SourceText,
) -> Vec<annotate_snippets::Element<'a>> {
    let primary = diagnostic
        .span
        .iter()
        .map(|span| (span, diagnostic.label.as_deref(), AnnotationKind::Primary));
    let related = diagnostic
        .related
        .iter()
        .map(|(span, words)| (span, Some(words.as_str()), AnnotationKind::Context));
    let mut elements: Vec<annotate_snippets::Element<'a>> = Vec::new();
    let mut marks: Vec<(&Span, Option<&str>, AnnotationKind)> = primary.chain(related).collect();
    while !marks.is_empty() {
        let file = marks[0].0.file.clone();
        let (here, elsewhere): (Vec<_>, Vec<_>) = marks
            .into_iter()
            .partition(|(span, _, _)| span.file == file);
        marks = elsewhere;
        elements.push(snippet(&here, sources));
    }
    elements
}

fn snippet<'a>(
    marks: &[(&'a Span, Option<&'a str>, AnnotationKind)],
    sources: &'a dyn SourceText,
) -> annotate_snippets::Element<'a> {
    let file = &marks[0].0.file;
    let Some(text) = sources.text(file).filter(|text| !text.trim().is_empty()) else {
        let (span, _, _) = marks[0];
        let origin = annotate_snippets::Origin::path(&**file);
        return origin
            .line(span.line as usize)
            .char_column(span.column as usize)
            .into();
    };
    let (text, first_line) = lines_of(marks, text);
    let annotations: Vec<Annotation<'a>> = marks
        .iter()
        .map(|(span, label, kind)| {
            let span = Span {
                line: span.line.saturating_sub(first_line - 1),
                ..(*span).clone()
            };
            let mut range = span.byte_range(text);
            if range.is_empty() && range.end < text.len() && !text[range.end..].starts_with('\n') {
                range.end += text[range.end..].chars().next().map_or(0, char::len_utf8);
            }
            kind.span(range).label(*label)
        })
        .collect();
    Snippet::source(text)
        .line_start(first_line as usize)
        .path(&**file)
        .annotations(annotations)
        .into()
}

/// The lines from the first mark to the last, and the number of the first: the rest of a large file is not looked at again for each
/// diagnostic.
fn lines_of<'a>(marks: &[(&Span, Option<&str>, AnnotationKind)], text: &'a str) -> (&'a str, u32) {
    let lines = || marks.iter().map(|(span, _, _)| span.line.max(1));
    let (first, last) = (lines().min().unwrap_or(1), lines().max().unwrap_or(1));
    let mut starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    match starts.by_ref().nth(first as usize - 1) {
        Some(start) => {
            let end = starts.nth((last - first) as usize).unwrap_or(text.len());
            (&text[start..end], first)
        }
        None => (text, 1),
    }
}

/// One JSON object: code, severity, message, file, line, column, notes, hint.
pub fn to_json(diagnostic: &Diagnostic) -> serde_json::Value {
    let place = |span: &Span| serde_json::json!({"file": &*span.file, "line": span.line, "column": span.column, "length": span.length});
    serde_json::json!({
        "code": diagnostic.code.as_str(),
        "severity": match diagnostic.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "message": diagnostic.message,
        "place": diagnostic.span.as_ref().map(place),
        "label": diagnostic.label,
        "related": diagnostic.related.iter().map(|(span, words)| serde_json::json!({"place": place(span), "message": words})).collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "hint": diagnostic.hint,
    })
}
