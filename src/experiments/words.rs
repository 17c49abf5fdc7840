//! Numbers as reasons and reports say them, so that both say the same.

/// A share with its sign, in per cent.
pub fn signed(share: f64) -> String {
    format!("{}{}", if share >= 0.0 { "+" } else { "" }, percent(share))
}

/// Two digits after the point, more for small shares.
pub fn percent(share: f64) -> String {
    let digits = if share != 0.0 && share.abs() < 0.001 {
        3
    } else {
        2
    };
    format!("{:.digits$} %", share * 100.0)
}

/// Four digits after the point; numbers that are too small for that by their power of ten.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_string(),
        magnitude if magnitude < 0.0001 => format!("{value:.1e}"),
        _ => format!("{value:.4}"),
    }
}
