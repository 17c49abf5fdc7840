//! Our flags as the OpenFeature CLI's manifest, from which typed accessors are generated.

use serde_json::json;

use super::{Exported, flags};
use crate::flags::set::FlagSet;

/// Key, type, default and description of every flag that has a default.
pub fn to_openfeature_manifest(set: &FlagSet) -> Exported {
    let (flags, report) = flags(set, |flag| {
        let default = flag
            .default_variant()
            .ok_or("the manifest needs a default value, and the flag has none")?;
        let mut json = json!({"flagType": flag.kind.name(), "defaultValue": default.value});
        if let Some(description) = &flag.description {
            json["description"] = json!(description);
        }
        Ok(json)
    });
    let schema = "https://raw.githubusercontent.com/open-feature/cli/refs/heads/main/schema/v0/flag-manifest.json";
    Exported {
        document: json!({"$schema": schema, "flags": flags}),
        report,
    }
}
