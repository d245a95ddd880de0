//! Times on the wire: ISO 8601 with seven digits, and the dates of HTTP.

use crate::Timestamp;

/// What a file time counts: a time that is set reads back cut to this.
pub(super) const GRAIN_NANOS: u32 = 100;

/// 1601-01-01, where the service's calendar begins.
const FIRST_SECONDS: i64 = -11_644_473_600;

/// 9999-12-31T23:59:59, where it ends.
const LAST_SECONDS: i64 = 253_402_300_799;

const DAY: i64 = 86_400;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// The nearest time not after this that the service can hold.
pub(super) fn rounded(time: Timestamp) -> Timestamp {
    let seconds = time.seconds.clamp(FIRST_SECONDS, LAST_SECONDS);
    Timestamp { seconds, nanos: time.nanos.min(999_999_999) / GRAIN_NANOS * GRAIN_NANOS }
}

/// `2021-02-03T04:05:06.7654321Z`.
pub(super) fn iso(time: Timestamp) -> String {
    let time = rounded(time);
    let (year, month, day) = civil(time.seconds.div_euclid(DAY));
    let (hour, minute, second) = clock(time.seconds);
    let ticks = time.nanos / GRAIN_NANOS;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ticks:07}Z")
}

/// The same to the second: `2021-02-03T04:05:06Z`.
pub(super) fn iso_seconds(time: Timestamp) -> String {
    let text = iso(time);
    format!("{}Z", text.split('.').next().unwrap_or(&text))
}

/// Reads the same, with no digits after the second to nine of them.
pub(super) fn parse_iso(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-');
    let mut whole = || date.next()?.parse::<i64>().ok();
    let days = days(whole()?, whole()?, whole()?)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let seconds = days * DAY + seconds_of(time)?;
    let is_fraction = fraction.len() <= 9 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let nanos = is_fraction.then(|| format!("{fraction:0<9}"))?.parse().ok()?;
    Some(Timestamp { seconds, nanos })
}

/// `Fri, 02 Jan 2026 03:04:05 GMT`.
pub(super) fn http(time: Timestamp) -> String {
    let days = time.seconds.div_euclid(DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = clock(time.seconds);
    let weekday = WEEKDAYS[days.rem_euclid(7) as usize];
    let month = MONTHS[(month - 1) as usize];
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Reads the same.
pub(super) fn parse_http(text: &str) -> Option<Timestamp> {
    let (_, rest) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let mut words = rest.split(' ');
    let day = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;
    let year = words.next()?.parse().ok()?;
    let seconds = days(year, month, day)? * DAY + seconds_of(words.next()?)?;
    Some(Timestamp { seconds, nanos: 0 })
}

fn seconds_of(time: &str) -> Option<i64> {
    let mut parts = time.splitn(3, ':');
    let mut whole = |below: i64| {
        let number = parts.next()?.parse::<i64>().ok()?;
        (0..below).contains(&number).then_some(number)
    };
    // A leap second counts as the next minute's first.
    Some(whole(24)? * 3600 + whole(60)? * 60 + whole(61)?)
}

fn clock(seconds: i64) -> (i64, i64, i64) {
    let within = seconds.rem_euclid(DAY);
    (within / 3600, within / 60 % 60, within % 60)
}

/// Days since 1970 of a date. Years are counted from March, so that the odd day comes last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// The date of a day since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_back() {
        let time = Timestamp { seconds: 1_612_325_106, nanos: 765_432_199 };
        assert_eq!(iso(time), "2021-02-03T04:05:06.7654321Z");
        assert_eq!(parse_iso(&iso(time)), Some(rounded(time)));
        assert_eq!(rounded(time).nanos, 765_432_100);
        let second = Timestamp { seconds: 1_612_325_106, nanos: 0 };
        assert_eq!(parse_iso("2021-02-03T04:05:06Z"), Some(second));
        let new_year = Timestamp { seconds: 1_767_323_045, nanos: 0 };
        assert_eq!(http(new_year), "Fri, 02 Jan 2026 03:04:05 GMT");
        assert_eq!(parse_http("Fri, 02 Jan 2026 03:04:05 GMT"), Some(new_year));
    }

    #[test]
    fn every_day_has_its_date() {
        let mut last = (1600, 12, 31);
        for day in FIRST_SECONDS / DAY..=LAST_SECONDS / DAY {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), Some(day));
            let is_next = (year, month, date) == (last.0, last.1, last.2 + 1)
                || (date == 1 && (year, month) == (last.0, last.1 + 1))
                || (date == 1 && month == 1 && last.1 == 12 && year == last.0 + 1);
            assert!(is_next, "{last:?} {year}-{month}-{date}");
            last = (year, month, date);
        }
        assert_eq!(last, (9999, 12, 31));
    }

    #[test]
    fn times_out_of_the_calendar_are_brought_into_it() {
        let before = Timestamp { seconds: i64::MIN, nanos: 1 };
        let after = Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(iso(before), "1601-01-01T00:00:00.0000000Z");
        assert_eq!(iso(after), "9999-12-31T23:59:59.0000000Z");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "2021-02-03", "2021-13-03T04:05:06Z", "2021-02-03T24:05:06Z", "now", "Z"] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
        assert_eq!(parse_http("Fri, 02 Foo 2026 03:04:05 GMT"), None);
    }
}
