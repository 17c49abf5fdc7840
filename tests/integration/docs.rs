//! Documents that list what the code knows are complete.

use equipoise::diagnostics::Code;
use equipoise::sql::functions;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `UPDATE_DOCS=1 cargo test docs` writes the page anew.
#[test]
fn every_code_is_documented() {
    let mut page = String::from(
        "# Diagnostics\n\nA code never changes its meaning. Codes up to E07 are found before anything runs (exit code 2; where the project\ncompiles and \
         only differs from what `metrics.lock` has agreed, 1); E08 and E09 \
         while it runs (exit code 1).\n\n| code | meaning |\n|---|---|\n",
    );
    for code in Code::ALL {
        page += &format!("| {code} | {} |\n", code.summary());
    }
    is_up_to_date("docs/diagnostics.md", &page);
}

#[test]
fn every_statistical_function_is_documented_with_its_fields() {
    let mut page = String::from(
        "# Statistics: functions and fields\n\nHow each function is called, and what its result holds. Arguments in brackets may be left out. \
         What a method computes, from which source and under which assumptions, stands in [statistics.md](statistics.md).\n\n\
         | call | result |\n|---|---|\n",
    );
    let guide = read("docs/statistics.md");
    for (call, result) in functions::reference() {
        page += &format!("| `{call}` | {result} |\n");
        let name = call.split('(').next().unwrap_or_default();
        assert!(
            guide.contains(&format!("`{name}`")) || guide.contains(&format!("`{name}(")),
            "docs/statistics.md does not say what `{name}` computes"
        );
    }
    is_up_to_date("docs/statistics-functions.md", &page);
}

fn is_up_to_date(path: &str, page: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(format!("{ROOT}/{path}"), page).expect("the page is written");
    }
    assert_eq!(
        read(path),
        page,
        "{path} is not up to date: run `UPDATE_DOCS=1 cargo test docs`"
    );
}

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_default()
}
