//! Every hash function and every bucketing algorithm against vectors made with the vendors' own formulas.

use equipoise::flags::bucketing::{self, Algorithm, Draw, hash};
use serde_json::Value;

use super::{Suite, load};

#[test]
fn hash_functions_give_the_published_vectors() {
    let Some(vectors) = load("hash_vectors.json") else {
        return;
    };
    let mut suite = Suite::new("hash_vectors");
    for case in cases(&vectors) {
        let input = text(case, "input");
        for (column, actual) in hashes(input) {
            if let Some(expected) = case.get(column) {
                suite.check(&format!("{column} of {input:?}"), actual, shown(expected));
            }
        }
    }
    suite.finish();
}

#[test]
fn buckets_are_those_of_every_vendor() {
    let Some(vectors) = load("vendor_bucketing.json") else {
        return;
    };
    let mut suite = Suite::new("vendor_bucketing");
    for case in cases(&vectors) {
        let (flag, unit) = (text(case, "flag"), text(case, "unit"));
        for (column, actual) in buckets(case, flag, unit) {
            if let Some(expected) = case.get(column) {
                suite.check(
                    &format!("{column} of {flag:?}, {unit:?}"),
                    actual,
                    shown(expected),
                );
            }
        }
    }
    suite.finish();
}

#[test]
fn an_algorithm_is_found_by_its_identifier_only() {
    for algorithm in Algorithm::all() {
        assert_eq!(Algorithm::parse(algorithm.id()), Some(algorithm));
        assert!(algorithm.can_cut(algorithm.buckets()));
        assert!(!algorithm.can_cut(0));
    }
    assert_eq!(Algorithm::all().count(), 11);
    assert_eq!(Algorithm::parse("md5-mod10000"), None);
    assert!(!Algorithm::Md5Mod10000.can_cut(1_000_000));
}

fn cases(suite: &Value) -> &Vec<Value> {
    suite["cases"].as_array().expect("a suite has cases")
}

fn text<'a>(case: &'a Value, column: &str) -> &'a str {
    case[column].as_str().expect("the column is a text")
}

/// Numbers beyond 53 bits are texts in the vectors; floats compare by value.
fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn hashes(input: &str) -> Vec<(&'static str, String)> {
    let (low, high) = hash::murmur3_128(input, 0);
    let wide = ((u128::from(high) << 64) | u128::from(low)) as i128;
    vec![
        (
            "murmur3_x86_32_seed0",
            hash::murmur3_32(&[input], 0).to_string(),
        ),
        (
            "murmur3_x86_32_seed86028157",
            hash::murmur3_32(&[input], 86_028_157).to_string(),
        ),
        // mmh3 prints a signed number of 32 characters, the sign among them.
        (
            "murmur3_x64_128_seed0_hex",
            if wide < 0 {
                format!("-{:031x}", wide.unsigned_abs())
            } else {
                format!("{wide:032x}")
            },
        ),
        ("fnv1a_32", hash::fnv1a_32(&[input]).to_string()),
        ("fnv1a_32_utf16", hash::fnv1a_32_utf16(&[input]).to_string()),
        ("fnv1a_64", hash::fnv1a_64(input).to_string()),
        ("xxh32_seed0", hash::xxh32(input, 0).to_string()),
        ("xxh64_seed0", hash::xxh64(input, 0).to_string()),
        ("xxh3_64_seed0", hash::xxh3_64(input).to_string()),
        ("crc32_ieee", hash::crc32(&[input]).to_string()),
    ]
}

fn hashed(draw: Draw) -> String {
    match draw {
        Draw::Scaled(hash) => hash.to_string(),
        other => panic!("flagd scales its hash, not {other:?}"),
    }
}

fn buckets(case: &Value, flag: &str, unit: &str) -> Vec<(&'static str, String)> {
    let index = |algorithm: Algorithm, salt: &str| algorithm.bucket(salt, unit).index.to_string();
    let cut = |algorithm: Algorithm, of: u32| algorithm.bucket_of(flag, unit, of).index.to_string();
    let eppo_salt = text(case, "eppo_salt")
        .strip_suffix('-')
        .expect("the salt column ends in the separator");
    let launch_darkly_salt = format!("{flag}.{}", text(case, "launchdarkly_salt"));
    let planout_salt = format!("{flag}.{}", text(case, "planout_salt"));
    let launch_darkly = hash::sha1_60(&[&launch_darkly_salt, ".", unit]);
    vec![
        (
            "flagd_v2_hash",
            hashed(Algorithm::MurmurFlagd2.draw(flag, unit)),
        ),
        ("flagd_v2_bucket_of_100", cut(Algorithm::MurmurFlagd2, 100)),
        (
            "flagd_v2_bucket_of_100000",
            cut(Algorithm::MurmurFlagd2, 100_000),
        ),
        (
            "flagd_v3_hash",
            hashed(Algorithm::MurmurFlagd3.draw(flag, unit)),
        ),
        (
            "unleash_rollout_1_100",
            (Algorithm::MurmurUnleash.bucket(flag, unit).index + 1).to_string(),
        ),
        (
            "unleash_variant_1_1000",
            (bucketing::unleash_variant(flag, unit, 1_000) + 1).to_string(),
        ),
        (
            "growthbook_v1",
            fraction(Algorithm::FnvGrowthbook1.bucket(flag, unit).fraction()),
        ),
        (
            "growthbook_v2",
            fraction(Algorithm::FnvGrowthbook2.bucket(flag, unit).fraction()),
        ),
        (
            "growthbook_namespace",
            fraction(bucketing::growthbook_namespace(flag, unit).fraction()),
        ),
        ("eppo_shard_10000", index(Algorithm::Md5Mod10000, eppo_salt)),
        (
            "statsig_10000_rule_r1",
            index(Algorithm::Sha256Statsig, &format!("{flag}.r1")),
        ),
        ("launchdarkly_sha1_15hex_int", launch_darkly.to_string()),
        (
            "launchdarkly_bucket_f32",
            fraction(bucketing::launch_darkly(launch_darkly).into()),
        ),
        ("goff_100000", index(Algorithm::FnvGoff, flag)),
        ("flipt_variant_1000", index(Algorithm::Crc32Flipt, flag)),
        (
            "flipt_boolean_100",
            bucketing::flipt_boolean(flag, unit).index.to_string(),
        ),
        (
            "planout_sha1_15hex_int",
            hash::sha1_60(&[&planout_salt, ".", unit]).to_string(),
        ),
    ]
}

fn fraction(value: f64) -> String {
    Value::from(value).to_string()
}
