//! Sizes, durations and shares of a disk, read from people and written for them (U6).

use covefs_cache::MinFree;
use std::time::Duration;

const KIB: f64 = 1024.0;

/// Reads `10GiB`, `512M`, `1.5T`, `1000MB`, `4096`. `K` to `T` and `KiB` to `TiB` count in 1024,
/// `KB` to `TB` in 1000.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let factor: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => KIB,
        "m" | "mib" => KIB.powi(2),
        "g" | "gib" => KIB.powi(3),
        "t" | "tib" => KIB.powi(4),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => return Err(format!("'{text}' is not a size; write it like 10GiB or 500MB")),
    };
    let number: f64 = match number.parse() {
        Ok(number) if !number_is_signed(text) => number,
        _ => return Err(format!("'{text}' is not a size; write it like 10GiB or 500MB")),
    };
    let bytes = number * factor;
    if bytes >= u64::MAX as f64 {
        return Err(format!("'{text}' is more than any disk holds"));
    }
    Ok(bytes.round() as u64)
}

/// Reads `10s`, `5m`, `2h`, `7d`, `200ms`; `0` needs no unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let bad = || format!("'{text}' is not a time; write it like 10s, 5m, 2h or 7d");
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "" if number == "0" => 0.0,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    if number_is_signed(text) {
        return Err(bad());
    }
    Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())
}

/// Reads `5%` or a size.
pub(crate) fn parse_min_free(text: &str) -> Result<MinFree, String> {
    let Some(number) = text.trim().strip_suffix('%') else {
        return parse_size(text).map(MinFree::Bytes);
    };
    match number.trim().parse::<f64>() {
        Ok(percent) if (0.0..=99.0).contains(&percent) => Ok(MinFree::Percent(percent)),
        _ => Err(format!("'{text}' is not a part of the disk; write it like 5% or 10GiB")),
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim())
}

fn number_is_signed(text: &str) -> bool {
    text.trim_start().starts_with(['-', '+'])
}

/// `512 B`, `3.2 GiB`.
pub(crate) fn format_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for bigger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < KIB {
            break;
        }
        value /= KIB;
        unit = bigger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// The two biggest units: `4 s`, `3 min 20 s`, `2 d 4 h`.
pub(crate) fn format_age(seconds: u64) -> String {
    let (big, big_unit, small, small_unit) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3600 => (seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => (seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    };
    if small == 0 {
        format!("{big} {big_unit}")
    } else {
        format!("{big} {big_unit} {small} {small_unit}")
    }
}

/// `420 us`, `12.3 ms`, `1.20 s`: for the times that the demo shows.
pub(crate) fn format_took(took: Duration) -> String {
    let micros = took.as_micros();
    match micros {
        0..1000 => format!("{micros} us"),
        1000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", took.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512B", 512),
            ("1K", 1 << 10),
            ("1KiB", 1 << 10),
            ("1KB", 1000),
            ("10GiB", 10 << 30),
            ("10g", 10 << 30),
            ("10 GB", 10_000_000_000),
            ("1.5M", 3 << 19),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1G", "+1G", "10x", "1.2.3M", "ten", "99999999T", "5%"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for text in ["", "10", "s", "-5s", "10y", "1e400d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn free_space_is_a_size_or_a_percentage() {
        assert_eq!(parse_min_free("5%"), Ok(MinFree::Percent(5.0)));
        assert_eq!(parse_min_free("10GiB"), Ok(MinFree::Bytes(10 << 30)));
        for text in ["%", "100%", "-1%", "five"] {
            assert!(parse_min_free(text).is_err(), "{text}");
        }
    }

    #[test]
    fn written_for_people() {
        assert_eq!(format_size(0), "0 B");
        assert_eq!(format_size(1023), "1023 B");
        assert_eq!(format_size(10 << 30), "10.0 GiB");
        assert_eq!(format_age(4), "4 s");
        assert_eq!(format_age(200), "3 min 20 s");
        assert_eq!(format_age(2 * 86_400 + 4 * 3600 + 5), "2 d 4 h");
        assert_eq!(format_took(Duration::from_micros(12_300)), "12.3 ms");
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text: String, number in "[0-9]{1,22}[a-zA-Z%.]{0,4}") {
            for text in [&text, &number] {
                let _ = (parse_size(text), parse_duration(text), parse_min_free(text));
            }
        }

        #[test]
        fn what_is_shown_can_be_said(bytes: u64, seconds: u64) {
            let _ = (format_size(bytes), format_age(seconds), format_took(Duration::from_nanos(bytes)));
        }
    }
}
