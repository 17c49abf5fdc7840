//! The OpenFeature CLI's manifest: keys, types and defaults.

use serde_json::{Value as Json, json};

use super::{Draft, Imported, text};

/// Every flag with one variant, the default.
pub fn from_openfeature_manifest(body: &Json) -> Imported {
    let mut draft = Draft::new("user", "user_id");
    for (key, flag) in body["flags"].as_object().into_iter().flatten() {
        draft.add(key, |_| {
            let mut json = json!({
                "key": key,
                "type": text(&flag["flagType"])?,
                "variants": {"default": flag["defaultValue"]},
                "default_variant": "default",
            });
            if let Some(description) = flag["description"].as_str() {
                json["description"] = json!(description);
            }
            Ok(json)
        });
    }
    draft.finish()
}
