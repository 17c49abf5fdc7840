//! The storeys of the house: a room uses only rooms below its own, and few rooms name DataFusion's types.
//! Reads `src/` as text, so that a use is found wherever it stands.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by storey, the lowest first.
const STOREYS: &[&[&str]] = &[
    &["diagnostics", "stats"],
    &["project", "template", "flags"],
    &["manifest", "sql"],
    &["graph", "metrics", "experiments", "contracts"],
    &["compile", "engine", "warehouse", "events"],
    &[
        "run",
        "governance",
        "artifacts",
        "report",
        "serve",
        "monitor",
        "generate",
    ],
    &["cli"],
];

/// Arrows between rooms of one storey; all of them together make no circle.
const SIDEWAYS: &[(&str, &str)] = &[
    ("project", "flags"),
    // A template is a file of the project.
    ("template", "project"),
    ("experiments", "metrics"),
    ("contracts", "metrics"),
    ("engine", "warehouse"),
    ("events", "warehouse"),
    // What types a stored table has is known before it is stored.
    ("compile", "warehouse"),
    ("artifacts", "run"),
    ("report", "artifacts"),
    ("monitor", "artifacts"),
];

/// Rooms that name types of DataFusion and Delta Lake; `events` hands batches of rows to the warehouse.
const KNOW_THE_ENGINE: &[&str] = &["engine", "sql", "warehouse", "events"];

#[test]
fn a_room_uses_only_lower_rooms() {
    let wrong: Vec<String> = uses()
        .filter(|used| !is_allowed(&used.room, &used.other))
        .map(|used| used.to_string())
        .collect();
    assert!(
        wrong.is_empty(),
        "a room uses one that is not below it:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn few_rooms_name_types_of_the_engine() {
    let wrong: Vec<String> = lines()
        .filter(|line| !KNOW_THE_ENGINE.contains(&line.room.as_str()))
        .filter(|line| line.code.contains("datafusion::") || line.code.contains("deltalake::"))
        .map(|line| {
            format!(
                "{}:{}: {}",
                line.file.display(),
                line.number,
                line.code.trim()
            )
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "only {KNOW_THE_ENGINE:?} name the engine's types:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_room_has_a_storey() {
    let rooms: Vec<String> = lines()
        .map(|line| line.room)
        .filter(|room| room != "lib" && room != "main")
        .collect();
    let homeless: Vec<&String> = rooms.iter().filter(|room| storey(room).is_none()).collect();
    assert!(
        homeless.is_empty(),
        "give these rooms a storey: {homeless:?}"
    );
    assert!(
        rooms.len() > 1000,
        "the folder was read: {} lines",
        rooms.len()
    );
}

#[test]
fn the_check_sees_a_room_that_looks_up() {
    assert!(!is_allowed("stats", "sql"));
    assert!(!is_allowed("metrics", "experiments"));
    assert!(is_allowed("experiments", "metrics"));
    assert_eq!(
        rooms_named("use crate::{stats::State, sql as other};"),
        ["sql", "stats"]
    );
    assert_eq!(
        rooms_named("    let x = crate::engine::Engine::new(); // crate::cli"),
        ["engine"]
    );
}

/// A line of code that names another room.
struct Use {
    file: PathBuf,
    line: usize,
    room: String,
    other: String,
}

impl std::fmt::Display for Use {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}:{}: {} uses {}",
            self.file.display(),
            self.line,
            self.room,
            self.other
        )
    }
}

fn uses() -> impl Iterator<Item = Use> {
    lines()
        .filter(|line| line.room != "lib" && line.room != "main")
        .flat_map(|line| {
            rooms_named(&line.code)
                .into_iter()
                .filter(|other| *other != line.room)
                .map(|other| Use {
                    file: line.file.clone(),
                    line: line.number,
                    room: line.room.clone(),
                    other,
                })
                .collect::<Vec<_>>()
        })
}

fn is_allowed(room: &str, other: &str) -> bool {
    match (storey(room), storey(other)) {
        (Some(here), Some(there)) => there < here || SIDEWAYS.contains(&(room, other)),
        // A room without a storey is another test's finding.
        _ => true,
    }
}

fn storey(room: &str) -> Option<usize> {
    STOREYS.iter().position(|rooms| rooms.contains(&room))
}

/// Rooms named in a line as `crate::room` or `crate::{room, ...}`; comments do not count.
fn rooms_named(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut found: Vec<String> = code
        .match_indices("crate::")
        .flat_map(|(at, word)| {
            let rest = &code[at + word.len()..];
            match rest.strip_prefix('{') {
                Some(list) => list
                    .split(',')
                    .map(|part| first_word(part.trim()))
                    .collect(),
                None => vec![first_word(rest)],
            }
        })
        .filter(|word| storey(word).is_some())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
        .collect()
}

struct Line {
    file: PathBuf,
    number: usize,
    room: String,
    code: String,
}

/// Every line of `src/`, with the room that it belongs to.
fn lines() -> impl Iterator<Item = Line> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    rust_files(&root).into_iter().flat_map(move |path| {
        let file = path
            .strip_prefix(&root)
            .expect("it was found below")
            .to_path_buf();
        let first = file
            .components()
            .next()
            .expect("it has a name")
            .as_os_str()
            .to_string_lossy()
            .into_owned();
        let room = first.trim_end_matches(".rs").to_string();
        let text = fs::read_to_string(&path).expect("source code is text");
        let numbered = text.lines().enumerate();
        let line = |(at, code): (usize, &str)| Line {
            file: Path::new("src").join(&file),
            number: at + 1,
            room: room.clone(),
            code: code.to_string(),
        };
        numbered.map(line).collect::<Vec<_>>()
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
