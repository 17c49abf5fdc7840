//! Documents that list what the code knows are complete.

use equipoise::diagnostics::Code;

/// `UPDATE_DOCS=1 cargo test docs` writes the page anew.
#[test]
fn every_code_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/diagnostics.md");
    let mut page = String::from(
        "# Diagnostics\n\nA code never changes its meaning. Codes up to E07 are found before anything runs (exit code 2); E08 and E09 \
         while it runs (exit code 1).\n\n| code | meaning |\n|---|---|\n",
    );
    for code in Code::ALL {
        page += &format!("| {code} | {} |\n", code.summary());
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).expect("the page is written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        written, page,
        "docs/diagnostics.md is not up to date: run `UPDATE_DOCS=1 cargo test docs`"
    );
}
