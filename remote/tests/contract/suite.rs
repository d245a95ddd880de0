//! The contract of `Remote`, case by case, over any share: what it can't hold is said, not failed.
#![allow(dead_code)]

pub mod attrs;
pub mod looking;
pub mod moving;
pub mod reading;
pub mod removing;
pub mod replacing;
pub mod watching;

use async_trait::async_trait;
use bytes::Bytes;
use covefs_remote::{
    Attrs, Error, ErrorKind, Expect, Metadata, Remote, RemotePath, Result, Round, Source, Version,
    Xattrs,
};
use futures_util::StreamExt;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

pub type Share = Arc<dyn Remote>;

/// The temporary name of all uploads but those that run side by side.
pub const TEMP: &[u8] = b".~covefs-0123456789abcdef-1";

pub fn path(text: &str) -> RemotePath {
    RemotePath::parse(text.as_bytes())
}

/// A file that is uploaded: its bytes, and what they become in each round.
pub struct Upload {
    state: Mutex<State>,
    data: Option<Vec<Range<u64>>>,
    unchanged: Vec<Range<u64>>,
}

struct State {
    bytes: Vec<u8>,
    rounds: VecDeque<(Vec<u8>, Vec<Range<u64>>)>,
    attrs: Attrs,
    read: Vec<Range<u64>>,
}

impl Upload {
    pub fn of(bytes: impl Into<Vec<u8>>) -> Self {
        let (bytes, rounds, attrs) = (bytes.into(), VecDeque::new(), Attrs::default());
        let state = Mutex::new(State { bytes, rounds, attrs, read: Vec::new() });
        Upload { state, data: None, unchanged: Vec::new() }
    }

    pub fn with(self, attrs: Attrs) -> Self {
        self.state.lock().unwrap().attrs = attrs;
        self
    }

    /// Only these ranges hold data.
    pub fn sparse(mut self, data: Vec<Range<u64>>) -> Self {
        self.data = Some(data);
        self
    }

    /// These ranges are as the version has them that is replaced.
    pub fn unchanged_in(mut self, unchanged: Vec<Range<u64>>) -> Self {
        self.unchanged = unchanged;
        self
    }

    /// While it is sent, it becomes these bytes, different in these ranges.
    pub fn then(self, bytes: impl Into<Vec<u8>>, ranges: Vec<Range<u64>>) -> Self {
        self.state.lock().unwrap().rounds.push_back((bytes.into(), ranges));
        self
    }

    pub fn was_read(&self) -> Vec<Range<u64>> {
        self.state.lock().unwrap().read.clone()
    }
}

#[async_trait]
impl Source for Upload {
    fn size(&self) -> u64 {
        self.state.lock().unwrap().bytes.len() as u64
    }

    fn data(&self) -> Vec<Range<u64>> {
        self.data.clone().unwrap_or_else(|| std::iter::once(0..self.size()).collect())
    }

    fn is_unchanged(&self, range: &Range<u64>) -> bool {
        let mut unchanged = self.unchanged.iter();
        unchanged.any(|known| known.start <= range.start && range.end <= known.end)
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let mut state = self.state.lock().unwrap();
        assert!(range.start <= range.end && range.end <= state.bytes.len() as u64, "{range:?}");
        state.read.push(range.clone());
        Ok(Bytes::copy_from_slice(&state.bytes[range.start as usize..range.end as usize]))
    }

    async fn next_round(&self) -> Result<Round> {
        let mut state = self.state.lock().unwrap();
        Ok(match state.rounds.pop_front() {
            Some((bytes, ranges)) => {
                state.bytes = bytes;
                Round::Resend { size: state.bytes.len() as u64, ranges }
            }
            None => Round::Settled(state.attrs.clone()),
        })
    }
}

/// A source that breaks after its first megabyte.
pub struct Broken;

#[async_trait]
impl Source for Broken {
    fn size(&self) -> u64 {
        2 << 20
    }

    fn data(&self) -> Vec<Range<u64>> {
        std::iter::once(0..self.size()).collect()
    }

    fn is_unchanged(&self, _: &Range<u64>) -> bool {
        false
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.end > 1 << 20 {
            return Err(Error::new(ErrorKind::Source, "read", &RemotePath::root()));
        }
        Ok(vec![7; (range.end - range.start) as usize].into())
    }

    async fn next_round(&self) -> Result<Round> {
        Ok(Round::Settled(Attrs::default()))
    }
}

pub async fn send(share: &Share, name: &str, upload: Upload, expect: Expect) -> Result<Metadata> {
    share.replace(&path(name), Arc::new(upload), expect, TEMP).await
}

pub async fn put(share: &Share, name: &str, bytes: &[u8]) -> Metadata {
    send(share, name, Upload::of(bytes), Expect::Any).await.unwrap()
}

pub async fn mkdir(share: &Share, name: &str) -> Metadata {
    share.create_dir(&path(name), &Attrs::default()).await.unwrap()
}

pub async fn version(share: &Share, name: &str) -> Version {
    share.stat(&path(name)).await.unwrap().version
}

pub async fn read_range(
    share: &Share,
    name: &str,
    range: Range<u64>,
    version: &Version,
) -> Result<Vec<u8>> {
    let mut stream = share.read(&path(name), range, version).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        assert!(!chunk.is_empty(), "an empty chunk reads as an end");
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// All bytes of what is there now.
pub async fn get(share: &Share, name: &str) -> Vec<u8> {
    let version = version(share, name).await;
    read_range(share, name, 0..u64::MAX, &version).await.unwrap()
}

/// All entries of a directory, page by page, by name.
pub fn xattrs(values: &[(&str, &[u8])]) -> Xattrs {
    values.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

pub async fn entries(share: &Share, dir: &str) -> BTreeMap<Vec<u8>, Metadata> {
    let mut found = BTreeMap::new();
    let mut after = None;
    loop {
        let page = share.list(&path(dir), after).await.unwrap();
        assert!(page.entries.len() <= share.limits().page_entries);
        for (name, metadata) in page.entries {
            assert!(found.insert(name, metadata).is_none(), "listed twice");
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

pub async fn names(share: &Share, dir: &str) -> Vec<String> {
    let found = entries(share, dir).await.into_keys();
    found.map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
}

/// The kind of a failure that must be one.
pub fn kind<T>(result: Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("succeeded"),
        Err(error) => error.kind,
    }
}

/// Bytes that differ everywhere.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Says that a case has nothing to look at on this share.
pub fn skip(why: &str) {
    eprintln!("nothing to check: the share {why}");
}
