//! Unleash's client specification. Chance is drawn at one half, where the specification has 0 or 100 percent.

use equipoise::flags::import::unleash::{UnleashRequest, UnleashState};
use serde_json::{Value, json};

use super::{Suite, load};

#[test]
fn client_specification() {
    let (Some(file), Some(states)) = (load("unleash_spec.json"), load("unleash_states.json"))
    else {
        return;
    };
    let mut suite = Suite::new("unleash_spec");
    for case in file["cases"].as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let state = UnleashState::read(&states[text("spec")]);
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        let request = UnleashRequest {
            context: &case["context"],
            draw: 0.5,
            now,
        };
        let actual = match text("kind") {
            "tests" => json!(state.is_enabled(text("toggleName"), &request)),
            _ => state.variant(text("toggleName"), &request),
        };
        suite.check_json(
            &format!("{} {}", text("id"), text("description")),
            &actual,
            &case["expectedResult"],
        );
    }
    suite.finish();
}

#[test]
fn addresses_are_in_their_networks() {
    let state = |range: &str| {
        UnleashState::read(
            &json!({"features": [{"name": "f", "enabled": true, "strategies": [
            {"name": "remoteAddress", "parameters": {"IPs": range}}]}]}),
        )
    };
    let is_in = |address: &str, range: &str| {
        let context: Value = json!({ "remoteAddress": address });
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        state(range).is_enabled(
            "f",
            &UnleashRequest {
                context: &context,
                draw: 0.0,
                now,
            },
        )
    };
    assert!(
        is_in("10.1.2.3", "10.0.0.0/8") && is_in("::1", "::/0") && is_in("1.2.3.4", "0.0.0.0/0")
    );
    assert!(
        !is_in("10.1.2.3", "10.0.0.0/33")
            && !is_in("::1", "0.0.0.0/0")
            && !is_in("11.0.0.1", "10.0.0.0/8")
    );
}
