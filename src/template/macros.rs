//! What macros there are, for those who list them.

use std::sync::LazyLock;

use minijinja::Value;
use regex::Regex;

use super::{Templates, functions, markers};
use crate::project::SqlFile;

/// A macro as it was written; a `test` block has the name `test_...`.
#[derive(Debug, Clone, Copy)]
pub struct Macro<'a> {
    pub name: &'a str,
    pub file: &'a SqlFile,
    /// From `{% macro` to `{% endmacro %}`.
    pub text: &'a str,
}

impl Macro<'_> {
    /// Whether it comes with the program.
    pub fn is_of_standard_library(&self) -> bool {
        is_of_standard_library(&self.file.path)
    }
}

/// Whether a file comes with the program.
pub fn is_of_standard_library(path: &str) -> bool {
    super::STANDARD_LIBRARY
        .iter()
        .any(|(known, _)| *known == path)
}

impl Templates {
    /// Whether a macro comes with the program, and no other of its name takes its place.
    pub fn is_of_standard_library(&self, name: &str) -> bool {
        let mut known = self.plain.globals();
        known.any(|(global, value)| {
            let proxy = value.downcast_object_ref::<functions::MacroProxy>();
            global == name && proxy.is_some_and(|proxy| is_of_standard_library(&proxy.file))
        })
    }

    /// Every macro that templates can call, by name; a project's own in place of the standard library's.
    pub fn macros(&self) -> Vec<Macro<'_>> {
        let defined = |(name, value): (&'_ str, Value)| {
            let proxy = value.downcast_object_ref::<functions::MacroProxy>()?;
            let file = self.texts.get(&proxy.file)?;
            let (_, at) = markers::macro_definitions(&file.text)
                .into_iter()
                .find(|(defined, _)| defined == name)?;
            let (name, _) = self.parameters.get_key_value(name)?;
            Some(Macro {
                name,
                file,
                text: definition(&file.text, at),
            })
        };
        let mut macros: Vec<Macro<'_>> = self.plain.globals().filter_map(defined).collect();
        macros.sort_by_key(|one| one.name);
        macros
    }
}

/// The block around a macro's name.
fn definition(text: &str, name_at: usize) -> &str {
    static END: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%-?\s*end(macro|test)\s*-?%\}").expect("the pattern is constant")
    });
    let start = text[..name_at].rfind("{%").unwrap_or(name_at);
    let end = END
        .find_at(text, name_at)
        .map_or(text.len(), |end| end.end());
    &text[start..end]
}

/// Names that a template calls like functions, inside its brackets, in order.
pub fn called(text: &str) -> Vec<&str> {
    static CODE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?s)\{\{.*?\}\}|\{%.*?%\}").expect("the pattern is constant")
    });
    static CALL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b([A-Za-z_]\w*)\s*\(").expect("the pattern is constant"));
    let mut names: Vec<&str> = CODE
        .find_iter(text)
        .flat_map(|code| CALL.captures_iter(code.as_str()))
        .filter_map(|found| Some(found.get(1)?.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macro_is_its_block_alone() {
        let text = "{% macro a() %}1{% endmacro %}\n{%- test b(model) -%} 2 {%- endtest -%}\n";
        let file = SqlFile {
            path: "macros/two.sql".into(),
            text: text.into(),
        };
        let templates = Templates::new(std::slice::from_ref(&file)).value;
        let macros = templates.macros();
        let of = |name: &str| {
            macros
                .iter()
                .find(|one| one.name == name)
                .map(|one| one.text)
        };
        assert_eq!(of("a"), Some("{% macro a() %}1{% endmacro %}"));
        let b = "{%- test b(model) -%} 2 {%- endtest -%}";
        assert_eq!(of("test_b"), Some(b));
    }

    #[test]
    fn a_call_is_one_inside_the_brackets_of_the_template() {
        let text = "select coalesce(a, 1) from {{ ref('x') }} {% if day(f(1)) %}max(b){% endif %}";
        assert_eq!(called(text), ["day", "f", "ref"]);
    }
}
