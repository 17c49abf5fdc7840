//! Names as SQL reads them back.
//! In: the name of an attribute, a column or a relation. Out: the same as an identifier of SQL. Whether anything has that
//! name is left to others. It stands here because rules are the lowest room that writes SQL; `manifest` hands it on.

/// A name as SQL reads it: quoted only when folding to lower case would change it, it is no plain word or one of SQL's own.
pub fn identifier(name: &str) -> String {
    let plain = name.chars().all(|character| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'
    });
    let is_number = name.starts_with(|first: char| first.is_ascii_digit());
    if plain && !is_number && !name.is_empty() && RESERVED.binary_search(&name).is_err() {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Words that mean something else to the parser where a column or a relation may stand; sorted.
const RESERVED: &[&str] = &[
    "all",
    "analyze",
    "and",
    "anti",
    "any",
    "array",
    "as",
    "asc",
    "asof",
    "at",
    "between",
    "box",
    "by",
    "case",
    "cast",
    "ceil",
    "circle",
    "cluster",
    "collate",
    "connect",
    "convert",
    "cross",
    "cube",
    "current_catalog",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "desc",
    "distinct",
    "distribute",
    "div",
    "else",
    "end",
    "escape",
    "except",
    "exclude",
    "exists",
    "explain",
    "extract",
    "false",
    "fetch",
    "floor",
    "for",
    "format",
    "from",
    "full",
    "global",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "lateral",
    "left",
    "like",
    "limit",
    "line",
    "localtime",
    "localtimestamp",
    "lseg",
    "match",
    "match_condition",
    "match_recognize",
    "minus",
    "natural",
    "not",
    "null",
    "offset",
    "on",
    "open",
    "or",
    "order",
    "outer",
    "output",
    "overlaps",
    "overlay",
    "partition",
    "path",
    "pivot",
    "point",
    "polygon",
    "prewhere",
    "prior",
    "qualify",
    "regexp",
    "returning",
    "right",
    "rlike",
    "rollup",
    "safe_cast",
    "sample",
    "select",
    "semi",
    "session_user",
    "set",
    "settings",
    "similar",
    "some",
    "sort",
    "start",
    "struct",
    "substr",
    "substring",
    "tablesample",
    "then",
    "top",
    "trim",
    "true",
    "try_cast",
    "try_convert",
    "union",
    "unpivot",
    "user",
    "using",
    "values",
    "view",
    "when",
    "where",
    "window",
    "with",
    "xor",
];

#[cfg(test)]
mod tests {
    use sqlparser::keywords::ALL_KEYWORDS;

    use super::*;
    use crate::flags::context::{Schema, Type};
    use crate::flags::targeting::Predicate;

    /// What an explanation, an export or an import writes of a rule is a rule again, whatever its attributes are called.
    #[test]
    fn a_rule_over_any_word_reads_back_as_it_was() {
        let lost: Vec<String> = ALL_KEYWORDS
            .iter()
            .map(|word| word.to_lowercase())
            .filter(|word| !reads_back(word))
            .collect();
        assert!(lost.is_empty(), "{lost:?}");
    }

    fn reads_back(word: &str) -> bool {
        let mut schema = Schema::default();
        schema.add_attribute(word, Type::Text);
        [
            "NAME = 'x'",
            "lower(NAME) IN ('x', 'y')",
            "NOT (NAME IS NULL)",
        ]
        .iter()
        .all(|rule| {
            let quoted = rule.replace("NAME", &format!("\"{word}\""));
            let said = Predicate::compile(&quoted, &schema).expect("a quoted name is no keyword");
            let written = said.expression().to_string();
            Predicate::compile(&written, &schema)
                .is_ok_and(|read| read.expression().to_string() == written)
                && Predicate::compile(&rule.replace("NAME", &identifier(word)), &schema)
                    .is_ok_and(|read| read.expression().to_string() == written)
        })
    }

    #[test]
    fn the_words_are_sorted() {
        assert!(RESERVED.is_sorted());
    }
}
