//! What all tests of a cache begin with, those from outside and those of the crate itself. Names come
//! from the harness that has this as a module.
#![allow(dead_code)]

use super::*;

pub const OWNER: Owner = Owner { uid: 0, gid: 0 };
pub const READ: OpenMode = OpenMode {
    read: true,
    write: false,
    truncate: false,
    append: false,
    exclusive: false,
    sync: false,
};
pub const WRITE: OpenMode = OpenMode { write: true, ..READ };
pub const READ_WRITE: OpenMode = OpenMode { write: true, ..READ };
pub const APPEND: OpenMode = OpenMode { append: true, ..WRITE };
pub const TRUNCATE: OpenMode = OpenMode { truncate: true, ..WRITE };

/// Quick to upload, quick to look again.
pub fn config(cache_dir: PathBuf) -> Config {
    Config {
        cache_dir,
        share: "memory:".into(),
        mountpoint: PathBuf::from("/nowhere"),
        limit_bytes: 256 << 20,
        min_free: MinFree::Bytes(0),
        max_age: None,
        freshness: Duration::from_millis(20),
        watch: false,
        site: "here".into(),
        read_only: false,
        sync_share: false,
        timeout: Duration::from_secs(5),
        debounce: Duration::from_millis(10),
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
    }
}

pub fn path(text: &str) -> RemotePath {
    RemotePath::parse(text.as_bytes())
}

/// Bytes that differ from place to place and from seed to seed, and are never zero.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8 | 1
        })
        .collect()
}

/// Random numbers that repeat.
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Random {
        Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            None
        } else {
            Some(from[self.below(from.len() as u64) as usize].clone())
        }
    }
}
