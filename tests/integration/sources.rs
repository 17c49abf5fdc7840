//! Source files: what is found in them is what queries read, and every broken file is named with its place and a way out.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use equipoise::engine::sources::{
    CsvOptions, DeclaredColumn, ProblemKind, SourceFiles, SourceProblem, SourceTable, inspect,
    provider,
};
use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A project folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn inspected(root: &Path, source: &SourceFiles) -> Result<SourceTable, Vec<SourceProblem>> {
    block_on(inspect(root, source, &root.join("cache")))
}

fn source(location: &str) -> SourceFiles {
    SourceFiles::new("things", location)
}

fn declared(location: &str, columns: &[(&str, &str)]) -> SourceFiles {
    let columns = columns.iter().map(|(name, data_type)| DeclaredColumn {
        name: name.to_string(),
        data_type: (!data_type.is_empty()).then(|| data_type.to_string()),
    });
    SourceFiles {
        columns: columns.collect(),
        ..source(location)
    }
}

/// The problems of one file that the source consists of, a line each.
fn problems(name: &str, content: impl AsRef<[u8]>) -> String {
    problems_of(&[(name, content.as_ref())], &source(name))
}

fn problems_of(files: &[(&str, &[u8])], source: &SourceFiles) -> String {
    let folder = folder(files);
    let problems = inspected(folder.path(), source).expect_err("the file is broken");
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Columns with their types, as `name type, ...`.
fn columns(schema: &SchemaRef) -> String {
    let columns = schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}

fn types(name: &str, content: impl AsRef<[u8]>) -> String {
    let folder = folder(&[(name, content.as_ref())]);
    columns(&inspected(folder.path(), &source(name)).unwrap().schema)
}

/// Inspects the source and runs `sql`, in which it is called `t`.
fn query(root: &Path, source: &SourceFiles, sql: &str) -> String {
    let table = inspected(root, source).unwrap();
    block_on(async {
        let context = SessionContext::new_with_config(
            SessionConfig::new()
                .with_target_partitions(2)
                .with_batch_size(3),
        );
        context
            .register_table("t", provider(source, &table).await.unwrap())
            .unwrap();
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    })
}

/// The only cell of a query's result.
fn value(root: &Path, source: &SourceFiles, sql: &str) -> String {
    let table = query(root, source, sql);
    table
        .lines()
        .nth(3)
        .unwrap()
        .trim_matches(['|', ' '])
        .to_string()
}

#[test]
fn types_are_those_that_all_values_fit() {
    let rows = "b,i,d,day,at,id,big,mixed,none\n\
        true,1,1,2026-01-01,2026-01-01 10:00:00,007,1,1,\n\
        FALSE,-2,2.5,2026-02-28,2026-01-01,1,9223372036854775808,a,\n\
        ,,,,,,,,\n";
    assert_eq!(
        types("t.csv", rows),
        "b Boolean, i Int64, d Float64, day Date32, at Timestamp(µs), id Utf8View, big Utf8View, mixed Utf8View, none Utf8View"
    );
}

#[test]
fn one_late_value_decides_the_type() {
    let mut rows = "n\n".to_string() + &"1\n".repeat(5000);
    assert_eq!(types("t.csv", &rows), "n Int64");
    rows.push_str("x\n");
    assert_eq!(types("t.csv", &rows), "n Utf8View");
}

#[test]
fn what_is_read_is_what_was_written() {
    let folder = folder(&[(
        "t.csv",
        "\u{feff}id,text,at\r\n1,\"a, \"\"b\"\"\nc\",2026-01-01T10:00:00+02:00\r\n2,,2026-01-01 08:00:00.5\r\n3, ü ,\r\n".as_bytes(),
    )]);
    let source = source("t.csv");
    assert_eq!(
        query(
            folder.path(),
            &source,
            "select at, text, id, text = 'a, \"b\"' || chr(10) || 'c' as same from t order by id"
        )
        .lines()
        .skip(3)
        .map(str::trim_end)
        .collect::<Vec<_>>(),
        [
            "| 2026-01-01T08:00:00     | a, \"b\" | 1  | true  |",
            "|                         | c      |    |       |",
            "| 2026-01-01T08:00:00.500 |        | 2  |       |",
            "|                         |  ü     | 3  | false |",
            "+-------------------------+--------+----+-------+",
        ]
    );
    assert_eq!(value(folder.path(), &source, "select count(*) from t"), "3");
    assert_eq!(
        value(
            folder.path(),
            &source,
            "select count(*) from t where text is null"
        ),
        "1"
    );
    assert_eq!(
        value(folder.path(), &source, "select id from t limit 1"),
        "1"
    );
}

#[test]
fn a_declared_type_wins() {
    let folder = folder(&[("t.csv", b"id,price,flag\n7,1.50, yes\n8,-2,0\n")]);
    let source = declared(
        "t.csv",
        &[
            ("id", "varchar"),
            ("price", "decimal(5, 2)"),
            ("flag", "boolean"),
        ],
    );
    let table = inspected(folder.path(), &source).unwrap();
    assert_eq!(
        columns(&table.schema),
        "id Utf8View, price Decimal128(5, 2), flag Boolean"
    );
    assert_eq!(
        value(
            folder.path(),
            &source,
            "select sum(price) from t where flag"
        ),
        "1.50"
    );
}

#[test]
fn null_values_are_null_in_every_column() {
    let folder = folder(&[("t.csv", b"n,w\n1,NA\nNA,a\nNaN,b\n")]);
    let csv = CsvOptions {
        null_values: vec!["NA".to_string(), "NaN".to_string()],
        ..CsvOptions::default()
    };
    let source = SourceFiles {
        csv,
        ..source("t.csv")
    };
    assert_eq!(
        value(
            folder.path(),
            &source,
            "select count(n) * 10 + count(w) from t"
        ),
        "12"
    );
}

#[test]
fn delimiters_and_files_without_a_header_are_read() {
    let folder = folder(&[("t.csv", b"1;a\n2;b\n"), ("t.tsv", b"n\tw\n1\ta,b\n")]);
    let csv = CsvOptions {
        delimiter: Some(b';'),
        has_header: false,
        ..CsvOptions::default()
    };
    let bare = SourceFiles {
        csv: csv.clone(),
        ..source("t.csv")
    };
    assert_eq!(
        value(
            folder.path(),
            &bare,
            "select string_agg(column_2, '' order by column_1) from t"
        ),
        "ab"
    );
    let named = SourceFiles {
        csv,
        ..declared("t.csv", &[("n", "int"), ("w", "")])
    };
    assert_eq!(
        value(
            folder.path(),
            &named,
            "select string_agg(w, '' order by n) from t"
        ),
        "ab"
    );
    assert_eq!(
        value(folder.path(), &source("t.tsv"), "select w from t"),
        "a,b"
    );
}

#[test]
fn folders_and_globs_are_all_their_files_in_order() {
    let folder = folder(&[
        ("events/2026/b.csv", b"w,n\nx,2\n"),
        ("events/a.csv", b"n,w\n1,y\n"),
        ("events/_tmp.csv", b"broken"),
        ("events/.hidden.csv", b"broken"),
        ("events/notes.txt", b"notes"),
    ]);
    for location in ["events", "./events/**/*.csv", "events/**/[ab].csv"] {
        let table = inspected(folder.path(), &source(location)).unwrap();
        let names: Vec<&str> = table.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["events/2026/b.csv", "events/a.csv"], "{location}");
        assert_eq!(table.rows, 2);
        assert_eq!(
            value(
                folder.path(),
                &source(location),
                "select string_agg(w, '' order by n) from t"
            ),
            "yx"
        );
    }
    assert_eq!(
        inspected(folder.path(), &source("events/*.csv"))
            .unwrap()
            .files
            .len(),
        1
    );
}

#[test]
fn json_lines_are_rows_with_the_union_of_their_keys() {
    let lines = "{\"n\": 1, \"w\": \"a\\u00fc\", \"at\": \"2026-01-01T00:00:00Z\"}\n\n\
        {\"big\": 123456789012345678901234567890, \"n\": 2.5, \"nested\": {\"k\": [1, 2]}, \"id\": \"12\"}\r\n{\"w\": null, \"b\": true}";
    let folder = folder(&[("t.jsonl", lines.as_bytes())]);
    let source = source("t.jsonl");
    let table = inspected(folder.path(), &source).unwrap();
    assert_eq!(
        columns(&table.schema),
        "n Float64, w Utf8View, at Timestamp(µs), big Utf8View, nested Utf8View, id Utf8View, b Boolean"
    );
    assert_eq!(table.rows, 3);
    assert_eq!(
        value(folder.path(), &source, "select big from t where n > 2"),
        "123456789012345678901234567890"
    );
    assert_eq!(
        value(
            folder.path(),
            &source,
            "select nested from t where nested is not null"
        ),
        "{\"k\": [1, 2]}"
    );
    assert_eq!(
        value(folder.path(), &source, "select w from t where n = 1"),
        "aü"
    );
}

#[test]
fn compressed_text_is_read_and_hashed_as_text() {
    let text = b"n\n1\n2\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&text[..], 1).unwrap();
    let folder = folder(&[("a.csv", text), ("b.csv.gz", &gzip), ("c.csv.zst", &zstd)]);
    let hash = |location: &str| {
        inspected(folder.path(), &source(location))
            .unwrap()
            .content_hash
    };
    assert_eq!(
        value(folder.path(), &source("b.csv.gz"), "select sum(n) from t"),
        "3"
    );
    assert_eq!(hash("a.csv"), hash("b.csv.gz"));
    assert_eq!(hash("a.csv"), hash("c.csv.zst"));
}

#[test]
fn parquet_is_read_with_the_schema_of_its_footer() {
    let folder = folder(&[]);
    let place = folder.path().join("odd [name]*");
    fs::create_dir(&place).unwrap();
    block_on(async {
        let context = SessionContext::new();
        let sql = "select cast(1 as int) as n, 'a' as w, timestamp '2026-01-01T00:00:00' as at union all select 2, null, null";
        let written = folder.path().join("t.parquet");
        context
            .sql(sql)
            .await
            .unwrap()
            .write_parquet(written.to_str().unwrap(), Default::default(), None)
            .await
            .unwrap();
        fs::rename(written, place.join("t.parquet")).unwrap();
    });
    let source = declared(
        "odd [name]*/t.parquet",
        &[("n", "bigint"), ("at", "timestamp")],
    );
    let table = inspected(folder.path(), &source).unwrap();
    assert_eq!(
        columns(&table.schema),
        "n Int64, w Utf8View, at Timestamp(µs)"
    );
    assert_eq!(table.rows, 2);
    assert_eq!(
        value(
            folder.path(),
            &source,
            "select sum(n) from t where w is null or at = '2026-01-01'"
        ),
        "3"
    );
}

/// Files written in two zones are one source, and their instants are compared with times that are UTC.
#[test]
fn instants_are_read_as_utc_whatever_zone_they_were_written_in() {
    let folder = folder(&[]);
    fs::create_dir(folder.path().join("t")).unwrap();
    block_on(async {
        let context = SessionContext::new();
        for (name, zone) in [("a", "Europe/Berlin"), ("b", "+05:30")] {
            let instant = "arrow_cast(timestamp '2026-01-01T12:00:00', 'Timestamp(Microsecond, Some(\"UTC\"))')";
            let sql = format!(
                "select arrow_cast({instant}, 'Timestamp(Microsecond, Some(\"{zone}\"))') as at"
            );
            let path = folder.path().join(format!("t/{name}.parquet"));
            let rows = context.sql(&sql).await.unwrap();
            rows.write_parquet(path.to_str().unwrap(), Default::default(), None)
                .await
                .unwrap();
        }
    });
    let table = inspected(folder.path(), &source("t")).unwrap();
    assert_eq!(columns(&table.schema), "at Timestamp(µs, \"UTC\")");
    let query = "select count(*) from t where at = timestamp '2026-01-01T12:00:00'";
    assert_eq!(value(folder.path(), &source("t"), query), "2");
}

#[test]
fn the_content_hash_follows_the_content_and_nothing_else() {
    let content = b"n,w\n1,a\n2,b\n";
    let folder = folder(&[
        ("a/x.csv", content),
        ("b/y.csv", content),
        ("c/x.csv", b"n,w\n1,a\n3,b\n"),
    ]);
    let hash = |location: &str| {
        inspected(folder.path(), &source(location))
            .unwrap()
            .content_hash
    };
    assert_eq!(hash("a"), hash("b"));
    assert_ne!(hash("a"), hash("c"));
}

#[test]
fn a_changed_file_is_read_again_and_an_unchanged_one_is_not() {
    let folder = folder(&[("t.csv", b"n\n1\n")]);
    let path = folder.path().join("t.csv");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let set_time = || {
        fs::File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap()
    };
    set_time();
    assert_eq!(
        columns(&inspected(folder.path(), &source("t.csv")).unwrap().schema),
        "n Int64"
    );
    let entry = fs::read_dir(folder.path().join("cache"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let facts = fs::read_to_string(&entry).unwrap();
    fs::write(&entry, facts.replace("\"rows\":1", "\"rows\":7")).unwrap();
    assert_eq!(
        inspected(folder.path(), &source("t.csv")).unwrap().rows,
        7,
        "the facts come from the cache"
    );
    // Same size and same time, but other bytes.
    fs::write(&path, b"n\nx\n").unwrap();
    set_time();
    assert_eq!(
        columns(&inspected(folder.path(), &source("t.csv")).unwrap().schema),
        "n Utf8View"
    );
}

#[test]
fn a_header_alone_is_a_table_without_rows_and_a_warning() {
    let folder = folder(&[("t.csv", b"n,w\n")]);
    let table = inspected(folder.path(), &declared("t.csv", &[("n", "int")])).unwrap();
    assert_eq!(
        (table.rows, columns(&table.schema)),
        (0, "n Int32, w Utf8View".to_string())
    );
    assert_eq!(table.warnings[0].kind, ProblemKind::NoRows);
    assert_eq!(
        value(folder.path(), &source("t.csv"), "select count(*) from t"),
        "0"
    );
}

#[test]
fn a_file_that_changes_after_its_inspection_fails_the_query() {
    let folder = folder(&[("t.csv", b"n\n1\n")]);
    let source = source("t.csv");
    let table = inspected(folder.path(), &source).unwrap();
    fs::write(folder.path().join("t.csv"), b"n\n1\n2\n").unwrap();
    let error = block_on(async {
        let context = SessionContext::new();
        context
            .register_table("t", provider(&source, &table).await.unwrap())
            .unwrap();
        context
            .sql("select * from t")
            .await
            .unwrap()
            .collect()
            .await
            .unwrap_err()
    });
    assert!(
        error
            .to_string()
            .contains("`t.csv` changed after it was inspected; run again"),
        "{error}"
    );
}

#[test]
fn broken_csv_files_are_named_with_their_place() {
    let cases: [(&str, &[u8], &str); 19] = [
        (
            "ragged, too many",
            b"a,b\n1,2\n1,2,3\n4,5,6\n",
            "t.csv:3: this row has 3 values, but the table has 2 columns, and so in 1 more row (put a value that contains a comma into double quotes)",
        ),
        (
            "ragged, too few",
            b"a,b\n1\n",
            "t.csv:2: this row has 1 value, but the table has 2 columns (the value of `b` is the first that is missing)",
        ),
        (
            "no content",
            b"",
            "t.csv: the file is empty (a CSV file starts with a line of column names; remove the file if it is not needed)",
        ),
        (
            "only a byte-order mark",
            b"\xef\xbb\xbf",
            "t.csv: the file is empty (a CSV file starts with a line of column names; remove the file if it is not needed)",
        ),
        (
            "empty name",
            b"a,,c\n1,2,3\n",
            "t.csv:1:3: the name of column 2 is empty (give every column a name in the first line)",
        ),
        (
            "repeated name",
            b"a,b,a\n1,2,3\n",
            "t.csv:1:5: two columns are named `a`: columns 1 and 3 (rename one of them in the first line)",
        ),
        (
            "other delimiter",
            b"a;b\n1;2\n",
            "t.csv:1: the file has one column, named `a;b` (the values seem to be separated by a semicolon; set `delimiter` to it)",
        ),
        (
            "open quote",
            b"a,b\n1,2\n3,\"4\n5,6\n",
            "t.csv:3:3: the quote that opens here is never closed (close the quote, or write a quote inside a quoted value twice)",
        ),
        (
            "text after a quote",
            b"a,b\n\"1\"2,3\n",
            "t.csv:2:4: text follows a closing quote (put the whole value into quotes, and write a quote inside it twice)",
        ),
        (
            "latin-1 value",
            b"a,b\n1,caf\xe9\n",
            "t.csv:2:3: column `b` holds bytes that are not UTF-8 (save the file as UTF-8; it may be Latin-1 or Windows-1252 now)",
        ),
        (
            "latin-1 name",
            b"a,caf\xe9\n1,2\n",
            "t.csv:1:3: column `caf�` holds bytes that are not UTF-8 (save the file as UTF-8; it may be Latin-1 or Windows-1252 now)",
        ),
        (
            "utf-16",
            b"\xff\xfea\0,\0",
            "t.csv: this file is UTF-16 (save it as UTF-8)",
        ),
        (
            "nan",
            b"a,b\n1,2\n2,NaN\n3,nan\n",
            "t.csv:3:3: `NaN` in column `b` is not a finite number, and so in 1 more row (every sum over it would be lost; list it under `null_values` if it means that nothing is known)",
        ),
        (
            "infinity",
            b"a\n1.5\n-inf\n",
            "t.csv:3:1: `-inf` in column `a` is not a finite number (every sum over it would be lost; list it under `null_values` if it means that nothing is known)",
        ),
        (
            "too large",
            b"a\n1.5\n1e999\n",
            "t.csv:3:1: `1e999` in column `a` is not a finite number (every sum over it would be lost; list it under `null_values` if it means that nothing is known)",
        ),
        (
            "gzip",
            b"\x1f\x8b\x08\0",
            "t.csv: this file is compressed with gzip (let its name end in .gz)",
        ),
        (
            "parquet",
            b"PAR1PAR1",
            "t.csv: this is a Parquet file (let its name end in .parquet, or set `format: parquet`)",
        ),
        (
            "zip",
            b"PK\x03\x04",
            "t.csv: this is a zip archive or a spreadsheet (export the sheet as CSV, or unpack the archive)",
        ),
        (
            "zstd",
            b"\x28\xb5\x2f\xfd\0",
            "t.csv: this file is compressed with zstd (let its name end in .zst)",
        ),
    ];
    for (name, content, expected) in cases {
        assert_eq!(problems("t.csv", content), expected, "{name}");
    }
}

#[test]
fn broken_json_lines_are_named_with_their_place() {
    let cases: [(&[u8], &str); 12] = [
        (
            b"[1]",
            "t.jsonl:1:1: this line is a JSON array, not an object (write one object per line, without brackets around them)",
        ),
        (
            b"{\"a\": 1",
            "t.jsonl:1:7: this line is not a JSON object: EOF while parsing an object (write one complete object per line)",
        ),
        (
            b"{\"a\": 1} x",
            "t.jsonl:1:10: this line is not a JSON object: trailing characters (write one complete object per line)",
        ),
        (
            b"",
            "t.jsonl: the file is empty (write one JSON object per line, or remove the file)",
        ),
        (
            b"{\"a\": 1, \"a\": 2}",
            "t.jsonl:1: the key `a` stands twice in this object (keep one of them)",
        ),
        (
            b"{}",
            "t.jsonl: the files have no columns (write at least one key and value into each object)",
        ),
        (
            b"\"x\"",
            "t.jsonl:1:3: this line is not a JSON object: invalid type: string \"x\", expected an object (write one complete object per line)",
        ),
        (
            b"{\"\": 1}",
            "t.jsonl:1:7: this line is not a JSON object: a key is empty (write one complete object per line)",
        ),
        (
            b"{\"a\": \"\\ud800\"}",
            "t.jsonl:1: a string in this object holds an escape that is no character (write the character itself, or a complete pair such as `\\ud83d\\ude00`)",
        ),
        (
            b"{\"a\": NaN}",
            "t.jsonl:1:7: this line is not a JSON object: expected value (write one complete object per line)",
        ),
        (
            b"{\"a\": 1e999}\n{\"a\":1}",
            "t.jsonl:1: `1e999` in column `a` is not a finite number (every sum over it would be lost; list it under `null_values` if it means that nothing is known)",
        ),
        (
            b"{\"a\": \"\xe9\"}",
            "t.jsonl:1: this line holds bytes that are not UTF-8 (save the file as UTF-8; it may be Latin-1 or Windows-1252 now)",
        ),
    ];
    for (content, expected) in cases {
        assert_eq!(problems("t.jsonl", content), expected);
    }
}

#[test]
fn files_that_cannot_be_tables_are_named() {
    assert_eq!(
        problems("t.parquet", b"PAR1"),
        "t.parquet: this is not a complete Parquet file: EOF: Parquet file too small. Size is 4 but need 8 (it may be cut off, or of another format; write it again)"
    );
    assert_eq!(
        problems("t.parquet", b""),
        "t.parquet: this is not a complete Parquet file: EOF: Parquet file too small. Size is 0 but need 8 (the file is empty; remove it, or write it again)"
    );
    assert_eq!(
        problems("t.csv.gz", b"a,b"),
        "t.csv.gz: the file cannot be read: unexpected end of file (check that the file exists and may be read)"
    );
}

#[test]
fn values_that_do_not_fit_their_declared_type_are_named() {
    let files: &[(&str, &[u8])] = &[(
        "t.csv",
        b"id,n,at\n1,x,2026-01-01\n2,NaN,yesterday\n3,128,2026-13-01\n",
    )];
    assert_eq!(
        problems_of(
            files,
            &declared("t.csv", &[("n", "tinyint"), ("at", "date")])
        )
        .lines()
        .collect::<Vec<_>>(),
        [
            "t.csv:2:3: `x` in column `n` is not of its declared type tinyint, and so in 1 more row (write a whole number from -128 to 127, list the text under `null_values`, or declare another type)",
            "t.csv:3:3: `NaN` in column `n` is not a finite number (every sum over it would be lost; list it under `null_values` if it means that nothing is known)",
            "t.csv:3:7: `yesterday` in column `at` is not of its declared type date, and so in 1 more row (write a day such as `2026-03-01`, list the text under `null_values`, or declare another type)"
        ]
    );
    assert_eq!(
        problems_of(files, &declared("t.csv", &[("idd", "")])),
        "t.csv: the declared column `idd` is not in the file (did you mean `id`?)"
    );
    assert_eq!(
        problems_of(files, &declared("t.csv", &[("n", "bigit")])),
        "t.csv: column `n` is declared as `bigit`, which is not a type (did you mean `bigint`?)"
    );
}

#[test]
fn missing_and_mixed_files_are_named() {
    let nothing: &[(&str, &[u8])] = &[];
    assert_eq!(
        problems_of(nothing, &source("data/x.csv")),
        "data/x.csv: there is no file or folder `data/x.csv` (paths start at the project folder, which has no `data`)"
    );
    assert_eq!(
        problems_of(&[("data/y.csv", b"")], &source("data/x.csv")),
        "data/x.csv: there is no file or folder `data/x.csv` (the folder `data` has no `x.csv`)"
    );
    assert_eq!(
        problems_of(nothing, &source("x*.csv")),
        "x*.csv: no file matches `x*.csv` (`*` stands for any part of a name, `**` for any folders; hidden files are not read)"
    );
    let text: &[(&str, &[u8])] = &[("data/a.txt", b"")];
    assert_eq!(
        problems_of(text, &source("data")),
        "data: the folder `data` holds no data files (files that end in .csv, .tsv, .jsonl, .ndjson or .parquet are read, hidden ones are not)"
    );
    assert_eq!(
        problems_of(text, &source("data/a.txt")),
        "data/a.txt: the format of `data/a.txt` cannot be told from its name (set `format` to csv, jsonl or parquet)"
    );
    assert_eq!(
        problems_of(
            &[("data/a.csv", b""), ("data/a.jsonl", b"")],
            &source("data")
        ),
        "data: `data` holds files of different formats (set `format`, or use a glob such as `folder/*.csv`)"
    );
    let different: &[(&str, &[u8])] = &[
        ("d/a.csv", b"a,b\n1,2\n"),
        ("d/b.csv", b"a,c\n1,2\n"),
        ("d/c.csv", b"a,b,c\n1,2,3\n"),
    ];
    assert_eq!(
        problems_of(different, &source("d"))
            .lines()
            .collect::<Vec<_>>(),
        [
            "d/b.csv:1: the file has no column `b`, unlike `d/a.csv` (the files of one source need the same columns; declare a second source for the others)",
            "d/c.csv:1: the file has a column `c`, unlike `d/a.csv` (the files of one source need the same columns; declare a second source for the others)"
        ]
    );
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data")
        .join(path);
    let there = path.exists();
    if !there {
        println!("skipped: {} does not exist", path.display());
    }
    there.then_some(path)
}

/// The schema and number of rows of a file that is used where it lies; none where it is not.
fn real(path: &str) -> Option<(u64, String)> {
    let path = shared(path)?;
    let cache = tempfile::tempdir().unwrap();
    let table = block_on(inspect(
        Path::new(""),
        &source(path.to_str()?),
        cache.path(),
    ))
    .unwrap();
    Some((table.rows, columns(&table.schema)))
}

#[test]
fn real_files_have_the_types_a_person_would_give_them() {
    let files = [
        (
            "cookie_cats/cookie_cats.csv",
            90_189,
            "userid Int64, version Utf8View, sum_gamerounds Int64, retention_1 Boolean, retention_7 Boolean",
        ),
        (
            "globox_banner/users.csv",
            48_943,
            "id Int64, country Utf8View, gender Utf8View",
        ),
        (
            "globox_banner/activity.csv",
            2_233,
            "uid Int64, dt Date32, device Utf8View, spent Float64",
        ),
        (
            "pycon_payment_page/post_payment_page_visits.csv",
            12_249,
            "session_id Utf8View, user_id Utf8View, cart_size_eur Float64, num_items Int64, \
             payment_page_accessed_at Timestamp(µs), expanded_payment_methods Boolean",
        ),
    ];
    for (path, rows, columns) in files {
        if let Some(found) = real(path) {
            assert_eq!(found, (rows, columns.to_string()), "{path}");
        }
    }
}

#[test]
fn empty_fields_of_real_files_are_null() {
    let Some(path) = shared("globox_banner/users.csv") else {
        return;
    };
    let source = source(path.to_str().unwrap());
    let cache = tempfile::tempdir().unwrap();
    let sql = "select concat(count(*) - count(country), ' ', count(*) - count(gender)) from t";
    assert_eq!(value(cache.path(), &source, sql), "643 6855");
}

/// Numbers that look random and are the same in every run (Knuth's linear congruential generator).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// Inspects many files made of random pieces. A file that passes must be read without an error and with as many rows.
fn random_files(name: &str, pieces: &[&[u8]], start: &[u8], seed: u64) -> (usize, usize) {
    let folder = folder(&[]);
    let (mut dice, mut passed) = (Dice(seed), 0);
    let source = source(name);
    let count = 250;
    block_on(async {
        for round in 0..count {
            let mut content = start.to_vec();
            (0..dice.below(14))
                .for_each(|_| content.extend_from_slice(pieces[dice.below(pieces.len())]));
            fs::write(folder.path().join(name), &content).unwrap();
            let Ok(table) = inspect(folder.path(), &source, &folder.path().join("cache")).await
            else {
                continue;
            };
            passed += 1;
            let context = SessionContext::new();
            context
                .register_table("t", provider(&source, &table).await.unwrap())
                .unwrap();
            let batches = context
                .sql("select * from t")
                .await
                .unwrap()
                .collect()
                .await;
            let batches = batches.unwrap_or_else(|error| {
                panic!("round {round}: {error}: {}", content.escape_ascii())
            });
            let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
            assert_eq!(
                rows as u64,
                table.rows,
                "round {round}: {}",
                content.escape_ascii()
            );
        }
    });
    (passed, count)
}

#[test]
fn random_csv_files_are_refused_or_read_as_inspected() {
    let pieces: [&[u8]; 24] = [
        b",",
        b",",
        b"\n",
        b"\n",
        b"\r\n",
        b"\"",
        b"\"\"",
        b"\"a,b\"",
        b"1",
        b"-2.5",
        b"007",
        b"NaN",
        b"x",
        b"\xc3\xa9",
        b"\xff",
        b"\xef\xbb\xbf",
        b" ",
        b"2026-01-01",
        b"T10:00:00Z",
        b"true",
        b"\0",
        b"1e400",
        b"9223372036854775808",
        b"\r",
    ];
    let (passed, count) = random_files("t.csv", &pieces, b"a,b\n1,", 1);
    assert!(passed > 10 && passed < count, "{passed} of {count} passed");
}

#[test]
fn random_json_files_are_refused_or_read_as_inspected() {
    let pieces: [&[u8]; 16] = [
        b"{\"a\": 1}\n",
        b"{\"a\": \"x\", \"b\": [1]}\n",
        b"{\"b\": null}\n",
        b"\n",
        b"{\"c\": 1e400}\n",
        b"{\"a\": 1.5}\r\n",
        b"{}\n",
        b"{\"a\": true}\n",
        b"{\"d\": \"2026-01-01\"}\n",
        b"{\"d\": \"2026-01-01T00:00Z\"}\n",
        b"{\"e\": 123456789012345678901}\n",
        b"{\"\\u00e9\": \"\\ud83d\\ude00\"}\n",
        b"{\"f\": \"\xff\"}\n",
        b"[1]\n",
        b"{\"f\"",
        b" ",
    ];
    let (passed, count) = random_files("t.jsonl", &pieces, b"{\"a\": null, \"z\": 0}\n", 2);
    assert!(passed > 10 && passed < count, "{passed} of {count} passed");
}
