//! Eppo's shared SDK test data for the Universal Flag Configuration.

use equipoise::flags::import::eppo::Ufc;
use serde_json::json;

use super::{Suite, load};

#[test]
fn universal_flag_configuration() {
    let (Some(file), Some(flags)) = (load("eppo_ufc.json"), load("eppo_ufc_flags-v1.json")) else {
        return;
    };
    let ufc = Ufc::read(&flags);
    let mut suite = Suite::new("eppo_ufc");
    for case in file["cases"].as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let attributes = case["subjectAttributes"].as_object().unwrap();
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        let result = ufc.evaluate(
            text("flag"),
            text("variationType"),
            text("subjectKey"),
            attributes,
            now,
        );
        let actual = json!({
            "assignment": result.value.unwrap_or_else(|| case["default"].clone()),
            "variationKey": result.variation,
            "code": result.code.name(),
            "allocation": result.allocation,
        });
        suite.check_json(text("id"), &actual, &case["expect"]);
    }
    suite.finish();
}
