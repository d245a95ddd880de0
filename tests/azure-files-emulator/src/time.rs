//! Times of 100 ns, the share's unit, and the two texts that the protocol has for them.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const TICKS_PER_SECOND: i64 = 10_000_000;
/// From the year 1 to 1970: ETags of the service count from there.
const TICKS_BEFORE_1970: i64 = 621_355_968_000_000_000;
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment, in 100 ns since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticks(pub i64);

impl Ticks {
    /// A moment of whole seconds since 1970.
    pub fn from_seconds(seconds: i64) -> Ticks {
        Ticks(seconds * TICKS_PER_SECOND)
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(TICKS_PER_SECOND)
    }

    /// `0x8D...`, without quotes; different for different moments.
    pub fn etag(self) -> String {
        format!("0x{:X}", self.0 + TICKS_BEFORE_1970)
    }

    /// `2021-02-03T04:05:06.7654321Z`.
    pub fn iso(self) -> String {
        let (year, month, day, [hour, minute, second], _) = civil(self.seconds());
        let fraction = self.0.rem_euclid(TICKS_PER_SECOND);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:07}Z")
    }

    /// `Fri, 02 Jan 2026 03:04:05 GMT`.
    pub fn rfc1123(self) -> String {
        let (year, month, day, [hour, minute, second], weekday) = civil(self.seconds());
        let (weekday, month) = (DAYS[weekday], MONTHS[month as usize - 1]);
        format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    }

    /// ISO 8601 in UTC: a date alone, with minutes, with seconds, with up to seven digits more.
    pub fn parse_iso(text: &str) -> Option<Ticks> {
        let text = text.strip_suffix('Z').or(text.strip_suffix("+00:00")).unwrap_or(text);
        let (date, time) = text.split_once('T').unwrap_or((text, ""));
        let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
        let mut seconds = days_from_civil(year, month, day)? * 86_400;
        for (part, unit) in time.split(':').filter(|part| !part.is_empty()).zip([3600, 60, 1]) {
            let value = part.parse::<i64>().ok().filter(|value| (0..60).contains(value))?;
            seconds += value * unit;
        }
        if fraction.len() > 7 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let fraction: i64 = format!("{fraction:0<7}").parse().ok()?;
        Some(Ticks(seconds * TICKS_PER_SECOND + fraction))
    }

    /// The form of `Date` headers.
    pub fn parse_rfc1123(text: &str) -> Option<Ticks> {
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
        let month = 1 + MONTHS.iter().position(|name| *name == month)? as i64;
        let days = days_from_civil(year.parse().ok()?, month, day.parse().ok()?)?;
        let mut seconds = days * 86_400;
        for (part, unit) in time.split(':').zip([3600, 60, 1]) {
            seconds += part.parse::<i64>().ok()? * unit;
        }
        Some(Ticks::from_seconds(seconds))
    }
}

/// Year, month, day, [hour, minute, second] and day of the week of seconds since 1970.
fn civil(seconds: i64) -> (i64, i64, i64, [i64; 3], usize) {
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    // Eras of 400 years that begin on a first of March, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let weekday = (days + 4).rem_euclid(7) as usize;
    (year, month, day, [of_day / 3600, of_day / 60 % 60, of_day % 60], weekday)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    Some(era * 146_097 + of_era - 719_468)
}

/// The server's clock: never shows the same moment twice, so that each change has its own ETag.
#[derive(Default)]
pub struct Clock {
    skew_ticks: AtomicI64,
    last: AtomicI64,
}

impl Clock {
    /// The server's time, which may be ahead of or behind the true one.
    pub fn now(&self) -> Ticks {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ticks = i64::try_from(since.as_nanos() / 100).unwrap_or(i64::MAX);
        Ticks(ticks + self.skew_ticks.load(Ordering::Relaxed))
    }

    /// A moment that no earlier call gave.
    pub fn stamp(&self) -> Ticks {
        let now = self.now().0;
        let next = |last: i64| Some(now.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        Ticks(now.max(last.unwrap_or_default() + 1))
    }

    /// The latest stamp.
    pub fn last_stamp(&self) -> Ticks {
        Ticks(self.last.load(Ordering::Relaxed))
    }

    /// Makes later stamps later than `ticks`: for state that an earlier run left.
    pub fn advance_past(&self, ticks: Ticks) {
        self.last.fetch_max(ticks.0, Ordering::Relaxed);
    }

    /// Sets how far the server's clock is ahead of the true time (behind, if negative).
    pub fn set_skew_seconds(&self, seconds: i64) {
        self.skew_ticks.store(seconds * TICKS_PER_SECOND, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_times_are_the_protocols() {
        let ticks = Ticks::parse_iso("2021-02-03T04:05:06.7654321Z").unwrap();
        assert_eq!(ticks.iso(), "2021-02-03T04:05:06.7654321Z");
        assert_eq!(ticks.rfc1123(), "Wed, 03 Feb 2021 04:05:06 GMT");
        assert_eq!(Ticks::parse_rfc1123(&ticks.rfc1123()).unwrap().seconds(), ticks.seconds());
        assert_eq!(Ticks::parse_iso("1601-01-01").unwrap().iso(), "1601-01-01T00:00:00.0000000Z");
        let minutes = Ticks::parse_iso("2024-02-29T23:59Z").unwrap();
        assert_eq!(minutes.iso(), "2024-02-29T23:59:00.0000000Z");
        for bad in ["", "2021-13-01", "2021-01-01T00:61:00Z", "yesterday", "2021-01-01T1.12345678"]
        {
            assert_eq!(Ticks::parse_iso(bad), None, "{bad}");
        }
    }

    #[test]
    fn stamps_never_repeat() {
        let clock = Clock::default();
        let mut last = clock.stamp();
        for _ in 0..1000 {
            let next = clock.stamp();
            assert!(next > last);
            last = next;
        }
        clock.set_skew_seconds(-3600);
        assert!(clock.stamp() > last, "a clock set back repeats no ETag");
    }
}
