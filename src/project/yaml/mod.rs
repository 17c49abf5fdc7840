//! YAML as a tree in which every key and value knows its place, and a reader that takes typed fields out of it.
//! In: the text of one file. Out: a [`Node`]. All findings of a file are collected: a wrong type in one entry does not
//! hide an unknown key in the next, which is why specs are read with [`Fields`] and not derived.

mod fields;
mod old;
mod syntax;
mod tree;

pub use fields::{Fields, FromNode, Misspelt, read_at, wrong_type};
pub use old::old_boolean;
pub use tree::{Node, Spot, Value, parse, typed};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "a: 1\nb:\n  - {c: [x, 2.5]}\n  - d: 'q r'\n";
        let node = parse(&"f.yml".into(), text).value;
        let list = node.get("b").expect("b is there");
        let Value::Sequence(items) = &list.value else {
            panic!("b is a list")
        };
        let quoted = items[1].get("d").expect("d is there");
        assert_eq!((quoted.span.line, quoted.span.column), (4, 8));
        assert_eq!(&text[quoted.span.byte_range(text)], "'q r'");
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": 1, "b": [{"c": ["x", 2.5]}, {"d": "q r"}]})
        );
    }

    #[test]
    fn a_file_that_is_not_yaml_says_where() {
        let checked = parse(&"f.yml".into(), "a: [1, 2\nb: }");
        assert_eq!(checked.diagnostics.len(), 1);
        assert!(checked.diagnostics[0].span.is_some());
    }

    #[test]
    fn a_misspelt_key_is_not_reported_as_missing_too() {
        let node = parse(&"f.yml".into(), "nmae: x\nother: 1\n").value;
        let mut diagnostics = Vec::new();
        let mut fields = Fields::of(&node, "a model", &mut diagnostics).expect("a mapping");
        let name: Option<String> = fields.required("name");
        let kind: Option<String> = fields.required("kind");
        let misspelt = fields.finish();
        assert_eq!((name, kind), (None, None));
        assert!(misspelt.has("name") && !misspelt.has("kind"));
        let messages: Vec<_> = diagnostics
            .iter()
            .map(|diagnostic| diagnostic.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "a model needs `kind`",
                "unknown key `nmae` in a model",
                "unknown key `other` in a model"
            ]
        );
        assert_eq!(diagnostics[1].hint.as_deref(), Some("did you mean `name`?"));
    }

    #[test]
    fn other_words_are_booleans_only_where_one_is_wanted() {
        let node = parse(
            &"f.yml".into(),
            "all: [n, y, No, yes, on, off, true, False]\n",
        )
        .value;
        assert_eq!(
            node.to_json(),
            serde_json::json!({"all": ["n", "y", "No", "yes", "on", "off", true, false]})
        );
        let wanted = |text: &str| {
            let node = parse(&"f.yml".into(), &format!("enabled: {text}\n")).value;
            let enabled = node.get("enabled").expect("it is there");
            bool::from_node(enabled, &mut Vec::new())
        };
        assert_eq!(wanted("no"), Some(false));
        assert_eq!(wanted("Yes"), Some(true));
        assert_eq!(wanted("often"), None);
    }

    /// `n` may be a column, and is no `false` where a text is asked for.
    #[test]
    fn texts_are_taken_as_they_are_written() {
        for (written, meant) in [
            ("n", "n"),
            ("off", "off"),
            ("Yes", "Yes"),
            ("TRUE", "TRUE"),
            ("007", "007"),
            ("1.50", "1.50"),
            ("0x10", "0x10"),
            ("true # a comment", "true"),
            ("'yes'", "yes"),
        ] {
            let file: Arc<str> = "metrics.yml".into();
            let text = format!("ä: [1]\nmetrics:\n  - {{name: größe, expr: {written}\n    }}\n");
            let node = parse(&file, &text).value;
            let Some(Value::Sequence(metrics)) = node.get("metrics").map(|node| &node.value) else {
                panic!("{written}: {node:?}");
            };
            let expression = metrics[0].get("expr").expect("it is there");
            let read = String::from_node(expression, &mut Vec::new());
            assert_eq!(read.as_deref(), Some(meant), "{written}");
        }
    }
}
