//! The demo's share: a few hundred files that programs can open, the same on every machine.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// A recording of some size, for the cold and the hot read.
pub(super) const RECORDING: &str = "recordings/harbour 01.wav";
/// A document that somebody edits.
pub(super) const DOCUMENT: &str = "documents/2024/report 03.md";
/// A picture, for the read after the eviction.
pub(super) const PICTURE: &str = "pictures/tides 07.bmp";

const YEARS: std::ops::Range<u32> = 2020..2026;
const REPORTS: u32 = 40;
const PICTURES: u32 = 60;
const RECORDINGS: u32 = 6;
/// Of one recording; all of them are more than the demo's cache holds.
const RECORDING_BYTES: u32 = 24 << 20;

const WORDS: &[&str] = &[
    "the", "tide", "rises", "over", "a", "quiet", "cove", "and", "boats", "return", "with", "nets",
    "while", "harbour", "lights", "answer", "slow", "weather", "from", "west", "keeper", "notes",
    "every", "hour", "of", "wind", "depth", "cargo",
];

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Sample {
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes the share.
pub(super) fn write(root: &Path) -> io::Result<Sample> {
    let mut random = Random(0x5eed_c07e);
    for year in YEARS {
        let dir = root.join(format!("documents/{year}"));
        std::fs::create_dir_all(&dir)?;
        for number in 1..=REPORTS {
            let text = report(year, number, &mut random);
            std::fs::write(dir.join(format!("report {number:02}.md")), text)?;
            let table = table(year, number, &mut random);
            std::fs::write(dir.join(format!("tides {number:02}.csv")), table)?;
        }
    }
    for dir in ["pictures", "recordings"] {
        std::fs::create_dir_all(root.join(dir))?;
    }
    for number in 1..=PICTURES {
        picture(&root.join(format!("pictures/tides {number:02}.bmp")), number)?;
    }
    for number in 1..=RECORDINGS {
        let path = root.join(format!("recordings/harbour {number:02}.wav"));
        recording(&path, RECORDING_BYTES, &mut random)?;
    }
    let (files, bytes) = measure(root)?;
    Ok(Sample { files, bytes })
}

/// Files and bytes below a directory.
pub(super) fn measure(root: &Path) -> io::Result<(u64, u64)> {
    let mut found = (0, 0);
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let (files, bytes) = measure(&entry.path())?;
            found = (found.0 + files, found.1 + bytes);
        } else {
            found = (found.0 + 1, found.1 + metadata.len());
        }
    }
    Ok(found)
}

/// What a comparison of two trees found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Comparison {
    /// Bytes read on each side.
    pub bytes: u64,
    /// Paths of files that differ or are missing.
    pub different: Vec<String>,
}

/// Compares every file below `one` with its twin below `other`.
pub(super) fn compare(one: &Path, other: &Path) -> io::Result<Comparison> {
    let mut found = Comparison::default();
    for entry in std::fs::read_dir(one)? {
        let entry = entry?;
        let (here, there) = (entry.path(), other.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            let below = compare(&here, &there)?;
            found.bytes += below.bytes;
            found.different.extend(below.different);
        } else if same_bytes(&here, &there)? {
            found.bytes += entry.metadata()?.len();
        } else {
            found.different.push(here.display().to_string());
        }
    }
    Ok(found)
}

fn same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    let (mut here, mut there) = (Vec::new(), Vec::new());
    loop {
        here.clear();
        there.clear();
        (&one).take(1 << 20).read_to_end(&mut here)?;
        (&other).take(1 << 20).read_to_end(&mut there)?;
        if here != there {
            return Ok(false);
        }
        if here.is_empty() {
            return Ok(true);
        }
    }
}

fn report(year: u32, number: u32, random: &mut Random) -> String {
    let mut text = format!("# Report {number} of {year}\n");
    for _ in 0..10 + random.below(20) {
        text.push('\n');
        for at in 0..40 + random.below(80) {
            let word = WORDS[random.below(WORDS.len() as u32) as usize];
            text.push_str(word);
            text.push(if at % 12 == 11 { '\n' } else { ' ' });
        }
        text.push_str("end.\n");
    }
    text
}

fn table(year: u32, number: u32, random: &mut Random) -> String {
    let mut text = String::from("date,hour,depth_cm,wind_knots\n");
    for day in 1..=28 {
        for hour in 0..24 {
            let month = number % 12 + 1;
            let (depth, wind) = (120 + random.below(400), random.below(40));
            text.push_str(&format!("{year}-{month:02}-{day:02},{hour:02},{depth},{wind}\n"));
        }
    }
    text
}

/// A bitmap of waves, 240 x 160, 24 bits.
fn picture(path: &Path, number: u32) -> io::Result<()> {
    let (width, height) = (240u32, 160u32);
    let pixels = width * height * 3;
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(b"BM")?;
    for value in [54 + pixels, 0, 54, 40, width, height, 0x0018_0001, 0, pixels, 2835, 2835, 0, 0] {
        out.write_all(&value.to_le_bytes())?;
    }
    for row in 0..height {
        for column in 0..width {
            let wave = (column * number / 8 + row * row / 64) % 256;
            let blue = 255 - row;
            out.write_all(&[blue as u8, wave as u8, (wave * row / 256) as u8])?;
        }
    }
    out.flush()
}

/// A sound file of noise like rain: 16 bits, mono, 44.1 kHz.
fn recording(path: &Path, bytes: u32, random: &mut Random) -> io::Result<()> {
    let rate = 44_100u32;
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(b"RIFF")?;
    out.write_all(&(36 + bytes).to_le_bytes())?;
    out.write_all(b"WAVEfmt ")?;
    for value in [16, 0x0001_0001, rate, rate * 2, 0x0010_0002] {
        out.write_all(&value.to_le_bytes())?;
    }
    out.write_all(b"data")?;
    out.write_all(&bytes.to_le_bytes())?;
    for _ in 0..bytes / 8 {
        // Four quiet samples at once.
        out.write_all(&(random.next() & 0x0fff_0fff_0fff_0fff).to_le_bytes())?;
    }
    out.flush()
}

/// xorshift64: the sample is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() >> 33) as u32 % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_trees_are_compared_byte_by_byte() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        for tree in [&one, &other] {
            std::fs::create_dir_all(tree.join("below")).unwrap();
            std::fs::write(tree.join("below/a"), "same").unwrap();
        }
        let same = Comparison { bytes: 4, different: Vec::new() };
        assert_eq!(compare(&one, &other).unwrap(), same);
        std::fs::write(other.join("below/a"), "some").unwrap();
        assert_eq!(compare(&one, &other).unwrap().different.len(), 1);
        assert_eq!(measure(dir.path()).unwrap(), (2, 8));
    }

    #[test]
    fn the_parts_of_the_sample_are_well_formed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        picture(&path, 7).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 54 + 240 * 160 * 3);
        assert_eq!(&bytes[..6], [b'B', b'M', 0x36, 0xc2, 0x01, 0x00]);
        recording(&path, 800, &mut Random(1)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 44 + 800);
        assert_eq!(&bytes[8..16], b"WAVEfmt ");
        assert_eq!(&bytes[36..40], b"data");
        let text = report(2024, 3, &mut Random(1));
        assert!(text.starts_with("# Report 3 of 2024\n"));
    }
}
