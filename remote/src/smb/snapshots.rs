//! Previous versions: which states of a share the server keeps, and looking at one.
//!
//! Each request that opens something says the state that is meant (`packets`), so none can miss it.

use super::fail::{Fail, Outcome};
use super::session::Session;
use super::wire::{Op, Open, access, options};
use crate::{ErrorKind, RemotePath};
use smb2::msg::create_context::{CreateContext, pack_contexts};
use std::fmt;
use std::sync::Arc;

/// FSCTL_SRV_ENUMERATE_SNAPSHOTS.
const ENUMERATE: u32 = 0x0014_4064;

/// Bytes of one answer: room for a thousand of them; where there are more, the server says how much
/// they take, and is asked once more.
const ANSWER_BYTES: u32 = 64 << 10;
const ANSWER_BYTES_MAX: u32 = 1 << 20;

/// Seconds from 1601 to 1970.
const EPOCH_SECONDS: i64 = 11_644_473_600;

/// A state of a share that the server keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    name: String,
    /// In ticks of 100 ns since 1601.
    ticks: u64,
}

impl Snapshot {
    /// Reads `GMT-2026.01.02-03.04.05`; `None` where it is not of that form.
    pub fn parse(name: &str) -> Option<Snapshot> {
        let form = "GMT-dddd.dd.dd-dd.dd.dd";
        let fits = |(symbol, wanted): (char, char)| match wanted {
            'd' => symbol.is_ascii_digit(),
            _ => symbol == wanted,
        };
        if name.len() != form.len() || !name.chars().zip(form.chars()).all(fits) {
            return None;
        }
        let number = |at: usize, length: usize| name.get(at..at + length)?.parse::<i64>().ok();
        let days = days(number(4, 4)?, number(9, 2)?, number(12, 2)?)?;
        let (hour, minute, second) = (number(15, 2)?, number(18, 2)?, number(21, 2)?);
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
        let ticks = u64::try_from((seconds + EPOCH_SECONDS) * 10_000_000).ok()?;
        (hour < 24 && minute < 60 && second < 60).then(|| Snapshot { name: name.into(), ticks })
    }

    /// What tells a server that opens something which state is meant.
    pub(super) fn context(&self) -> Vec<u8> {
        pack_contexts(&[CreateContext::new(b"TWrp", self.ticks.to_le_bytes().to_vec())])
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

/// Days from 1970 to a date of the calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *in_month.get(usize::try_from(month - 1).ok()?)?;
    if year < 1601 || !(1..=length).contains(&day) {
        return None;
    }
    let before: i64 = in_month[..month as usize - 1].iter().sum();
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let to_year = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    Some(to_year + before + day - 1)
}

/// All that the server keeps of the share, oldest first.
pub(super) async fn list(session: &Arc<Session>) -> Outcome<Vec<Snapshot>> {
    let link = session.link().await?;
    let open = Open {
        options: options::DIRECTORY,
        ..Open::existing(access::READ | access::READ_ATTRIBUTES)
    };
    let (root, _) = link.open(&session.wire(&RemotePath::root())?, open).await?;
    let mut bytes = ANSWER_BYTES;
    let list = loop {
        let ask = Op::Control { file: root.id, code: ENUMERATE, input: Vec::new(), bytes };
        let answer = match root.ask(vec![ask]).await?.bytes(0) {
            // A share whose disk keeps none.
            Err(fail) if fail.kind == ErrorKind::Unsupported => break Vec::new(),
            answer => answer?,
        };
        let (list, wanted) = parse(&answer)?;
        if wanted <= bytes as usize || bytes == ANSWER_BYTES_MAX {
            break list;
        }
        bytes = ANSWER_BYTES_MAX;
    };
    root.close().await;
    Ok(list)
}

/// The answer: how many there are, how many of them are told, the bytes that all of them take, and
/// names that end with 0. Returns the bytes that the whole answer takes too.
pub(super) fn parse(answer: &[u8]) -> Outcome<(Vec<Snapshot>, usize)> {
    let short = || Fail::saying(ErrorKind::Protocol, "a list of snapshots is cut short");
    let (head, names) = answer.split_first_chunk::<12>().ok_or_else(short)?;
    let wanted = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    let (units, _) = names.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let names = units.split(|unit| *unit == 0).map(String::from_utf16_lossy);
    let mut found: Vec<Snapshot> =
        names.filter_map(|name| Snapshot::parse(name.strip_prefix('@')?)).collect();
    found.sort_by_key(|snapshot| snapshot.ticks);
    Ok((found, wanted.saturating_add(12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_time_of_the_calendar() {
        // As `date -u -d ... +%s` says.
        for (name, seconds) in [
            ("GMT-1970.01.01-00.00.00", 0),
            ("GMT-2000.02.29-23.59.59", 951_868_799),
            ("GMT-2020.01.02-03.04.05", 1_577_934_245),
            ("GMT-2024.12.31-00.00.00", 1_735_603_200),
            ("GMT-1999.03.01-00.00.00", 920_246_400),
        ] {
            let snapshot = Snapshot::parse(name).unwrap();
            let ticks = (seconds + EPOCH_SECONDS) * 10_000_000;
            assert_eq!((snapshot.ticks, &*snapshot.to_string()), (ticks as u64, name));
        }
        for name in [
            "",
            "GMT-2020.01.02",
            "@GMT-2020.01.02-03.04.05",
            "GMT-2021.02.29-00.00.00",
            "GMT-2020.13.01-00.00.00",
            "GMT-2020.01.00-00.00.00",
            "GMT-2020.01.02-24.00.00",
            "GMT-1600.01.02-00.00.00",
            "GMT-2020.01.02-03.04.0\u{661}",
        ] {
            assert_eq!(Snapshot::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_list_is_read_and_a_cut_one_is_told() {
        let names = "@GMT-2021.01.02-03.04.05\0@GMT-2020.01.02-03.04.05\0\0";
        let names: Vec<u8> = names.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let head = [2_u32, 2, names.len() as u32].map(u32::to_le_bytes).concat();
        let (found, wanted) = parse(&[head, names.clone()].concat()).unwrap();
        let found: Vec<String> = found.iter().map(Snapshot::to_string).collect();
        assert_eq!(found, ["GMT-2020.01.02-03.04.05", "GMT-2021.01.02-03.04.05"]);
        assert_eq!(wanted, 12 + names.len());
        assert_eq!(parse(&[0; 11]).unwrap_err().kind, ErrorKind::Protocol);
    }
}
